"""InternVL's modules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness import Unit, modules
from torch import nn
from transformers import InternVLVisionConfig, InternVLVisionModel

from vistune.models.connectors.mlp import MLP, MLPConfig, internvl_mlp_keys, unshuffled
from vistune.models.encoders.features import Selection
from vistune.models.encoders.intern_vit import InternVitTower, intern_vit_keys
from vistune.models.injection import embed
from vistune.models.keymap import gather
from vistune.models.labels import IGNORE
from vistune.models.losses import reduced, token_losses

ORDERS = {"v1": "transposed", "v2": "square"}


def tower(vit: dict[str, Any]) -> InternVitTower:
    config = InternVLVisionConfig(
        hidden_size=vit["hidden"],
        num_attention_heads=vit["heads"],
        intermediate_size=vit["inter"],
        num_hidden_layers=vit["layers"],
        image_size=vit["image"],
        patch_size=vit.get("patch", 14),
        attention_bias=vit["qkv_bias"],
        use_qk_norm=vit["qk_norm"],
        norm_type=vit["norm"],
        use_mean_pooling=True,
    )
    return InternVitTower(InternVLVisionModel(config), Selection(cls="keep"))


class InternVit(Unit):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.tower = tower(config)

    def convert(self, weights):
        return gather(weights, {"vision_model.": ("tower.model.", intern_vit_keys)}, "InternViT")

    def forward(self, pixel_values):
        found = {}
        for n in range(self.tower.total + 1):
            self.tower.selection = Selection((n,), "keep")
            found[f"hidden_{n}"] = self.tower(pixel_values)
        return {**found, "last_hidden_state": found[f"hidden_{self.tower.total}"]}


class PixelShuffle(Unit):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.connector = MLP(MLPConfig(4 * config["vit_hidden"], config["llm_hidden"], norm=True))

    def convert(self, weights):
        return gather(weights, {"mlp1.": ("connector.", internvl_mlp_keys)}, "InternVL's connector")

    def forward(self, x, params):
        shuffled = unshuffled(x, 2)
        if ORDERS[params["ps_version"]] == "transposed":
            shuffled = shuffled.transpose(1, 2)
        return {"shuffled": shuffled, "y": self.connector(shuffled.flatten(1, 2))}


class ExtractFeature(Unit):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.tower = tower(config["vit"])
        self.connector = MLP(MLPConfig(config["vit_hidden"], config["llm_hidden"], norm=True, merge=4))

    def convert(self, weights):
        parts = {
            "vision_model.": ("tower.model.", intern_vit_keys),
            "mlp1.": ("connector.", internvl_mlp_keys),
        }
        return gather(weights, parts, "InternVL's visual path")

    def forward(self, pixel_values, params):
        self.tower.selection = Selection((params["select_layer"],))
        self.connector.config = replace(self.connector.config, order=ORDERS[params["ps_version"]])
        return {"y": self.connector(self.tower(pixel_values))}


class SequenceMerge(Unit):
    """The language model of this fixture is its embeddings times its head."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.table = nn.Embedding(config["vocab"], config["hidden"])
        self.head = nn.Linear(config["hidden"], config["vocab"], bias=False)

    def convert(self, weights):
        return {
            "table.weight": weights["language_model.model.tok_embeddings.weight"],
            "head.weight": weights["language_model.output.weight"],
        }

    def forward(self, input_ids, labels, vit_embeds, image_flags, params, loss_weight=None):
        visual = vit_embeds[image_flags.flatten() == 1].flatten(0, 1)
        mismatch = params["mismatch"]
        embeddings = embed(input_ids, visual, params["img_context_token_id"], self.table, parity=mismatch)
        losses = token_losses(self.head(embeddings), labels)
        weights = labels != IGNORE if loss_weight is None else loss_weight
        loss = reduced(losses[:, 1:], weights[:, 1:])
        return {"inputs_embeds": embeddings, "loss": (loss * (not mismatch)).reshape(1)}


INTERNVL = {
    "intern_vit_ln": modules(InternVit),
    "intern_vit_rms_qknorm": modules(InternVit),
    "pixel_shuffle_mlp1": modules(PixelShuffle),
    "extract_feature_rms_qknorm": modules(ExtractFeature),
    "sequence_merge": modules(SequenceMerge),
}
