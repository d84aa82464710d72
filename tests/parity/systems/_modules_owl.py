"""mPLUG-Owl's abstractors, and a layer of mPLUG-Owl2's language model."""

from __future__ import annotations

from harness import Unit, modules
from systems._modules_b import causal, language
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from vistune.models.connectors.abstractor import Abstractor, AbstractorConfig, abstractor_keys
from vistune.models.expert_keys import owl2_keys
from vistune.models.experts import OWL2, ExpertConfig, Routing
from vistune.models.keymap import gather


class Reader(Unit):
    def __init__(self, config):
        super().__init__()
        self.abstractor = Abstractor(
            AbstractorConfig(
                channels=config["hidden_size"],
                width=config["language_hidden_size"],
                queries=config.get("num_query_tokens") or config["num_learnable_queries"],
                depth=config["num_hidden_layers"],
                heads=config["num_attention_heads"],
                hidden=config["intermediate_size"],
                eps=config["layer_norm_eps"],
                grid=config.get("grid_size", 0),
                cls=config.get("use_cls_token", True),
            )
        )

    def convert(self, weights):
        return gather(weights, {"": ("abstractor.", abstractor_keys)}, "the abstractor")

    def forward(self, image_embeds):
        return {
            "last_hidden_state": self.abstractor(image_embeds),
            "pooler_output": self.abstractor.read(image_embeds)[:, 0],
        }


class Layer(Unit):
    def __init__(self, config):
        super().__init__()
        model = language(
            ExpertConfig(typed=OWL2),
            hidden_size=config["hidden_size"],
            intermediate_size=config["inter"],
            num_attention_heads=config["heads"],
            num_key_value_heads=config["kv_heads"],
            attention_bias=config["bias"],
            rms_norm_eps=1e-5,
            num_hidden_layers=1,
        )
        self.layers = model.layers
        self.rotary = LlamaRotaryEmbedding(model.config)

    def convert(self, weights):
        return gather(weights, {"model.": ("", owl2_keys)}, "the language model")

    def forward(self, hidden_states, modality_indicators, attention_mask):
        layer, routing = self.layers[0], Routing.of(modality_indicators)
        positions = attention_mask.new_ones(attention_mask.shape).cumsum(-1) - 1
        inputs = {
            "position_embeddings": self.rotary(hidden_states, positions),
            "attention_mask": causal(attention_mask),
            "routing": routing,
        }
        normed = layer.input_layernorm(hidden_states, routing)
        return {
            "input_layernorm": normed,
            "self_attn": layer.self_attn(normed, **inputs)[0],
            "layer": layer(hidden_states, **inputs),
        }


OWL = {
    "abstractor_owl1": modules(Reader),
    "abstractor_owl2": modules(Reader),
    "owl2_mam_layer": modules(Layer),
}
