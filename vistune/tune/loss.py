"""The loss over answers: logits only where something is learned, a bounded piece at a time.

A head with a vocabulary of 32,000 makes 128 kB of float32 logits a token, three times over while training. Most tokens
of an instruction sample are pictures and questions, of which nothing is learned: their logits are never made. Those of
answers are made in pieces within a budget of memory, and none is kept for the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from vistune.models.labels import IGNORE
from vistune.models.losses import POWERS, Weighting

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
    return torch.bincount(samples)[samples].float() ** POWERS[weighting]


def total_weight(answers: Sequence[int], weighting: Weighting) -> float:
    """Sum of the weights of all learned tokens of samples with so many each: the divisor of a step's loss, known to
    every process from the plan.

    >>> total_weight([4, 1], "square"), total_weight([4, 1], "sample")
    (3.0, 2.0)
    """
    return float(sum(count ** (1 + POWERS[weighting]) for count in answers if count))


def answer_losses(states: Tensor, targets: Tensor, head: Callable[[Tensor], Tensor], budget: int = BUDGET) -> Tensor:
    """Negative log-likelihood of each learned token, float32 (N,). states: (N, D), the hidden states that predict
    them; targets: int64 (N,); head: (n, D) -> logits (n, K). At most `budget` bytes of float32 logits are in memory at
    once."""
    rows = max(budget // (4 * _vocabulary(head)), 1)
    if _plain(head):
        if not torch.is_grad_enabled():
            states = states.detach()
        return _Answers.apply(states, head.weight, targets, rows)  # type: ignore[attr-defined, no-any-return]
    if len(states) <= rows:
        return _piece(states, targets, head)
    pieces = [
        checkpoint(_piece, states[start : start + rows], targets[start : start + rows], head, use_reentrant=False)
        for start in range(0, len(states), rows)
    ]
    return torch.cat(pieces)


def _piece(states: Tensor, targets: Tensor, head: Callable[[Tensor], Tensor]) -> Tensor:
    return F.cross_entropy(head(states).float(), targets, reduction="none")


def _plain(head: Callable[[Tensor], Tensor]) -> bool:
    """Whether the head is its weight and nothing else: no bias, no low-rank update, no part on another process."""
    return (
        type(head) is torch.nn.Linear
        and head.bias is None
        and not (head._forward_pre_hooks or head._forward_hooks)
        and not hasattr(head.weight, "ds_id")  # DeepSpeed ZeRO-3
    )


class _Answers(torch.autograd.Function):
    """Cross-entropy that turns each piece of logits into its own gradient in place.

    What a state's gradient is does not wait for the backward pass: up to a factor, it is known with the logits. So a
    head that rests needs two products of matrices instead of three. One that learns sees the pieces again.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, targets: Tensor, rows: int) -> Tensor:
        learns, rests = ctx.needs_input_grad[1], not any(ctx.needs_input_grad[:2])
        gradient = torch.empty_like(states) if not (learns or rests) else None
        losses = torch.empty(len(states), dtype=torch.float32, device=states.device)
        for piece, logits in _logits(states, weight, rows):
            at = targets[piece, None]
            highest, where = logits.max(1, keepdim=True)
            wanted = logits.gather(1, at)
            torch.softmax(logits, 1, out=logits)
            losses[piece] = (highest - logits.gather(1, where).log() - wanted)[:, 0]
            if gradient is not None:
                logits.scatter_add_(1, at, logits.new_tensor(-1.0).expand_as(at))
                torch.mm(logits.to(weight.dtype), weight, out=gradient[piece])
        ctx.rows = rows
        ctx.save_for_backward(*((states, weight, targets) if learns else () if rests else (gradient,)))
        return losses

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, factors: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        if len(ctx.saved_tensors) == 1:
            (gradient,) = ctx.saved_tensors
            return gradient * factors[:, None].to(gradient.dtype), None, None, None
        states, weight, targets = ctx.saved_tensors
        of_states = torch.empty_like(states) if ctx.needs_input_grad[0] else None
        of_weight = torch.zeros_like(weight)
        for piece, logits in _logits(states, weight, ctx.rows):
            torch.softmax(logits, 1, out=logits)
            logits.scatter_add_(1, targets[piece, None], logits.new_tensor(-1.0).expand(len(logits), 1))
            each = logits.mul_(factors[piece, None]).to(weight.dtype)
            if of_states is not None:
                torch.mm(each, weight, out=of_states[piece])
            of_weight.addmm_(each.T, states[piece])
        return of_states, of_weight, None, None


def _logits(states: Tensor, weight: Tensor, rows: int) -> Iterator[tuple[slice, Tensor]]:
    """Each piece with its logits, float32 (n, K), all in one and the same memory."""
    room = torch.empty(min(rows, len(states)), len(weight), dtype=torch.float32, device=states.device)
    for start in range(0, len(states), rows):
        piece = slice(start, min(start + rows, len(states)))
        logits = room[: piece.stop - start]
        if weight.dtype == torch.float32:
            torch.mm(states[piece], weight.T, out=logits)
        else:
            logits.copy_(states[piece] @ weight.T)
        yield piece, logits


def _vocabulary(head: Callable[[Tensor], Tensor]) -> int:
    return int(getattr(head, "out_features", 0)) or int(head.weight.shape[0])  # type: ignore[attr-defined]
