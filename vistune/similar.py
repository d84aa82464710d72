"""Which pictures show the same: a perceptual hash proposes pairs, a small thumbnail decides.

The hash is pHash (Zauner 2010): signs of the low frequencies of a 32x32 luminance picture. On plain backgrounds a
hash alone also pairs different scenes, so a pair counts only when the 16x16 thumbnails agree after a shift of at
most one cell, measured relative to the contrast of the pictures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

HASH_SIDE = 8
LUMA_SIDE = 32
THUMB_SIDE = 16

CONTRAST_FLOOR = 4.0
"""Grey levels added to the contrast of a picture, so that compression noise on a flat one is not a difference."""

MEAN_COLOUR = 32.0
"""Largest difference of the mean colour (levels of 255, per channel) between two copies of one picture."""

BLOCK = 1 << 21
"""Pairs compared at once: bounds memory."""

FEWEST_BANDS = 3
"""Of a hash: a table of all values of a band has at most 2 ** 22 places."""

Thumbs = np.ndarray | Sequence[np.ndarray]

Described = tuple[np.ndarray, Thumbs]
"""Hashes and thumbnails of pictures: uint64 (N,), uint8 (N, 16, 16, 3)."""


def _dct_rows() -> np.ndarray:
    """The first rows of the orthonormal DCT-II matrix: float64 (HASH_SIDE, LUMA_SIDE)."""
    k, n = np.arange(HASH_SIDE)[:, None], np.arange(LUMA_SIDE)[None]
    return np.cos(np.pi * (2 * n + 1) * k / (2 * LUMA_SIDE)) * np.sqrt(2 / LUMA_SIDE)


DCT = _dct_rows()


def describe(picture: Image) -> tuple[int, np.ndarray]:
    """The hash (64 bits, the first always 0) and thumbnail (uint8 (16, 16, 3)) of an RGB picture."""
    from PIL import Image

    small = picture.resize((LUMA_SIDE, LUMA_SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0)
    luma = np.asarray(small.convert("L"), dtype=np.float64)
    # Rounded, so that the coefficients of a flat picture are zero rather than noise of the arithmetic.
    frequencies = np.round((DCT @ luma @ DCT.T).ravel()[1:], 3)
    bits = np.concatenate([[False], frequencies > np.median(frequencies)])
    thumb = small.resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BILINEAR)
    return int.from_bytes(np.packbits(bits).tobytes(), "big"), np.asarray(thumb)


def near_pairs(hashes: np.ndarray, thumbs: Thumbs, hamming: int, difference: float) -> list[tuple[int, int]]:
    """Sorted index pairs i < j of pictures that show the same.

    hashes: uint64 (N,); thumbs: uint8 (N, 16, 16, 3). A pair has at most `hamming` differing bits and thumbnails
    that differ by at most `difference` (see `thumb_difference`).
    """
    pairs = ((i[i < j], j[i < j]) for i, j in _candidates(hashes, hashes, hamming))
    return _agreeing(pairs, thumbs, thumbs, difference)


def near_matches(left: Described, right: Described, hamming: int, difference: float) -> list[tuple[int, int]]:
    """Sorted index pairs (i of left, j of right) of pictures that show the same; as `near_pairs`."""
    return _agreeing(_candidates(left[0], right[0], hamming), left[1], right[1], difference)


def _agreeing(
    pairs: Iterator[tuple[np.ndarray, np.ndarray]],
    left: Thumbs,
    right: Thumbs,
    difference: float,
) -> list[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    for one, other in pairs:
        for start in range(0, len(one), 4096):  # 4,096 pairs of thumbnails as floats: 50 MB
            i, j = one[start : start + 4096].tolist(), other[start : start + 4096].tolist()
            apart = thumb_difference(np.stack([left[n] for n in i]), np.stack([right[n] for n in j]))
            found.update((i[n], j[n]) for n in np.flatnonzero(apart <= difference))
    return sorted(found)


def _candidates(left: np.ndarray, right: np.ndarray, hamming: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Index arrays of pairs (i of left, j of right) within `hamming` bits; a pair may come up several times.

    Multi-index hashing (Norouzi et al. 2012, arXiv 1307.2982): where the 64 bits are cut into bands, two such hashes
    have a band in which at most hamming // bands bits differ. So each band of `left`, with each such change of it, is
    looked up among those of `right`: time grows with the number of pictures, not with that of their pairs.
    """
    if not len(left) or not len(right):
        return
    bands = _bands(len(left), len(right), hamming)
    for low, high in pairwise(np.linspace(0, 64, bands + 1).round().astype(int).tolist()):
        size = 1 << (high - low)
        ours, theirs = ((hashes >> np.uint64(low)) & np.uint64(size - 1) for hashes in (left, right))
        order = np.argsort(theirs, kind="stable")
        ends = np.cumsum(np.bincount(theirs.astype(np.int64), minlength=size))
        starts = np.concatenate([[0], ends[:-1]])
        for change in _changes(high - low, hamming // bands):
            wanted = ours ^ np.uint64(change)
            counts = ends[wanted] - starts[wanted]
            rows = np.flatnonzero(counts)
            totals = np.cumsum(counts[rows])
            for part in np.split(rows, np.flatnonzero(np.diff(totals // BLOCK)) + 1):
                many = counts[part]
                i = np.repeat(part, many)
                within = np.arange(len(i)) - np.repeat(np.cumsum(many) - many, many)
                j = order[np.repeat(starts[wanted[part]], many) + within]
                close = np.bitwise_count(left[i] ^ right[j]) <= hamming
                if close.any():
                    yield i[close], j[close]


def _bands(left: int, right: int, hamming: int) -> int:
    """Into how many bands hashes are best cut: wide bands are rarely equal by chance, but have many changes.

    >>> _bands(100, 100, 8), _bands(80_000, 600_000, 8)
    (9, 3)
    """

    def cost(bands: int) -> float:
        width = 64 / bands
        looked_up = sum(math.comb(math.ceil(width), changed) for changed in range(hamming // bands + 1))
        return bands * (2**width + left * looked_up * (1 + right / 2**width))

    return min(range(FEWEST_BANDS, max(min(hamming, 63) + 1, FEWEST_BANDS) + 1), key=cost)


def _changes(width: int, most: int) -> Iterator[int]:
    """Numbers of `width` bits of which at most `most` are set.

    >>> sorted(_changes(3, 1))
    [0, 1, 2, 4]
    """
    for count in range(most + 1):
        for bits in combinations(range(width), count):
            yield sum(1 << bit for bit in bits)


def thumb_difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How much pictures differ: float32 (N,), 0 for equal ones; uint8 (N, 16, 16, 3) each.

    Root mean square of what is left of b - a after the best small shift and change of brightness, divided by the
    contrast of the pictures; infinite where the mean colours differ much. Re-encoded, rescaled or slightly cropped
    copies stay below 0.2, different composed scenes above 0.28.
    """
    axes = (1, 2, 3)
    a, b = a.astype(np.float32), b.astype(np.float32)
    mean_a, mean_b = a.mean((1, 2), keepdims=True), b.mean((1, 2), keepdims=True)
    a, b = a - mean_a, b - mean_b
    middle, rest = (a + b) / 2, b - a
    # One Gauss-Newton step of image registration: rest ~ dx * slope_x + dy * slope_y.
    slope_y, slope_x = np.gradient(middle, axis=1), np.gradient(middle, axis=2)
    xx, yy, xy = (slope_x**2).sum(axes), (slope_y**2).sum(axes), (slope_x * slope_y).sum(axes)
    bx, by = (slope_x * rest).sum(axes), (slope_y * rest).sum(axes)
    determinant = np.maximum(xx * yy - xy * xy, 1e-6)
    dx = np.clip((yy * bx - xy * by) / determinant, -1, 1)[:, None, None, None]
    dy = np.clip((xx * by - xy * bx) / determinant, -1, 1)[:, None, None, None]
    left = np.sqrt(((rest - dx * slope_x - dy * slope_y) ** 2).mean(axes))
    contrast = np.sqrt((a.var(axes) + b.var(axes)) / 2)
    colour = np.abs(mean_a - mean_b).max(axes)
    return np.where(colour <= MEAN_COLOUR, left / (contrast + CONTRAST_FLOOR), np.inf)
