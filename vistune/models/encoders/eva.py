"""EVA-CLIP-g, the encoder of BLIP-2 and MiniGPT-4: transformers' BLIP-2 vision model; and EVA2-CLIP-E of CogVLM, which
is the same encoder with its LayerNorms moved behind attention and MLP.

EVA-CLIP-g/14: width 1408, 16 heads, MLP 6144; 39 blocks, since BLIP-2 dropped the last of 40. EVA2-CLIP-E/14: width
1792, 16 heads, MLP 15360; 63 blocks of 64, no LayerNorm at the end.
Sources: MiniGPT-4, minigpt4/models/eva_vit.py, base_model.py; CogVLM, utils/models/eva_clip_model.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Blip2VisionModel
from transformers.models.blip_2.modeling_blip_2 import Blip2EncoderLayer

from vistune.errors import VistuneError
from vistune.models.encoders.features import Selection, run_blocks
from vistune.models.keymap import State, rename


class PostNormBlock(Blip2EncoderLayer):
    """x + norm(attention(x)), then x + norm(mlp(x))."""

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        """(V, P, C) -> (V, P, C)"""
        x = hidden_states
        x = x + self.layer_norm1(self.self_attn(x, **kwargs)[0])
        return x + self.layer_norm2(self.mlp(x))


class EvaTower(nn.Module):
    """Keeps of `model` only the blocks that the selection reads, and its last LayerNorm only where that is chosen.
    norm_eps: of the last LayerNorm; 1e-5 in BLIP-2 (`ln_vision`), where transformers takes 1e-6 for all."""

    def __init__(
        self, model: Blip2VisionModel, selection: Selection, post_norm: bool = False, norm_eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.selection = selection
        if selection.cls == "never":
            raise VistuneError("EVA-CLIP's blocks need the CLS token; it can be kept or dropped behind them.")
        self.model = model
        self.states = selection.states(len(model.encoder.layers))
        model.encoder.layers = model.encoder.layers[: max(self.states)]
        if post_norm:
            model.encoder.layers = nn.ModuleList(PostNormBlock(model.config) for _ in model.encoder.layers)
        if selection.norm:
            model.post_layernorm.eps = norm_eps
        else:
            model.post_layernorm = nn.Identity()

    @property
    def width(self) -> int:
        """Channels of the features."""
        return self.model.config.hidden_size * len(self.states)

    def embed(self, pixels: Tensor) -> Tensor:
        """pixels: (V, 3, height, width), normalised -> (V, 1 + P, C), the positions resized to the picture's grid."""
        return self.model.embeddings(pixels, interpolate_pos_encoding=True)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: (V, 3, height, width), normalised -> features (V, P, C), with CLS first where it is kept"""
        norm = self.model.post_layernorm if self.selection.norm else None
        features = run_blocks(self.embed(pixels), self.model.encoder.layers, self.states, norm)
        return features[:, 1:] if self.selection.cls == "drop" else features


def eva_keys(original: Mapping[str, Tensor]) -> State:
    """BLIP-2's and MiniGPT-4's `visual_encoder.*` and `ln_vision.*` -> `EvaTower`. Keys have no bias."""
    block, ours = r"visual_encoder\.blocks\.(\d+)\.", r"model.encoder.layers.\1."
    state = rename(
        original,
        [
            (r"visual_encoder\.cls_token", "model.embeddings.class_embedding"),
            (r"visual_encoder\.pos_embed", "model.embeddings.position_embedding"),
            (r"visual_encoder\.patch_embed\.proj\.(.+)", r"model.embeddings.patch_embedding.\1"),
            (block + r"norm([12])\.(.+)", ours + r"layer_norm\2.\3"),
            (block + r"attn\.([qv]_bias)", ours + r"self_attn.\2"),
            (block + r"attn\.qkv\.weight", ours + "self_attn.qkv.weight"),
            (block + r"attn\.proj\.(.+)", ours + r"self_attn.projection.\2"),
            (block + r"mlp\.(fc[12]\..+)", ours + r"mlp.\2"),
            (r"ln_vision\.(.+)", r"model.post_layernorm.\1"),
        ],
        "EVA-CLIP-g",
    )
    for key in [k for k in state if k.endswith(".q_bias")]:
        query, value = state.pop(key), state.pop(key.replace("q_bias", "v_bias"))
        state[key.replace("q_bias", "qkv.bias")] = torch.cat([query, torch.zeros_like(query), value])
    return state


def eva2_e_keys(original: Mapping[str, Tensor]) -> State:
    """CogVLM's names below `mixins.eva.vit_model`, where CLS is an embedding's only word, or of its Hugging Face form
    below `model.vision` -> `EvaTower` with post_norm."""
    block, ours = r"transformer\.layers\.(\d+)\.", r"model.encoder.layers.\1."
    state = rename(
        original,
        [
            (
                r"transformer\.word_embeddings\.weight|patch_embedding\.cls_embedding",
                "model.embeddings.class_embedding",
            ),
            (
                r"(?:transformer\.position_embeddings|patch_embedding\.position_embedding)\.weight",
                "model.embeddings.position_embedding",
            ),
            (r"(?:mixins\.)?patch_embedding\.proj\.(.+)", r"model.embeddings.patch_embedding.\1"),
            (block + r"input_layernorm\.(.+)", ours + r"layer_norm1.\2"),
            (block + r"post_attention_layernorm\.(.+)", ours + r"layer_norm2.\2"),
            (block + r"attention\.query_key_value\.(.+)", ours + r"self_attn.qkv.\2"),
            (block + r"attention\.dense\.(.+)", ours + r"self_attn.projection.\2"),
            (block + r"mlp\.(?:dense_h_to_4h|fc1)\.(.+)", ours + r"mlp.fc1.\2"),
            (block + r"mlp\.(?:dense_4h_to_h|fc2)\.(.+)", ours + r"mlp.fc2.\2"),
        ],
        "EVA2-CLIP-E",
    )
    for name in ("class_embedding", "position_embedding"):
        if (key := f"model.embeddings.{name}") in state:
            state[key] = state[key][None]
    return state
