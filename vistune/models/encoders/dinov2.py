"""DINOv2: transformers' model, its table of positions resized as the authors do it.

They tell torch the scale instead of the size, a tenth of a feature larger: the same number of features, each read at a
slightly other place than transformers reads it. Published g/14: width 1536, 40 blocks, 24 heads, gated MLPs, trained on
37 x 37 patches. Source: facebookresearch/dinov2, dinov2/models/vision_transformer.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Dinov2Config, Dinov2Model
from transformers.models.dinov2.modeling_dinov2 import Dinov2Embeddings

from vistune.models.keymap import QKV, State, rename, split_rows

OFFSET = 0.1
"""Of the scale, in features."""


class HubEmbeddings(Dinov2Embeddings):
    def interpolate_pos_encoding(self, embeddings: Tensor, height: int, width: int) -> Tensor:
        """embeddings: (V, 1 + P, C) of views of height x width pixels -> positions (1, 1 + P, C)"""
        cls, table = self.position_embeddings.split([1, self.position_embeddings.shape[1] - 1], dim=1)
        rows, columns, side = height // self.patch_size, width // self.patch_size, isqrt(table.shape[1])
        if (rows, columns) == (side, side):
            return self.position_embeddings
        grid = table.float().unflatten(1, (side, side)).permute(0, 3, 1, 2)
        scale = ((rows + OFFSET) / side, (columns + OFFSET) / side)
        grid = F.interpolate(grid, scale_factor=scale, mode="bicubic", recompute_scale_factor=False)
        return torch.cat([cls, grid.flatten(2).transpose(1, 2).to(table.dtype)], dim=1)


class Dinov2Tower(nn.Module):
    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        config.use_mask_token = False  # only its own training has masks
        self.model = Dinov2Model(config)
        self.model.embeddings = HubEmbeddings(config)

    @property
    def width(self) -> int:
        """Channels of the features."""
        return self.model.config.hidden_size

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: (V, 3, height, width), normalised -> (V, 1 + P, C), behind the last LayerNorm, CLS first"""
        return self.model(pixels).last_hidden_state


def dinov2_keys(original: Mapping[str, Tensor]) -> State:
    """The authors' names -> `Dinov2Tower`."""
    block, ours = r"blocks\.(\d+)\.", r"model.encoder.layer.\1."
    state = rename(
        original,
        [
            (r"mask_token", None),
            (r"cls_token", "model.embeddings.cls_token"),
            (r"pos_embed", "model.embeddings.position_embeddings"),
            (r"patch_embed\.proj\.(.+)", r"model.embeddings.patch_embeddings.projection.\1"),
            (r"norm\.(.+)", r"model.layernorm.\1"),
            (block + r"norm([12])\.(.+)", ours + r"norm\2.\3"),
            (block + r"ls([12])\.gamma", ours + r"layer_scale\2.lambda1"),
            (block + r"attn\.qkv\.(.+)", ours + r"attention.qkv.\2"),
            (block + r"attn\.proj\.(.+)", ours + r"attention.o_proj.\2"),
            (block + r"mlp\.(fc[12])\.(.+)", ours + r"mlp.\2.\3"),
            (block + r"mlp\.w12\.(.+)", ours + r"mlp.w12.\2"),
            (block + r"mlp\.w3\.(.+)", ours + r"mlp.down_proj.\2"),
        ],
        "DINOv2",
    )
    split_rows(state, "qkv", QKV)
    split_rows(state, "w12", ("gate_proj", "up_proj"))
    return state
