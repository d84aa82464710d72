"""MoAI's mixer: before attention, each token is mixed from three views of it, by a gate.

Visual tokens look at the evidence of the helper models, at the text, and at one another; text tokens at the evidence,
at the picture, and at one another. The mixture replaces what attention reads; the residual keeps what it was. There is
no causal mask: text sees the text after it, an answer too, if the answer's tokens are counted as text while learning.
Source: MoAI paper, section 3; moai/arch/modeling_internlm2.py, expert_module.py (MultiHeadLoRAAttention).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BOTTLENECK = 64


class LowRankAttention(nn.Module):
    """Attention whose projections are pairs of narrow linear layers with a GELU behind; what it finds is added."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (
            nn.Sequential(nn.Linear(width, BOTTLENECK, bias=False), nn.Linear(BOTTLENECK, width, bias=False))
            for _ in range(4)
        )

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """x: (T, D), seen: (P, D) -> (T, D); where nothing is to be seen, x as it was"""
        if not len(seen):  # one token of zeros, whose value is zero too
            seen = seen.new_zeros(1, seen.shape[-1])
        q, k, v = (
            F.gelu(layer(y)).unflatten(-1, (self.heads, -1)).transpose(0, 1)
            for layer, y in ((self.query, x), (self.key, seen), (self.value, seen))
        )
        y = F.scaled_dot_product_attention(q[None], k[None], v[None])[0]
        return x + F.gelu(self.out(y.transpose(0, 1).flatten(1)))


class Mixer(nn.Module):
    """weigh: "gates", learned (second training step and use); "dice", one expert at random for each modality (first
    training step). All experts run even then, so that every rank of a distributed run uses the same parameters.
    parity: the gates' softmax in half precision, as in the authors' evaluation."""

    def __init__(
        self, width: int, heads: int = 4, weigh: Literal["gates", "dice"] = "gates", parity: bool = False
    ) -> None:
        super().__init__()
        self.weigh, self.parity = weigh, parity
        self.visual, self.text = (  # look at: evidence, the other modality, their own
            nn.ModuleList(LowRankAttention(width, heads) for _ in range(3)) for _ in range(2)
        )
        self.visual_gate, self.text_gate = nn.Linear(width, 3), nn.Linear(width, 3)

    def forward(self, x: Tensor, evidence: Tensor, types: Tensor) -> Tensor:
        """x: (B, T, D), evidence: (B, Q, D), types: int (B, T), 0 text, 1 visual, others stay -> (B, T, D)"""
        result = x.clone()
        dice = torch.randint(3, (2,)).tolist()
        for n, (tokens, aside, kinds) in enumerate(zip(x, evidence, types, strict=True)):
            visual, text = (kinds == 1).nonzero()[:, 0], (kinds == 0).nonzero()[:, 0]
            picture, words = tokens[visual], tokens[text]
            seen = views(self.visual, picture, (aside, words, picture))
            read = views(self.text, words, (aside, picture, words))
            result[n, visual] = mixed(seen, self.weights(self.visual_gate, picture, dice[0])).to(x.dtype)
            result[n, text] = mixed(read, self.weights(self.text_gate, words, dice[1])).to(x.dtype)
        return result

    def weights(self, gate: nn.Module, x: Tensor, die: int = 0) -> Tensor:
        """x: (T, D) -> (T, 3), of the experts"""
        logits = gate(x)
        if self.weigh == "dice" and self.training:
            return F.one_hot(torch.full((len(x),), die, device=x.device), 3) + 0 * logits
        return logits.softmax(-1, dtype=torch.float16 if self.parity else torch.float32)


def views(experts: nn.ModuleList, x: Tensor, seen: tuple[Tensor, ...]) -> Tensor:
    """What each expert makes of x (T, D), looking at its own of `seen`: (T, 3, D)."""
    return torch.stack([expert(x, other) for expert, other in zip(experts, seen, strict=True)], dim=1)


def mixed(found: Tensor, weights: Tensor) -> Tensor:
    """found: (T, 3, D), weights: (T, 3) -> (T, D)"""
    return (found * weights[..., None]).sum(1)
