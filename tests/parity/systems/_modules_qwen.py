"""Qwen-VL's encoder and resampler; Qwen2-VL's encoder and positions, which are transformers' own."""

from __future__ import annotations

from harness import Unit, modules
from systems._modules_b import prefixed, under
from transformers import Qwen2VLTextConfig
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLVisionConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import (
    Qwen2VisionTransformerPretrainedModel,
    Qwen2VLRotaryEmbedding,
    apply_rotary_pos_emb,
)
from transformers.vision_utils import get_vision_position_ids

from vistune.models.connectors.resampler import Resampler, ResamplerConfig, resampler_keys
from vistune.models.encoders.openclip import OpenClipConfig, OpenClipTower, openclip_keys

RESAMPLER = ("attn_pool.", "ln_post.", "proj")


class Visual(Unit):
    def __init__(self, config):
        super().__init__()
        width, output = config["width"], config["output_dim"]
        hidden = int(width * config["mlp_ratio"])
        self.tower = OpenClipTower(OpenClipConfig(width, config["layers"], config["heads"], hidden))
        self.resampler = Resampler(ResamplerConfig(width, output, config["n_queries"], output // 128))

    def convert(self, weights):
        tower = {key: tensor for key, tensor in weights.items() if not key.startswith(RESAMPLER)}
        return prefixed("tower.", openclip_keys(tower)) | prefixed(
            "resampler.", resampler_keys(under(weights, *RESAMPLER))
        )

    def forward(self, image):
        features = self.tower(image)
        return {
            "tower": features,
            "attn_pool": self.resampler.attend(features),
            "y": self.resampler(features),
        }


class Native(Unit):
    def __init__(self, config):
        super().__init__()
        self.tower = Qwen2VisionTransformerPretrainedModel(Qwen2VLVisionConfig(**config))

    def convert(self, weights):
        return prefixed("tower.", weights)

    def forward(self, pixel_values, grid_thw):
        output = self.tower(pixel_values, grid_thw=grid_thw)
        positions = get_vision_position_ids(grid_thw, self.tower.spatial_merge_size)
        cos, sin = self.tower.rotary_pos_emb(pixel_values, positions)
        return {
            "pre_merger": output.last_hidden_state,
            "merged": output.pooler_output,
            "rot_position_ids": positions,
            "rot_cos": cos,
            "rot_sin": sin,
        }


class Rotary(Unit):
    def __init__(self, config):
        super().__init__()
        rope = {"rope_type": "default", "rope_theta": config["theta"], "mrope_section": config["section"]}
        heads = config["heads"]
        text = Qwen2VLTextConfig(
            hidden_size=heads * config["head_dim"],
            num_attention_heads=heads,
            num_key_value_heads=config["kv_heads"],
            rope_parameters=rope,
        )
        self.rotary = Qwen2VLRotaryEmbedding(text)

    def forward(self, q, k, position_ids):
        cos, sin = self.rotary(q, position_ids)
        q, k = apply_rotary_pos_emb(q, k, cos, sin)
        return {"cos": cos, "sin": sin, "q": q, "k": k}


QWENVL = {"visual": modules(Visual)}
QWEN2VL = {"visual_tower_merger": modules(Native), "mrope_apply": modules(Rotary)}
