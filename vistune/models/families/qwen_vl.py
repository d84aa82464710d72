"""Qwen-VL (v1): OpenCLIP ViT-bigG at 448 pixels, 256 queries, Qwen-7B; the chat model and the one it was made of.

In the authors' tokenizer an image's 256 tokens spell the bytes of its path, padded with `<imgpad>`, and their model
reads the file; here all of them are placeholders. Text-only batches need no blank picture. The training code is public
for the last stage only; like it, the chat template learns the control tokens of every turn, not just the answers.

Differences from the authors' code: none in the forward pass within the 2048 tokens of training, up to which their
attention scales nothing and keeps the base of its rotary positions. The table of positions in the resampler is a weight
that is never trained, as published.

The tokenizer comes as a file of ranks (`qwen.tiktoken`) and code; `tokenizer` reads the file. So does Qwen-7B alone,
whose weights transformers has no class for: begin at those of the whole model.
Source: arXiv:2308.12966; github.com/QwenLM/Qwen-VL and its remote code (visual.py, modeling_qwen.py). The figures of
the stages come from the paper's table 8 by way of notes on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vistune.models.connectors.resampler import Resampler, ResamplerConfig, resampler_keys
from vistune.models.encoders.openclip import OpenClipConfig, OpenClipTower, load_openclip, openclip_keys
from vistune.models.families.base import ROLES, Composed, Picture, Preset, Stage
from vistune.models.keymap import QKV, State, gather, rename, split_rows
from vistune.models.pixels import CLIP, pixels
from vistune.models.ranks import ranked_tokenizer
from vistune.models.tiny import tiny_text
from vistune.models.views import Square

RESAMPLER = ("attn_pool.", "ln_post.", "proj")

WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Where the tokenizer parts a text first (tokenization_qwen.py)."""


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
    split_rows(state, "qkv", QKV)
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


def tokenizer(folder: Path) -> Any:
    """Of the published files. What the control tokens are stands in the authors' code, not in a file."""
    spare = [f"<|extra_{n}|>" for n in range(205)]
    boxes = ["<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>"]
    controls = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *spare, *boxes, "<img>", "</img>", "<imgpad>"]
    return ranked_tokenizer(folder / "qwen.tiktoken", WORDS, controls)


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
        data="1.4 B image-text pairs: LAION-en, LAION-COCO, DataComp, Coyo, CC12M, CC3M, SBU, COCO, LAION-zh, in-house",
        samples=1_500_000_000,
        batch=30720,
        steps=50_000,
        schedule="cosine",
        warmup=500,
        weight_decay=0.05,
        limit=512,
        template="qwen_vl_base",
        settings={"size": 224},
        note="to 1e-6; the encoder's rate falls by 0.95 a layer from the last; the language model is frozen",
        source="paper, table 8",
    ),
    Stage(
        name="multitask",
        rates=dict.fromkeys(("vision", "connector", "language", "head"), 5e-5),
        data="captions 19.7 M, VQA 3.6 M, grounding 20.9 M, OCR 24.8 M, text 7.8 M",
        samples=77_000_000,
        batch=4096,
        steps=19_000,
        schedule="cosine",
        warmup=400,
        weight_decay=0.05,
        limit=2048,
        template="qwen_vl_base",
        note="to 1e-5; the encoder's rate falls by 0.95 a layer from the last",
        source="paper, table 8",
    ),
    Stage(
        name="instruct",
        rates=dict.fromkeys(("connector", "language", "head"), 1e-5),
        data="350 K dialogues",
        samples=350_000,
        batch=128,
        steps=8000,
        schedule="cosine",
        warmup=3000,
        weight_decay=0.05,
        limit=2048,
        template="qwen_vl",
        note="to 1e-6; of the encoder's part in the authors' code the resampler alone is trained",
        source="paper, table 8; finetune/finetune_ds.sh",
    ),
)

CHAT = Preset(
    settings=Settings(),
    text=QWEN_7B,
    template="qwen_vl",
    stages=STAGES,
    begin=False,
    placeholder="<imgpad>",
    tokens=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<ref>", "</ref>", "<box>", "</box>", "<img>", "</img>"),
    language="Qwen/Qwen-7B",
    vision="laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
    weights="Qwen/Qwen-VL-Chat",
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
        "qwen-vl": replace(CHAT, template="qwen_vl_base", stages=STAGES[:2], weights="Qwen/Qwen-VL"),
        "qwen-vl-chat": CHAT,
        "tiny": replace(
            CHAT,
            settings=Settings(56, 4, 48, 2, 2, 64, 2),
            text=tiny_text("qwen2", num_key_value_heads=4),
            stages=(replace(STAGES[0], settings={"size": 28}), *STAGES[1:]),
            language="",
            vision="",
            weights="",
        ),
    },
    policy=lambda settings: Square(settings.size, "stretch", tokens=settings.queries),
    look=lambda settings, plan, picture: tuple(pixels(plan, picture, CLIP)),
    roles=ROLES,
    parts=_parts,
    load_vision=load_openclip,
    original=original,
    tokenizer=tokenizer,
)
