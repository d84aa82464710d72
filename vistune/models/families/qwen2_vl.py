"""Qwen2-VL: pictures at their own size, a ViT with rotary positions, Qwen2 with positions in time, rows and columns.

The processing is that of the authors' qwen-vl-utils. transformers' processor differs for thin pictures (13 x 300 pixels
are 10 tokens there, 11 here), which `transformers` of the settings restores; with its class's default limit of 1280
tokens a picture, which published processors raise to 16384, large pictures differ too.

The recipe is published without learning rates, batch sizes and steps, and the training code is not public; labels are
the answers and their ends, as in chat models of the same authors.
Source: arXiv:2409.12191; github.com/QwenLM/Qwen2-VL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from vistune.models.families.base import Native, Picture, Preset, Stage
from vistune.models.keymap import State, rename
from vistune.models.pixels import CLIP, merged_patches, pixels
from vistune.models.positions import mrope
from vistune.models.processed import without_video
from vistune.models.tiny import tiny_text
from vistune.models.views import Native as NativeViews

if TYPE_CHECKING:
    from vistune.models.reader import Reading

CONTROLS = (
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
)

VIT: Mapping[str, Any] = {
    "depth": 32,
    "embed_dim": 1280,
    "num_heads": 16,
    "mlp_ratio": 4,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}


@dataclass(frozen=True)
class Settings:
    vision: Mapping[str, Any] = field(default_factory=lambda: VIT)  # its output is as wide as the language model
    least: int = 4 * 28 * 28  # pixels of a picture
    most: int = 16384 * 28 * 28
    transformers: bool = False


def _policy(settings: Settings) -> NativeViews:
    patch, merge = settings.vision["patch_size"], settings.vision["spatial_merge_size"]
    return NativeViews(settings.least, settings.most, patch, merge, transformers=settings.transformers)


def _model(
    settings: Settings, text: Mapping[str, Any], placeholder: int
) -> tuple[type[Qwen2VLForConditionalGeneration], Qwen2VLConfig]:
    inner = {key: value for key, value in text.items() if key != "model_type"}
    rope = {"rope_type": "default", "rope_theta": 1e6, **(inner.get("rope_parameters") or {})}
    if "mrope_section" not in rope:  # of a language model that knows one axis: a quarter for time, as published
        half = inner["hidden_size"] // inner["num_attention_heads"] // 2
        rope["mrope_section"] = [half // 4, half * 3 // 8, half - half // 4 - half * 3 // 8]
    inner["rope_parameters"] = rope
    config = Qwen2VLConfig(
        vision_config={**settings.vision, "hidden_size": inner["hidden_size"]},
        text_config=inner,
        image_token_id=placeholder,
        tie_word_embeddings=inner.get("tie_word_embeddings", False),
    )
    return Qwen2VLForConditionalGeneration, config


def _inputs(settings: Settings, pictures: Sequence[Picture]) -> dict[str, Tensor]:
    """Patches of all pictures in one row, and the grid of each: one moment, rows, columns."""
    vision = settings.vision
    patch, merge, frames = vision["patch_size"], vision["spatial_merge_size"], vision["temporal_patch_size"]
    return {
        "pixel_values": torch.cat([merged_patches(picture.views[0], patch, merge, frames) for picture in pictures]),
        "image_grid_thw": torch.tensor([(1, *picture.plan.views[0].patches) for picture in pictures]),
    }


def _places(reading: Reading, placeholder: int) -> Sequence[Sequence[int]]:
    return mrope(reading.ids, placeholder, [plan.views[0].patches for plan in reading.plans])


def processor(preset: Preset, tokenizer: Any) -> Any:
    """Without videos, for which transformers needs torchvision."""
    settings = preset.settings
    pictures = Qwen2VLImageProcessorPil(
        patch_size=settings.vision["patch_size"],
        merge_size=settings.vision["spatial_merge_size"],
        temporal_patch_size=settings.vision["temporal_patch_size"],
        size={"shortest_edge": settings.least, "longest_edge": settings.most},
    )
    return without_video(Qwen2VLProcessor)(pictures, tokenizer)


def original(state: State, config: PretrainedConfig) -> State:
    """The published names, from before transformers had one class for language models with and without a head. A
    language model with tied embeddings comes without its head."""
    mapped = rename(
        state,
        [
            (r"visual\.(.+)", r"model.visual.\1"),
            (r"model\.((?:embed_tokens|layers|norm)\..+)", r"model.language_model.\1"),
            (r"lm_head\.weight", "lm_head.weight"),
        ],
        "Qwen2-VL",
    )
    table = "model.language_model.embed_tokens.weight"
    if config.tie_word_embeddings and table in mapped:
        mapped.setdefault("lm_head.weight", mapped[table])
    return mapped


def _text(vocabulary: int, width: int, hidden: int, layers: int, heads: int, groups: int) -> dict[str, Any]:
    return {
        "model_type": "qwen2_vl_text",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": vocabulary == 151936,
    }


STAGES = (
    Stage(
        name="align",
        rates={"vision": None, "connector": None},
        data="image-text pairs, OCR, image classification; 600 B tokens",
        note="the paper trains the encoder, which in the code holds the connector; it begins as DFN's ViT, the "
        "language model as Qwen2",
        source="paper, section 2.2",
    ),
    Stage(
        name="multitask",
        rates={"vision": None, "connector": None, "language": None, "head": None},
        data="800 B tokens more: interleaved articles, VQA, OCR, video, multi-task data, text",
        source="paper, section 2.2",
    ),
    Stage(
        name="instruct",
        rates={"language": None, "head": None},
        data="ChatML dialogues: text, VQA, documents, several images, video, agents; size not published",
        note="the encoder is locked; only text is learned",
        source="paper, section 2.2",
    ),
)


def _preset(size: str, text: Mapping[str, Any], language: str) -> Preset:
    return Preset(
        settings=Settings(),
        text=text,
        template="qwen2_vl",
        limit=32768,
        begin=False,
        placeholder="<|image_pad|>",
        tokens=CONTROLS,
        language=language,
        weights=f"Qwen/Qwen2-VL-{size}-Instruct",
        stages=STAGES,
    )


FAMILY = Native(
    name="qwen2_vl",
    title="Qwen2-VL",
    source="arXiv:2409.12191; QwenLM/Qwen2-VL",
    views="native size, multiples of 28",
    encoder="ViT/14 with 2-D rotary positions",
    connector="2x2 merge, MLP",
    injection="scatter, M-RoPE",
    codec="qwen2_vl",
    presets={
        "qwen2-vl-2b": _preset("2B", _text(151936, 1536, 8960, 28, 12, 2), "Qwen/Qwen2-1.5B"),
        "qwen2-vl-7b": _preset("7B", _text(152064, 3584, 18944, 28, 28, 4), "Qwen/Qwen2-7B"),
        "qwen2-vl-72b": _preset("72B", _text(152064, 8192, 29568, 80, 64, 8), "Qwen/Qwen2-72B"),
        "tiny": Preset(
            settings=Settings(
                {**VIT, "depth": 2, "embed_dim": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4},
                least=4 * 8 * 8,
                most=16 * 8 * 8,
            ),
            text=tiny_text("qwen2_vl_text"),
            template="qwen2_vl",
            begin=False,
            placeholder="<|image_pad|>",
            tokens=CONTROLS,
            stages=STAGES,
        ),
    },
    policy=_policy,
    look=lambda settings, plan, picture: tuple(pixels(plan, picture, CLIP)),
    places=_places,
    roles={
        "vision": ("model.visual.",),
        "connector": ("model.visual.merger.",),
        "language": ("model.language_model.",),
        "head": ("model.language_model.embed_tokens.", "lm_head."),
    },
    model=_model,
    inputs=_inputs,
    original=original,
    processor=processor,
)
