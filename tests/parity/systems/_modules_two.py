"""The systems with two encoders: LLaVA-HR and Mini-Gemini."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from harness import Unit, modules
from systems._modules_a import clip_tower, enlarged
from torch import nn
from transformers import ConvNextConfig

from vistune.models.connectors.mlp import MLP, MLPConfig, llava_mlp_keys
from vistune.models.encoders.clip import clip_keys
from vistune.models.encoders.convnext import ConvNextTower, convnext_keys
from vistune.models.encoders.features import Selection
from vistune.models.fusion import (
    DualTower,
    PatchMining,
    ResolutionAdapter,
    ResolutionSum,
    mining_keys,
    resolution_keys,
)
from vistune.models.keymap import gather
from vistune.models.layout import visual_tokens
from vistune.models.pixels import derive
from vistune.models.views_derived import llava_hr


def trunk(config: dict[str, Any], stages: tuple[int, ...]) -> ConvNextTower:
    return ConvNextTower(ConvNextConfig(hidden_sizes=config["dims"], depths=config["depths"]), stages)


class Adapters(Unit):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        low, high = config["fast_dim"], config["slow_dim"]
        self.adapters = nn.ModuleList([ResolutionAdapter(low, high)])
        self.sum = ResolutionSum(low, high)

    def convert(self, weights):
        return gather(weights, {"model.vision_tower.": ("", resolution_keys)}, "LLaVA-HR's fusion")

    def forward(self, fast, slow, params):
        module = self.adapters[0] if params["module"] == "adapter" else self.sum
        return {"y": module(fast, slow)}


class Towers(Unit):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        low = clip_tower(config["clip"], Selection(cls="never"), "antialiased")
        self.towers = DualTower(low, trunk(config, (-1,)))

    def convert(self, weights):
        low = partial(clip_keys, tower=self.towers.low_tower)
        parts = {
            "model.vision_tower.fast_vision_tower.vision_tower.": ("towers.low_tower.", low),
            "model.vision_tower.slow_vision_tower.vision_tower.": ("towers.high_tower.", convnext_keys),
            "model.vision_tower.": ("towers.", resolution_keys),
        }
        return gather(weights, parts, "LLaVA-HR's towers")

    def forward(self, x, params):
        pictures = enlarged(x, params["repeat"])
        high, low = derive(pictures, llava_hr(params["input_image_size"]).views)
        if params["freeze_vision"]:  # then the original has no adapters
            return {"y": self.towers.sum(self.towers.low_tower(low), self.towers.high_tower(high))}
        return {"y": self.towers(high, low)}


class Pyramid(Unit):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.tower = trunk(config, tuple(range(len(config["dims"]))))

    def convert(self, weights):
        return gather(weights, {"model.vision_tower_aux.": ("tower.", convnext_keys)}, "Mini-Gemini's second tower")

    def forward(self, x, params):
        return {"y": self.tower(enlarged(x, params.get("repeat", 1)))}


class Mining(Unit):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.mining = PatchMining(config["mm_hidden"], config["mm_hidden_aux"])
        self.projector = MLP(MLPConfig(config["mm_hidden"], config["hidden"]))

    def convert(self, weights):
        parts = {
            "model.mm_projector.": ("projector.", llava_mlp_keys),
            "model.": ("mining.", mining_keys),
        }
        return gather(weights, parts, "Mini-Gemini's mining")

    def forward(self, lr, hr, params):
        """The original's tower sees the crops of all pictures, then the overviews of all."""
        images, grid = len(hr), params["image_grid"]
        crops = images * grid * grid
        low = lr[:crops].unflatten(0, (images, -1))
        order = tuple(range(grid * grid))
        if params["image_global"]:
            low = torch.cat([low, lr[crops:, None]], dim=1)
            order = (grid * grid, *order)
        fused = self.mining(low, hr, grid)
        y = self.projector(torch.stack([visual_tokens(order, list(views)) for views in fused]))
        return {"y": y, "embed_feat": self.mining.mine(lr, hr)} if grid == 1 else {"y": y}


LLAVA_HR = {"mr_adapter": modules(Adapters), "dual_tower": modules(Towers)}
MGM = {"aux_tower": modules(Pyramid), "patch_info_mining": modules(Mining)}
