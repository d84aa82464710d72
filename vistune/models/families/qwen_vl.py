"""Qwen-VL (v1): OpenCLIP ViT-bigG at 448 pixels, 256 queries, Qwen-7B.

Differences from the authors' code, which `parity=True` of the blocks restores: none in the forward pass.
Source: arXiv:2308.12966; github.com/QwenLM/Qwen-VL and its remote code (visual.py, modeling_qwen.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vistune.models.connectors.resampler import Resampler, ResamplerConfig, resampler_keys
from vistune.models.encoders.openclip import OpenClipConfig, OpenClipTower, openclip_keys
from vistune.models.families.base import ROLES, Composed, Picture, Preset, Stage
from vistune.models.keymap import State, gather, rename, split_rows
from vistune.models.pixels import CLIP, pixels
from vistune.models.tiny import tiny_text
from vistune.models.views import Square

RESAMPLER = ("attn_pool.", "ln_post.", "proj")


@dataclass(frozen=True)
class Settings:
    size: int = 448  # pixels; 224 in the first stage
    queries: int = 256
    width: int = 1664  # of the encoder
    depth: int = 48
    heads: int = 16
    hidden: int = 8192
    resampler_heads: int = 32


class Tower(OpenClipTower):
    def forward(self, pictures: Sequence[Picture]) -> list[Tensor]:  # type: ignore[override]
        """-> (P, C) of each picture"""
        return list(super().forward(torch.stack([picture.views[0] for picture in pictures])))


class Connector(nn.Module):
    def __init__(self, config: ResamplerConfig) -> None:
        super().__init__()
        self.resampler = Resampler(config)

    def forward(self, features: Sequence[Tensor], pictures: Any, table: Tensor) -> list[Tensor]:
        """features: (P, C) of each picture -> (Q, D) of each"""
        return list(self.resampler(torch.stack(list(features))))


def _parts(settings: Settings, text: Any) -> tuple[nn.Module, nn.Module]:
    tower = Tower(OpenClipConfig(settings.width, settings.depth, settings.heads, settings.hidden))
    return tower, Connector(
        ResamplerConfig(settings.width, text.hidden_size, settings.queries, settings.resampler_heads)
    )


def qwen_keys(original: Mapping[str, Tensor]) -> State:
    """QWenLMHeadModel, without the visual part -> Qwen2ForCausalLM: the same architecture, attention without its
    logarithmic scaling and with the base rotary frequencies, as within the 2048 tokens of training."""
    block, ours = r"transformer\.h\.(\d+)\.", r"model.layers.\1."
    state = rename(
        original,
        [
            (r"transformer\.wte\.weight", "model.embed_tokens.weight"),
            (r"transformer\.ln_f\.weight", "model.norm.weight"),
            (r"lm_head\.weight", "lm_head.weight"),
            (r".*rotary_emb\.inv_freq", None),
            (block + r"ln_1\.weight", ours + "input_layernorm.weight"),
            (block + r"ln_2\.weight", ours + "post_attention_layernorm.weight"),
            (block + r"attn\.c_attn\.(weight|bias)", ours + r"self_attn.qkv.\2"),
            (block + r"attn\.c_proj\.weight", ours + "self_attn.o_proj.weight"),
            (block + r"mlp\.w1\.weight", ours + "mlp.up_proj.weight"),
            (block + r"mlp\.w2\.weight", ours + "mlp.gate_proj.weight"),
            (block + r"mlp\.c_proj\.weight", ours + "mlp.down_proj.weight"),
        ],
        "Qwen",
    )
    for key in [k for k in state if ".qkv." in k]:
        split_rows(state, key, [key.replace(".qkv.", f".{part}_proj.") for part in "qkv"])
    return state


def visual_keys(original: Mapping[str, Tensor]) -> State:
    """Keys below `transformer.visual` -> tower and connector."""
    connector = {key: tensor for key, tensor in original.items() if key.startswith(RESAMPLER)}
    tower = {key: tensor for key, tensor in original.items() if key not in connector}
    return {f"vision_tower.{k}": v for k, v in openclip_keys(tower).items()} | {
        f"connector.resampler.{k}": v for k, v in resampler_keys(connector).items()
    }


def original(state: State, config: Any) -> State:
    visual = re.compile(r"transformer\.visual\.")
    language = {key: tensor for key, tensor in state.items() if not visual.match(key)}
    rest = {key: tensor for key, tensor in state.items() if visual.match(key)}
    return gather(rest, {"transformer.visual.": ("", visual_keys)}, "Qwen-VL") | {
        f"language_model.{key}": tensor for key, tensor in qwen_keys(language).items()
    }


QWEN_7B = {
    "model_type": "qwen2",
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}

STAGES = (
    Stage(
        name="align",
        rates={"vision": 2e-4, "connector": 2e-4},
        data="1.4 B image-text pairs",
        batch=30720,
        steps=50_000,
        schedule="cosine",
        warmup=500,
        settings={"size": 224},
        source="paper, table 8",
    ),
)

FAMILY = Composed(
    name="qwen_vl",
    title="Qwen-VL",
    source="arXiv:2308.12966; QwenLM/Qwen-VL",
    views="square 448, stretched",
    encoder="OpenCLIP ViT-bigG/14",
    connector="resampler, 256 queries",
    injection="scatter",
    codec="qwen_vl",
    presets={
        "qwen-vl-chat": Preset(
            settings=Settings(),
            text=QWEN_7B,
            template="qwen_vl",
            stages=STAGES,
            begin=False,
            placeholder="<imgpad>",
            tokens=("<img>", "</img>"),
            stop="<|im_end|>",
            language="Qwen/Qwen-7B",
            weights="Qwen/Qwen-VL-Chat",
        ),
        "tiny": Preset(
            settings=Settings(56, 4, 32, 2, 2, 64, 2),
            text=tiny_text("qwen2"),
            template="qwen_vl",
            stages=STAGES,
            begin=False,
            placeholder="<imgpad>",
            tokens=("<img>", "</img>"),
            stop="<|im_end|>",
        ),
    },
    policy=lambda settings: Square(settings.size, "stretch", tokens=settings.queries),
    look=lambda settings, plan, picture: tuple(pixels(plan, picture, CLIP)),
    roles=ROLES,
    parts=_parts,
    original=original,
)
