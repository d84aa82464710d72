"""CogVLM's and CogAgent's encoders, connectors and language model layers."""

from __future__ import annotations

import torch
from harness import Unit, modules
from systems._modules_b import causal, language, under
from torch import nn
from transformers import Blip2VisionConfig, Blip2VisionModel
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from vistune.models.connectors.glu import GLU, GLUConfig, glu_keys
from vistune.models.encoders.eva import EvaTower, eva2_e_keys
from vistune.models.encoders.eva2 import Eva2Config, Eva2Tower, eva2_l_keys
from vistune.models.encoders.features import Selection
from vistune.models.expert_keys import cogvlm_keys
from vistune.models.experts import COGVLM, ExpertConfig, Routing
from vistune.models.keymap import gather


class Low(Unit):
    def __init__(self, config):
        super().__init__()
        vision = Blip2VisionConfig(
            hidden_size=config["hidden_size"],
            intermediate_size=config["inner_hidden_size"],
            num_hidden_layers=config["num_layers"],
            num_attention_heads=config["num_attention_heads"],
            image_size=config["image_size"],
            patch_size=config["patch_size"],
            layer_norm_eps=config["layernorm_epsilon"],
            hidden_act="gelu",
        )
        self.tower = EvaTower(Blip2VisionModel(vision), Selection(cls="keep"), post_norm=True)

    def convert(self, weights):
        return gather(weights, {"mixins.eva.vit_model.": ("tower.", eva2_e_keys)}, "EVA2-CLIP-E")

    def forward(self, image):
        hidden = self.tower(image)
        return {"embeddings": self.tower.embed(image), "hidden": hidden, "image_emb": hidden[:, 1:]}


class High(Unit):
    def __init__(self, config):
        super().__init__()
        width = config["embed_dim"]
        self.config = Eva2Config(
            image_size=config["img_size"],
            width=width,
            depth=config["depth"],
            heads=config["num_heads"],
            hidden=int(width * config.get("mlp_ratio", 2.6667)),
            trained_grid=config["pt_hw_seq_len"],
        )
        self.tower = Eva2Tower(self.config)

    def convert(self, weights):
        tower = ("tower.", lambda part: eva2_l_keys(part, self.config))
        return gather(weights, {"mixins.encoder.": tower}, "EVA2-CLIP-L")

    def forward(self, image):
        return {"vit": self.tower.encode(image), "encoder_outputs": self.tower(image)}


class Adapter(Unit):
    def __init__(self, config):
        super().__init__()
        positions = config["image_length"] if config["cogagent"] else 0
        width = config["hidden_size"]
        self.glu = GLU(GLUConfig(config["in_features"], width, config["inner_hidden_size"], positions))
        self.words = nn.Embedding(config["vocab"], width)

    def convert(self, weights):
        words = {"words.weight": weights["transformer.word_embeddings.weight"]}
        connector = under(weights, "mixins.eva.")
        return words | gather(connector, {"mixins.eva.": ("glu.", glu_keys)}, "the GLU")

    def forward(self, vit_features, input_ids, image_embed_mask):
        where = image_embed_mask.bool()[..., None]
        return {
            "glu": self.glu.convert(vit_features),
            "word_embedding": self.words(input_ids).masked_scatter(where, self.glu(vit_features)),
        }


class Expert(Unit):
    def __init__(self, config):
        super().__init__()
        heads = config["num_attention_heads"]
        model = language(
            ExpertConfig(
                typed=COGVLM,
                cross_channels=config.get("cross_attn_hidden_size", 0),
                cross_width=heads * config.get("cross_hidden_size_per_attention_head", 0),
            ),
            hidden_size=config["hidden_size"],
            intermediate_size=config["inner_hidden_size"],
            num_attention_heads=heads,
            rms_norm_eps=config["layernorm_epsilon"],
            num_hidden_layers=config["num_layers"],
        )
        self.layers = model.layers
        self.rotary = LlamaRotaryEmbedding(model.config)

    def convert(self, weights):
        return cogvlm_keys(weights)

    def forward(self, hidden_states, vision_expert_mask, position_ids, encoder_outputs=None):
        routing, found, x = Routing.of(vision_expert_mask), {}, hidden_states
        inputs = {
            "position_embeddings": self.rotary(hidden_states, position_ids),
            "attention_mask": causal(torch.ones_like(position_ids)),
            "routing": routing,
        }
        for n, layer in enumerate(self.layers):
            attended = layer.self_attn(layer.input_layernorm(x), **inputs)[0]
            found[f"layer{n}.attention_of_normed_input"] = attended
            y = x + attended
            if layer.cross is not None:
                crossed = layer.cross(layer.cross_norm(y), encoder_outputs, encoder_outputs)
                found[f"layer{n}.cross_attention_of_normed"] = crossed
                y = y + crossed
            found[f"layer{n}.mlp_of_normed"] = layer.mlp(layer.post_attention_layernorm(y), routing)
            x = layer(x, features=encoder_outputs, **inputs)
            found[f"layer{n}"] = x
        return found


COGVLM_MODULES = {
    "eva2_clip_e_blocks": modules(Low),
    "eva2_clip_l_highres": modules(High),
    "glu_adapter_cogvlm": modules(Adapter),
    "glu_adapter_cogagent": modules(Adapter),
    "visual_expert_layer": modules(Expert),
    "cogagent_layer": modules(Expert),
}
