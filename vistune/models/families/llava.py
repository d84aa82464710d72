"""LLaVA v1 and v1.5: CLIP ViT-L, a linear layer or MLP, Vicuna.

Source: arXiv:2304.08485, arXiv:2310.03744; github.com/haotian-liu/LLaVA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AutoConfig, LlavaConfig, LlavaForConditionalGeneration

from vistune.models.families.base import NATIVE_ROLES, Native, Picture, Preset, Stage
from vistune.models.native import llava_keys, with_rows
from vistune.models.pixels import CLIP, pixels
from vistune.models.tiny import tiny_text
from vistune.models.views import Square

CLIP_L_336 = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
}


@dataclass(frozen=True)
class Settings:
    vision: Mapping[str, Any] = field(default_factory=lambda: CLIP_L_336)
    fit: Literal["crop", "pad"] = "pad"


def _policy(settings: Settings) -> Square:
    return Square(settings.vision["image_size"], settings.fit, settings.vision["patch_size"])


def _model(settings: Settings, text: Mapping[str, Any], placeholder: int) -> Any:
    text, vision = dict(text), dict(settings.vision)
    config = LlavaConfig(
        vision_config=AutoConfig.for_model(vision.pop("model_type"), **vision),
        text_config=AutoConfig.for_model(text.pop("model_type"), **text),
        image_token_id=placeholder,
        tie_word_embeddings=False,
    )
    return LlavaForConditionalGeneration, config


def _inputs(settings: Settings, pictures: Sequence[Picture]) -> dict[str, Tensor]:
    return {"pixel_values": torch.stack([picture.views[0] for picture in pictures])}


def _original(state: Any, config: Any) -> Any:
    return with_rows(llava_keys(state), config.text_config.vocab_size)


STAGES = (
    Stage(
        name="align",
        rates={"connector": 1e-3},
        data="LCS-558K",
        samples=558_000,
        batch=256,
        epochs=1,
        schedule="cosine",
        warmup=0.03,
        weight_decay=0.0,
        template="plain",
        settings={"fit": "crop"},
        source="scripts/v1_5/pretrain.sh",
    ),
)

FAMILY = Native(
    name="llava",
    title="LLaVA",
    source="arXiv:2304.08485, arXiv:2310.03744; haotian-liu/LLaVA",
    views="square 336, padded",
    encoder="CLIP ViT-L/14, state -2",
    connector="MLP",
    injection="scatter",
    codec="llava",
    presets={
        "llava-1.5-7b": Preset(
            settings=Settings(),
            text={"model_type": "llama", "vocab_size": 32064},
            template="vicuna_v1",
            stages=STAGES,
            language="lmsys/vicuna-7b-v1.5",
            vision="openai/clip-vit-large-patch14-336",
            weights="liuhaotian/llava-v1.5-7b",
        ),
        "tiny": Preset(
            settings=Settings(
                {
                    "model_type": "clip_vision_model",
                    "hidden_size": 32,
                    "intermediate_size": 64,
                    "num_hidden_layers": 2,
                    "num_attention_heads": 2,
                    "image_size": 28,
                    "patch_size": 14,
                    "projection_dim": 32,
                }
            ),
            text=tiny_text(),
            template="vicuna_v1",
            stages=STAGES,
        ),
    },
    policy=_policy,
    look=lambda settings, plan, picture: tuple(pixels(plan, picture, CLIP)),
    roles=NATIVE_ROLES,
    model=_model,
    inputs=_inputs,
    original=_original,
)
