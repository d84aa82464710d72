"""Greedy answers: the image prefix is computed once and shared by all questions about the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from vistune.models.modeling import VistuneForConditionalGeneration


@torch.inference_mode()
def generate(
    model: VistuneForConditionalGeneration,
    image: Any,
    questions: Sequence[str],
    max_new_tokens: int = 32,
    image_features: Tensor | None = None,
) -> list[str]:
    """Answers to `questions` about one PIL image (or None for no image; or its tower features (1, P, C)).

    Questions are padded on the left and masked, so an answer does not depend on its neighbours.
    """
    if not questions:
        return []
    chat = model.chat
    if image_features is None and image is not None:
        image_features = model.encode_images([image])
    prefix = chat.prefix(images=0 if image_features is None else 1)
    asked = [chat.question(q) for q in questions]
    rows, longest, start = len(asked), max(map(len, asked)), len(prefix)
    cache = model(input_ids=torch.tensor([prefix]), image_features=image_features, use_cache=True).past_key_values
    cache.batch_repeat_interleave(rows)

    ids = torch.full((rows, longest), chat.end_id)
    seen = torch.zeros((rows, start + longest), dtype=torch.bool)
    seen[:, :start] = True
    places = torch.zeros((rows, longest), dtype=torch.long)
    for n, q in enumerate(asked):
        ids[n, longest - len(q) :] = torch.tensor(q)
        seen[n, start + longest - len(q) :] = True
        places[n, longest - len(q) :] = torch.arange(start, start + len(q))
    causal = torch.ones(longest, longest, dtype=torch.bool).tril()
    mask = seen[:, None, None, :].repeat(1, 1, longest, 1)
    mask[..., start:] &= causal  # a pad still sees the prefix: no empty softmax rows

    out = model(
        input_ids=ids, attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True, logits_to_keep=1
    )
    answers: list[list[int]] = [[] for _ in questions]
    open_rows = set(range(rows))
    where = places[:, -1]
    for _ in range(max_new_tokens):
        token = out.logits[:, -1].argmax(-1)
        for n in sorted(open_rows):
            if token[n] == chat.end_id:
                open_rows.discard(n)
            else:
                answers[n].append(int(token[n]))
        if not open_rows:
            break
        where = where + 1
        seen = torch.cat([seen, torch.ones((rows, 1), dtype=torch.bool)], dim=1)
        out = model(
            input_ids=token[:, None],
            attention_mask=seen[:, None, None, :],
            position_ids=where[:, None],
            past_key_values=out.past_key_values,
            use_cache=True,
            logits_to_keep=1,
        )
    return [chat.decode(a) for a in answers]
