"""From the features of views to the visual tokens of a picture: order, stitching, newlines, and text in between.

A layout is the sequence of a picture's parts, as a view plan states it: a whole number n stands for the tokens of view
n, a string for text between views, a pair (rows, columns) for all views that the layout does not name, stitched into
one map of that size whose rows are each closed by a learned newline. `placeholders` turns a layout into token ids
before any pixel is read, `visual_tokens` into as many rows of embeddings once the encoder has run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vistune.errors import VistuneError

Layout = Sequence[int | str | tuple[int, int]]


def placeholders(
    layout: Layout, tokens: Sequence[int], placeholder: int, text: Callable[[str], Sequence[int]] | None = None
) -> list[int]:
    """Token ids of a picture: `placeholder` for each visual token, and the ids of the text in between.
    tokens: of each view. Raises VistuneError for text without `text`, which encodes it.

    >>> placeholders((0, ",", 1), [2, 3], -1, lambda words: [7])
    [-1, -1, 7, -1, -1, -1]
    >>> len(placeholders((0, (36, 48)), [576, 0, 0, 0, 0], -1))
    2340
    """
    ids: list[int] = []
    for part in layout:
        if isinstance(part, str):
            if text is None:
                raise VistuneError(f"the layout has the text {part!r} between views, and nothing encodes it.")
            ids += text(part)
        elif isinstance(part, int):
            ids += [placeholder] * tokens[part]
        else:
            rows, columns = part
            ids += [placeholder] * (rows * (columns + 1))
    return ids


def visual_tokens(
    layout: Layout,
    views: Sequence[Tensor],
    grid: tuple[int, int] | None = None,
    features: tuple[int, int] | None = None,
    newline: Tensor | None = None,
) -> Tensor:
    """views: (P, D) each -> the rows (N, D) that take the placeholders of `layout`. A stitched part needs `grid`, the
    columns and rows of its tiles; `features`, the rows and columns of the map without padding, before any pooling; and
    `newline` (D,), which closes each row. Raises VistuneError where one is lacking or the tiles do not fit the grid."""
    named = {part for part in layout if isinstance(part, int)}
    parts = []
    for part in layout:
        if isinstance(part, int):
            parts.append(views[part])
        elif not isinstance(part, str):
            tiles = [view for n, view in enumerate(views) if n not in named]
            if grid is None or features is None or newline is None or grid[0] * grid[1] != len(tiles):
                raise VistuneError(
                    f"{len(tiles)} tiles, a grid of {grid} (columns, rows), {features} features (rows, columns) and "
                    f"{'a' if newline is not None else 'no'} newline do not make a stitched map."
                )
            stitched = pooled(middle(stitch(torch.stack(tiles), grid), *features), *part)
            parts.append(with_newlines(stitched, newline))
    return torch.cat(parts)


def stitch(tiles: Tensor, grid: tuple[int, int]) -> Tensor:
    """(V, P, D) of square tiles, row by row, each row by row -> one map (rows, columns, D). grid: columns, rows."""
    side = round(tiles.shape[1] ** 0.5)
    return tiles.unflatten(1, (side, side)).unflatten(0, (grid[1], grid[0])).transpose(1, 2).flatten(2, 3).flatten(0, 1)


def middle(features: Tensor, rows: int, columns: int) -> Tensor:
    """The middle of a map (R, Q, D) that was padded by equal amounts on opposite sides -> (rows, columns, D)"""
    top, left = (features.shape[0] - rows) // 2, (features.shape[1] - columns) // 2
    return features[top : top + rows, left : left + columns]


def pooled(features: Tensor, rows: int, columns: int) -> Tensor:
    """A map (R, Q, D) at another size, bilinearly and without antialiasing -> (rows, columns, D)"""
    if features.shape[:2] == (rows, columns):
        return features
    grid = F.interpolate(features.permute(2, 0, 1)[None], (rows, columns), mode="bilinear")
    return grid[0].permute(1, 2, 0)


def with_newlines(features: Tensor, newline: Tensor) -> Tensor:
    """A map (rows, columns, D), each row followed by `newline` (D,) -> (rows * (columns + 1), D)"""
    end = newline.to(features.dtype).expand(len(features), 1, -1)
    return torch.cat([features, end], dim=1).flatten(0, 1)
