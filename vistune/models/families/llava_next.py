"""LLaVA-NeXT (LLaVA 1.6): LLaVA with pictures at any resolution. An overview and two to four tiles of 336 pixels, whose
features are stitched to one map, freed of padding, with a learned newline at the end of each of its rows.

- The overview is the whole picture, stretched. Its authors call that a bug and keep it, since the weights know it.
- There is no canvas of one tile: a picture of 336 x 336 pixels is three views and 1176 tokens.
- Pictures of up to 336 pixels a side keep all their pixels on several canvases. The authors take the first of their
  list, an upright one; transformers, which reads the same list as (height, width), a wide one. Our list is written so
  that the class decides as the authors do; `Settings.canvases` turned around gives what llava-hf's copies do.
- How many rows of padding are cut off is rounded as in transformers' class, which carries it out. The authors round
  down, which differs for about one size in 40 000, as 88 x 55 (`AnyRes` without `transformers` counts as they do).
- The class has no single square view. So the alignment sees tiles too, where the published projectors came from the
  alignment of LLaVA 1.5.
- The authors' code for Qwen and Llama 3 learns the tokens of the template in all turns, which the templates' label
  policies do as well, and even those that the words of a question spell, which `labels.learned(parity=True)` does.

All of the tower was trained in the second stage, so checkpoints hold it.

Source: llava-vl.github.io/blog/2024-01-30-llava-next; github.com/haotian-liu/LLaVA, github.com/LLaVA-VL/LLaVA-NeXT.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from transformers import (
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
)

from vistune.models import languages
from vistune.models.encoders.sizes import CLIP_L_336, tiny_clip
from vistune.models.families import llava
from vistune.models.families.base import NATIVE_ROLES, Native, Picture, Preset, Stage
from vistune.models.native import clip_configs, clip_processor, draw_projector, load_clip_tower, originals
from vistune.models.pixels import CLIP, pixels
from vistune.models.tiny import tiny_text
from vistune.models.views import Size
from vistune.models.views_tiles import PINPOINTS, AnyRes


@dataclass(frozen=True)
class Settings:
    vision: Mapping[str, Any] = field(default_factory=lambda: CLIP_L_336)
    canvases: tuple[Size, ...] = PINPOINTS  # width, height


def _turned(canvases: Sequence[Size]) -> list[list[int]]:
    """As transformers writes them: height, width."""
    return [[height, width] for width, height in canvases]


def policy(settings: Settings) -> AnyRes:
    canvases = tuple((height, width) for height, width in _turned(settings.canvases))
    return AnyRes(canvases, settings.vision["image_size"], settings.vision["patch_size"], transformers=True)


def _model(settings: Settings, text: Mapping[str, Any], placeholder: int) -> Any:
    config = LlavaNextConfig(
        **clip_configs(settings.vision, text),
        image_token_index=placeholder,
        image_grid_pinpoints=_turned(settings.canvases),
        image_seq_length=(settings.vision["image_size"] // settings.vision["patch_size"]) ** 2,
    )
    return LlavaNextForConditionalGeneration, config


def _inputs(settings: Settings, pictures: Sequence[Picture]) -> dict[str, Tensor]:
    """Views of all pictures one after the other, and the (height, width) of each picture."""
    return {
        "pixel_values": torch.stack([view for picture in pictures for view in picture.views]),
        "image_sizes": torch.tensor([picture.plan.picture[::-1] for picture in pictures]),
    }


def _processor(preset: Preset, tokenizer: Any) -> Any:
    canvases = _turned(preset.settings.canvases)
    return clip_processor(
        LlavaNextProcessor, LlavaNextImageProcessorPil, preset, tokenizer, image_grid_pinpoints=canvases
    )


ALIGN = replace(
    llava.ALIGN,
    limit=None,
    settings={},
    note="the projector of LLaVA 1.5's alignment, at 336 pixels without tiles, was taken over",
    source="LLaVA-NeXT blog; scripts/v1_5/pretrain.sh",
)


def _instruct(rate: float = 1e-5) -> Stage:
    return replace(
        llava.SCRIPT,
        name="instruct",
        rates={"vision": 2e-6, "connector": rate, "language": rate, "head": rate},
        data="760K: 158K of GPT-4, 500K academic VQA, 50K of GPT-4V, 40K ShareGPT; openly LLaVA-NeXT-Data 790K",
        samples=760_000,
        note="4 samples a device; the number of devices and the scripts of the published weights are not published",
        source="model cards; LLaVA-NeXT scripts/train/direct_finetune_clip.sh"
        + ("" if rate == 1e-5 else ", scripts/archived (Mistral)"),
    )


def _preset(text: Mapping[str, Any], template: str, language: str, weights: str, **changes: Any) -> Preset:
    changes = {"limit": 4096, "stages": (ALIGN, _instruct()), **changes}
    return Preset(
        settings=Settings(),
        text=text,
        template=template,
        language=language,
        vision="openai/clip-vit-large-patch14-336",
        weights=weights,
        **changes,
    )


PRESETS = {
    "llava-1.6-vicuna-7b": _preset(
        languages.VICUNA_7B, "vicuna_v1", "lmsys/vicuna-7b-v1.5", "liuhaotian/llava-v1.6-vicuna-7b"
    ),
    "llava-1.6-vicuna-13b": _preset(
        languages.VICUNA_13B, "vicuna_v1", "lmsys/vicuna-13b-v1.5", "liuhaotian/llava-v1.6-vicuna-13b"
    ),
    "llava-1.6-mistral-7b": _preset(
        languages.MISTRAL_7B,
        "mistral_instruct",
        "mistralai/Mistral-7B-Instruct-v0.2",
        "liuhaotian/llava-v1.6-mistral-7b",
        stages=(ALIGN, _instruct(5e-6)),
    ),
    "llava-1.6-34b": _preset(
        languages.YI_34B,
        "chatml_direct",
        "NousResearch/Nous-Hermes-2-Yi-34B",
        "liuhaotian/llava-v1.6-34b",
        begin=False,
    ),
    "llava-next-llama3-8b": _preset(
        languages.LLAMA_3_8B,
        "llava_llama_3",
        "meta-llama/Meta-Llama-3-8B-Instruct",
        "lmms-lab/llama3-llava-next-8b",
        limit=8192,
        begin=False,
    ),
    "llava-next-qwen1.5-72b": _preset(
        languages.QWEN_1_5_72B,
        "qwen_1_5",
        "Qwen/Qwen1.5-72B-Chat",
        "lmms-lab/llava-next-72b",
        limit=32768,
        begin=False,
    ),
    "llava-next-qwen1.5-110b": _preset(
        languages.QWEN_1_5_110B,
        "qwen_1_5",
        "Qwen/Qwen1.5-110B-Chat",
        "lmms-lab/llava-next-110b",
        limit=32768,
        begin=False,
    ),
    "tiny": Preset(
        settings=Settings(tiny_clip(28, 2), tuple((width // 12, height // 12) for width, height in PINPOINTS)),
        text=tiny_text(),
        template="vicuna_v1",
        stages=(ALIGN, _instruct()),
    ),
}

FAMILY = Native(
    name="llava_next",
    title="LLaVA-NeXT",
    source="LLaVA-NeXT blog, 2024-01-30; haotian-liu/LLaVA, LLaVA-VL/LLaVA-NeXT",
    views="overview 336, 2 to 4 tiles",
    encoder="CLIP ViT-L/14, state -2",
    connector="MLP, newlines",
    injection="scatter",
    codec="llava",
    presets=PRESETS,
    policy=policy,
    look=lambda settings, plan, picture: tuple(pixels(plan, picture, CLIP)),
    roles=NATIVE_ROLES,
    load_vision=load_clip_tower,
    settle=draw_projector,
    model=_model,
    inputs=_inputs,
    processor=_processor,
    original=originals,
)
