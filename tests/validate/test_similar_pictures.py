"""Near-duplicate pictures: changed copies are found, different scenes are not."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageDraw

from vistune.hashing import keyed
from vistune.similar import describe, near_matches, near_pairs, thumb_difference

HAMMING, DIFFERENCE = 8, 0.2  # the defaults of Params
SIZE = 224


@cache
def scene(seed: int) -> Image.Image:
    """Composed like the demo: 1 to 6 flat shapes on one of a few plain backgrounds."""

    def draw_number(*key: object) -> int:
        return keyed(7, seed, *key)

    backgrounds = [(173, 216, 230), (255, 255, 255), (255, 250, 205), (60, 60, 90)]
    image = Image.new("RGB", (SIZE, SIZE), backgrounds[draw_number("background") % 4])
    draw = ImageDraw.Draw(image)
    for n in range(1 + draw_number("count") % 6):
        w, h = 40 + draw_number(n, "w") % 70, 40 + draw_number(n, "h") % 70
        x, y = draw_number(n, "x") % (SIZE - w), draw_number(n, "y") % (SIZE - h)
        colour = tuple(draw_number(n, channel) % 256 for channel in "rgb")
        kind = (draw.ellipse, draw.rectangle, draw.rounded_rectangle)[draw_number(n, "kind") % 3]
        kind((x, y, x + w, y + h), fill=colour, outline="black", width=3)
        draw.line((x, y, x + w, y + h), fill="black", width=3)
    return image


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    return Image.open(data).convert("RGB")


def shifted(image: Image.Image, pixels: int) -> Image.Image:
    moved = Image.new("RGB", image.size, image.getpixel((0, 0)))
    moved.paste(image, (pixels, pixels))
    return moved


COPIES = {
    "jpeg 90": lambda i: jpeg(i, 90),
    "jpeg 40": lambda i: jpeg(i, 40),
    "half size": lambda i: i.resize((SIZE // 2, SIZE // 2), Image.Resampling.LANCZOS),
    "larger": lambda i: i.resize((400, 400), Image.Resampling.BICUBIC),
    "small jpeg": lambda i: jpeg(i.resize((120, 120)), 60),
    "brighter": lambda i: i.point(lambda v: min(255, int(v * 1.06))),
    "shifted": lambda i: shifted(i, 2),
}
REENCODED = [name for name in COPIES if name != "shifted"]


def pairs(images: list[Image.Image]) -> list[tuple[int, int]]:
    described = [describe(i) for i in images]
    hashes = np.array([h for h, _ in described], dtype=np.uint64)
    return near_pairs(hashes, np.stack([t for _, t in described]), HAMMING, DIFFERENCE)


@pytest.mark.parametrize("name", COPIES)
def test_changed_copies_are_found(name):
    originals = [scene(n) for n in range(24)]
    found = set(pairs(originals + [COPIES[name](i) for i in originals]))
    expected = {(n, n + 24) for n in range(24)}
    missed = expected - found
    assert found <= expected
    assert len(missed) <= (2 if name == "shifted" else 0), missed


def test_different_scenes_on_equal_backgrounds_are_not_flagged():
    assert pairs([scene(n) for n in range(300)]) == []


def test_same_place_and_size_but_another_object_is_not_flagged():
    """The hardest case of composed scenes: one object, centred, on one background."""
    images = []
    for kind in ("ellipse", "rectangle", "cross", "ring"):
        for colour in ("red", "navy", "gold"):
            image = Image.new("RGB", (SIZE, SIZE), (173, 216, 230))
            draw = ImageDraw.Draw(image)
            if kind == "cross":
                draw.line((60, 60, 164, 164), fill=colour, width=24)
                draw.line((60, 164, 164, 60), fill=colour, width=24)
            elif kind == "ring":
                draw.ellipse((60, 60, 164, 164), outline=colour, width=16)
            else:
                getattr(draw, kind)((60, 60, 164, 164), fill=colour)
            images.append(image)
    assert pairs(images) == []


def test_flat_pictures_are_alike_only_in_colour():
    white, grey, black = (Image.new("RGB", (64, 64), colour) for colour in ("white", (250, 250, 250), "black"))
    assert pairs([white, grey, black]) == [(0, 1)]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(REENCODED))
def test_reencoding_keeps_the_hash(seed, name):
    original = scene(seed)
    (a, thumb_a), (b, thumb_b) = describe(original), describe(COPIES[name](original))
    assert (a ^ b).bit_count() <= HAMMING
    assert thumb_difference(thumb_a[None], thumb_b[None])[0] <= DIFFERENCE


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_difference_is_symmetric_and_zero_for_itself(left, right):
    a, b = describe(scene(left))[1][None], describe(scene(right))[1][None]
    assert thumb_difference(a, a)[0] == 0
    np.testing.assert_allclose(thumb_difference(a, b), thumb_difference(b, a), rtol=1e-5)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 7), st.sets(st.integers(0, 63), max_size=12)), max_size=40),
    st.integers(0, 12),
)
def test_lookup_finds_exactly_the_pairs_within_the_distance(bases, changes, hamming):
    """Against comparing all pairs; hashes are bases with a few bits flipped, so that many pairs are near."""
    hashes = bases + [bases[n % len(bases)] ^ sum(1 << bit for bit in bits) for n, bits in changes]
    array = np.array(hashes, dtype=np.uint64)
    thumbs = np.zeros((len(hashes), 16, 16, 3), dtype=np.uint8)
    expected = [
        (i, j)
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if (hashes[i] ^ hashes[j]).bit_count() <= hamming
    ]
    assert near_pairs(array, thumbs, hamming, 0.0) == expected
    cut = len(hashes) // 2
    across = [(i, j - cut) for i, j in expected if i < cut <= j]
    assert near_matches((array[:cut], thumbs[:cut]), (array[cut:], thumbs[cut:]), hamming, 0.0) == across


@pytest.mark.parametrize("bands", [3, 4, 5, 9])
def test_any_number_of_bands_finds_the_same(monkeypatch, bands):
    monkeypatch.setattr("vistune.similar._bands", lambda left, right, hamming: bands)
    drawn = np.random.default_rng(0)
    left = drawn.integers(0, 1 << 63, 40, dtype=np.uint64)
    flips = [sum(1 << int(bit) for bit in drawn.choice(64, n % 12, replace=False)) for n in range(40)]
    right = left ^ np.array(flips, dtype=np.uint64)
    thumbs = np.zeros((40, 16, 16, 3), dtype=np.uint8)
    assert near_matches((left, thumbs), (right, thumbs), 8, 0.0) == [(n, n) for n in range(40) if n % 12 <= 8]


def test_a_large_bucket_is_compared_in_blocks(monkeypatch):
    monkeypatch.setattr("vistune.similar.BLOCK", 50)
    hashes = np.array([1 << (n % 40) for n in range(60)], dtype=np.uint64)
    found = near_pairs(hashes, np.zeros((60, 16, 16, 3), dtype=np.uint8), 0, 0.0)
    assert found == [(n, n + 40) for n in range(20)]


def test_thumbnail_separates_what_the_hash_does_not():
    """A colour change leaves the luminance signs: the hash calls the pictures equal, the thumbnails do not."""
    original = scene(3)
    red, green, blue = original.split()
    swapped = Image.merge("RGB", (blue, green, red))
    grey = Image.merge("RGB", (original.convert("L"),) * 3)
    assert (describe(original)[0] ^ describe(grey)[0]).bit_count() <= HAMMING
    assert pairs([original, grey]) == []
    assert pairs([original, swapped]) == []
    assert ImageChops.difference(original, swapped).getbbox()
