"""SPHINX's views, ensemble and sequence, with the fixture's small stand-ins for the encoders."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from harness import Unit, modules
from systems._modules_b import prefixed, under
from torch import nn

from vistune.models.ensemble import EnsembleConfig, EnsembleConnector, EnsembleTower, ensemble_keys, halved
from vistune.models.pixels import derive
from vistune.models.views_derived import sphinx, sphinx_light

PLANS = {
    "llama_ens": sphinx(1),
    "llama_ens5": sphinx(2),
    "llama_ens10": sphinx(3),
    "llama_ens5p2": sphinx(2, part_tokens=99),
    "llama_ens_light": sphinx_light(1),
    "llama_ens5_light": sphinx_light(2),
}
SHOWN = [0, 1, 31, 32, 33, -1]
"""Tokens of each view that the fixture keeps, counted without its start and end."""

CONNECTOR = ("start_img", "end_img", "visual_proj.", "qformer_proj.")
CONVNEXT_CHANNELS = 3072


class Patches(nn.Module):
    """CLIP and DINOv2: one convolution, its mean as CLS."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 14, stride=14)

    def forward(self, pixels):
        x = self.conv(pixels).flatten(2).transpose(1, 2)
        return torch.cat([x.mean(1, keepdim=True), x], dim=1)


class Map(nn.Module):
    """ConvNeXt."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, stride=4)

    def forward(self, pixels):
        x = self.conv(F.avg_pool2d(pixels, 8)).repeat(1, CONVNEXT_CHANNELS // 8, 1, 1)
        return x * (1 + torch.arange(CONVNEXT_CHANNELS) / CONVNEXT_CHANNELS)[:, None, None]


class Queries(nn.Module):
    """Q-Former."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 7, stride=7)

    def forward(self, pixels):
        x = self.conv(F.avg_pool2d(pixels, 16)).flatten(2).transpose(1, 2).repeat(1, 8, 1)
        return x * (1 + torch.arange(32) / 32)[:, None]


class Encode(Unit):
    def __init__(self, config):
        super().__init__()
        self.variant, width = config["variant"], config["dim"]
        self.policy = PLANS[self.variant]
        self.light = self.variant.endswith("light")
        channels = CONVNEXT_CHANNELS + config["dino"] + (0 if self.light else config["clip"])
        self.tower = EnsembleTower(
            Map(),
            Patches(config["dino"]),
            None if self.light else Patches(config["clip"]),
            None if self.light else Queries(config["qf"]),
        )
        self.connector = EnsembleConnector(EnsembleConfig(channels, width, 0 if self.light else config["qf"]))
        self.words = nn.Embedding(config["vocab"], width)
        self.head = nn.Linear(width, config["vocab"], bias=False)

    def convert(self, weights):
        stubs = {"clip": "clip", "convnext": "convnext", "dino": "dino", "qf": "qformer"}
        state = {"words.weight": weights["tok_embeddings.weight"], "head.weight": weights["output.weight"]}
        for theirs, ours in stubs.items():
            for kind in ("weight", "bias"):
                if (key := f"stub_{theirs}.{kind}") in weights:
                    state[f"tower.{ours}.conv.{kind}"] = weights[key]
        return state | prefixed("connector.", ensemble_keys(under(weights, *CONNECTOR)))

    def forward(self, image_small, examples):
        plan = self.policy.plan(64, 64)
        side = plan.canvas[-1].size[0]
        image = F.interpolate(image_small, (side, side))
        views = derive(image, plan.views)
        large = views[len(views) // 2 :] if self.light else [None] * len(views)
        blocks = []
        for n, view in enumerate(views[: len(views) // 2] if self.light else views):
            features, queries = self.tower(view, large[n])
            if n and self.variant == "llama_ens5p2":
                features = halved(features)
            blocks.append(self.connector(features, queries))
        found = {f"view{n}.first_last": block[:, 1:-1][:, SHOWN] for n, block in enumerate(blocks)}
        words = self.words(examples)
        sequence = torch.cat([words[:, :1], *blocks, words[:, 1:]], dim=1)
        logits = self.head(sequence[:, sequence.shape[1] - words.shape[1] :])
        return found | {"sequence_channels01": sequence[..., :2], "logits": logits}


SPHINX = {"encode_image": modules(Encode)}
