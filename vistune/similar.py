"""Which pictures show the same: a perceptual hash proposes pairs, a small thumbnail decides.

The hash is pHash (Zauner 2010): signs of the low frequencies of a 32x32 luminance picture. On plain backgrounds a
hash alone also pairs different scenes, so a pair counts only when the 16x16 thumbnails agree after a shift of at
most one cell, measured relative to the contrast of the pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
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


def near_pairs(hashes: np.ndarray, thumbs: np.ndarray, hamming: int, difference: float) -> list[tuple[int, int]]:
    """Sorted index pairs i < j of pictures that show the same.

    hashes: uint64 (N,); thumbs: uint8 (N, 16, 16, 3). A pair has at most `hamming` differing bits and thumbnails
    that differ by at most `difference` (see `thumb_difference`).
    """
    pairs: set[tuple[int, int]] = set()
    for left, right in _candidates(hashes, hamming):
        for start in range(0, len(left), 4096):  # 4,096 pairs of thumbnails as floats: 50 MB
            i, j = left[start : start + 4096], right[start : start + 4096]
            same = thumb_difference(thumbs[i], thumbs[j]) <= difference
            pairs.update(zip(np.minimum(i, j)[same].tolist(), np.maximum(i, j)[same].tolist(), strict=True))
    return sorted(pairs)


def _candidates(hashes: np.ndarray, hamming: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Index arrays of pairs within `hamming` bits; a pair may come up several times.

    The 64 bits are cut into hamming + 1 bands. Two hashes that differ in at most `hamming` bits are equal in at
    least one band, so only hashes that share a band are compared.
    """
    edges = np.linspace(0, 64, min(hamming, 63) + 2).round().astype(int)
    for low, high in pairwise(edges.tolist()):
        keys = (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(keys, kind="stable")
        cuts = np.flatnonzero(np.diff(keys[order])) + 1
        for bucket in np.split(order, cuts):
            rows = max(1, BLOCK // max(len(bucket), 1))
            for start in range(0, len(bucket) - 1, rows):
                block, rest = bucket[start : start + rows], bucket[start + 1 :]
                close = np.bitwise_count(hashes[block, None] ^ hashes[None, rest]) <= hamming
                # Row r of the block is element start + r; only later elements of the bucket are its partners.
                close &= np.arange(len(rest))[None] >= np.arange(len(block))[:, None]
                i, j = np.nonzero(close)
                if len(i):
                    yield block[i], rest[j]


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
