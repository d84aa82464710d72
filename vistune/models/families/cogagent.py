"""CogVLM and CogAgent: a visual expert as large as the language model itself, and cross-attention to a second picture.

In every layer visual tokens have their own q, k, v, o and MLP, which start as copies of the language model's (CogVLM).
CogAgent reads 224 pixels that way, and 1120 pixels of the same picture with a smaller encoder, to whose 6400 features
every token of every layer attends, without a mask and without positions. A picture is a learned token that begins it,
its patches, and a learned token that ends it; the last goes through the language model's own weights. All patches of a
picture share one position. Pictures stand behind BOS.

What the authors' code does and this does not:
- Padding is attended to, harmless on the right only. Here it is masked, so both sides give the same answers.
- A long sample is cut, and its end put back; one whose question is too long is dropped in silence. Here it is an error
  that names both numbers. `labels.fit(..., cut=True, keep=...)` and `original_labels.cogvlm_limit` are theirs.
- Control tokens that a question spells are deleted from it. Here they stay words.
- EVA2-CLIP-L has a 24th block, a last LayerNorm and a head that never run. They are left out.
Several pictures in one conversation, which the authors never have, are attended to all together.

Source: arXiv:2311.03079 (CogVLM), arXiv:2312.08914 (CogAgent); THUDM/CogVLM, utils/models, utils/utils/language.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import Blip2VisionConfig, Blip2VisionModel

from vistune.models.connectors.glu import GLU, GLUConfig, glu_keys
from vistune.models.encoders.eva import EvaTower, eva2_e_keys
from vistune.models.encoders.eva2 import Eva2Config, Eva2Tower, eva2_l_keys
from vistune.models.encoders.features import Selection
from vistune.models.expert_keys import cogvlm_keys
from vistune.models.experts import COGVLM, ExpertConfig
from vistune.models.families.base import ROLES, Composed, Picture, Preset, Stage
from vistune.models.keymap import Part, State, gather, rename
from vistune.models.languages import VICUNA_7B
from vistune.models.native import with_rows
from vistune.models.pixels import CLIP, pixels
from vistune.models.tiny import tiny_text
from vistune.models.token_types import TokenTypes
from vistune.models.views import Policy, Square
from vistune.models.views_derived import cogagent

EVA2_E = {
    "hidden_size": 1792,
    "intermediate_size": 15360,
    "num_hidden_layers": 63,
    "num_attention_heads": 16,
    "image_size": 490,
    "patch_size": 14,
    "layer_norm_eps": 1e-6,
}
EVA2_L = {"image_size": 1120, "width": 1024, "depth": 24, "heads": 16, "hidden": 2730}


@dataclass(frozen=True)
class Settings:
    vision: Mapping[str, Any] = field(default_factory=lambda: EVA2_E)
    hidden: int = 11008  # of the connector's MLP
    high: Mapping[str, Any] = field(default_factory=dict)  # the second encoder; empty: CogVLM
    cross_width: int = 1024  # of all heads of the cross-attention together
    smaller: int = 0  # pixels of a view, where it is smaller than the encoder has positions for; they are then resized

    @property
    def size(self) -> int:
        return self.smaller or self.vision["image_size"]

    @property
    def patches(self) -> int:
        return (self.size // self.vision["patch_size"]) ** 2


def _policy(settings: Settings) -> Policy:
    if settings.high:
        return cogagent(settings.size, settings.high["image_size"])
    return Square(settings.size, "stretch", tokens=settings.patches + 2)


class Tower(nn.Module):
    def __init__(self, settings: Settings) -> None:
        super().__init__()
        model = Blip2VisionModel(Blip2VisionConfig(**settings.vision))
        self.low = EvaTower(model, Selection(cls="drop"), post_norm=True)
        self.high = Eva2Tower(Eva2Config(**settings.high)) if settings.high else None

    def forward(self, pictures: Sequence[Picture]) -> list[tuple[Tensor, ...]]:
        """-> features of each picture: (P, C), and with the second encoder (P', C')"""
        views = [torch.stack(each) for each in zip(*(picture.views for picture in pictures), strict=True)]
        seen = [self.low(views[0])]
        if self.high is not None:
            seen.append(self.high(views[1]))
        return list(zip(*seen, strict=True))


class Connector(GLU):
    def forward(  # type: ignore[override]
        self, features: Sequence[tuple[Tensor, ...]], pictures: Any, table: Tensor
    ) -> list[Tensor]:
        """-> (1 + P + 1, D) of each picture"""
        return list(super().forward(torch.stack([low for low, *_ in features])))


class AgentConnector(Connector):
    def context(
        self, features: Sequence[tuple[Tensor, Tensor]], pictures: Any, rows: Sequence[int], batch: int, table: Any
    ) -> dict[str, Tensor]:
        """features: of each picture, as the tower gives them; rows: of the batch, that show each -> what the layers
        attend to: features (B, P, C) of all pictures of a row, and features_mask (B, 1, P) of those that are real"""
        shown: list[list[Tensor]] = [[] for _ in range(batch)]
        for (_, high), row in zip(features, rows, strict=True):
            shown[row].append(high)
        none = features[0][1][:0]
        padded = pad_sequence([torch.cat([none, *each]) for each in shown], batch_first=True)
        counts = torch.tensor([sum(len(high) for high in each) for each in shown], device=padded.device)
        mask = torch.arange(padded.shape[1], device=padded.device) < counts[:, None]
        return {"features": padded.to(table.weight.dtype), "features_mask": mask[:, None]}


def _parts(settings: Settings, text: Any) -> tuple[nn.Module, nn.Module]:
    kind, positions = (AgentConnector, settings.patches) if settings.high else (Connector, 0)
    config = GLUConfig(settings.vision["hidden_size"], text.hidden_size, settings.hidden, positions)
    return Tower(settings), kind(config)


def _experts(settings: Settings, text: Any) -> ExpertConfig:
    if not settings.high:
        return ExpertConfig(COGVLM)
    return ExpertConfig(COGVLM, cross_channels=settings.high["width"], cross_width=settings.cross_width)


def original(state: State, config: Any) -> State:
    """The names of the Hugging Face form (`model.layers...`) or of SwissArmyTransformer (`transformer`, `mixins`)."""
    high = config.preset["settings"]["high"]
    places = [
        (r"(?:model\.embed_tokens|transformer\.word_embeddings)\.weight", "ends:model.embed_tokens.weight"),
        (r"(?:model\.norm|transformer\.final_layernorm)\.weight", "ends:model.norm.weight"),
        (r"(?:mixins\.lm\.)?lm_head\.weight", "ends:lm_head.weight"),
        (r"transformer\.position_embeddings\.weight|mixins\.rotary\.rotary_emb\..+", None),
        (r"mixins\.eva\.vit_model\.(.+)", r"low:\1"),
        (r"model\.vision\.((?:patch_embedding|transformer)\..+)", r"low:\1"),
        (r"(?:mixins\.eva|model\.vision)\.(.+)", r"connector:\1"),
        (r"(?:model\.)?(layers\..+)|((?:transformer\.layers|mixins\.(?:rotary|mlp))\..+)", r"layers:\1\2"),
    ]
    parts: dict[str, Part] = {
        "ends:": ("language_model.", dict),
        "layers:": ("language_model.model.", cogvlm_keys),
        "connector:": ("connector.", glu_keys),
        "low:": ("vision_tower.low.", eva2_e_keys),
    }
    if high:
        places.append((r"(?:mixins\.encoder|model\.cross_vision)\.(.+)", r"high:\1"))
        parts["high:"] = ("vision_tower.high.", lambda part: eva2_l_keys(part, Eva2Config(**high)))
    what = "CogAgent" if high else "CogVLM"
    return with_rows(gather(rename(state, places, what), parts, what), config.text_config.vocab_size)


_GROUND = Stage(
    name="ground",
    rates={"connector": 1e-5, "experts": 1e-5},
    data="pairs as before, and referring expressions of 40 M grounded images",
    batch=1024,
    steps=30_000,
    schedule="cosine",
    warmup=1200,
    weight_decay=0.05,
    template="cogvlm_base",
    source="arXiv:2311.03079, section 2.3",
)
COGVLM_STAGES = (
    Stage(
        name="align",
        rates={"connector": 1e-4, "experts": 1e-4},
        data="1.5 B pairs of image and text: LAION-2B and COYO-700M, filtered",
        batch=8192,
        steps=120_000,
        schedule="cosine",
        warmup=12_000,
        weight_decay=0.05,
        template="cogvlm_base",
        settings={"smaller": 224},
        note="AdamW's betas are 0.9 and 0.95, dropout 0.1",
        source="arXiv:2311.03079, section 2.3",
    ),
    replace(_GROUND, settings={"smaller": 224}, note="the first half of 60,000 steps"),
    replace(_GROUND, name="enlarge", warmup=None, note="the second half, at 490 pixels"),
    Stage(
        name="instruct",
        rates={"vision": 1e-6, "connector": 1e-5, "experts": 1e-5, "language": 1e-5, "head": 1e-5},
        data="500 K samples: CogVLM-SFT-311K, LLaVA, LRV-Instruction, LLaVAR and visual question answering",
        batch=1024,
        steps=6000,
        schedule="cosine",
        weight_decay=0.1,
        source="arXiv:2311.03079, section 2.4",
    ),
)
_AGENT = Stage(
    name="align",
    rates={"cross": 2e-5},
    data="text recognition, grounding and GUI pictures (CCS400K), from easy to hard",
    batch=4608,
    steps=20_000,
    template="cogvlm_base",
    source="arXiv:2312.08914, section 3",
)
AGENT_STAGES = (
    _AGENT,
    replace(_AGENT, name="ground", rates={"cross": 2e-5, "experts": 2e-5}, steps=40_000),
    Stage(
        name="instruct",
        rates=dict.fromkeys(("vision", "connector", "experts", "cross", "language", "head"), 2e-5),
        data="screenshots asked about by people, Mind2Web, AITW, and public visual question answering",
        batch=1024,
        steps=10_000,
        source="arXiv:2312.08914, section 3",
    ),
)
TINY_STAGES = tuple(
    replace(stage, rates=dict.fromkeys(("connector", *stage.rates), 3e-3), batch=8, steps=None, template="")
    for stage in (AGENT_STAGES[0], AGENT_STAGES[2])
)


def _preset(weights: str, template: str, stages: tuple[Stage, ...], size: int = 490, **settings: Any) -> Preset:
    return Preset(
        settings=Settings({**EVA2_E, "image_size": size}, **settings),
        text=VICUNA_7B,
        template=template,
        limit=2048,
        language="lmsys/vicuna-7b-v1.5",
        weights=weights,
        stages=stages,
    )


FAMILY = Composed(
    name="cogagent",
    title="CogVLM and CogAgent",
    source="arXiv:2311.03079, arXiv:2312.08914; THUDM/CogVLM",
    views="stretched to 224 and 1120",
    encoder="EVA2-CLIP E, EVA2-CLIP L",
    connector="GLU, learned begin and end",
    injection="visual expert (q, k, v, o, MLP), cross-attention in every layer",
    codec="cogvlm",
    presets={
        "cogagent-chat": _preset("THUDM/cogagent-chat-hf", "cogvlm_chat", AGENT_STAGES, 224, high=EVA2_L),
        "cogagent-vqa": _preset("THUDM/cogagent-vqa-hf", "cogvlm_chat_old", AGENT_STAGES, 224, high=EVA2_L),
        "cogvlm-chat": _preset("THUDM/cogvlm-chat-hf", "cogvlm_chat", COGVLM_STAGES),
        "cogvlm-vqa": _preset("THUDM/cogvlm-chat-hf", "cogvlm_vqa", COGVLM_STAGES),
        "cogvlm-grounding-generalist": _preset("THUDM/cogvlm-grounding-generalist-hf", "cogvlm_base", COGVLM_STAGES),
        "cogvlm-base-490": _preset("THUDM/cogvlm-base-490-hf", "cogvlm_base", COGVLM_STAGES[:3]),
        "cogvlm-base-224": _preset("THUDM/cogvlm-base-224-hf", "cogvlm_base", COGVLM_STAGES[:1], 224),
        "tiny": Preset(
            settings=Settings(
                vision={
                    "hidden_size": 16,
                    "intermediate_size": 32,
                    "num_hidden_layers": 1,
                    "num_attention_heads": 2,
                    "image_size": 28,
                    "patch_size": 14,
                    "layer_norm_eps": 1e-6,
                },
                hidden=32,
                high={"image_size": 56, "width": 16, "depth": 2, "heads": 2, "hidden": 42, "trained_grid": 2},
                cross_width=16,
            ),
            text=tiny_text(num_key_value_heads=4),
            template="cogvlm_chat",
            stages=TINY_STAGES,
        ),
    },
    policy=_policy,
    look=lambda settings, plan, picture: tuple(pixels(plan, picture, CLIP)),
    roles=ROLES
    | {
        "experts": ("language_model.model.layers.*.self_attn.*.visual.", "language_model.model.layers.*.mlp.visual."),
        "cross": (
            "vision_tower.high.",
            "language_model.model.layers.*.cross.",
            "language_model.model.layers.*.cross_norm.",
        ),
    },
    places=lambda reading, placeholder: TokenTypes(reading.length, reading.spans).positions,
    packs=False,  # a row's tokens attend to all its pictures
    parts=_parts,
    experts=_experts,
    types=lambda reading: TokenTypes(reading.length, reading.spans).expert,
    original=original,
)
