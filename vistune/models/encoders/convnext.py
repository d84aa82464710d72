"""ConvNeXt trunk of open_clip and timm: transformers' stages, as one feature map or as a pyramid.

LLaVA-HR reads the last map (stride 32); Mini-Gemini resizes all four to the first one's grid (stride 4) and
concatenates them. Published sizes: L has 192, 384, 768, 1536 channels and 3, 3, 27, 3 blocks; XXL 384, 768, 1536, 3072
and 3, 4, 30, 3.
Sources: LLaVA-HR, multimodal_encoder/convnext.py; Mini-Gemini, multimodal_encoder/openclip_encoder.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ConvNextConfig, ConvNextModel

from vistune.models.keymap import State, load, rename
from vistune.models.originals import read_state


class ConvNextTower(nn.Module):
    """stages: counted from 0; several are resized to the first one's grid and concatenated along the channels.
    eps: of every LayerNorm; 1e-5 in open_clip's XXL, where transformers knows only 1e-6.
    `config.drop_path_rate` is 0 unless set: Mini-Gemini's frozen trunk runs with it in training, by oversight."""

    def __init__(self, config: ConvNextConfig, stages: tuple[int, ...] = (-1,), eps: float = 1e-6) -> None:
        super().__init__()
        model = ConvNextModel(config)
        self.embeddings = model.embeddings
        self.stages = model.encoder.stages
        self.selected = tuple(n % len(self.stages) for n in stages)
        self.width = sum(config.hidden_sizes[n] for n in self.selected)
        for layer in self.modules():
            if isinstance(layer, nn.LayerNorm):
                layer.eps = eps

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: (V, 3, height, width), normalised -> (V, C, rows, columns)"""
        x = self.embeddings(pixels.to(self.embeddings.patch_embeddings.weight.dtype))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        first, *rest = (maps[n] for n in self.selected)
        grid = first.shape[2:]
        return torch.cat([first, *(F.interpolate(m.float(), grid, mode="bilinear").to(m.dtype) for m in rest)], dim=1)


def convnext_keys(original: Mapping[str, Tensor]) -> State:
    """timm's names of a trunk, below `visual.trunk` in open_clip's checkpoints -> ours. Mini-Gemini writes vision_stem
    and vision_stages. The trunk's head is left out."""
    block = r"(?:vision_)?stages\.(\d+)\.blocks\.(\d+)\."
    return rename(
        original,
        [
            (r"(?:vision_)?stem\.0\.(.+)", r"embeddings.patch_embeddings.\1"),
            (r"(?:vision_)?stem\.1\.(.+)", r"embeddings.layernorm.\1"),
            (r"(?:vision_)?stages\.(\d+)\.downsample\.(.+)", r"stages.\1.downsampling_layer.\2"),
            (block + r"conv_dw\.(.+)", r"stages.\1.layers.\2.dwconv.\3"),
            (block + r"norm\.(.+)", r"stages.\1.layers.\2.layernorm.\3"),
            (block + r"mlp\.fc([12])\.(.+)", r"stages.\1.layers.\2.pwconv\3.\4"),
            (block + r"gamma", r"stages.\1.layers.\2.layer_scale_parameter"),
            (r"head\..+", None),
        ],
        "the ConvNeXt trunk",
    )


def load_open_clip(tower: ConvNextTower, folder: str) -> None:
    """The trunk of a CLIP as open_clip publishes it (a folder or a hub id with safetensors) into `tower`."""
    if not Path(folder).is_dir():
        from huggingface_hub import snapshot_download

        folder = snapshot_download(folder, allow_patterns=["*.safetensors"])
    prefix = "visual.trunk."
    trunk = {k.removeprefix(prefix): v for k, v in read_state(Path(folder)).items() if k.startswith(prefix)}
    load(tower, convnext_keys(trunk), f"the ConvNeXt of {folder}")
