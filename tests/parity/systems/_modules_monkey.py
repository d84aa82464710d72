"""Monkey's encoder and resampler, one view at a time and whole pictures."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from harness import Unit, modules
from PIL import Image
from systems._modules_a import enlarged

from vistune.models.connectors.resampler import Resampler, ResamplerConfig, resampler_keys
from vistune.models.encoders.openclip import OpenClipConfig, OpenClipTower, openclip_keys
from vistune.models.keymap import State
from vistune.models.layout import visual_tokens
from vistune.models.pixels import pixels
from vistune.models.views_derived import monkey

RESAMPLER = ("attn_pool.", "ln_post.", "proj")


class Visual(Unit):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, output = config["width"], config["output_dim"]
        self.size = config["image_size"]
        self.tower = OpenClipTower(
            OpenClipConfig(
                width=width,
                depth=config["layers"],
                heads=config["heads"],
                hidden=int(width * config["mlp_ratio"]),
                patch=config["patch_size"],
                banks=config["lora_repeat_num"],
            )
        )
        self.resampler = Resampler(ResamplerConfig(width, output, config["n_queries"], output // 128))

    def convert(self, weights):
        visual = {key.removeprefix("transformer.visual."): tensor for key, tensor in weights.items()}
        ends = {key: tensor for key, tensor in visual.items() if key.startswith(RESAMPLER)}
        starts = {key: tensor for key, tensor in visual.items() if key not in ends}
        state: State = {f"tower.{key}": tensor for key, tensor in openclip_keys(starts).items()}
        return state | {f"resampler.{key}": tensor for key, tensor in resampler_keys(ends).items()}

    def forward(self, params, x=None, image=None):
        if params["kind"] == "image":
            return self.picture(Image.fromarray(image.numpy()))
        index = params["lora_idx"]
        x = enlarged(x, params.get("repeat", 1))
        bank = None if index is None else torch.full((len(x),), index)
        return {"y": self.resampler(self.tower(x, bank))}

    def picture(self, image: Image.Image) -> dict:
        sides = self.size if isinstance(self.size, list) else [self.size, self.size]
        plan = monkey((sides[1], sides[0])).plan(*image.size)
        views = pixels(plan, image)
        *windows, overview = range(len(views))
        tokens = self.resampler(self.tower(torch.stack(views), torch.tensor([*windows, -1])))
        columns = plan.grid[0]
        rows = [torch.cat(views[n : n + columns], dim=2) for n in range(0, overview, columns)]
        canvas = torch.cat(rows, dim=1).double()
        ends = [canvas.sum(), canvas.abs().sum(), canvas.flatten()[0], canvas.flatten()[-1]]
        return {
            "y": visual_tokens(plan.layout, list(tokens))[None],
            "pixels_checksum": torch.stack(ends),
            "global_small": F.avg_pool2d(views[overview], 28)[None],
        }


MONKEY = {"vision_transformer": modules(Visual)}
