"""Monkey: Qwen-VL at 896 pixels, four windows with an adapter each and the whole picture without, 1280 tokens.

The picture is stretched and cut into windows of 448 pixels; window n goes through the n-th LoRA of every layer of the
encoder, the whole picture, made small and last in the sequence, through none. One resampler of 256 queries reads all
five. Monkey-Chat is the same model on more data. Weights of Qwen-VL load too: from them Monkey is trained, its adapters
starting as no change.

What differs from the authors' code:
- `attn_pool.requires_grad_(True)` trains the resampler's fixed positions as well. Ours stay; a rate for the role
  `positions` trains them.
- A sequence is cut at 2048 tokens wherever that falls. Ours is refused.
- A picture's path stands inside <img> as bytes, and the model opens the file. Ours is <imgpad> throughout.
- Beyond 2048 tokens Qwen scales attention by the logarithm of the length and stretches its rotary frequencies. Ours
  does neither.
The code's adapters have 51,118,656 parameters, the paper says 117 M. What is trained stays as the code has it: the last
LayerNorm and matrix of the resampler do not.
Source: arXiv:2311.06607; github.com/Yuliang-Liu/Monkey.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from vistune.models.connectors.resampler import Resampler, ResamplerConfig
from vistune.models.encoders.openclip import Block, OpenClipConfig, OpenClipTower
from vistune.models.families import qwen_vl
from vistune.models.families.base import ROLES, Composed, Picture, Preset, Stage
from vistune.models.keymap import State
from vistune.models.layout import visual_tokens
from vistune.models.pixels import CLIP, pixels
from vistune.models.tiny import tiny_text
from vistune.models.views_derived import Derived, monkey


@dataclass(frozen=True)
class Settings:
    size: tuple[int, int] = (896, 896)  # width, height
    window: int = 448
    queries: int = 256  # of each window and of the whole
    width: int = 1664  # of the encoder
    depth: int = 48
    heads: int = 16
    hidden: int = 8192
    rank: int = 16  # of the adapters in attention
    mlp_rank: int = 32
    dropout: float = 0.05  # before the adapters
    resampler_heads: int = 32

    @property
    def encoder(self) -> OpenClipConfig:
        """With an adapter for each window."""
        return OpenClipConfig(
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            hidden=self.hidden,
            banks=(self.size[0] // self.window) * (self.size[1] // self.window),
            rank=self.rank,
            mlp_rank=self.mlp_rank,
            dropout=self.dropout,
        )


class Tower(OpenClipTower):
    def forward(self, pictures: Sequence[Picture]) -> list[Tensor]:  # type: ignore[override]
        """-> (V, P, C) of each picture"""
        views = torch.stack([view for picture in pictures for view in picture.views])
        banks = [n for picture in pictures for n in (*range(len(picture.views) - 1), -1)]
        features = super().forward(views, torch.tensor(banks, device=views.device))
        return list(features.split([len(picture.views) for picture in pictures]))


class Connector(nn.Module):
    def __init__(self, config: ResamplerConfig) -> None:
        super().__init__()
        self.resampler = Resampler(config)

    def forward(self, features: Sequence[Tensor], pictures: Sequence[Picture], table: Tensor) -> list[Tensor]:
        """features: (V, P, C) of each picture -> (V x Q, D) of each"""
        read = self.resampler(torch.cat(list(features))).split([len(views) for views in features])
        return [visual_tokens(p.plan.layout, list(views)) for p, views in zip(pictures, read, strict=True)]


def _policy(settings: Settings) -> Derived:
    return monkey(settings.size, settings.window, settings.queries)


def _parts(settings: Settings, text: Any) -> tuple[nn.Module, nn.Module]:
    config = ResamplerConfig(settings.width, text.hidden_size, settings.queries, settings.resampler_heads)
    return Tower(settings.encoder), Connector(config)


def original(state: State, config: Any) -> State:
    """Monkey's weights, or Qwen-VL's with new adapters."""
    found = qwen_vl.original(state, config)
    if any(".adapters." in key for key in found):
        return found
    encoder = Settings(**config.preset["settings"]).encoder
    new = {
        f"vision_tower.blocks.{n}.adapters.{key}": tensor
        for n in range(encoder.depth)
        for key, tensor in Block(encoder).adapters.state_dict().items()
    }
    return found | new


STAGES = (
    Stage(
        name="instruct",
        rates={"adapters": 1e-5, "connector": 1e-5, "language": 1e-5, "head": 1e-5},
        data="1.44 M: CC3M detailed captions 213 K, COCO captions 82 K, TextCaps 109 K, VQAv2 100 K, OK-VQA 18 K, "
        "GQA 150 K, ScienceQA 18 K, VizWiz 20 K, TextVQA 34 K, OCR-VQA 250 K, AI2D 24 K, DocVQA 118 K, ChartQA 84 K, "
        "InfoVQA 47 K, DeepForm 7 K, KLC 27 K, WTQ 28 K, TabFact 91 K, VisualMRC 21 K",
        samples=1_441_000,
        batch=1024,
        epochs=1,
        schedule="cosine",
        warmup=100,
        weight_decay=0.1,
        limit=2048,
        note="the only stage: alignment is Qwen-VL's (Qwen/Qwen-VL), whose weights it starts from. AdamW (0.9, 0.95). "
        "Batch and warm-up are the paper's; the script has 128 and 0.02 of the steps",
        source="arXiv:2311.06607; finetune/finetune_ds_debug.sh",
    ),
)

_MONKEY = Preset(
    settings=Settings(),
    text=qwen_vl.QWEN_7B,
    template="monkey_vqa",
    begin=False,
    placeholder="<imgpad>",
    tokens=("<|endoftext|>", "<ref>", "</ref>", "<box>", "</box>", "<img>", "</img>"),
    language="Qwen/Qwen-7B",
    weights="echo840/Monkey",
    stages=STAGES,
)
_TINY = Settings(
    size=(56, 56),
    window=28,
    queries=4,
    width=32,
    depth=2,
    heads=2,
    hidden=64,
    rank=2,
    mlp_rank=4,
    dropout=0.0,
    resampler_heads=2,
)
_TINY_QWEN = tiny_text("qwen2", num_key_value_heads=4)  # as many as of queries, like Qwen's

FAMILY = Composed(
    name="monkey",
    title="Monkey",
    source="arXiv:2311.06607; Yuliang-Liu/Monkey",
    views="896 stretched, 4 windows of 448, then the whole",
    encoder="OpenCLIP ViT-bigG/14, an adapter for each window",
    connector="resampler, 256 queries a view",
    injection="scatter",
    codec="qwen_vl",
    presets={
        "monkey": _MONKEY,
        "monkey-chat": replace(_MONKEY, weights="echo840/Monkey-Chat"),
        "tiny": replace(_MONKEY, settings=_TINY, text=_TINY_QWEN, language="", weights=""),
    },
    policy=_policy,
    look=lambda settings, plan, picture: tuple(pixels(plan, picture, CLIP)),
    roles=ROLES
    | {
        "adapters": ("vision_tower.blocks.*.adapters.",),
        "output": ("connector.resampler.post_norm.", "connector.resampler.project."),
        "positions": ("connector.resampler.positions",),
    },
    parts=_parts,
    original=original,
    tokenizer=qwen_vl.tokenizer,
)
