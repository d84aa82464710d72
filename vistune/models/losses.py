"""What a training step minimises: the loss of each learned token, and how they are averaged.

All reductions are one sum, `sum(weights * losses) / total`. What differs is the weight of a token and what `total` runs
over: a micro-batch of one process (LLaVA and most others, as transformers did before 4.46), all micro-batches and
processes of the step ("token mean", what it should be), or, for packed rows, tokens that count by how long the answers
of their sample are (InternVL 2.5: train/dataset_packed.py, internvl_chat_finetune.py).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vistune.models.labels import IGNORE

Weighting = Literal["token", "sample", "square"]

POWERS: dict[Weighting, float] = {"token": 0.0, "sample": -1.0, "square": -0.5}
"""A token weighs n to this power, with n learned tokens in its sample: tokens alike, samples alike, or between."""


def token_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy float32 (B, T) of each label int64 (B, T) under logits (B, T, K) of the position before it; 0 where
    the label is IGNORE, and at the first position, which nothing predicts."""
    losses = F.cross_entropy(
        logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE, reduction="none"
    )
    return F.pad(losses.view(len(labels), -1), (1, 0))


def token_weights(
    labels: Tensor, segments: Tensor | None = None, weighting: Weighting = "token", parity: bool = False
) -> Tensor:
    """Weights float32 (B, T) of labels (B, T). `segments` int64 (B, T) number the samples of each packed row; without
    them a row is one sample. The first label of a sample is not learned: the token before it belongs to another.
    `parity` learns it, except at the start of a row, where it has no loss, and counts it there all the same."""
    learned = labels != IGNORE
    starts = torch.zeros_like(learned)
    starts[:, 0] = True
    segments = torch.zeros_like(labels) if segments is None else segments
    first = starts.clone()
    first[:, 1:] = segments[:, 1:] != segments[:, :-1]
    counted = learned if parity else learned & ~first
    runs = first.long().flatten().cumsum(0).view_as(labels) - 1  # numbers each sample of the batch
    sizes = torch.zeros(int(runs.max()) + 1, dtype=torch.float32, device=labels.device)
    sizes.index_add_(0, runs.flatten(), counted.flatten().float())
    return torch.where(counted & ~starts, sizes[runs].clamp(min=1) ** POWERS[weighting], 0.0)


def reduced(losses: Tensor, weights: Tensor, total: Tensor | float | None = None) -> Tensor:
    """float32 (): the weighted sum over `total`, by default the weights of this batch. Where nothing is learned it is
    0, with a gradient of 0. For a mean over a whole step, `total` is the sum of weights over all its micro-batches and
    processes, and the parts are added up, not averaged."""
    total = weights.sum() if total is None else torch.as_tensor(total, dtype=torch.float32, device=losses.device)
    return (losses * weights).sum() / torch.where(total > 0, total, torch.ones_like(total))
