"""Forward passes: scoring answers in packed trees, and greedy decoding. Everything the language model computes for
an evaluation happens here; nothing here knows about tasks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vistune.evaluate.packing import PAD, Row, visible


def load(folder: Path, dtype: str) -> Any:
    """The model in `folder`, on a GPU if there is one, ready to be scored: no gradients."""
    from vistune.models import load_model

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return load_model(folder, dtype=dtype, device=device).requires_grad_(False)


@torch.inference_mode()
def score(model: Any, rows: Sequence[Row], features: Tensor | None) -> list[tuple[float, bool, int]]:
    """(sum of log-probabilities in nats, every token the most likely one, number of tokens) of each answer in
    `rows`, answers of a row in order. features: float32 (I, P, C), one image a row, or None without images."""
    longest = max(len(row.ids) for row in rows)

    def padded(name: str, fill: int) -> Tensor:
        lists = [getattr(row, name) for row in rows]
        return torch.tensor([x + [fill] * (longest - len(x)) for x in lists], device=model.device)

    question, answer = padded("question", PAD), padded("answer", PAD)
    at = [(n, token) for n, row in enumerate(rows) for token, _ in row.reads]
    wanted = torch.tensor([target for row in rows for _, target in row.reads], device=model.device)
    index = torch.tensor(at, device=model.device).T
    positions = torch.zeros(question.shape, dtype=torch.bool, device=model.device)
    positions[index[0], index[1]] = True
    logits = model(
        input_ids=padded("ids", model.chat.end_id),
        position_ids=padded("places", 0),
        attention_mask=visible(question, answer),
        image_features=features,
        positions=positions,
        use_cache=False,
    ).logits
    # `positions` selects row by row; `place` says at which logits row a token's prediction lies.
    place = (positions.flatten().cumsum(0) - 1).view(positions.shape)[index[0], index[1]]
    logprobs = (logits[place, wanted] - torch.logsumexp(logits, dim=-1)[place]).tolist()
    greedy = (logits.argmax(-1)[place] == wanted).tolist()
    results: list[tuple[float, bool, int]] = []
    start = 0
    for length in (length for row in rows for length in row.lengths):
        end = start + length
        results.append((math.fsum(logprobs[start:end]), all(greedy[start:end]), length))
        start = end
    return results


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
