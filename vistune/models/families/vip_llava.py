"""ViP-LLaVA: LLaVA 1.5 that understands marks drawn on the picture. A region has no coordinates in the text: a shape is
blended over the picture at its own size, and the text names it, as "within the red rectangle". Five hidden states of
CLIP, low ones too, keep the marks visible.

`mark` chooses shapes and colours for regions as the authors' data does, and gives the words for them; its `Overlay`
goes where the picture goes (`Reader.look`, `Vlm.generate`).

What the authors' code does and we do not: a point without an outline fails (`draw_prompt(parity=True)`), and a sample
whose mark fails is replaced by a random other one; three RefCOCOg questions of four say "Describe the object ." without
the words for the mark. What it shares with LLaVA's is said there. Where paper and code differ, we follow the code:
alpha from 96 to 255 (paper: from half on), cubic scribbles (quadratic), last stage at 2e-7 (not in the paper).

Source: arXiv:2312.00784; github.com/WisconsinAIVision/ViP-LLaVA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal, NamedTuple

from transformers import VipLlavaConfig, VipLlavaForConditionalGeneration

from vistune.errors import VistuneError
from vistune.models import languages
from vistune.models.families import llava
from vistune.models.families.base import NATIVE_ROLES, Native, Preset, Stage
from vistune.models.native import draw_projector, load_clip_tower, originals, square_pixels, sub_configs
from vistune.models.overlay import COLORS, SHAPES, Overlay, Polygon, VisualPrompt, name_prompt
from vistune.models.pixels import CLIP, pixels
from vistune.models.tiny import tiny_text

DATA_SHAPES: dict[str, tuple[str, ...]] = {
    "refcocog": tuple(SHAPES),
    "vcr": tuple(shape for shape in SHAPES if shape != "point"),
    "vg_rel": ("rectangle", "ellipse"),
    "flickr30k": ("rectangle", "ellipse", "arrow"),
    "v7w": ("rectangle",),
    "pointqa": ("rectangle",),
}
"""The shapes that each data set's regions are marked with; those of the last two always in the same width."""

CONSTANT = ("v7w", "pointqa")


class Region(NamedTuple):
    box: tuple[float, float, float, float]  # left, top, right, bottom, in pixels
    polygons: Sequence[Polygon] = ()


def mark(regions: Sequence[Region], seed: int, data: str = "refcocog") -> tuple[Overlay, list[str]]:
    """What is drawn for the regions of a picture, and the words for each. Half of the marks have a colour with a name;
    marks of the same shape have all of them, each another. Raises VistuneError for an unknown data set, and for more
    regions of one shape than there are colours."""
    if data not in DATA_SHAPES:
        raise VistuneError(f"no shapes are known for {data!r}; known: {', '.join(DATA_SHAPES)}.")
    draws = Random(seed)
    shapes = [draws.choice(DATA_SHAPES[data]) for _ in regions]
    free = {shape: list(COLORS) for shape in shapes}
    prompts, words = [], []
    for region, shape in zip(regions, shapes, strict=True):
        several = shapes.count(shape) > 1
        if several and not free[shape]:
            raise VistuneError(
                f"{shapes.count(shape)} regions are marked with {shape}; {len(COLORS)} colours have names."
            )
        if several or draws.random() < 0.5:
            name = free[shape].pop(draws.randrange(len(free[shape])))
            color = COLORS[name]
        else:
            name, color = "", (draws.randint(0, 255), draws.randint(0, 255), draws.randint(0, 255))
        prompts.append(VisualPrompt(shape, region.box, color, region.polygons, constant=data in CONSTANT))
        words.append(name_prompt(shape, name))
    return Overlay(tuple(prompts), seed), words


@dataclass(frozen=True)
class Settings:
    vision: Mapping[str, Any] = field(default_factory=lambda: llava.CLIP_L_336)
    fit: Literal["crop", "pad"] = "pad"
    layers: tuple[int, ...] = (-2, -5, -8, -11, 6)  # hidden states of the encoder, side by side


def _model(settings: Settings, text: Mapping[str, Any], placeholder: int) -> Any:
    config = VipLlavaConfig(
        **sub_configs(settings.vision, text),
        image_token_index=placeholder,
        image_seq_length=llava.policy(settings).plan(1, 1).tokens,
        vision_feature_layer=settings.layers,
    )
    return VipLlavaForConditionalGeneration, config


ALIGN = replace(llava.ALIGN, source="arXiv:2312.00784; scripts/pretrain.sh")
REGIONS = Stage(
    name="instruct",
    rates={"connector": 2e-5, "language": 2e-5, "head": 2e-5},
    data="mix665k and 520K about marked regions: RefCOCOg 80K, PointQA-LookTwice 37K, VG relations 80K, Flickr30k "
    "Entities 30K, VCR 213K, Visual7W 82K",
    samples=1_185_000,
    batch=128,
    epochs=1,
    schedule="cosine",
    warmup=0.03,
    weight_decay=0.0,
    limit=2048,
    source="arXiv:2312.00784; scripts/finetune_stage2.sh",
)
DIALOGUES = replace(
    REGIONS,
    name="refine",
    rates={"connector": 2e-7, "language": 2e-7, "head": 2e-7},
    data="13K dialogues of GPT-4V about marked regions, 7K of one and 6K of several, and 13K of the stage before",
    samples=26_000,
    note="the learning rate is the script's",
    source="arXiv:2312.00784; scripts/finetune_stage3.sh",
)
STAGES = (ALIGN, REGIONS, DIALOGUES)


def _preset(text: Mapping[str, Any], size: str) -> Preset:
    return Preset(
        settings=Settings(),
        text=text,
        template="llava_v1",
        language=f"lmsys/vicuna-{size}-v1.5",
        vision="openai/clip-vit-large-patch14-336",
        weights=f"mucai/vip-llava-{size}",
        stages=STAGES,
    )


FAMILY = Native(
    name="vip_llava",
    title="ViP-LLaVA",
    source="arXiv:2312.00784; WisconsinAIVision/ViP-LLaVA",
    views="marks drawn, square 336, padded",
    encoder="CLIP ViT-L/14, states -2 -5 -8 -11 6",
    connector="LayerNorm, MLP",
    injection="scatter",
    codec="llava",
    presets={
        "vip-llava-7b": _preset(languages.VICUNA_7B, "7b"),
        "vip-llava-13b": _preset(languages.VICUNA_13B, "13b"),
        "tiny": Preset(
            settings=Settings({**llava.TINY_CLIP, "num_hidden_layers": 12}),
            text=tiny_text(),
            template="llava_v1",
            stages=STAGES,
        ),
    },
    policy=llava.policy,
    look=lambda settings, plan, picture: tuple(pixels(plan, picture, CLIP)),
    roles=NATIVE_ROLES,
    load_vision=load_clip_tower,
    settle=draw_projector,
    model=_model,
    inputs=square_pixels,
    processor=llava.processor,
    original=originals,
)
