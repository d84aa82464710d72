"""The loss over answers: logits only where something is learned, a bounded piece at a time.

A head with a vocabulary of 32,000 makes 128 kB of float32 logits a token, three times over while training. Most tokens
of an instruction sample are pictures and questions, of which nothing is learned: their logits are never made. Those of
answers are made in pieces within a budget of memory, and again in the backward pass instead of being kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vistune.models.labels import IGNORE

Weighting = Literal["token", "sample", "square"]

BUDGET = 64 << 20
"""Bytes of float32 logits that are in memory at once."""


def predictors(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Where the next token is learned, bool (B, T), and which token that is, int64 (N,), row by row.
    labels: int64 (B, T), not shifted, IGNORE where not learned.

    >>> at, targets = predictors(torch.tensor([[IGNORE, 5, 6], [IGNORE, IGNORE, 7]]))
    >>> at.tolist(), targets.tolist()
    ([[True, True, False], [False, True, False]], [5, 6, 7])
    """
    learned = labels != IGNORE
    learned[:, 0] = False  # nothing predicts the first token
    at = learned.roll(-1, dims=1)
    return at, labels[learned]


def weights(samples: Tensor, weighting: Weighting) -> Tensor:
    """Weight of each learned token, float32 (N,). samples: int64 (N,), which sample it belongs to, from 0.

    - token: all tokens count alike, so long answers dominate.
    - sample: all samples count alike.
    - square: a sample counts as the root of its length (InternVL 2.5, section 3.2.2).

    >>> weights(torch.tensor([0, 0, 0, 0, 1]), "square").tolist()
    [0.5, 0.5, 0.5, 0.5, 1.0]
    """
    if weighting == "token":
        return torch.ones(len(samples), device=samples.device)
    counts = torch.bincount(samples)[samples].float()
    return 1 / counts if weighting == "sample" else counts.rsqrt()


def total_weight(answers: Sequence[int], weighting: Weighting) -> float:
    """Sum of the weights of all learned tokens of samples with so many each: the divisor of a step's loss, known to
    every process from the plan.

    >>> total_weight([4, 1], "square"), total_weight([4, 1], "sample")
    (3.0, 2.0)
    """
    power = {"token": 1.0, "sample": 0.0, "square": 0.5}[weighting]
    return float(sum(count**power for count in answers if count))


def answer_losses(states: Tensor, targets: Tensor, head: Callable[[Tensor], Tensor], budget: int = BUDGET) -> Tensor:
    """Negative log-likelihood of each learned token, float32 (N,). states: (N, D), the hidden states that predict
    them; head: (n, D) -> logits (n, K). Logits are recomputed in the backward pass, unless all of them fit the budget
    at once."""
    rows = max(budget // (4 * _vocabulary(head)), 1)
    if len(states) <= rows:
        return _piece(states, targets, head)
    pieces = [
        checkpoint(_piece, states[start : start + rows], targets[start : start + rows], head, use_reentrant=False)
        for start in range(0, len(states), rows)
    ]
    return torch.cat(pieces)


def _piece(states: Tensor, targets: Tensor, head: Callable[[Tensor], Tensor]) -> Tensor:
    return F.cross_entropy(head(states).float(), targets, reduction="none")


def _vocabulary(head: Callable[[Tensor], Tensor]) -> int:
    return int(getattr(head, "out_features", 0)) or int(head.weight.shape[0])  # type: ignore[attr-defined]
