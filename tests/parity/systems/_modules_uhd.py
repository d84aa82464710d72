"""LLaVA-UHD's modules."""

from __future__ import annotations

from functools import partial
from typing import Any

from harness import Unit, modules
from systems._modules_a import Merge, clip_tower, enlarged

from vistune.models.connectors.resampler import ResamplerConfig, resampler_keys
from vistune.models.connectors.roi_resampler import RoIResampler
from vistune.models.encoders.clip import clip_keys
from vistune.models.encoders.features import Selection
from vistune.models.keymap import gather
from vistune.models.layout import Layout


class AdaptSpatialResampler(Unit):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        queries, heads = config["grid_size"] ** 2, config["num_heads"]
        self.resampler = RoIResampler(ResamplerConfig(config["kv_dim"], config["embed_dim"], queries, heads), edge=True)

    def convert(self, weights):
        return gather(weights, {"model.mm_projector.": ("resampler.", resampler_keys)}, "LLaVA-UHD's resampler")

    def forward(self, x, params):
        rows, columns = params["tgt_size"]
        return {"y": self.resampler(x, (rows, columns)), "abs_pos": self.resampler.key_positions(rows, columns)}


class Embeddings(Unit):
    """CLIP before its first LayerNorm, at any size; the fixture holds no other weights."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.tower = clip_tower(config["clip"], Selection((0,), "keep"), "bicubic")
        del self.tower.model.pre_layrnorm

    def convert(self, weights):
        parts = {"model.vision_tower.vision_tower.": ("tower.", partial(clip_keys, tower=self.tower))}
        return gather(weights, parts, "LLaVA-UHD's embeddings")

    def forward(self, pixel_values, params):
        return {"embeddings": self.tower.embed(enlarged(pixel_values, params.get("repeat", 1)))}


class SequenceMerge(Merge):
    def forward(self, input_ids, attention_mask, labels, params, **features):
        pictures = []
        for n, separators in enumerate(params["ind_tokens"]):
            views = features[f"features_{n}"]
            slices: list[int | str] = []
            for k, separator in enumerate(separators):
                slices += [k, str(separator)]
            layout: Layout = (*slices, len(views) - 1)
            pictures.append((layout, list(views)))
        return self.merge(input_ids, attention_mask, labels, iter(pictures), params)


LLAVA_UHD = {
    "adapt_spatial_resampler": modules(AdaptSpatialResampler),
    "clip_embeddings": modules(Embeddings),
    "sequence_merge": modules(SequenceMerge),
}
