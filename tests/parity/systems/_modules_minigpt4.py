"""MiniGPT-4's encoder and both of its connectors."""

from __future__ import annotations

from harness import Unit, modules
from systems._modules_b import prefixed, under
from transformers import Blip2QFormerConfig, Blip2VisionConfig, Blip2VisionModel

from vistune.models.connectors.mlp import MLP, MLPConfig, llava_mlp_keys
from vistune.models.connectors.qformer import QFormer, qformer_keys
from vistune.models.encoders.eva import EvaTower, eva_keys
from vistune.models.encoders.features import Selection, run_blocks
from vistune.models.keymap import gather

TOWER = ("visual_encoder.", "ln_vision.")


class Encode(Unit):
    """Picture to embeddings, through the Q-Former or through runs of four features."""

    def __init__(self, config):
        super().__init__()
        width = config["embed_dim"]
        vision = Blip2VisionConfig(
            hidden_size=width,
            intermediate_size=int(width * config["mlp_ratio"]),
            num_hidden_layers=config["depth"],
            num_attention_heads=config["num_heads"],
            image_size=config["img_size"],
            patch_size=14,
            layer_norm_eps=config["vit_norm_eps"],
            hidden_act="gelu",
        )
        selection = Selection(cls="keep", norm=True)
        self.tower = EvaTower(Blip2VisionModel(vision), selection, norm_eps=config["ln_vision_eps"])
        self.has_qformer = config["has_qformer"]
        if not self.has_qformer:
            self.mlp = MLP(MLPConfig(width, config["llm_hidden"], depth=1, merge=4, order="row"))
            return
        qformer = Blip2QFormerConfig(
            vocab_size=1,
            hidden_size=config["q_hidden"],
            num_hidden_layers=config["q_layers"],
            num_attention_heads=config["q_heads"],
            intermediate_size=config["q_inter"],
            layer_norm_eps=config["qformer_ln_eps"],
            encoder_hidden_size=width,
            cross_attention_frequency=2,
        )
        self.qformer = QFormer(qformer, config["n_query"], config["llm_hidden"])

    def convert(self, weights):
        tower = prefixed("tower.", eva_keys(under(weights, *TOWER)))
        rest = {key: tensor for key, tensor in weights.items() if not key.startswith(TOWER)}
        if self.has_qformer:
            return tower | prefixed("qformer.", qformer_keys(rest))
        return tower | gather(rest, {"llama_proj.": ("mlp.", llava_mlp_keys)}, "MiniGPT-v2's connector")

    def forward(self, image):
        features = self.tower(image)
        blocks = run_blocks(self.tower.embed(image), self.tower.model.encoder.layers, self.tower.states)
        found = {"vit": blocks, "ln_vision": features}
        if self.has_qformer:
            return found | {"qformer": self.qformer.read(features), "inputs_llama": self.qformer(features)}
        return found | {"inputs_llama": self.mlp(features[:, 1:])}


MINIGPT4 = {"eva_qformer_proj": modules(Encode), "concat4_proj": modules(Encode)}
