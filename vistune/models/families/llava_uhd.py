"""LLaVA-UHD (v1): slices of the picture's own shape, CLIP ViT-L at any size, 144 queries that each read one region,
Vicuna.

The released code and weights are not the paper's model. The code has 144 queries, each confined to its cell of a 12 x
12 grid by RoIAlign (`llava-uhd-144-13b`); the paper has 64 that read the whole view, and at most six slices
(`llava-uhd-64-13b`, never released). The paper's figures belong to the latter.

What we do otherwise than the authors' code, and what brings theirs back:
- A sample whose counted labels do not add up is masked as a whole there; labels come from spans here
  (`original_labels`).
- A sequence too long with its pictures is cut there, within a picture too; it is refused here
  (`injection.expand(parity=True)`).
- In training, pictures of TextVQA were enlarged to 1024 pixels and a tenth of the others resized to the area of six
  slices, at random; here that is a setting of a stage (`long_side`, `area`), for all its pictures.
- Samples beyond the last row or column of a view narrower than 12 patches count as zero, as in the compiled RoIAlign
  of training; `edge` repeats the last one, as torchvision's pure Python does.

Source: arXiv:2403.11703; github.com/thunlp/LLaVA-UHD, branch LLaVA-UHD-v1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from vistune.models.connectors.resampler import Resampler, ResamplerConfig, resampler_keys
from vistune.models.connectors.roi_resampler import RoIResampler
from vistune.models.encoders.clip import ClipTower, clip_keys, load_clip
from vistune.models.encoders.features import Selection
from vistune.models.encoders.sizes import CLIP_L_336, tiny_clip
from vistune.models.families import llava
from vistune.models.families.base import ROLES, Composed, Preset
from vistune.models.keymap import Part, State, constants_out, gather
from vistune.models.languages import VICUNA_7B, VICUNA_13B
from vistune.models.layout import placeholders
from vistune.models.native import with_rows
from vistune.models.pixels import CLIP, pixels
from vistune.models.reader import Reader
from vistune.models.sliced import SlicedConnector, SlicedTower
from vistune.models.tiny import tiny_text
from vistune.models.views import ViewPlan
from vistune.models.views_slices import Slices, llava_uhd


@dataclass(frozen=True)
class Settings:
    vision: Mapping[str, Any] = field(default_factory=lambda: CLIP_L_336)
    scale: int = 336  # a view has about its square of pixels
    most: int = 7  # slices; 1: the overview alone
    long_side: int = 1024  # to which pictures are resized first; 0: they are not
    area: int = 0  # the same, to the area of so many slices
    queries: int = 144
    reads: Literal["region", "view"] = "region"  # what a query sees
    head_width: int = 128  # channels of an attention head
    edge: bool = False


def _policy(settings: Settings) -> Slices:
    return llava_uhd(settings.scale, settings.most, settings.queries, settings.long_side, settings.area)


def _tower(settings: Settings) -> SlicedTower:
    model = CLIPVisionModel(CLIPVisionConfig(**settings.vision))
    return SlicedTower(ClipTower(model, Selection((-2,)), "bicubic"), settings.vision["patch_size"])


def _parts(settings: Settings, text: Any) -> tuple[nn.Module, nn.Module]:
    tower, width = _tower(settings), text.hidden_size
    config = ResamplerConfig(tower.encoder.width, width, settings.queries, width // settings.head_width)
    resampler = RoIResampler(config, settings.edge) if settings.reads == "region" else Resampler(config)
    return tower, SlicedConnector(resampler)


def _picture(reader: Reader, plan: ViewPlan) -> list[int]:
    """Separators are the tokens of "," and of a newline as they are within a text; at the start of one, the tokenizers
    of Llama would write a blank before them."""
    start = reader.text("a")
    return placeholders(
        plan.layout, [v.tokens for v in plan.views], reader.placeholder, lambda t: reader.text("a" + t)[len(start) :]
    )


def original(state: State, config: Any) -> State:
    """The tower was never trained: where the checkpoint lacks it, load stock CLIP."""
    with torch.device("meta"):
        tower = _tower(Settings(**config.preset["settings"])).encoder
    parts: dict[str, Part] = {
        "model.vision_tower.vision_tower.": ("vision_tower.encoder.", partial(clip_keys, tower=tower)),
        "model.mm_projector.": ("connector.resampler.", resampler_keys),
        "model.": ("language_model.model.", constants_out),
        "lm_head.": ("language_model.lm_head.", constants_out),
    }
    return with_rows(gather(state, parts, "LLaVA-UHD"), config.text_config.vocab_size)


STAGES = (
    replace(
        llava.ALIGN,
        rates={"connector": 1e-3, "positions": 1e-3},
        limit=None,
        settings={"most": 1, "long_side": 0},
        note="The overview alone. The positions of the queries are declared fixed, but this stage unfreezes all of the "
        "connector, so they were trained; the paper aligns on CC-595K.",
        source="train.sh; llava/train/train.py:971",
    ),
    replace(
        llava.SCRIPT,
        name="instruct",
        rates={"connector": 2e-5, "language": 2e-5, "head": 2e-5},
        data="LLaVA-1.5 mix665k",
        samples=665_000,
        batch=128,
        settings={"long_side": 0},
        note="The encoder stays frozen, though the paper says that it may be tuned here.",
        source="train.sh",
    ),
)

_13B = Preset(
    settings=Settings(),
    text=VICUNA_13B,
    template="vicuna_v1",
    stages=STAGES,
    language="lmsys/vicuna-13b-v1.5",
    vision="openai/clip-vit-large-patch14-336",
    weights="guozonghao96/llava-uhd-144-13b",
)

TINY = Settings(vision=tiny_clip(), scale=56, most=4, long_side=112, queries=16, head_width=16)

FAMILY = Composed(
    name="llava_uhd",
    title="LLaVA-UHD",
    source="arXiv:2403.11703; thunlp/LLaVA-UHD, branch LLaVA-UHD-v1",
    views="up to 7 slices of its own shape, overview last",
    encoder="CLIP ViT-L/14, state -2, positions resized",
    connector="resampler, 144 queries of a region each",
    injection="scatter",
    codec="llava",
    presets={
        "llava-uhd-144-13b": _13B,
        "llava-uhd-144-7b": replace(_13B, text=VICUNA_7B, language="lmsys/vicuna-7b-v1.5", weights=""),
        "llava-uhd-64-13b": replace(_13B, settings=Settings(most=6, queries=64, reads="view"), weights=""),
        "tiny": Preset(settings=TINY, text=tiny_text(), template="vicuna_v1", stages=STAGES),
    },
    policy=_policy,
    look=lambda settings, plan, picture: tuple(pixels(plan, picture, CLIP)),
    roles=ROLES | {"positions": ("connector.resampler.positions",)},
    picture=_picture,
    parts=_parts,
    load_vision=lambda tower, folder: load_clip(tower.encoder, folder),
    original=original,
)
