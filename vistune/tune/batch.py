"""Rows -> tensors, and the loss over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vistune.models.chat import IGNORE

if TYPE_CHECKING:
    from vistune.tune.rows import Row


@dataclass(frozen=True)
class Batch:
    input_ids: Tensor  # int64 (B, T)
    position_ids: Tensor  # int64 (B, T), restarting after the prefix for every segment
    attention_mask: Tensor  # bool (B, 1, T, T), True where a token may look
    targets: Tensor  # int64 (N,), the next token at each learned position
    predicts: Tensor  # bool (B, T), True at the positions whose next token is learned
    weights: Tensor  # float32 (N,)
    tasks: list[str]  # N
    tokens: int  # without padding


def collate(rows: Sequence[Row], pad_id: int, weighting: str) -> Batch:
    """Pads rows to the longest. Every token sees the visual prefix and what came before it in its own segment; a
    padding token sees itself."""
    length = max(row.length for row in rows)
    shape = (len(rows), length)
    ids = torch.full(shape, pad_id)
    places = torch.zeros(shape, dtype=torch.long)
    owner = torch.full(shape, -1)  # 0: prefix, n: n-th segment, -1: padding
    predicts = torch.zeros(shape, dtype=torch.bool)
    targets: list[int] = []
    weights: list[float] = []
    tasks: list[str] = []
    for b, row in enumerate(rows):
        start = len(row.prefix)
        ids[b, :start] = torch.tensor(row.prefix)
        places[b, :start] = torch.arange(start)
        owner[b, :start] = 0
        at = start
        for n, segment in enumerate(row.segments, start=1):
            end = at + len(segment.ids)
            ids[b, at:end] = torch.tensor(segment.ids)
            places[b, at:end] = torch.arange(start, start + len(segment.ids))
            owner[b, at:end] = n
            learned = [i for i, label in enumerate(segment.labels) if label != IGNORE]
            # A segment begins with the question, so the token before a learned one is in the same segment.
            predicts[b, [at + i - 1 for i in learned]] = True
            targets += [segment.labels[i] for i in learned]
            weights += [weight(len(learned), weighting)] * len(learned)
            tasks += [segment.task] * len(learned)
            at = end
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    same = owner[:, :, None] == owner[:, None, :]
    to_prefix = (owner[:, None, :] == 0) & (owner[:, :, None] > 0)
    mask = ((same & (owner[:, :, None] >= 0)) | to_prefix) & causal
    mask |= torch.eye(length, dtype=torch.bool)
    return Batch(
        input_ids=ids,
        position_ids=places,
        attention_mask=mask[:, None],
        targets=torch.tensor(targets),
        predicts=predicts,
        weights=torch.tensor(weights),
        tasks=tasks,
        tokens=sum(row.length for row in rows),
    )


def weight(learned: int, weighting: str) -> float:
    """Weight of each of a sample's `learned` answer tokens.

    >>> [weight(4, w) for w in ("token", "sample", "square")]
    [1.0, 0.25, 0.5]
    """
    return {"token": 1.0, "sample": 1.0 / learned, "square": learned**-0.5}[weighting]


def total_weight(rows: Sequence[Row], weighting: str) -> float:
    """Sum of the weights of all learned tokens in `rows`: the divisor of a step's loss, over all processes."""
    return sum(s.answers * weight(s.answers, weighting) for row in rows for s in row.segments)


def losses(model: Any, batch: Batch, image_features: Tensor) -> Tensor:
    """float32 (N,): negative log-likelihood of each learned token. Logits exist only at learned positions."""
    device = image_features.device
    out = model(
        input_ids=batch.input_ids.to(device),
        image_features=image_features,
        attention_mask=batch.attention_mask.to(device),
        position_ids=batch.position_ids.to(device),
        positions=batch.predicts.to(device),
        use_cache=False,
    )
    return F.cross_entropy(out.logits, batch.targets.to(device), reduction="none")
