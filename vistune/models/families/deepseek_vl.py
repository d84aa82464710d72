"""DeepSeek-VL: SigLIP-L at 384 pixels (1.3B), joined by SAM-B at 1024 (7B); each tower normalises its own input.

The processing is the authors'. transformers' processors differ: they round the shorter side where the authors cut it
(1000 x 333 pixels become 384 x 128 there, 384 x 127 here), which `transformers` of the settings restores for the 1.3B;
and they make SigLIP's copy for the 7B from bytes, not from the tensor, so that its pixels differ in rounding.

No training code is public. Following the paper, answers and their ends are learned; its first two stages read all text.
Two LayerNorms that the authors build into the 7B and never use are left out.
Source: arXiv:2403.05525; github.com/deepseek-ai/DeepSeek-VL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    DeepseekVLConfig,
    DeepseekVLForConditionalGeneration,
    DeepseekVLHybridConfig,
    DeepseekVLHybridForConditionalGeneration,
    PretrainedConfig,
)

from vistune.models.encoders.sam import deepseek_vision_keys
from vistune.models.families.base import Native, Picture, Preset, Stage
from vistune.models.keymap import State, gather
from vistune.models.pixels import CLIP, HALF, UNIT, pixels
from vistune.models.tiny import tiny_text
from vistune.models.views import Letterbox, Policy, ViewPlan
from vistune.models.views_derived import deepseek_hybrid

if TYPE_CHECKING:
    from PIL.Image import Image

GREY = (127, 127, 127)
"""SigLIP's mean colour, which the 1.3B pads with; the 7B pads with CLIP's."""

SIGLIP_L: Mapping[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 16,
    "hidden_act": "gelu",
    "vision_use_head": False,
}

SAM_B: Mapping[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 1024,
    "output_channels": 256,
    "global_attn_indexes": (2, 5, 8, 11),
}


@dataclass(frozen=True)
class Settings:
    vision: Mapping[str, Any] = field(default_factory=lambda: SIGLIP_L)
    sam: Mapping[str, Any] | None = None  # None: SigLIP alone
    transformers: bool = False


def _policy(settings: Settings) -> Policy:
    size = settings.vision["image_size"]
    if settings.sam is None:
        return Letterbox(size, patch=settings.vision["patch_size"], fill=GREY, transformers=settings.transformers)
    return deepseek_hybrid(settings.sam["image_size"], size)


def _look(settings: Settings, plan: ViewPlan, picture: Image) -> tuple[Tensor, ...]:
    """SigLIP's view, or SAM's and SigLIP's."""
    if settings.sam is None:
        return tuple(pixels(plan, picture, HALF))
    high, low = pixels(plan, picture, UNIT)
    return CLIP.scale(high), HALF.scale(low)


def _model(settings: Settings, text: Mapping[str, Any], placeholder: int) -> Any:
    inner = dict(text)
    parts: dict[str, Any] = {
        "text_config": AutoConfig.for_model(inner.pop("model_type"), **inner),
        "vision_config": AutoConfig.for_model("siglip_vision_model", **settings.vision),
        "image_token_id": placeholder,
        "tie_word_embeddings": False,
    }
    if settings.sam is None:
        return DeepseekVLForConditionalGeneration, DeepseekVLConfig(**parts)
    sam = {key: list(value) if isinstance(value, tuple) else value for key, value in settings.sam.items()}
    parts["high_res_vision_config"] = AutoConfig.for_model("sam_vision_model", **sam)
    return DeepseekVLHybridForConditionalGeneration, DeepseekVLHybridConfig(**parts)


def _inputs(settings: Settings, pictures: Sequence[Picture]) -> dict[str, Tensor]:
    inputs = {"pixel_values": torch.stack([picture.views[-1] for picture in pictures])}
    if settings.sam is not None:
        inputs["high_res_pixel_values"] = torch.stack([picture.views[0] for picture in pictures])
    return inputs


def original(state: State, config: PretrainedConfig) -> State:
    def vision(prefix: str) -> tuple[str, Any]:
        return "model.", lambda part: deepseek_vision_keys({prefix + key: value for key, value in part.items()})

    return gather(
        state,
        {
            "vision_model.": vision("vision_model."),
            "aligner.": vision("aligner."),
            "language_model.model.": ("model.language_model.", dict),
            "language_model.lm_head.": ("lm_head.", dict),
        },
        "DeepSeek-VL",
    )


def _text(width: int, hidden: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "vocab_size": 102400,
        "hidden_size": width,
        "intermediate_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": 16384,
        "rms_norm_eps": 1e-6,
    }


def _stages(rate: float, steps: int, batch: int) -> tuple[Stage, ...]:
    """The figures that differ between the sizes are those of the second stage."""
    source = "paper, section 3.2 and table 4"
    language = ("connector", "language", "head")
    return (
        Stage(
            name="align",
            rates={"connector": 1e-3},
            data="1.25 M captions (ShareGPT4V), 2.5 M documents rendered for OCR",
            samples=3_750_000,
            batch=256,
            steps=15_000,
            schedule="cosine",
            warmup=128,
            weight_decay=0.0,
            note="the paper's sequence length of 512 does not hold the 576 tokens of a picture; it is not set here",
            source=source,
        ),
        Stage(
            name="multitask",
            rates=dict.fromkeys(language, rate),
            data="70 % text; interleaved articles, captions, tables, charts, web code, OCR",
            batch=batch,
            steps=steps,
            schedule="step",
            warmup=2000,
            weight_decay=0.0,
            limit=4096,
            note="batches of one modality; the share of text starts at 1 and falls",
            source=source,
        ),
        Stage(
            name="instruct",
            rates=dict.fromkeys(("vision", *language), 2e-5),
            data="47.9 % text; in-house dialogues, public image dialogues, tables, charts, web code",
            batch=256,
            steps=10_000,
            schedule="cosine",
            warmup=256,
            weight_decay=0.0,
            limit=4096,
            note="SAM stays frozen",
            source=source,
        ),
    )


SMALL, LARGE = _stages(3e-5, 96_000, 1024), _stages(4.2e-5, 42_000, 2304)

TINY_SIGLIP = {
    **SIGLIP_L,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
}

TINY_SAM = {
    **SAM_B,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": 64,
    "output_channels": 8,
    "global_attn_indexes": (1, 3),
    "window_size": 2,
    "mlp_dim": 64,
}


def _preset(settings: Settings, text: Mapping[str, Any], stages: tuple[Stage, ...], size: str = "") -> Preset:
    return Preset(
        settings=settings,
        text=text,
        template="deepseek_vl",
        limit=4096,
        placeholder="<image_placeholder>",
        stages=stages,
        weights=f"deepseek-ai/deepseek-vl-{size}-chat" if size else "",
    )


FAMILY = Native(
    name="deepseek_vl",
    title="DeepSeek-VL",
    source="arXiv:2403.05525; deepseek-ai/DeepSeek-VL",
    views="letterbox 384; with 1024 (7B)",
    encoder="SigLIP-L/16; with SAM-B (7B)",
    connector="MLP; split by tower (7B)",
    injection="scatter",
    codec="vistune",
    presets={
        "deepseek-vl-1.3b": _preset(Settings(), _text(2048, 5632, 24, 16), SMALL, "1.3b"),
        "deepseek-vl-7b": _preset(Settings(sam=SAM_B), _text(4096, 11008, 30, 32), LARGE, "7b"),
        "tiny": _preset(Settings(TINY_SIGLIP, TINY_SAM), tiny_text(), LARGE),
        "tiny-1.3b": _preset(Settings(TINY_SIGLIP), tiny_text(), SMALL),
    },
    policy=_policy,
    look=_look,
    roles={
        "vision": ("model.vision_model.",),
        "sam": ("model.high_res_vision_",),
        "connector": ("model.aligner.",),
        "language": ("model.language_model.",),
        "head": ("model.language_model.embed_tokens.", "lm_head."),
    },
    model=_model,
    inputs=_inputs,
    original=original,
)
