"""DeepSeek-VL's towers and connector: transformers' models with the authors' weights."""

from __future__ import annotations

from harness import Unit, modules
from transformers import (
    DeepseekVLConfig,
    DeepseekVLHybridConfig,
    DeepseekVLHybridModel,
    DeepseekVLModel,
    LlamaConfig,
    SamVisionConfig,
    SiglipVisionConfig,
)

from vistune.models.encoders.sam import deepseek_vision_keys
from vistune.models.pixels import CLIP, HALF, derive
from vistune.models.views_derived import deepseek_hybrid


class Towers(Unit):
    def __init__(self, config):
        super().__init__()
        self.hybrid = config["hybrid"]
        self.plan = deepseek_hybrid(config["high"], config["low"])
        width = config["width"]
        text = LlamaConfig(
            vocab_size=1,
            hidden_size=config["n_embed"],
            intermediate_size=1,
            num_hidden_layers=0,
            num_attention_heads=1,
            bos_token_id=None,
            eos_token_id=None,
        )
        low = SiglipVisionConfig(
            hidden_size=width,
            intermediate_size=int(width * config["sig_mlp"]),
            num_hidden_layers=config["sig_layers"],
            num_attention_heads=config["sig_heads"],
            image_size=config["low"],
            patch_size=config["sig_patch"],
            hidden_act="gelu",
            vision_use_head=False,
        )
        if not self.hybrid:
            self.model = DeepseekVLModel(DeepseekVLConfig(text_config=text, vision_config=low))
            return
        high = SamVisionConfig(
            hidden_size=config["sam_width"],
            output_channels=config["sam_out"],
            num_hidden_layers=config["sam_layers"],
            num_attention_heads=config["sam_heads"],
            image_size=config["high"],
            global_attn_indexes=config["sam_global"],
        )
        self.model = DeepseekVLHybridModel(
            DeepseekVLHybridConfig(text_config=text, vision_config=low, high_res_vision_config=high)
        )

    def convert(self, weights):
        language = {
            f"model.language_model.{key}": tensor for key, tensor in self.model.language_model.state_dict().items()
        }
        return {f"model.{key}": tensor for key, tensor in deepseek_vision_keys(weights).items()} | language

    def forward(self, image):
        if not self.hybrid:
            output = self.model.get_image_features(HALF.scale(image))
            return {"low": output.last_hidden_state, "image_features": output.pooler_output}
        high, low = derive(image, self.plan.views)
        output = self.model.get_image_features(HALF.scale(low), CLIP.scale(high))
        return {
            "high_sub8": output.high_res_vision_last_hidden_state[:, ::8],
            "low_sub8": output.last_hidden_state[:, ::8],
            "image_features": output.pooler_output,
        }


DEEPSEEK = {"hybrid_tower_aligner": modules(Towers), "siglip_mlp_gelu": modules(Towers)}
