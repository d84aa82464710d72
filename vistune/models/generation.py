"""Greedy answers: the prefix of an image is computed once and shared by all questions about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from vistune.models.modeling import VistuneForConditionalGeneration


def generate(
    model: VistuneForConditionalGeneration,
    image: Any,
    questions: Sequence[str],
    max_new_tokens: int = 32,
    image_features: Tensor | None = None,
) -> list[str]:
    """Answers to `questions` about one PIL image (or None for no image; or its tower features (1, P, C))."""
    if not questions:
        return []
    if image_features is None and image is not None:
        with torch.inference_mode():
            image_features = model.encode_images([image])
    chat = model.chat
    prefix = chat.prefix(images=0 if image_features is None else 1)
    asked = [chat.question(q) for q in questions]
    answers = decode_greedy(model, prefix, image_features, asked, [0] * len(asked), max_new_tokens)
    return [chat.decode(answer) for answer in answers]


@torch.inference_mode()
def decode_greedy(
    model: Any,
    prefix: Sequence[int],
    features: Tensor | None,
    questions: Sequence[Sequence[int]],
    image_of: Sequence[int],
    max_new_tokens: int,
) -> list[list[int]]:
    """The greedy answer (ids without the end of turn) to each of `questions` (ids), about image `image_of[n]` of
    features (I, P, C), or about no image. The prefix of an image is computed once for all its questions; questions
    are padded on the left and masked."""
    device = model.device
    rows, longest, start = len(questions), max(map(len, questions)), len(prefix)
    images = 1 if features is None else len(features)
    first = torch.tensor([list(prefix)] * images, device=device)
    cache = model(input_ids=first, image_features=features, use_cache=True).past_key_values
    cache.batch_select_indices(torch.tensor(image_of, device=device))

    ids = torch.full((rows, longest), model.chat.end_id)
    places = torch.zeros((rows, longest), dtype=torch.long)
    seen = torch.zeros((rows, start + longest), dtype=torch.bool)
    seen[:, :start] = True
    for n, question in enumerate(questions):
        pad = longest - len(question)
        ids[n, pad:] = torch.tensor(question)
        places[n, pad:] = torch.arange(start, start + len(question))
        seen[n, start + pad :] = True
    mask = seen[:, None, None, :].repeat(1, 1, longest, 1)
    mask[..., start:] &= torch.ones(longest, longest, dtype=torch.bool).tril()  # a pad still sees the prefix

    ids, places, mask, seen = ids.to(device), places.to(device), mask.to(device), seen.to(device)
    answers: list[list[int]] = [[] for _ in questions]
    alive = list(range(rows))
    for step in range(max_new_tokens):
        last = torch.zeros(ids.shape, dtype=torch.bool, device=device)
        last[:, -1] = True
        out = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=places,
            past_key_values=cache,
            positions=last,
            use_cache=True,
        )
        cache, token = out.past_key_values, out.logits.argmax(-1)
        keep = [k for k, t in enumerate(token.tolist()) if t != model.chat.end_id]
        for k in keep:
            answers[alive[k]].append(int(token[k]))
        if not keep or step + 1 == max_new_tokens:
            break
        if len(keep) < len(alive):  # finished rows leave the batch
            chosen = torch.tensor(keep, device=device)
            cache.batch_select_indices(chosen)
            token, places, seen = token[chosen], places[chosen], seen[chosen]
            alive = [alive[k] for k in keep]
        seen = torch.cat([seen, torch.ones_like(seen[:, :1])], dim=1)
        ids, places, mask = token[:, None], places[:, -1:] + 1, seen[:, None, None, :]
    return answers
