"""LLaVA v1 and v1.5: CLIP ViT-L/14, a linear layer or an MLP, Vicuna or Llama 2. One square view a picture.

What the authors' code does by oversight and we do not, each behind a switch of its block:

- A sample whose tokens its label code miscounts is masked whole (`original_labels.counted`); we label by spans.
- A too long sample is cut where the limit falls, inside a picture too (`injection.expand(parity=True)`); we reject it.
- Of several pictures in a turn all but the first are lost (`Template.render(parity=True)`).

The stages differ in their pictures: the alignment of v1.5 takes the centre crop, since only its second script asks for
padding. transformers' image processor crops unless told to pad. The loss of the authors is a mean over each batch on
each device; `losses` has it and others.

transformers' class has an MLP of two layers. Version 1's single layer is its first; the second passes its input on:
an identity that is saved, so that the class itself computes the same, and never trained. Checkpoints may leave the
tower out, which no stage trains: `load_original(vision=...)` adds CLIP's own.

Source: arXiv:2304.08485, arXiv:2310.03744; github.com/haotian-liu/LLaVA.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
import transformers
from torch import Tensor, nn
from transformers import LlavaConfig, LlavaImageProcessorPil, LlavaProcessor

from vistune.models import languages
from vistune.models.encoders.sizes import CLIP_L, CLIP_L_336, tiny_clip
from vistune.models.families.base import NATIVE_ROLES, Native, Preset, Stage
from vistune.models.keymap import State
from vistune.models.native import (
    clip_configs,
    clip_processor,
    draw_projector,
    load_clip_tower,
    originals,
    square_pixels,
)
from vistune.models.pixels import CLIP, pixels
from vistune.models.tiny import tiny_text
from vistune.models.views import Square


@dataclass(frozen=True)
class Settings:
    vision: Mapping[str, Any] = field(default_factory=lambda: CLIP_L_336)
    fit: Literal["crop", "pad"] = "pad"
    depth: Literal[1, 2] = 2  # layers of the projector


class Passing(nn.Module):
    """Stands for a linear layer that is an identity: its weights are in the checkpoint, and constant."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.eye(width))
        self.register_buffer("bias", torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return x


class LlavaForConditionalGeneration(transformers.LlavaForConditionalGeneration):
    """With the linear projector of version 1, where the configuration has no activation between the layers. It bears
    the name of transformers' class, which a saved configuration says and which computes the same."""

    def __init__(self, config: LlavaConfig) -> None:
        super().__init__(config)
        if config.projector_hidden_act == "linear":
            self.model.multi_modal_projector.linear_2 = Passing(config.text_config.hidden_size)


def policy(settings: Any) -> Square:
    return Square(settings.vision["image_size"], settings.fit, settings.vision["patch_size"])


def _model(settings: Settings, text: Mapping[str, Any], placeholder: int) -> Any:
    config = LlavaConfig(
        **clip_configs(settings.vision, text),
        image_token_index=placeholder,
        image_seq_length=policy(settings).plan(1, 1).tokens,
        projector_hidden_act="gelu" if settings.depth == 2 else "linear",
    )
    return LlavaForConditionalGeneration, config


def _original(state: State, config: Any) -> State:
    ours = originals(state, config)
    if config.projector_hidden_act == "linear":
        width = config.text_config.hidden_size
        layer = "model.multi_modal_projector.linear_2."
        ours |= {layer + "weight": torch.eye(width), layer + "bias": torch.zeros(width)}
    return ours


def processor(preset: Preset, tokenizer: Any) -> Any:
    return clip_processor(
        LlavaProcessor, LlavaImageProcessorPil, preset, tokenizer, do_pad=preset.settings.fit == "pad"
    )


SCRIPT = Stage(name="", rates={}, data="", epochs=1, schedule="cosine", warmup=0.03, weight_decay=0.0)
"""What the training scripts have in common, and those of the systems that were made from them."""

ALIGN_V1 = replace(
    SCRIPT,
    name="align",
    rates={"connector": 2e-3},
    data="CC-595K",
    samples=595_000,
    batch=128,
    limit=2048,
    template="plain",
    note="the scripts of later versions take LCS-558K",
    source="arXiv:2304.08485; scripts/pretrain.sh",
)
INSTRUCT_V1 = replace(
    SCRIPT,
    name="instruct",
    rates={"connector": 2e-5, "language": 2e-5, "head": 2e-5},
    data="LLaVA-Instruct-158K",
    samples=158_000,
    batch=32,
    epochs=3,
    limit=2048,
    note="the batch is the paper's; finetune.sh has 128, and one epoch of 80K samples. Science QA: 12 epochs",
    source="arXiv:2304.08485; scripts/finetune_full_schedule.sh",
)
ALIGN = replace(
    SCRIPT,
    name="align",
    rates={"connector": 1e-3},
    data="LCS-558K",
    samples=558_000,
    batch=256,
    limit=2048,
    template="plain",
    settings={"fit": "crop"},
    source="arXiv:2310.03744, table 9; scripts/v1_5/pretrain.sh",
)
INSTRUCT = replace(
    SCRIPT,
    name="instruct",
    rates={"connector": 2e-5, "language": 2e-5, "head": 2e-5},
    data="mix665k: LLaVA-Instruct 158K, ShareGPT 40K, VQAv2 83K, GQA 72K, OKVQA 9K, OCRVQA 80K, A-OKVQA 66K, TextCaps "
    "22K, RefCOCO 48K, VG 86K",
    samples=665_000,
    batch=128,
    limit=2048,
    note="batches of one modality, by length. With LoRA (finetune_lora.sh): rank 128, alpha 256, dropout 0.05 on the "
    "language model at 2e-4, the projector at 2e-5",
    source="arXiv:2310.03744, tables 7 and 9; scripts/v1_5/finetune.sh",
)

V1 = Settings(CLIP_L, "crop", 1)


def _preset(settings: Settings, text: Mapping[str, Any], language: str, weights: str, template: str) -> Preset:
    size = settings.vision["image_size"]
    return Preset(
        settings=settings,
        text=text,
        template=template,
        language=language,
        vision="openai/clip-vit-large-patch14" + ("-336" if size == 336 else ""),
        weights=weights,
        stages=(ALIGN, INSTRUCT) if settings.depth == 2 else (ALIGN_V1, INSTRUCT_V1),
    )


FAMILY = Native(
    name="llava",
    title="LLaVA",
    source="arXiv:2304.08485, arXiv:2310.03744; haotian-liu/LLaVA",
    views="square 336, padded (v1: 224, cropped)",
    encoder="CLIP ViT-L/14, state -2",
    connector="MLP (v1: linear)",
    injection="scatter",
    codec="llava",
    presets={
        "llava-7b": _preset(V1, languages.VICUNA_7B_V1_3, "lmsys/vicuna-7b-v1.3", "", "vicuna_v1"),
        "llava-13b": _preset(V1, languages.VICUNA_13B_V1_3, "lmsys/vicuna-13b-v1.3", "", "vicuna_v1"),
        "llava-llama-2-13b": _preset(
            V1,
            languages.VICUNA_13B,
            "meta-llama/Llama-2-13b-chat-hf",
            "liuhaotian/llava-llama-2-13b-chat-lightning-preview",
            "llava_llama_2",
        ),
        "llava-1.5-7b": _preset(
            Settings(), languages.VICUNA_7B, "lmsys/vicuna-7b-v1.5", "liuhaotian/llava-v1.5-7b", "vicuna_v1"
        ),
        "llava-1.5-13b": _preset(
            Settings(), languages.VICUNA_13B, "lmsys/vicuna-13b-v1.5", "liuhaotian/llava-v1.5-13b", "vicuna_v1"
        ),
        "tiny": Preset(
            settings=Settings(tiny_clip(28, 2)), text=tiny_text(), template="vicuna_v1", stages=(ALIGN, INSTRUCT)
        ),
        "tiny-v1": Preset(
            settings=Settings(tiny_clip(28, 2), "crop", 1),
            text=tiny_text(),
            template="vicuna_v1",
            stages=(ALIGN_V1, INSTRUCT_V1),
        ),
    },
    policy=policy,
    look=lambda settings, plan, picture: tuple(pixels(plan, picture, CLIP)),
    roles=NATIVE_ROLES,
    load_vision=load_clip_tower,
    settle=draw_projector,
    model=_model,
    inputs=square_pixels,
    processor=processor,
    original=_original,
)
