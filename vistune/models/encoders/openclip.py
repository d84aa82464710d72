"""OpenCLIP's ViT-bigG/14 without CLS token, as Qwen-VL and Monkey use it; transformers has no such tower.

Width 1664, 48 blocks, 16 heads, exact GELU, a table of 16 x 16 positions resized to the view. Monkey adds a bank of
LoRA adapters: window n of a picture goes through the n-th adapter of every layer, the overview through none.
Sources: Qwen-VL's remote code, visual.py; Monkey, monkey_model/visual.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPVisionModel
from transformers.modeling_layers import GradientCheckpointingLayer

from vistune.errors import VistuneError
from vistune.models.keymap import State, load, rename
from vistune.models.position_tables import resized


@dataclass(frozen=True)
class OpenClipConfig:
    width: int = 1664
    depth: int = 48
    heads: int = 16
    hidden: int = 8192  # of the MLPs
    patch: int = 14
    positions: int = 256
    banks: int = 0  # adapters of each kind in each block; Monkey: one per window
    rank: int = 16
    mlp_rank: int = 32
    dropout: float = 0.05  # before the adapters


class AdapterBank(nn.Module):
    """Several low-rank updates of one layer; each view picks one or none, so that all views run in one batch."""

    def __init__(self, banks: int, inputs: int, outputs: int, rank: int, dropout: float) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(banks, rank, inputs))
        self.up = nn.Parameter(torch.empty(banks, outputs, rank))
        self.scale = nn.Parameter(torch.empty(banks))  # learned; there is no alpha
        self.dropout = nn.Dropout(dropout)
        self.draw()

    def draw(self) -> None:
        """Initial weights as the authors draw them: the update is nothing at first."""
        bound = 1 / sqrt(self.down.shape[-1])  # torch's own for a linear layer
        nn.init.uniform_(self.down, -bound, bound)
        nn.init.zeros_(self.up)
        nn.init.ones_(self.scale)

    def forward(self, x: Tensor, bank: Tensor) -> Tensor:
        """x: (V, P, C); bank: int64 (V,), -1 for none -> the update (V, P, C')"""
        chosen = bank.clamp(min=0)
        scale = torch.where(bank < 0, 0.0, self.scale[chosen])[:, None, None]
        return self.dropout(x) @ self.down[chosen].mT @ self.up[chosen].mT * scale


class Block(GradientCheckpointingLayer):
    def __init__(self, config: OpenClipConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)  # rows by head: its queries, keys, values
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, config.hidden)
        self.down = nn.Linear(config.hidden, width)
        self.adapters = nn.ModuleDict()
        if config.banks:
            for name, outputs, rank in (
                ("qkv", 3 * width, config.rank),
                ("out", width, config.rank),
                ("mlp", width, config.mlp_rank),
            ):
                self.adapters[name] = AdapterBank(config.banks, width, outputs, rank, config.dropout)

    def forward(self, x: Tensor, bank: Tensor | None = None) -> Tensor:
        """(V, P, C) -> (V, P, C)"""
        y = self.norm1(x)
        q, k, v = self._add("qkv", self.qkv(y), y, bank).unflatten(-1, (self.heads, -1)).transpose(1, 2).chunk(3, -1)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self._add("out", self.out(y), y, bank)
        # The MLP's adapter reads the residual before the LayerNorm, unlike the MLP itself.
        return self._add("mlp", x + self.down(F.gelu(self.up(self.norm2(x)))), x, bank)

    def _add(self, name: str, result: Tensor, inputs: Tensor, bank: Tensor | None) -> Tensor:
        return result if bank is None else result + self.adapters[name](inputs, bank)


class OpenClipTower(nn.Module):
    def __init__(self, config: OpenClipConfig) -> None:
        super().__init__()
        self.config = config
        self.patches = nn.Conv2d(3, config.width, config.patch, stride=config.patch, bias=False)
        self.positions = nn.Parameter(torch.randn(config.positions, config.width) * config.width**-0.5)
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))

    def forward(self, pixels: Tensor, bank: Tensor | None = None) -> Tensor:
        """pixels: (V, 3, height, width), normalised; bank: int64 (V,), the adapter of each view, -1 for none
        -> (V, P, C), the last block's output as it is"""
        if bank is not None and not self.config.banks:
            raise VistuneError("adapters are chosen for the views of an encoder that has none (banks=0).")
        x = self.patches(pixels.to(self.patches.weight.dtype))
        table = resized(self.positions, *x.shape[2:])
        x = self.norm(x.flatten(2).transpose(1, 2) + table)
        for block in self.blocks:
            x = block(x, bank)
        return x


def openclip_keys(original: Mapping[str, Tensor]) -> State:
    """Keys of the tower below `transformer.visual` -> ours; the adapters of a layer become one stacked tensor. Those of
    the resampler (`attn_pool`, `ln_post`, `proj`) are the resampler's."""
    block = r"transformer\.resblocks\.(\d+)\."
    adapter = r"_lora\.(\d+)\.lora_"
    state = rename(
        original,
        [
            (r"conv1\.weight", "patches.weight"),
            (r"positional_embedding", "positions"),
            (r"ln_pre\.(.+)", r"norm.\1"),
            (block + r"ln_([12])\.(.+)", r"blocks.\1.norm\2.\3"),
            (block + r"attn\.in_proj\.(.+)", r"blocks.\1.qkv.\2"),
            (block + r"attn\.out_proj\.(.+)", r"blocks.\1.out.\2"),
            (block + r"mlp\.c_fc\.(.+)", r"blocks.\1.up.\2"),
            (block + r"mlp\.c_proj\.(.+)", r"blocks.\1.down.\2"),
            (block + r"attn\.in_proj" + adapter + r"(.+)", r"blocks.\1.adapters.qkv.\2.\3"),
            (block + r"attn\.out_proj" + adapter + r"(.+)", r"blocks.\1.adapters.out.\2.\3"),
            (block + r"mlp" + adapter + r"(.+)", r"blocks.\1.adapters.mlp.\2.\3"),
        ],
        "the OpenCLIP tower",
    )
    parts = {"a.weight": "down", "b.weight": "up", "scale": "scale"}
    stacks: dict[str, dict[int, Tensor]] = {}
    for key in [k for k in state if ".adapters." in k]:
        if match := re.fullmatch(r"(.+)\.(\d+)\.(a\.weight|b\.weight|scale)", key):
            stacks.setdefault(f"{match[1]}.{parts[match[3]]}", {})[int(match[2])] = state.pop(key)
    for key, tensors in stacks.items():
        stack = torch.stack([tensors[n] for n in sorted(tensors)])
        state[key] = stack.squeeze(1) if key.endswith(".scale") else stack
    return state


def load_openclip(tower: OpenClipTower, folder: str) -> None:
    """A published CLIP (a folder or a hub id), as transformers has it, into `tower`: without its CLS token, that
    token's position, and the last LayerNorm."""
    published = CLIPVisionModel.from_pretrained(folder, dtype=torch.float32)
    load(tower, clip_keys(published.state_dict(), tower.config.heads), f"the OpenCLIP of {folder}")


def clip_keys(original: Mapping[str, Tensor], heads: int) -> State:
    """Keys of CLIPVisionModel -> ours."""
    block, ours = r"(?:vision_model\.)?encoder\.layers\.(\d+)\.", r"blocks.\1."
    state = rename(
        original,
        [
            (r".*embeddings\.(?:class_embedding|position_ids)", None),
            (r".*post_layernorm\..+", None),
            (r".*embeddings\.patch_embedding\.weight", "patches.weight"),
            (r".*embeddings\.position_embedding\.weight", "positions"),
            (r".*pre_layrnorm\.(.+)", r"norm.\1"),
            (block + r"layer_norm([12])\.(.+)", ours + r"norm\2.\3"),
            (block + r"self_attn\.([qkv])_proj\.(.+)", ours + r"\2.\3"),
            (block + r"self_attn\.out_proj\.(.+)", ours + r"out.\2"),
            (block + r"mlp\.fc1\.(.+)", ours + r"up.\2"),
            (block + r"mlp\.fc2\.(.+)", ours + r"down.\2"),
        ],
        "CLIP's tower",
    )
    if "positions" in state:
        state["positions"] = state["positions"][1:]
    for key in [k for k in state if re.fullmatch(r"blocks\.\d+\.q\.(weight|bias)", k)]:
        parts = [state.pop(key.replace(".q.", f".{part}.")).unflatten(0, (heads, -1)) for part in "qkv"]
        state[key.replace(".q.", ".qkv.")] = torch.cat(parts, dim=1).flatten(0, 1)
    return state
