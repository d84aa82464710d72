"""Positions of tokens in the language model where they are not simply counted.

M-RoPE (Qwen2-VL): every token has a time, a row and a column. In text all three count together; an image has one time,
and rows and columns of its merged patches; what follows goes on behind the largest. transformers computes the same
inside its model (`get_rope_index`); here it needs no model, so that samples can be measured and packed beforehand.
The shared position of an image's patches (CogVLM) is `TokenTypes.positions`.
Source: Qwen2-VL paper, section 2.1.
"""

from __future__ import annotations

from collections.abc import Sequence

from vistune.errors import VistuneError


def mrope(
    ids: Sequence[int], placeholder: int, grids: Sequence[tuple[int, int]], merge: int = 2
) -> tuple[list[int], list[int], list[int]]:
    """Times, rows and columns of a sample's tokens. grids: rows and columns of each image's patches, of which
    merge x merge become one token. Raises VistuneError where placeholders and images do not fit.

    >>> mrope([5, 0, 0, 6], 0, [(2, 4)])
    ([0, 1, 1, 3], [0, 1, 1, 3], [0, 1, 2, 3])
    """
    times: list[int] = []
    rows: list[int] = []
    columns: list[int] = []
    at = token = image = 0
    while token < len(ids):
        if ids[token] != placeholder:
            for axis in (times, rows, columns):
                axis.append(at)
            token, at = token + 1, at + 1
            continue
        if image == len(grids):
            raise VistuneError(f"{len(grids)} images are too few for the placeholders from token {token} on.")
        down, across = grids[image][0] // merge, grids[image][1] // merge
        area = down * across
        if any(other != placeholder for other in ids[token : token + area]) or token + area > len(ids):
            raise VistuneError(f"image {image} has {area} tokens, but fewer placeholders begin at token {token}.")
        times += [at] * area
        rows += [at + n // across for n in range(area)]
        columns += [at + n % across for n in range(area)]
        token, at, image = token + area, at + max(down, across), image + 1
    if image < len(grids):
        raise VistuneError(f"placeholders for {image} images but {len(grids)} images.")
    return times, rows, columns
