"""What the tests of several families share."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest
from torch import Tensor

from vistune.models.vlm import empty

sys.path.insert(0, str(Path(__file__).parent))  # of `talks`


@pytest.fixture(scope="session")
def role_sizes() -> Callable[[str, str], dict[str, int]]:
    """Family and preset -> how many parameters each role has; nothing is allocated."""

    @cache
    def counted(family: str, preset: str) -> dict[str, int]:
        vlm = empty(family, preset)
        sizes = {name: p.numel() for name, p in vlm.model.named_parameters()}
        return {role: sum(sizes[name] for name in names) for role, names in vlm.roles().items()}

    return counted


@pytest.fixture(scope="session")
def renamed() -> Callable[[Mapping[str, Tensor], Sequence[tuple[str, str]]], dict[str, Tensor]]:
    """Copies of tensors under other names: each key by the first pattern that it begins with."""

    def rename(state: Mapping[str, Tensor], names: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
        return {
            next(re.sub(old, new, key) for old, new in names if re.match(old, key)): tensor.clone()
            for key, tensor in state.items()
        }

    return rename


@pytest.fixture(scope="session")
def llava_names() -> Callable[[str, str], list[tuple[str, str]]]:
    """The names that systems made from LLaVA's code share, with ConvNeXt's as timm writes them: where the stem of that
    is, where its stages are -> patterns for `renamed`."""

    def names(stem: str, stages: str) -> list[tuple[str, str]]:
        stage = r"vision_tower\.high_tower\.stages\.(\d)\."
        layer, block = stage + r"layers\.(\d)\.", stages + r".\1.blocks.\2."
        return [
            (r"language_model\.(model\.|lm_head)", r"\1"),
            (r"connector\.mlp\.layers\.0", "model.mm_projector.0"),
            (r"connector\.mlp\.layers\.1", "model.mm_projector.2"),
            (r"vision_tower\.high_tower\.embeddings\.patch_embeddings", stem + ".0"),
            (r"vision_tower\.high_tower\.embeddings\.layernorm", stem + ".1"),
            (stage + "downsampling_layer", stages + r".\1.downsample"),
            (layer + "dwconv", block + "conv_dw"),
            (layer + "layernorm", block + "norm"),
            (layer + "pwconv", block + "mlp.fc"),
            (layer + "layer_scale_parameter", block + "gamma"),
        ]

    return names
