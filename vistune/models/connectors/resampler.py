"""Resampler: a fixed number of learned queries read a view's features by one cross-attention.

The one connector behind Qwen-VL, Monkey, MiniCPM-V and, confined to regions (`roi_resampler`), LLaVA-UHD. They differ
in three choices, the fields of `ResamplerConfig`: whether queries have positions, how positions of keys come about, and
the width. Positions are added to queries and keys, never to values. There is no residual and no MLP.
Source: Qwen-VL paper, section 2.1; its remote code, visual.py, Resampler; MiniCPM-V, resampler.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vistune.errors import VistuneError
from vistune.models.cross_attention import CrossAttention
from vistune.models.keymap import State, rename, split_rows
from vistune.models.position_tables import resized, sincos

Size = tuple[int, int]  # rows, columns of a grid of features


@dataclass(frozen=True)
class ResamplerConfig:
    channels: int  # of the features
    width: int  # D of the queries and of the result
    queries: int
    heads: int
    query_positions: bool = True  # from a table over the square grid of queries
    key_positions: Literal["resized", "sincos"] = "resized"  # that table, resized; or computed for the features' grid

    @property
    def grid(self) -> int:
        """Queries per side, where they form a square."""
        return isqrt(self.queries)

    @property
    def has_table(self) -> bool:
        return self.query_positions or self.key_positions == "resized"


class Resampler(nn.Module):
    def __init__(self, config: ResamplerConfig) -> None:
        super().__init__()
        if config.has_table and config.grid**2 != config.queries:
            raise VistuneError(f"{config.queries} queries do not form a square, which their table of positions needs.")
        self.config = config
        width = config.width
        self.queries = nn.Parameter(torch.zeros(config.queries, width))
        same = config.channels == width
        self.inputs: nn.Module = nn.Identity() if same else nn.Linear(config.channels, width, bias=False)
        self.query_norm, self.input_norm, self.post_norm = (nn.LayerNorm(width, eps=1e-6) for _ in range(3))
        self.attention = CrossAttention(width, config.heads)
        self.project = nn.Linear(width, width, bias=False)
        if config.has_table:
            # Computed once and then a weight: published checkpoints moved it, so it must be loaded, never recomputed.
            table = sincos(config.grid, config.grid, width)
            self.positions = nn.Parameter(table, requires_grad=False)
        self.draw()

    def draw(self) -> None:
        """Initial weights as the authors draw them."""
        nn.init.trunc_normal_(self.queries, std=0.02)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.normal_(self.project.weight, std=self.config.width**-0.5)

    def forward(self, features: Tensor, sizes: Size | Sequence[Size] | None = None) -> Tensor:
        """features: (V, P, C), each view's grid row by row; `sizes`: rows and columns of all views, or of each where
        they differ and are padded to P on the right; None: square. -> (V, Q, D)"""
        return self.project(self.post_norm(self.attend(features, sizes)))

    def attend(self, features: Tensor, sizes: Size | Sequence[Size] | None = None) -> Tensor:
        """The attention's result (V, Q, D), before the last LayerNorm and matrix."""
        each = view_sizes(features, sizes)
        values = self.input_norm(self.inputs(features))
        length = features.shape[1]
        distinct = list(dict.fromkeys(each))
        tables = [self.key_positions(*size).to(values.dtype) for size in distinct]
        positions = torch.stack([F.pad(table, (0, 0, 0, length - len(table))) for table in tables])
        if len(distinct) > 1:
            positions = positions[[distinct.index(size) for size in each]]
        counts = [rows * columns for rows, columns in each]
        mask = None
        if min(counts) < length:
            filled = torch.tensor(counts, device=features.device)[:, None]
            mask = (torch.arange(length, device=features.device) < filled)[:, None, None]
        return self.attention(self.placed_queries(), values + positions, values, mask)

    def placed_queries(self) -> Tensor:
        """(Q, D), with their positions where they have any."""
        queries = self.query_norm(self.queries)
        return queries + self.positions.to(queries.dtype) if self.config.query_positions else queries

    def key_positions(self, rows: int, columns: int) -> Tensor:
        """(rows * columns, D)"""
        if self.config.key_positions == "resized":
            return resized(self.positions, rows, columns)
        return sincos(rows, columns, self.config.width, self.queries.device)


def view_sizes(features: Tensor, sizes: Size | Sequence[Size] | None) -> list[Size]:
    """Rows and columns of each view. Raises VistuneError where they do not fit the features."""
    views, patches = features.shape[:2]
    if sizes is None:
        sizes = (isqrt(patches), isqrt(patches))
        if sizes[0] * sizes[1] != patches:
            raise VistuneError(f"a view of {patches} features is not square: its rows and columns are needed.")
    each = [cast(Size, sizes)] * views if isinstance(sizes[0], int) else list(cast(Sequence[Size], sizes))
    if len(each) != views or max(rows * columns for rows, columns in each) > patches:
        raise VistuneError(f"{len(each)} grids {each[:3]} do not fit {views} views of {patches} features.")
    return each


def resampler_keys(original: Mapping[str, Tensor]) -> State:
    """The authors' names -> ours. Qwen-VL keeps all but the last LayerNorm and matrix one level down, in attn_pool."""
    inner = r"(?:attn_pool\.)?"
    state = rename(
        original,
        [
            (inner + r"query", "queries"),
            (inner + r"pos_embed", "positions"),
            (inner + r"kv_proj\.weight", "inputs.weight"),
            (inner + r"attn\.in_proj_(weight|bias)", r"attention.in.\1"),
            (inner + r"attn\.out_proj\.(weight|bias)", r"attention.out.\1"),
            (inner + r"ln_q\.(weight|bias)", r"query_norm.\1"),
            (inner + r"ln_kv\.(weight|bias)", r"input_norm.\1"),
            (r"ln_post\.(weight|bias)", r"post_norm.\1"),
            (r"proj", "project.weight"),
        ],
        "the resampler",
    )
    split_rows(state, "in", ("query", "key", "value"))
    if "project.weight" in state:  # applied from the right: x @ proj
        state["project.weight"] = state["project.weight"].T.contiguous()
    return state
