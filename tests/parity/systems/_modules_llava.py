"""LLaVA's and ViP-LLaVA's modules, and LLaVA whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from harness import Case, Fixture, Unit, close, modules
from systems._modules_a import Merge, clip_config, clip_tower
from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from vistune.models.connectors.mlp import MLP, MLPConfig, llava_mlp_keys
from vistune.models.encoders.clip import clip_keys
from vistune.models.encoders.features import Selection
from vistune.models.injection import SENTINEL, expand, pad
from vistune.models.keymap import gather, load
from vistune.models.losses import reduced, token_losses, token_weights
from vistune.models.native import llava_keys, with_rows


def projector(name: str, channels: int, width: int) -> MLP:
    """`linear`, `mlp2x_gelu`"""
    depth = re.fullmatch(r"mlp(\d+)x_gelu", name)
    return MLP(MLPConfig(channels, width, int(depth[1]) if depth else 1))


class Projector(Unit):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.projector = projector(config["projector"], config["mm_hidden"], config["hidden"])

    def convert(self, weights):
        return gather(weights, {"model.mm_projector.": ("projector.", llava_mlp_keys)}, "LLaVA's projector")

    def forward(self, x):
        return {"y": self.projector(x)}


class TowerProjector(Projector):
    """The whole tower is kept, since each case selects its own features."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.tower = clip_tower(config["clip"], Selection(cls="keep", norm=True))

    def convert(self, weights):
        parts = {
            "model.vision_tower.vision_tower.": ("tower.", partial(clip_keys, tower=self.tower)),
            "model.mm_projector.": ("projector.", llava_mlp_keys),
        }
        return gather(weights, parts, "LLaVA's tower and projector")

    def forward(self, pixel_values, params):
        cls = "drop" if params["select_feature"] == "patch" else "keep"
        self.tower.selection = Selection((params["select_layer"],), cls)
        features = self.tower(pixel_values)
        return {"features": features, "y": self.projector(features)}


class VipTowerProjector(TowerProjector):
    def __init__(self, config: dict[str, Any]) -> None:
        channels = config["clip"]["hidden"] * len(config["layers"])
        super().__init__({**config, "projector": "linear", "mm_hidden": channels})
        self.projector = MLP(MLPConfig(channels, config["hidden"], norm=True))
        self.tower = clip_tower(config["clip"], Selection(tuple(config["layers"])))

    def forward(self, pixel_values):
        features = self.tower(pixel_values)
        return {"features": features, "y": self.projector(features)}


class SequenceMerge(Merge):
    def forward(self, input_ids, attention_mask, labels, image_features, params):
        pictures = iter([((0,), [features]) for features in image_features])
        return self.merge(input_ids, attention_mask, labels, pictures, params)


def full_model(fixture: Fixture) -> Iterator[Case]:
    """transformers' class with the original's weights; its one vocabulary row more is cut from the logits."""
    config, vocabulary = fixture.config, fixture.config["vocab"]
    text = LlamaConfig(
        vocab_size=vocabulary + 1,
        hidden_size=config["hidden"],
        intermediate_size=config["inter"],
        num_hidden_layers=config["layers"],
        num_attention_heads=config["heads"],
        num_key_value_heads=config["kv_heads"],
    )
    vision = clip_config(config["clip"])
    model = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_id=vocabulary, tie_word_embeddings=False)
    ).eval()
    load(model, with_rows(llava_keys(fixture.weights), vocabulary + 1), "LLaVA")
    patches = (vision.image_size // vision.patch_size) ** 2
    for name, entry in fixture.cases.items():
        inputs, expected = fixture.under(f"in.{name}"), fixture.under(f"out.{name}")
        samples, used, given = [], [], 0
        for row, mask, labels in zip(
            inputs["input_ids"], inputs["attention_mask"].bool(), inputs["labels"], strict=True
        ):
            ids = row[mask].tolist()
            count = ids.count(SENTINEL)
            used += range(given, given + count)
            given += max(count, 1)  # the original gives a sample without pictures a blank one
            samples.append(expand(ids, labels[mask].tolist(), [[vocabulary] * patches] * count))
        batch = pad(samples, entry.get("params", {}).get("tokenizer_padding_side", "right"))
        logits = model(
            input_ids=batch.ids,
            attention_mask=batch.mask,
            position_ids=batch.positions,
            pixel_values=inputs["pixel_values"][used],
        ).logits[..., :vocabulary]
        loss = reduced(token_losses(logits, batch.labels), token_weights(batch.labels)).reshape(1)
        got = {"loss": loss, "labels": batch.labels, "attention_mask": batch.mask}
        yield close(
            f"{fixture.name} {name} logits",
            logits[batch.mask],
            expected.pop("logits")[expected["attention_mask"].bool()],
            fixture.tolerance,
        )
        for key, tensor in expected.items():
            yield close(f"{fixture.name} {name} {key}", got[key], tensor, fixture.tolerance)


LLAVA = {
    "projector_linear": modules(Projector),
    "projector_mlp2x_gelu": modules(Projector),
    "clip_tower_projector": modules(TowerProjector),
    "sequence_merge": modules(SequenceMerge),
    "full_model": full_model,
}

VIP_LLAVA = {"multilayer_projector": modules(VipTowerProjector)}
