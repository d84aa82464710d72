"""InternVL 1.5, 2 and 2.5: up to twelve tiles of 448 pixels in the picture's closest ratio and a thumbnail; InternViT,
pixel unshuffle, an MLP; InternLM2, Qwen2, Phi-3, Yi or Llama 3.

- The grid follows the ratio of sides alone: a photograph of 640 x 480 pixels fills 4 x 3 tiles, 3328 tokens. Only grids
  of exactly equal distance are told apart by area. The thumbnail comes last, and only with more than one tile.
- Several pictures of a conversation share the tiles: each has at most `most` // their number.
- Pixels are normalised by ImageNet's mean and deviation.
- InternLM2 is a Llama under other names. The checkpoint's config.json has the rotary factors of long contexts, Phi-3's
  among them, and the exact vocabulary; both are taken from there.
- New tokens begin as the mean of the known ones in embeddings and head. The authors do so for the head alone; their
  input rows keep random weights through the stages in which the language model is frozen.
- Too many placeholders raise; the authors fill what they can and set the loss to zero
  (`injection.embed(parity=True)`). Version 2.5 weighs samples by one over the root of their answer tokens (`losses`).
- Checkpoints with pixel shuffle "v1", which left the map transposed, do not fit transformers' class and are refused.

transformers' image processor makes the same tiles, as saved beside the model; it gives every picture all of them. Its
processor as a whole needs torchvision, for films, and writes no system message.

Source: arXiv:2404.16821, arXiv:2412.05271; github.com/OpenGVLab/InternVL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GotOcr2ImageProcessorPil, InternVLConfig, InternVLForConditionalGeneration

from vistune.errors import VistuneError
from vistune.models import languages
from vistune.models.encoders.intern_vit import intern_vit_keys
from vistune.models.families.base import NATIVE_ROLES, Native, Picture, Preset, Stage
from vistune.models.keymap import State, load
from vistune.models.native import draw_projector, internvl_keys, sub_configs, with_rows
from vistune.models.originals import read_state
from vistune.models.pixels import IMAGENET, pixels
from vistune.models.tiny import tiny_text
from vistune.models.views_tiles import ClosestRatio

VIT_300M: Mapping[str, Any] = {
    "model_type": "internvl_vision",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "attention_bias": True,
    "use_qk_norm": False,
    "norm_type": "layer_norm",
    "image_size": 448,
    "patch_size": 14,
}
VIT_6B = {
    **VIT_300M,
    "hidden_size": 3200,
    "intermediate_size": 12800,
    "num_hidden_layers": 45,  # the last three of 48 were dropped
    "num_attention_heads": 25,
    "attention_bias": False,
    "use_qk_norm": True,
    "norm_type": "rms_norm",
}

TOKENS = ("<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>")


@dataclass(frozen=True)
class Settings:
    vision: Mapping[str, Any] = field(default_factory=lambda: VIT_300M)
    least: int = 1  # tiles of a picture
    most: int = 12


def policy(settings: Settings) -> ClosestRatio:
    size, patch = settings.vision["image_size"], settings.vision["patch_size"]
    return ClosestRatio(size, settings.least, settings.most, patch, (size // patch // 2) ** 2)


def _model(settings: Settings, text: Mapping[str, Any], placeholder: int) -> Any:
    config = InternVLConfig(
        **sub_configs(settings.vision, text),
        image_token_id=placeholder,
        image_seq_length=policy(settings).tokens,
    )
    return InternVLForConditionalGeneration, config


def _inputs(settings: Settings, pictures: Sequence[Picture]) -> dict[str, Tensor]:
    return {"pixel_values": torch.stack([view for picture in pictures for view in picture.views])}


def _processor(preset: Preset, tokenizer: Any) -> GotOcr2ImageProcessorPil:
    settings = preset.settings
    size = settings.vision["image_size"]
    return GotOcr2ImageProcessorPil(
        size={"height": size, "width": size},
        image_mean=IMAGENET.mean,
        image_std=IMAGENET.std,
        crop_to_patches=True,
        min_patches=settings.least,
        max_patches=settings.most,
    )


def original(state: State, config: Any) -> State:
    text = config.text_config
    renamed = any(key.endswith("model.tok_embeddings.weight") for key in state)  # InternLM2
    heads = (text.num_attention_heads, text.num_key_value_heads) if renamed else ()
    return with_rows(internvl_keys(state, *heads), text.vocab_size)


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What InternVLChatConfig says of its language model. Raises VistuneError for pixel shuffle v1."""
    if config.get("ps_version", "v2") != "v2":
        raise VistuneError(f"a checkpoint with pixel shuffle {config['ps_version']} does not fit InternVL; v2 does.")
    text = config.get("llm_config", {})
    rope = text.get("rope_scaling")
    if rope and "original_max_position_embeddings" in text:
        rope = {**rope, "original_max_position_embeddings": text["original_max_position_embeddings"]}
    known = ("vocab_size", "max_position_embeddings", "original_max_position_embeddings", "rope_theta")
    return {key: text[key] for key in known if key in text} | ({"rope_scaling": rope} if rope else {})


def _load_vision(tower: Any, folder: str) -> None:
    load(tower, intern_vit_keys(read_state(Path(folder))), "InternViT")


def _stage(
    name: str, roles: Sequence[str], rate: float, batch: int, decay: float | None, limit: int, **more: Any
) -> Stage:
    return Stage(
        name=name,
        rates=dict.fromkeys(roles, rate),
        batch=batch,
        schedule="cosine",
        weight_decay=decay,
        limit=limit,
        **more,
    )


ENCODER = ("vision", "connector")
ALL = ("vision", "connector", "language", "head")
PRETRAINING = "captions 53.9 %, detection 5.2 %, OCR 32.0 % of large and 8.9 % of small sets"
TUNING = "captions, VQA, charts, mathematics, knowledge, OCR, documents, grounding, dialogues: table 1"
V1_5 = "arXiv:2404.16821; shell/internvl1.5"

STAGES_1_5_26B = (
    _stage("align", ENCODER, 1e-5, 2048, 0.05, 4096, warmup=100, data=PRETRAINING, note="drop path 0.2", source=V1_5),
    _stage("instruct", ALL, 2e-5, 1024, 0.05, 4096, warmup=0.03, data=TUNING, note="drop path 0.4", source=V1_5),
)
STAGES_1_5_2B = (
    _stage("align", ENCODER, 2e-5, 2048, 0.01, 4096, warmup=100, data=PRETRAINING, note="drop path 0.1", source=V1_5),
    _stage("instruct", ALL, 4e-5, 1024, 0.01, 8192, data=TUNING, note="drop path 0.1", source=V1_5),
)


def _tuning(release: str, rate: float = 4e-5, decay: float = 0.05, tiles: int = 12) -> tuple[Stage, ...]:
    return (
        _stage(
            "instruct",
            ("connector", "language", "head"),
            rate,
            128,
            decay,
            4096,
            epochs=1,
            warmup=0.03,
            data="the user's",
            settings={"most": tiles},
            note="tunes the published weights; how those were trained is not published",
            source=f"shell/{release}/2nd_finetune",
        ),
    )


def _stages_2_5(rate: float, decay: float, epochs: int = 1, encoder: bool = False) -> tuple[Stage, ...]:
    drop = 0.1 if rate == 4e-5 else 0.4
    shared: dict[str, Any] = {"limit": 16384, "source": "arXiv:2412.05271; shell/internvl2.5"}
    pretraining: dict[str, Any] = {"data": "the pretraining mixture of section 4", "warmup": 100, **shared}
    align = _stage(
        "align", ("connector",), 2e-4, 512, decay, steps=100_000, note="steps at most; 48 tiles a pack", **pretraining
    )
    middle = _stage(
        "encoder", ENCODER, 1e-5, 1024, 0.05, note="drop path 0.1; larger models take the encoder over", **pretraining
    )
    instruct = _stage(
        "instruct",
        ALL,
        rate,
        512,
        decay,
        steps=5500 * epochs,
        epochs=epochs,
        warmup=0.03,
        data="the instruction mixture of section 4; 6 to 36 tiles by data set",
        note=f"packed; samples weigh one over the root of their answer tokens; drop path {drop}",
        **shared,
    )
    return (align, middle, instruct) if encoder else (align, instruct)


SMALL_2_5 = _stages_2_5(4e-5, 0.01, 4)
LARGE_2_5 = _stages_2_5(2e-5, 0.05)
MIDDLE_2 = _tuning("internvl2.0", tiles=6)
LARGE_2 = _tuning("internvl2.0", 2e-5, tiles=6)


def _preset(
    name: str, size: str, text: Mapping[str, Any], template: str, stages: tuple[Stage, ...], language: str
) -> Preset:
    """size: of the encoder."""
    release = "-V2_5" if template == "internvl2_5" else "-V1-5" if size == "6B" else ""
    return Preset(
        settings=Settings(VIT_6B if size == "6B" else VIT_300M),
        text=text,
        template=template,
        limit=16384 if template == "internvl2_5" else 8192,
        begin=template != "Hermes-2",
        placeholder="<IMG_CONTEXT>",
        tokens=TOKENS,
        language=language,
        vision=f"OpenGVLab/InternViT-{size}-448px{release}",
        weights=f"OpenGVLab/{name}",
        stages=stages,
    )


def _sized(text: Mapping[str, Any], vocabulary: int) -> dict[str, Any]:
    """With the nine tokens more, and without the rows that a vocabulary had to spare."""
    return {**text, "vocab_size": vocabulary}


INTERNLM_1_8B = _sized(languages.INTERNLM_2_1_8B, 92553)
INTERNLM_7B = _sized(languages.INTERNLM_2_7B, 92553)
INTERNLM_20B = _sized(languages.INTERNLM_2_20B, 92553)
PHI_3 = _sized(languages.PHI_3_MINI, 32020)
QWEN_2_0_5B = _sized(languages.QWEN_2_0_5B, 151655)
QWEN_2_5_0_5B = _sized(languages.QWEN_2_0_5B, 151674)
QWEN_2_5_3B = _sized(languages.QWEN_2_5_3B, 151674)
QWEN_2_5_32B = _sized(languages.QWEN_2_5_32B, 151674)
QWEN_2_5_72B = _sized(languages.QWEN_2_5_72B, 151674)
YI_34B = _sized(languages.YI_34B, 64009)
LLAMA_3_70B = _sized(languages.LLAMA_3_70B, 128265)

PRESETS = {
    "internvl-1.5-2b": _preset(
        "Mini-InternVL-Chat-2B-V1-5",
        "300M",
        INTERNLM_1_8B,
        "internlm2-chat",
        STAGES_1_5_2B,
        "internlm/internlm2-chat-1_8b",
    ),
    "internvl-1.5-4b": _preset(
        "Mini-InternVL-Chat-4B-V1-5",
        "300M",
        PHI_3,
        "phi3-chat",
        _tuning("internvl1.5"),
        "microsoft/Phi-3-mini-128k-instruct",
    ),
    "internvl-1.5-26b": _preset(
        "InternVL-Chat-V1-5", "6B", INTERNLM_20B, "internlm2-chat", STAGES_1_5_26B, "internlm/internlm2-chat-20b"
    ),
    "internvl2-1b": _preset("InternVL2-1B", "300M", QWEN_2_0_5B, "Hermes-2", (), "Qwen/Qwen2-0.5B-Instruct"),
    "internvl2-2b": _preset(
        "InternVL2-2B",
        "300M",
        INTERNLM_1_8B,
        "internlm2-chat",
        _tuning("internvl2.0", decay=0.01),
        "internlm/internlm2-chat-1_8b",
    ),
    "internvl2-4b": _preset(
        "InternVL2-4B", "300M", PHI_3, "phi3-chat", _tuning("internvl2.0"), "microsoft/Phi-3-mini-128k-instruct"
    ),
    "internvl2-8b": _preset(
        "InternVL2-8B", "300M", INTERNLM_7B, "internlm2-chat", MIDDLE_2, "internlm/internlm2_5-7b-chat"
    ),
    "internvl2-26b": _preset(
        "InternVL2-26B", "6B", INTERNLM_20B, "internlm2-chat", LARGE_2, "internlm/internlm2-chat-20b"
    ),
    "internvl2-40b": _preset("InternVL2-40B", "6B", YI_34B, "Hermes-2", LARGE_2, "NousResearch/Nous-Hermes-2-Yi-34B"),
    "internvl2-76b": _preset(
        "InternVL2-Llama3-76B", "6B", LLAMA_3_70B, "internlm2-chat", (), "NousResearch/Hermes-2-Theta-Llama-3-70B"
    ),
    "internvl2.5-1b": _preset(
        "InternVL2_5-1B", "300M", QWEN_2_5_0_5B, "internvl2_5", SMALL_2_5, "Qwen/Qwen2.5-0.5B-Instruct"
    ),
    "internvl2.5-2b": _preset(
        "InternVL2_5-2B", "300M", INTERNLM_1_8B, "internvl2_5", SMALL_2_5, "internlm/internlm2_5-1_8b-chat"
    ),
    "internvl2.5-4b": _preset(
        "InternVL2_5-4B", "300M", QWEN_2_5_3B, "internvl2_5", _stages_2_5(4e-5, 0.01, 2), "Qwen/Qwen2.5-3B-Instruct"
    ),
    "internvl2.5-8b": _preset(
        "InternVL2_5-8B",
        "300M",
        INTERNLM_7B,
        "internvl2_5",
        _stages_2_5(4e-5, 0.05, encoder=True),
        "internlm/internlm2_5-7b-chat",
    ),
    "internvl2.5-26b": _preset(
        "InternVL2_5-26B",
        "6B",
        INTERNLM_20B,
        "internvl2_5",
        _stages_2_5(2e-5, 0.05, encoder=True),
        "internlm/internlm2_5-20b-chat",
    ),
    "internvl2.5-38b": _preset(
        "InternVL2_5-38B", "6B", QWEN_2_5_32B, "internvl2_5", LARGE_2_5, "Qwen/Qwen2.5-32B-Instruct"
    ),
    "internvl2.5-78b": _preset(
        "InternVL2_5-78B", "6B", QWEN_2_5_72B, "internvl2_5", LARGE_2_5, "Qwen/Qwen2.5-72B-Instruct"
    ),
    "tiny": Preset(
        settings=Settings(
            {
                **VIT_300M,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": 56,
            }
        ),
        text=tiny_text(),
        template="internvl2_5",
        placeholder="<IMG_CONTEXT>",
        tokens=TOKENS,
        stages=_stages_2_5(4e-5, 0.05, encoder=True),
    ),
}

FAMILY = Native(
    name="internvl",
    title="InternVL",
    source="arXiv:2404.16821, arXiv:2412.05271; OpenGVLab/InternVL",
    views="1 to 12 tiles 448, thumbnail",
    encoder="InternViT-300M or 6B",
    connector="pixel unshuffle, LayerNorm, MLP",
    injection="scatter",
    codec="internvl",
    presets=PRESETS,
    policy=policy,
    several=lambda settings, pictures: replace(settings, most=max(settings.least, settings.most // pictures)),
    look=lambda settings, plan, picture: tuple(pixels(plan, picture, IMAGENET)),
    roles=NATIVE_ROLES,
    load_vision=_load_vision,
    settle=draw_projector,
    text_config=text_config,
    model=_model,
    inputs=_inputs,
    processor=_processor,
    original=original,
)
