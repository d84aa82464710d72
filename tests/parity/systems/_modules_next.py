"""LLaVA-NeXT's merge of an overview and tiles."""

from __future__ import annotations

import re
from typing import Any

import torch
from harness import Unit, modules
from torch import nn

from vistune.models.layout import stitch, visual_tokens, with_newlines
from vistune.models.views_tiles import AnyRes

PATCH = 14


class AnyResMerge(Unit):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.side = config["patches_per_side"]
        self.newline = nn.Parameter(torch.zeros(config["hidden"]))

    def convert(self, weights):
        return {"newline": weights["model.image_newline"]}

    def forward(self, image_features, params):
        if len(image_features) == 1:  # no tiles, but a newline
            return {"merged": with_newlines(image_features, self.newline)}
        columns, rows = grid = tuple(params["grid_wh"])
        if params.get("mm_patch_merge_type") == "spatial":
            tiles = stitch(image_features[1:], grid).flatten(0, 1)
            return {"merged": torch.cat([image_features[0], tiles])}
        size = self.side * PATCH
        limit = re.fullmatch(r"anyres_max_(\d+)", params.get("image_aspect_ratio", ""))
        policy = AnyRes(((columns * size, rows * size),), size, PATCH, int(limit[1]) if limit else 0)
        plan = policy.plan(*params["image_size"])
        return {"merged": visual_tokens(plan.layout, list(image_features), plan.grid, plan.features, self.newline)}


LLAVA_NEXT = dict.fromkeys(
    ("spatial_unpad_merge_336", "spatial_unpad_merge_tiny", "anyres_max_merge"), modules(AnyResMerge)
)
