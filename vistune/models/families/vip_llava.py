"""ViP-LLaVA: LLaVA 1.5 that understands marks drawn on the picture. A region has no coordinates in the text: a shape is
blended over the picture at its own size, and the text names it, as "within the red rectangle". Five hidden states of
CLIP, low ones too, keep the marks visible.

Where a user writes a region's box, `overlay` puts a mark on the picture and its words into the text, in training as in
answering (`Reader.read`). Shapes and colours are chosen as the authors' data does (`mark`), by the words and boxes
alone, so the same question looks the same each time. What an answer mentions stays a box: its mark would tell.

What the authors' code does and we do not: a point without an outline fails (`draw_prompt(parity=True)`), and a sample
whose mark fails is replaced by a random other one; three RefCOCOg questions of four say "Describe the object ." without
the words for the mark. What it shares with LLaVA's is said there. Where paper and code differ, we follow the code:
alpha from 96 to 255 (paper: from half on), cubic scribbles (quadratic), last stage at 2e-7 (not in the paper).

Source: arXiv:2312.00784; github.com/WisconsinAIVision/ViP-LLaVA.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal

from transformers import VipLlavaConfig, VipLlavaForConditionalGeneration

from vistune.boxcodec import NATIVE
from vistune.edits import Edit, edited
from vistune.errors import VistuneError
from vistune.hashing import keyed
from vistune.models import languages
from vistune.models.encoders.sizes import CLIP_L_336, tiny_clip
from vistune.models.families import llava
from vistune.models.families.base import NATIVE_ROLES, Native, Preset
from vistune.models.native import clip_configs, draw_projector, load_clip_tower, originals, square_pixels
from vistune.models.overlay import COLORS, SHAPES, Overlay, Polygon, VisualPrompt, bounds, check, name_prompt
from vistune.models.pixels import CLIP, pixels
from vistune.models.tiny import tiny_text
from vistune.records import Message, Region

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

NOUN = re.compile(r"\b(?:region|area|part|box|thing|object)s? $", re.IGNORECASE)
"""Text before a box that says already what is there."""


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
        prompts.append(VisualPrompt(shape, region.box, color, outlines(region), constant=data in CONSTANT))
        words.append(name_prompt(shape, name))
    return Overlay(tuple(prompts), seed), words


def outlines(region: Region) -> tuple[Polygon, ...]:
    """The region's polygons as corners; those without area, which real annotations hold, are left out."""
    found = [tuple(zip(flat[::2], flat[1::2], strict=True)) for flat in region.polygons if len(flat) >= 6]
    sides = [bounds(polygon) for polygon in found]
    return tuple(p for p, (left, top, right, bottom) in zip(found, sides, strict=True) if left < right and top < bottom)


def overlay(
    messages: Sequence[Message], regions: Sequence[Region], pictures: int
) -> tuple[Sequence[Message], tuple[Overlay | None, ...]]:
    """The messages with words for the regions whose boxes users write, and the marks on each picture. Raises
    VistuneError for a mention outside its message and for a box without area."""
    written, told = [], set()
    for region in sorted((r for r in regions if r.mention), key=lambda r: r.mention):
        number, start, end = region.mention
        if number >= len(messages) or messages[number].role != "user":  # a prompt ends before its answer
            told.add((region.image, region.box))
        elif not 0 <= start < end <= len(messages[number].text):
            raise VistuneError(f"region {region.annotation_id} is mentioned at {region.mention}, outside its message")
        elif NATIVE.pattern.fullmatch(messages[number].text, start, end):
            written.append(region)
    written = [region for region in written if (region.image, region.box) not in told]
    marked = {(region.image, region.box): region for region in written}
    if not marked:
        return messages, ()
    seed = keyed(0, "marks", [m.text for m in messages if m.role == "user"], list(marked)) >> 32  # as numpy takes it
    drawn, words = mark(list(marked.values()), seed)
    for prompt in drawn.prompts:
        check(prompt)
    named = dict(zip(marked, words, strict=True))
    edits: dict[int, list[Edit]] = {}
    for region in written:
        number, start, end = region.mention
        noun = "" if NOUN.search(messages[number].text[:start]) else "the region "
        edits.setdefault(number, []).append((start, end, noun + named[region.image, region.box]))
    each: list[list[VisualPrompt]] = [[] for _ in range(pictures)]
    for prompt, (image, _) in zip(drawn.prompts, marked, strict=True):
        each[image].append(prompt)
    said = [edited(message, edits.get(number, [])) for number, message in enumerate(messages)]
    return said, tuple(Overlay(tuple(prompts), seed) if prompts else None for prompts in each)


@dataclass(frozen=True)
class Settings:
    vision: Mapping[str, Any] = field(default_factory=lambda: CLIP_L_336)
    fit: Literal["crop", "pad"] = "pad"
    layers: tuple[int, ...] = (-2, -5, -8, -11, 6)  # hidden states of the encoder, side by side


def _model(settings: Settings, text: Mapping[str, Any], placeholder: int) -> Any:
    config = VipLlavaConfig(
        **clip_configs(settings.vision, text),
        image_token_index=placeholder,
        image_seq_length=llava.policy(settings).plan(1, 1).tokens,
        vision_feature_layer=settings.layers,
    )
    return VipLlavaForConditionalGeneration, config


ALIGN = replace(llava.ALIGN, source="arXiv:2312.00784; scripts/pretrain.sh")
REGIONS = replace(
    llava.INSTRUCT,
    data="mix665k and 520K about marked regions: RefCOCOg 80K, PointQA-LookTwice 37K, VG relations 80K, Flickr30k "
    "Entities 30K, VCR 213K, Visual7W 82K",
    samples=1_185_000,
    note="",
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
            settings=Settings(tiny_clip(28, 12)),
            text=tiny_text(),
            template="llava_v1",
            stages=STAGES,
        ),
    },
    policy=llava.policy,
    look=lambda settings, plan, picture: tuple(pixels(plan, picture, CLIP)),
    roles=NATIVE_ROLES,
    overlay=overlay,
    load_vision=load_clip_tower,
    settle=draw_projector,
    model=_model,
    inputs=square_pixels,
    processor=llava.processor,
    original=originals,
)
