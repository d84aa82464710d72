"""mPLUG-Owl and mPLUG-Owl2: CLIP ViT-L/14 with its last LayerNorm and CLS, 64 queries of an abstractor, LLaMA.

A picture is 65 tokens: what the queries read in six layers, and a learned token that ends it. mPLUG-Owl2 gives the
abstractor fixed positions, doubles the resolution, and treats visual tokens apart in the language model: keys, values
and both norms of every layer have a twin for them (the modality-adaptive module, 33.56 M parameters a layer).
The MLPs of mPLUG-Owl's abstractor are 4096 wide by default of its code; for weights whose config.json says
`intermediate_size` 2816 there is a preset of its own.

What differs from the authors' code:
- mPLUG-Owl cuts an answer that does not fit, keeps `</s>` behind it, and finds answers by looking for `AI: ` in the
  text, words of users included (`original_labels.completion` does so). Ours is refused when too long, and learned by
  spans.
- Its pictures are cropped and mirrored at random in training, instruction data too. Ours never are.
- Its published trainer freezes the abstractor in the second stage, which the paper trains; the recipe below is the
  trainer's. The rate that mPLUG-Owl2's script sets for the abstractor alone never applies: the trainer looks for
  parameters named like the option.
- mPLUG-Owl2 ignores all of a sample whose tokens it miscounts (`original_labels.counted`), and of several images in
  one turn (`parity=True` of the template) its data code moves the first to the front and loses the rest.
- In mPLUG-Owl2 padding is text (0) to the layers; ours is PADDING and goes the same way.
Source: arXiv:2304.14178, arXiv:2311.04257; github.com/X-PLUG/mPLUG-Owl.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from vistune.models.connectors.abstractor import Abstractor, AbstractorConfig, abstractor_keys
from vistune.models.encoders.clip import ClipTower, load_clip, owl_clip_keys
from vistune.models.encoders.features import Selection
from vistune.models.encoders.sizes import CLIP_L, tiny_clip
from vistune.models.expert_keys import owl2_keys
from vistune.models.experts import OWL2, TEXT, VISUAL, ExpertConfig
from vistune.models.families.base import ROLES, Composed, Picture, Preset, Stage
from vistune.models.keymap import State, constants_out, gather
from vistune.models.languages import VICUNA_7B, VICUNA_7B_V1_3
from vistune.models.native import with_rows
from vistune.models.pixels import CLIP, pixels
from vistune.models.reader import Reading
from vistune.models.tiny import tiny_text
from vistune.models.views import Square

OWL_CLIP = CLIP_L | {"layer_norm_eps": 1e-6}  # where OpenAI's has 1e-5


@dataclass(frozen=True)
class Settings:
    version: Literal[1, 2] = 1  # 2: positions in the abstractor, modality-adaptive modules in the language model
    vision: Mapping[str, Any] = field(default_factory=lambda: OWL_CLIP)  # of CLIPVisionConfig
    size: int = 224  # pixels, to which the encoder's positions are resized
    fit: Literal["stretch", "pad", "widen"] = "stretch"
    queries: int = 64
    depth: int = 6  # of the abstractor
    heads: int = 16
    hidden: int = 4096  # of its MLPs


class Tower(ClipTower):
    def forward(self, pictures: Sequence[Picture]) -> list[Tensor]:  # type: ignore[override]
        """-> (1 + P, C) of each picture, CLS first"""
        return list(super().forward(torch.stack([picture.views[0] for picture in pictures])))


class Connector(nn.Module):
    def __init__(self, config: AbstractorConfig) -> None:
        super().__init__()
        self.abstractor = Abstractor(config)

    def forward(self, features: Sequence[Tensor], pictures: Any, table: Tensor) -> list[Tensor]:
        """features: (1 + P, C) of each picture -> (Q + 1, D) of each"""
        return list(self.abstractor(torch.stack(list(features))))


def _parts(settings: Settings, text: Any) -> tuple[nn.Module, nn.Module]:
    vision = CLIPVisionConfig(**settings.vision)
    tower = Tower(CLIPVisionModel(vision), Selection(cls="keep", norm=True), "bicubic")
    config = AbstractorConfig(
        channels=vision.hidden_size,
        width=text.hidden_size,
        queries=settings.queries,
        depth=settings.depth,
        heads=settings.heads,
        hidden=settings.hidden,
        grid=settings.size // vision.patch_size if settings.version == 2 else 0,
    )
    return tower, Connector(config)


def _experts(settings: Settings, text: Any) -> ExpertConfig | None:
    return ExpertConfig(typed=OWL2) if settings.version == 2 else None


def _types(reading: Reading) -> list[int]:
    types = [TEXT] * len(reading.ids)
    for start, end in reading.spans:
        types[start:end] = [VISUAL] * (end - start)
    return types


def original(state: State, config: Any) -> State:
    """Either version. mPLUG-Owl2 has the tower and the abstractor inside `model`, beside the layers."""
    settings, rows = config.preset["settings"], config.text_config.vocab_size
    heads, state = settings["vision"]["num_attention_heads"], constants_out(state)

    def vision(part: State) -> State:
        return owl_clip_keys(part, heads)

    def named(prefix: str) -> Any:
        return lambda part: abstractor_keys({prefix + key: tensor for key, tensor in part.items()})

    def plain(part: State) -> State:
        return part

    if settings["version"] == 1:
        parts = {
            "vision_model.": ("vision_tower.", vision),
            "query_tokens": ("connector.abstractor.", named("query_tokens")),
            "abstractor.": ("connector.abstractor.", named("abstractor.")),
            "language_model.": ("language_model.", plain),
        }
    else:
        layers = r"layers."
        parts = {
            "model.vision_model.": ("vision_tower.", vision),
            "model.visual_abstractor.": ("connector.abstractor.", named("model.visual_abstractor.")),
            "model.layers.": (
                "language_model.model.",
                lambda part: owl2_keys({layers + k: t for k, t in part.items()}),
            ),
            "model.": ("language_model.model.", plain),
            "lm_head.": ("language_model.lm_head.", plain),
        }
    return with_rows(gather(state, parts, "mPLUG-Owl"), rows)


ALIGN = Stage(
    name="align",
    rates={"vision": 1e-4, "connector": 1e-4},
    data="LAION-400M, COYO-700M, CC, COCO: 104 B tokens",
    steps=50_000,
    schedule="cosine",
    warmup=2000,
    weight_decay=0.1,
    note="2.1 M tokens a step; AdamW (0.9, 0.98)",
    source="arXiv:2304.14178",
)
INSTRUCT = Stage(
    name="instruct",
    rates={"language": 2e-5},
    data="Alpaca 102 K, Vicuna 90 K, Baize 50 K, LLaVA 150 K",
    samples=361_481,
    batch=256,
    epochs=3,
    steps=4236,
    schedule="cosine to 1e-6",
    warmup=50,
    weight_decay=1e-4,
    limit=2048,
    lora={"language": 8},
    note="LoRA on q_proj and v_proj, alpha 32; clipped at 1.0. The paper: 2000 steps, the abstractor trains too",
    source="mPLUG-Owl/scripts, pipeline/train.py",
)
V1 = (ALIGN, INSTRUCT)
V2 = (
    Stage(
        name="align",
        rates={"vision": 1e-4, "connector": 1e-4, "experts": 1e-4},
        data="400 M image-text pairs, 348 M of them seen",
        samples=348_000_000,
        batch=8192,
        steps=42_500,
        schedule="cosine to 1e-6",
        warmup=1000,
        weight_decay=0.05,
        settings={"size": 224},
        note="rates of the encoder fall by 0.9 a layer, by the paper's text; by its table they do not",
        source="arXiv:2311.04257",
    ),
    Stage(
        name="instruct",
        rates=dict.fromkeys(("vision", "connector", "experts", "language", "head"), 2e-5),
        data="1.23 M: ShareGPT 40 K, SlimOrca 518 K, LLaVA 158 K, COCO 82 K, TextCaps 22 K, VQAv2 83 K, GQA 72 K, "
        "OK-VQA 9 K, OCR-VQA 80 K, A-OKVQA 50 K, RefCOCO 30 K, VG 86 K",
        samples=1_230_000,
        batch=256,
        epochs=1,
        steps=4800,
        schedule="cosine to 1e-7",
        warmup=250,
        weight_decay=0.0,
        limit=2048,
        settings={"fit": "pad"},
        note="the published script freezes the encoder and warms up for 0.03 of the steps",
        source="arXiv:2311.04257; mPLUG-Owl2/scripts/finetune.sh",
    ),
)

_V1 = Preset(
    settings=Settings(),
    text=VICUNA_7B_V1_3,  # LLaMA, whose numbers are the same
    template="mplug_owl",
    language="huggyllama/llama-7b",
    vision="openai/clip-vit-large-patch14",
    weights="MAGAer13/mplug-owl-llama-7b",
    stages=V1,
)
_V2 = Preset(
    settings=Settings(2, OWL_CLIP | {"image_size": 448}, 448, "widen", hidden=2816),
    text=VICUNA_7B,  # Llama 2, whose numbers are the same
    template="mplug_owl2",
    placeholder="<|image|>",
    language="meta-llama/Llama-2-7b-hf",
    vision="openai/clip-vit-large-patch14",
    weights="MAGAer13/mplug-owl2-llama2-7b",
    stages=V2,
)
_TINY: dict[str, Any] = {
    "vision": tiny_clip(28, 2) | {"layer_norm_eps": 1e-6},
    "size": 28,
    "queries": 4,
    "depth": 2,
    "heads": 2,
    "hidden": 64,
}
_TINY_STAGES = (replace(V2[0], settings={"size": 14}), V2[1])

FAMILY = Composed(
    name="mplug_owl",
    title="mPLUG-Owl",
    source="arXiv:2304.14178, arXiv:2311.04257; X-PLUG/mPLUG-Owl",
    views="square 224, stretched; 448, padded",
    encoder="CLIP ViT-L/14, last state with CLS and norm",
    connector="abstractor, 64 queries and an end token",
    injection="scatter; 2: typed keys, values, norms",
    codec="vistune",
    presets={
        "mplug-owl-llama-7b": _V1,
        "mplug-owl-llama-7b-2816": replace(_V1, settings=Settings(hidden=2816)),
        "mplug-owl2-llama2-7b": _V2,
        "tiny": replace(_V1, settings=Settings(**_TINY), text=tiny_text(), language="", vision="", weights=""),
        "tiny-2": replace(
            _V2,
            settings=Settings(2, fit="widen", **_TINY),
            text=tiny_text(num_key_value_heads=4),
            language="",
            vision="",
            weights="",
            stages=_TINY_STAGES,
        ),
    },
    policy=lambda settings: Square(settings.size, settings.fit, tokens=settings.queries + 1),
    look=lambda settings, plan, picture: tuple(pixels(plan, picture, CLIP)),
    roles=ROLES
    | {
        "experts": tuple(
            f"language_model.model.layers.*.{'self_attn.' * name.endswith('_proj')}{name}.visual." for name in OWL2
        )
    },
    parts=_parts,
    experts=_experts,
    types=_types,
    original=original,
    load_vision=load_clip,
)
