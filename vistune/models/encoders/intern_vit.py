"""InternViT: transformers' vision model of InternVL, with the authors' names and features chosen.

6B: 45 blocks, width 3200, RMSNorm, query and key norms; 300M: 24 blocks, width 1024, LayerNorm. No LayerNorm after the
last block. Source: InternVL, internvl_chat/modeling_intern_vit.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from transformers import InternVLVisionModel

from vistune.models.encoders.features import Selection, run_blocks
from vistune.models.keymap import QKV, State, rename, split_rows


class InternVitTower(nn.Module):
    """Keeps of `model` (use_mean_pooling=True: no last norm) only the blocks that the selection reads. Positions are
    resized bicubically to the picture's grid."""

    def __init__(self, model: InternVLVisionModel, selection: Selection) -> None:
        super().__init__()
        self.selection = selection
        self.model = model
        self.total = len(model.encoder.layer)
        model.encoder.layer = model.encoder.layer[: max(self.states)]

    @property
    def states(self) -> tuple[int, ...]:
        return self.selection.states(self.total)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: (V, 3, height, width), normalised by ImageNet's mean and deviation -> (V, P, C), with CLS first where
        it is kept"""
        features = run_blocks(self.model.embeddings(pixels), self.model.encoder.layer, self.states)
        return features[:, 1:] if self.selection.cls == "drop" else features


def intern_vit_keys(original: Mapping[str, Tensor]) -> State:
    """Keys below `vision_model` -> those of transformers' InternVLVisionModel."""
    block, ours = r"encoder\.layers\.(\d+)\.", r"encoder.layer.\1."
    state = rename(
        original,
        [
            (r"embeddings\.class_embedding", "embeddings.cls_token"),
            (r"embeddings\.position_embedding", "embeddings.position_embeddings"),
            (r"embeddings\.patch_embedding\.(.+)", r"embeddings.patch_embeddings.projection.\1"),
            (block + r"ls([12])", ours + r"lambda_\2"),
            (block + r"attn\.(qkv|q_norm|k_norm)\.(.+)", ours + r"attention.\2.\3"),
            (block + r"attn\.proj\.(.+)", ours + r"attention.projection_layer.\2"),
            (block + r"norm1\.(.+)", ours + r"layernorm_before.\2"),
            (block + r"norm2\.(.+)", ours + r"layernorm_after.\2"),
            (block + r"mlp\.(.+)", ours + r"mlp.\2"),
        ],
        "InternViT",
    )
    split_rows(state, "qkv", QKV)
    return state
