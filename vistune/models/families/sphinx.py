"""SPHINX: four vision encoders at once, their features joined along the channels and along the sequence, Llama 2.

A picture is padded to a square, normalised for CLIP, and is one view (SPHINX), or is cut into an overview and 2 x 2
parts (1k, v2-1k). Every encoder sees every view; none is ever trained. Visual tokens stand between BOS and the
conversation, which does not mention them. The Tiny models have two of the encoders, which see the same views at
different sizes.

What the authors' code does and this does not:
- The printed fine-tuning command leaves 512 tokens for a sample and its views, which are 1455: the text is cut to
  nothing and the sample skipped. Here a conversation longer than the limit is an error that names both numbers.
  `labels.fit(..., cut=True)` cuts as they do.
- Labels have 0 for "not learned", so token 0 can never be learned, and an answer is searched in the tokens, where its
  question may contain it. Here labels follow spans of characters. `original_labels.searched` is theirs.
- The Q-Former drops out a tenth while the rest trains, though it is frozen. Here `dropout` in its settings is 0.
- Built without published encoders, their CLIP has GELU where its weights were trained with QuickGELU (open_clip's
  ViT-L-14 without `pretrained`). Here it is QuickGELU, as in their training.
Boxes are parts of the padded square, like LLaVA's; with how many decimals, the released code does not say.
The released code has no skip token for views that are all padding, though SPHINX-X describes one; nor is it here.
The MoE models (Mixtral) are not among the presets.

Source: arXiv:2311.07575 (SPHINX), arXiv:2402.05935 (SPHINX-X); Alpha-VLLM/LLaMA2-Accessory, accessory/model/LLM.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    Blip2QFormerConfig,
    Blip2VisionConfig,
    Blip2VisionModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    ConvNextConfig,
    Dinov2Config,
)

from vistune.models.connectors.qformer import QFormer
from vistune.models.encoders.clip import ClipTower, open_clip_keys
from vistune.models.encoders.convnext import ConvNextTower, convnext_keys
from vistune.models.encoders.dinov2 import Dinov2Tower, dinov2_keys
from vistune.models.encoders.eva import EvaTower
from vistune.models.encoders.features import Selection
from vistune.models.encoders.sizes import CLIP_L, CONVNEXT_XXL
from vistune.models.ensemble import CONVNEXT_SIZE, EnsembleConfig, EnsembleConnector, EnsembleTower, halved
from vistune.models.ensemble import ensemble_keys as connector_keys
from vistune.models.families.base import ROLES, Composed, Picture, Preset, Stage
from vistune.models.keymap import State, gather, rename
from vistune.models.languages import VICUNA_7B
from vistune.models.languages import VICUNA_13B as LLAMA_2_13B
from vistune.models.meta_llama import meta_axis, meta_llama_keys
from vistune.models.native import with_rows
from vistune.models.pixels import CLIP, pixels
from vistune.models.tiny import tiny_text
from vistune.models.views_derived import Derived, sphinx, sphinx_light

DINO_G = {
    "hidden_size": 1536,
    "num_hidden_layers": 40,
    "num_attention_heads": 24,
    "use_swiglu_ffn": True,
    "image_size": 518,
    "patch_size": 14,
}
EVA_G = {
    "hidden_size": 1408,
    "intermediate_size": 6144,
    "num_hidden_layers": 39,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
}
QFORMER = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "encoder_hidden_size": 1408,
}


@dataclass(frozen=True)
class Settings:
    parts: int = 1  # of a side; above 1 an overview comes before them
    halve: bool = False  # the grids of all parts at half of their side (p2)
    light: bool = False  # without CLIP and Q-Former; the ConvNeXt has views of its own
    size: int = 224  # pixels of a view
    large: int = 512  # of the same view for the ConvNeXt of light models
    nearest: int = CONVNEXT_SIZE  # to which the other models enlarge a view for it
    queries: int = 32
    dropout: float = 0.0  # of the Q-Former
    clip: Mapping[str, Any] = field(default_factory=lambda: CLIP_L)
    convnext: Mapping[str, Any] = field(default_factory=lambda: CONVNEXT_XXL)
    dino: Mapping[str, Any] = field(default_factory=lambda: DINO_G)
    eva: Mapping[str, Any] = field(default_factory=lambda: EVA_G)
    qformer: Mapping[str, Any] = field(default_factory=lambda: QFORMER)


def _policy(settings: Settings) -> Derived:
    patches = (settings.size // settings.dino["patch_size"]) ** 2
    around = 3  # CLS, and the learned tokens that begin and end a view
    if settings.light:
        return sphinx_light(settings.parts, settings.size, settings.large, patches + around)
    around += settings.queries
    small = patches // 4 + around if settings.halve else 0
    return sphinx(settings.parts, settings.size, patches + around, small)


class Trunk(ConvNextTower):
    """With the LayerNorm of its head, which the authors keep where they take the rest of the head away."""

    def __init__(self, config: ConvNextConfig) -> None:
        super().__init__(config, eps=1e-5)
        self.norm = nn.LayerNorm(config.hidden_sizes[-1], eps=1e-5)

    def forward(self, pixels: Tensor) -> Tensor:
        """(V, 3, height, width) -> (V, C, rows, columns)"""
        return self.norm(super().forward(pixels).movedim(1, -1)).movedim(-1, 1)


class Queries(nn.Module):
    """BLIP-2's encoder and Q-Former."""

    def __init__(self, eva: Blip2VisionConfig, qformer: Blip2QFormerConfig, queries: int) -> None:
        super().__init__()
        self.encoder = EvaTower(Blip2VisionModel(eva), Selection(cls="keep", norm=True), norm_eps=eva.layer_norm_eps)
        self.qformer = QFormer(qformer, queries)

    def forward(self, pixels: Tensor) -> Tensor:
        """(V, 3, height, width) -> (V, Q, C)"""
        return self.qformer(self.encoder(pixels))


class Tower(EnsembleTower):
    def __init__(self, settings: Settings) -> None:
        super().__init__(
            Trunk(ConvNextConfig(**settings.convnext)),
            Dinov2Tower(Dinov2Config(**settings.dino)),
            None if settings.light else _clip(settings),
            None if settings.light else _queries(settings),
            settings.nearest,
        )
        self.light = settings.light

    def forward(self, pictures: Sequence[Picture]) -> list[tuple[Tensor, Tensor | None]]:  # type: ignore[override]
        """-> of each picture: features (V, 1 + P, C) of its views, and what the Q-Former read of them (V, Q, C')"""
        counts = [len(picture.views) // (2 if self.light else 1) for picture in pictures]
        small = [view for picture, count in zip(pictures, counts, strict=True) for view in picture.views[:count]]
        large = [view for picture, count in zip(pictures, counts, strict=True) for view in picture.views[count:]]
        features, queries = super().forward(torch.stack(small), torch.stack(large) if large else None)
        read = [None] * len(counts) if queries is None else queries.split(counts)
        return list(zip(features.split(counts), read, strict=True))


def _clip(settings: Settings) -> ClipTower:
    return ClipTower(CLIPVisionModel(CLIPVisionConfig(**settings.clip)), Selection(cls="keep", norm=True))


def _queries(settings: Settings) -> Queries:
    dropout = {"hidden_dropout_prob": settings.dropout, "attention_probs_dropout_prob": settings.dropout}
    return Queries(
        Blip2VisionConfig(**settings.eva), Blip2QFormerConfig(**settings.qformer, **dropout), settings.queries
    )


class Connector(EnsembleConnector):
    def __init__(self, config: EnsembleConfig, halve: bool) -> None:
        super().__init__(config)
        self.halve = halve

    def forward(self, features: Sequence[Any], pictures: Any, table: Tensor) -> list[Tensor]:  # type: ignore[override]
        """-> (N, D) of each picture, view by view"""
        return [self.views(*seen) for seen in features]

    def views(self, seen: Tensor, queries: Tensor | None) -> Tensor:
        """(V, 1 + P, C), (V, Q, C') -> (N, D)"""
        if not self.halve:
            return super().forward(seen, queries).flatten(0, 1)
        first = super().forward(seen[:1], None if queries is None else queries[:1])
        parts = super().forward(halved(seen[1:]), None if queries is None else queries[1:])
        return torch.cat([first[0], parts.flatten(0, 1)])


def _parts(settings: Settings, text: Any) -> tuple[nn.Module, nn.Module]:
    channels = settings.convnext["hidden_sizes"][-1] + settings.dino["hidden_size"]
    channels += 0 if settings.light else settings.clip["hidden_size"]
    read = 0 if settings.light else settings.qformer["hidden_size"]
    return Tower(settings), Connector(EnsembleConfig(channels, text.hidden_size, read), settings.halve)


def _trunk_keys(original: State) -> State:
    head = {f"norm.{key.removeprefix('head.norm.')}": v for key, v in original.items() if key.startswith("head.norm.")}
    return convnext_keys({key: v for key, v in original.items() if not key.startswith("head.")}) | head


def _blip2_keys(original: State) -> State:
    """transformers' Blip2Model without its language model -> `Queries`."""
    return rename(
        original,
        [
            (r"query_tokens", "qformer.queries"),
            (r"vision_model\.(.+)", r"encoder.model.\1"),
            (r"qformer\.embeddings\.position_ids", None),
            (r"qformer\.(.+)", r"qformer.model.\1"),
        ],
        "BLIP-2's encoder and Q-Former",
    )


def original(state: State, config: Any) -> State:
    """LLaMA2-Accessory's MetaModel, whose model is `llma`."""
    text = config.text_config

    def language(part: State) -> State:
        return meta_llama_keys(part, text.num_attention_heads, text.num_key_value_heads)

    own = {key: v for key, v in state.items() if key.startswith(CONNECTOR)}
    connector = connector_keys({key.removeprefix("llma."): tensor for key, tensor in own.items()})
    parts = {
        "llma.openclip_convnext_xxl.": ("vision_tower.convnext.", _trunk_keys),
        "llma.dinov2_vitg14.": ("vision_tower.dino.", dinov2_keys),
        "llma.clip.": ("vision_tower.clip.", open_clip_keys),
        "llma.qformer.": ("vision_tower.qformer.", _blip2_keys),
        "llma.": ("language_model.", language),
    }
    rest = {key: tensor for key, tensor in state.items() if key not in own}
    whole = gather(rest, parts, "SPHINX") | {f"connector.{key}": tensor for key, tensor in connector.items()}
    return with_rows(whole, text.vocab_size)


CONNECTOR = tuple(f"llma.{name}" for name in ("start_img", "end_img", "visual_proj.", "qformer_proj."))

TINY_LLAMA = VICUNA_7B | {
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
}

LEARNED = ("connector", "language", "head")

INSTRUCT = Stage(
    name="instruct",
    rates=dict.fromkeys(LEARNED, 2e-5),
    data="multi-task mixture: VQA, grounding, region, OCR, detection, layout, pose, dialogue",
    batch=128,  # 4 and 4 accumulated on each of 8 pairs of GPUs
    epochs=1,
    schedule="cosine",
    warmup=0.03,  # epochs, of which there is one
    weight_decay=0.0,
    note="gradients are clipped at 8; the printed limit of 512 tokens is too short for the views of the 1k models",
    source="SPHINX/README.md, Finetune SPHINX",
)
STAGES = (
    Stage(
        name="align",
        rates=dict.fromkeys(LEARNED, 5e-5),
        data="LAION-400M and LAION-COCO, with text of RefinedWeb",
        steps=180_000,
        note="two language models, of real and of synthetic captions, whose weights are then averaged; the figures are "
        "those of the paper and were not checked against its text",
        source="arXiv:2311.07575",
    ),
    INSTRUCT,
)
LIGHT_STAGES = (
    replace(
        INSTRUCT,
        batch=256,
        warmup=0.01,
        data="SPHINX-X's mixture of public data sets",
        note="the only stage; AdamW's betas are 0.9 and 0.95. The released code could also train the projection alone "
        "beforehand (`mm_stage1`), at a rate that is not published",
        source="arXiv:2402.05935; accessory/model/LLM/llama_ens5_light.py",
    ),
)
TINY_STAGES = tuple(replace(s, rates=dict.fromkeys(s.rates, 3e-3), batch=8, steps=None) for s in STAGES)

TINY = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
HUB = "Alpha-VLLM/LLaMA2-Accessory, finetune/mm/SPHINX/"


def _preset(weights: str, stages: tuple[Stage, ...], text: Mapping[str, Any], **settings: Any) -> Preset:
    return Preset(
        settings=Settings(**settings),
        text=text,
        template="sphinx",
        limit=text["max_position_embeddings"],
        language="TinyLlama/TinyLlama-1.1B-intermediate-step-1195k-token-2.5T"
        if text is TINY_LLAMA
        else "meta-llama/Llama-2-13b-hf",
        weights=HUB + weights,
        stages=stages,
    )


FAMILY = Composed(
    name="sphinx",
    title="SPHINX",
    source="arXiv:2311.07575, arXiv:2402.05935; Alpha-VLLM/LLaMA2-Accessory",
    views="padded square, overview and 2 x 2 parts",
    encoder="CLIP L, ConvNeXt XXL, DINOv2 g, BLIP-2's Q-Former",
    connector="two linear layers, learned begin and end",
    injection="scatter, behind BOS",
    codec="llava",
    presets={
        "sphinx": _preset("SPHINX", STAGES, LLAMA_2_13B),
        "sphinx-1k": _preset("SPHINX-1k", STAGES, LLAMA_2_13B, parts=2),
        "sphinx-v2-1k": _preset("SPHINX-v2-1k", STAGES, LLAMA_2_13B, parts=2),
        "sphinx-tiny": _preset("SPHINX-Tiny", LIGHT_STAGES, TINY_LLAMA, light=True),
        "sphinx-tiny-1k": _preset("SPHINX-Tiny-1k", LIGHT_STAGES, TINY_LLAMA, light=True, parts=2),
        "tiny": Preset(
            settings=Settings(
                parts=2,
                size=28,
                large=64,
                nearest=32,
                queries=2,
                clip={**TINY, "image_size": 28, "patch_size": 14},
                convnext={"hidden_sizes": (4, 8, 8, 16), "depths": (1, 1, 1, 1)},
                dino={**TINY, "mlp_ratio": 2, "use_swiglu_ffn": True, "image_size": 56, "patch_size": 14},
                eva={**TINY, "image_size": 28, "patch_size": 14},
                qformer={**TINY, "encoder_hidden_size": 16},
            ),
            text=tiny_text(),
            template="sphinx",
            stages=TINY_STAGES,
        ),
    },
    policy=_policy,
    look=lambda settings, plan, picture: tuple(pixels(plan, picture, CLIP)),
    roles=ROLES,
    parts=_parts,
    original=original,
    shards=meta_axis,
)
