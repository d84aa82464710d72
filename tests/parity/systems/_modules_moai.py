"""MoAI's compressor, low-rank update and a layer with the mixer."""

from __future__ import annotations

import re

import torch
from harness import Unit, modules
from systems._modules_b import causal, language
from torch import nn
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from vistune.models.connectors.perceiver import Perceiver, PerceiverConfig, perceiver_keys
from vistune.models.expert_keys import moai_keys
from vistune.models.experts import PADDING, TEXT, VISUAL, ExpertConfig, PLoRA, Routing
from vistune.models.keymap import gather, rename
from vistune.models.mixer import views

NAMES = {"img": ("CA_img_aux", "CA_img_lang", "SA_img"), "lang": ("CA_lang_aux", "CA_lang_img", "SA_lang")}


class Compressor(Unit):
    def __init__(self, config):
        super().__init__()
        self.perceiver = Perceiver(
            PerceiverConfig(config["dim"], config["num_latents"], config["depth"], config["heads"], config["dim_head"])
        )

    def convert(self, weights):
        return gather(weights, {"moai_compressor.": ("perceiver.", perceiver_keys)}, "the compressor")

    def forward(self, aux):
        return {"y": self.perceiver(aux)}


class Update(Unit):
    def __init__(self, config):
        super().__init__()
        self.linear = PLoRA(nn.Linear(config["inf"], config["outf"], bias=False), config["r"], config["alpha"])

    def convert(self, weights):
        parts = {"A": "down", "B": "up", "main": "text"}
        return rename(weights, [(r"Plora_(\w+)\.weight", lambda m: f"linear.{parts[m[1]]}.weight")], "PLoRA")

    def forward(self, x, im_mask):
        return {"y": self.linear(x, Routing.of(im_mask.int()))}


class MixedLayer(Unit):
    """One layer, taken by itself; its number in the checkpoint is that of a layer with a mixer."""

    def __init__(self, config):
        super().__init__()
        self.heads, self.groups = config["heads"], config["kv_heads"]
        model = language(
            ExpertConfig(
                rank=config["plora_r"], alpha=config["plora_r"], mixer_every=1, mixer_heads=config["moai_heads"]
            ),
            hidden_size=config["hidden_size"],
            intermediate_size=config["inter"],
            num_attention_heads=self.heads,
            num_key_value_heads=self.groups,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": config["rope_theta"]},
            num_hidden_layers=1,
        )
        self.layers = model.layers
        self.rotary = LlamaRotaryEmbedding(model.config)

    def convert(self, weights):
        first = {re.sub(r"^model\.layers\.\d+\.", "layers.0.", key): tensor for key, tensor in weights.items()}
        return moai_keys(first, self.heads, self.groups)

    def forward(self, hidden_states, aux_embeds, im_mask, lang_mask, attention_mask):
        layer = self.layers[0]
        types = torch.where(im_mask.bool(), VISUAL, torch.where(lang_mask.bool(), TEXT, PADDING))
        routing = Routing.of(types)
        positions = (attention_mask.cumsum(-1) - 1).masked_fill(attention_mask == 0, 1)
        inputs = {
            "position_embeddings": self.rotary(hidden_states, positions),
            "attention_mask": causal(attention_mask),
            "routing": routing,
        }
        normed = layer.input_layernorm(hidden_states)
        found = {"normed": normed, "layer_fp32gates": layer(hidden_states, evidence=aux_embeds, **inputs)}
        for parity, ending in ((True, ""), (False, "_fp32gates")):
            layer.mixer.parity = parity
            found[f"mixed_hidden{ending}"] = mixed = layer.mixer(normed, aux_embeds, types)
            found[f"attention_out{ending}"] = layer.self_attn(mixed, **inputs)[0]
        for n, (tokens, aside, kinds) in enumerate(zip(normed, aux_embeds, types, strict=True)):
            picture, words = tokens[kinds == VISUAL], tokens[kinds == TEXT]
            seen = views(layer.mixer.visual, picture, (aside, words, picture))
            read = views(layer.mixer.text, words, (aside, picture, words))
            for names, made in ((NAMES["img"], seen), (NAMES["lang"], read)):
                found |= {f"b{n}.{name}": made[:, k] for k, name in enumerate(names)}
            found[f"b{n}.gate_img"] = layer.mixer.weights(layer.mixer.visual_gate, picture)
            found[f"b{n}.gate_lang"] = layer.mixer.weights(layer.mixer.text_gate, words)
        return found


MOAI = {
    "compressor": modules(Compressor),
    "plora": modules(Update),
    "mixer_attention_layer": modules(MixedLayer),
}
