"""What the module checks of several systems share: one decoder layer of a language model, and parts of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaModel

from vistune.models.experts import ExpertConfig, add_experts


def language(experts: ExpertConfig, **sizes: Any) -> LlamaModel:
    """Of `num_hidden_layers` layers, with attention as the originals write it and no words."""
    config = LlamaConfig(vocab_size=1, bos_token_id=None, eos_token_id=None, **sizes)
    config._attn_implementation = "eager"
    model = LlamaModel(config)
    add_experts(model, experts)
    return model.eval()


def causal(mask: Tensor) -> Tensor:
    """mask: (B, T), 0 at padding -> the additive mask (B, 1, T, T) of the originals: all that is hidden gets the
    smallest number, so that a row of padding looks everywhere alike."""
    seen = torch.ones(mask.shape[1], mask.shape[1]).tril().bool() & mask.bool()[:, None, None]
    return torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)


def under(weights: Mapping[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    """Weights whose names start with one of `prefixes`, by their whole names."""
    return {key: tensor for key, tensor in weights.items() if key.startswith(prefixes)}


def prefixed(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{key}": tensor for key, tensor in state.items()}
