"""LLaVA-HR: a mixture of two resolutions. CLIP ViT-L on a small copy of the picture, ConvNeXt on the picture itself,
adapters between them; MLP, Vicuna.

CLIP's CLS token is removed before its first block, and all of its blocks are used; the setting that asks for state -2
is ignored by the authors' code, and so there is none here.

The first stage runs without adapters. They start as no change at all (both their last layers are zero), so here they
are there and frozen: the same function, and one model for both stages.

What we do otherwise than the authors' code, and what brings theirs back:
- A sample whose counted labels do not add up is masked as a whole there; labels come from spans here
  (`original_labels`).
- There is no limit to a sequence with its pictures, only one of 2496 to its text: up to 3519 tokens, our limit.

Source: arXiv:2403.03003; github.com/luogen1996/LLaVA-HR.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel, ConvNextConfig

from vistune.models.connectors.mlp import MLP, MLPConfig, llava_mlp_keys
from vistune.models.encoders.clip import ClipTower, clip_keys, load_clip
from vistune.models.encoders.convnext import ConvNextTower, convnext_keys, load_open_clip
from vistune.models.encoders.features import Selection
from vistune.models.encoders.sizes import CLIP_L_336, CONVNEXT_L, CONVNEXT_XXL, tiny_clip
from vistune.models.families import llava
from vistune.models.families.base import ROLES, Composed, Picture, Preset, Stage
from vistune.models.fusion import DualTower, resolution_keys
from vistune.models.keymap import Part, State, constants_out, gather
from vistune.models.languages import VICUNA_7B, VICUNA_13B
from vistune.models.native import with_rows
from vistune.models.pixels import CLIP, pixels
from vistune.models.tiny import tiny_text
from vistune.models.views_derived import llava_hr


@dataclass(frozen=True)
class Settings:
    vision: Mapping[str, Any] = field(default_factory=lambda: CLIP_L_336)
    high: Mapping[str, Any] = field(default_factory=lambda: CONVNEXT_L)
    high_eps: float = 1e-6  # of the ConvNeXt's LayerNorms
    size: int = 1024  # pixels of the picture; its copy has 14 / 32 of them
    least: int = 336  # pixels of the copy
    fit: Literal["crop", "pad"] = "pad"


class Tower(DualTower):
    def forward(self, pictures: Sequence[Picture]) -> list[Tensor]:  # type: ignore[override]
        """-> (P, C) of each picture"""
        high, low = (torch.stack(views) for views in zip(*(picture.views for picture in pictures), strict=True))
        return list(super().forward(high, low))


class Connector(nn.Module):
    def __init__(self, config: MLPConfig) -> None:
        super().__init__()
        self.mlp = MLP(config)

    def forward(self, features: Sequence[Tensor], pictures: Any, table: Tensor) -> list[Tensor]:
        """features: (P, C) of each picture -> (P, D) of each"""
        return list(self.mlp(torch.stack(list(features))))


def _tower(settings: Settings) -> Tower:
    low = CLIPVisionModel(CLIPVisionConfig(**settings.vision))
    return Tower(
        ClipTower(low, Selection(cls="never"), "antialiased"),
        ConvNextTower(ConvNextConfig(**settings.high), eps=settings.high_eps),
    )


def _parts(settings: Settings, text: Any) -> tuple[nn.Module, nn.Module]:
    return _tower(settings), Connector(MLPConfig(settings.vision["hidden_size"], text.hidden_size))


def _load_vision(tower: Tower, folders: str) -> None:
    """`folders`: of CLIP and of the ConvNeXt, with a comma between them."""
    low, high = folders.split(",")
    load_clip(tower.low_tower, low)
    load_open_clip(tower.high_tower, high)


def original(state: State, config: Any) -> State:
    with torch.device("meta"):
        tower = _tower(Settings(**config.preset["settings"]))
    clip, both = partial(clip_keys, tower=tower.low_tower), "model.vision_tower."
    parts: dict[str, Part] = {
        both + "fast_vision_tower.vision_tower.": ("vision_tower.low_tower.", clip),
        both + "slow_vision_tower.vision_tower.": ("vision_tower.high_tower.", convnext_keys),
        both: ("vision_tower.", resolution_keys),
        "model.mm_projector.": ("connector.mlp.", llava_mlp_keys),
        "model.": ("language_model.model.", constants_out),
        "lm_head.": ("language_model.lm_head.", constants_out),
    }
    return with_rows(gather(state, parts, "LLaVA-HR"), config.text_config.vocab_size)


def _stages(size: int) -> tuple[Stage, Stage]:
    """`size`: of the first stage, whose copy is no smaller than any other."""
    return (
        replace(
            llava.ALIGN,
            limit=None,
            settings={"size": size, "fit": "crop"},
            note="The sum of both towers trains with the MLP; the adapters do not take part.",
            source="scripts/v1_5/train_eval_llava_hr.sh, pretrain_llava_hr.sh",
        ),
        replace(
            llava.SCRIPT,
            name="instruct",
            rates=dict.fromkeys(("vision", "adapters", "connector", "language", "head"), 2e-5),
            data="LLaVA-1.5 mix665k",
            samples=665_000,
            batch=128,
            source="scripts/v1_5/train_eval_llava_hr.sh",
        ),
    )


_7B = Preset(
    settings=Settings(),
    text=VICUNA_7B,
    template="vicuna_v1",
    limit=3519,
    stages=_stages(384),
    language="lmsys/vicuna-7b-v1.5",
    vision="openai/clip-vit-large-patch14-336,laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup",
    weights="favor123/llava-hr-7b-sft-1024",
)

TINY = Settings(
    vision=tiny_clip(layers=4),
    high={"hidden_sizes": (8, 12, 16, 24), "depths": (1, 1, 1, 1)},
    size=128,
    least=28,
)

FAMILY = Composed(
    name="llava_hr",
    title="LLaVA-HR",
    source="arXiv:2403.03003; luogen1996/LLaVA-HR",
    views="square 1024, padded, and a copy of 448",
    encoder="CLIP ViT-L/14 and ConvNeXt, adapters between them",
    connector="MLP",
    injection="scatter",
    codec="llava",
    presets={
        "llava-hr-7b": _7B,
        "llava-hr-x-13b": replace(
            _7B,
            settings=Settings(high=CONVNEXT_XXL, high_eps=1e-5),
            text=VICUNA_13B,
            language="lmsys/vicuna-13b-v1.5",
            vision="openai/clip-vit-large-patch14-336,laion/CLIP-convnext_xxlarge-laion2B-s34B-b82K-augreg-soup",
            weights="favor123/llava-hr-13b-x-sft-1024",
        ),
        "tiny": Preset(settings=TINY, text=tiny_text(), template="vicuna_v1", stages=_stages(64)),
    },
    policy=lambda settings: llava_hr(settings.size, settings.fit, settings.least),
    look=lambda settings, plan, picture: tuple(pixels(plan, picture, CLIP)),
    roles=ROLES | {"connector": ("connector.", "vision_tower.sum."), "adapters": ("vision_tower.adapters.",)},
    parts=_parts,
    load_vision=_load_vision,
    original=original,
)
