"""Q-Former: learned queries that read an image through a small BERT, of which transformers has the model.

MiniGPT-4 and SPHINX take BLIP-2's 32 queries, 12 layers of width 768, cross-attention in every second one.
Sources: BLIP-2 paper, section 3.1; MiniGPT-4, minigpt4/models/Qformer.py, minigpt4.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from vistune.models.keymap import State, rename


class QFormer(nn.Module):
    """width: D of the language model, reached by one linear layer; 0: the queries leave as they are."""

    def __init__(self, config: Blip2QFormerConfig, queries: int = 32, width: int = 0) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.empty(1, queries, config.hidden_size))
        nn.init.normal_(self.queries, std=0.02)
        self.model = Blip2QFormerModel(config)
        self.project = nn.Linear(config.hidden_size, width) if width else nn.Identity()

    def read(self, features: Tensor) -> Tensor:
        """features: (V, P, C) -> what the queries have read, (V, Q, channels of the Q-Former)"""
        queries = self.queries.expand(len(features), -1, -1)
        return self.model(query_embeds=queries, encoder_hidden_states=features).last_hidden_state

    def forward(self, features: Tensor) -> Tensor:
        """features: (V, P, C) -> (V, Q, D)"""
        return self.project(self.read(features).to(features.dtype))


def qformer_keys(original: Mapping[str, Tensor]) -> State:
    """MiniGPT-4's `query_tokens`, `Qformer.*` and `llama_proj.*` -> ours. What only text passes through is left out:
    word and position embeddings, the text MLPs and the head."""
    layer = r"Qformer\.bert\.encoder\.layer\.(\d+)\."
    ours = r"model.encoder.layer.\1."
    return rename(
        original,
        [
            (r"query_tokens", "queries"),
            (r"llama_proj\.(.+)", r"project.\1"),
            (r"Qformer\.cls\..+|Qformer\.bert\.embeddings\.(?:word|position)_.+", None),
            (layer + r"(?:intermediate|output)\..+", None),
            (r"Qformer\.bert\.embeddings\.LayerNorm\.(.+)", r"model.layernorm.\1"),
            (layer + r"(attention|crossattention)\.self\.(.+)", ours + r"\2.attention.\3"),
            (layer + r"((?:attention|crossattention)\.output|intermediate_query|output_query)\.(.+)", ours + r"\2.\3"),
        ],
        "the Q-Former",
    )
