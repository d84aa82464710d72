"""Where things are and how large: boxes, sides, extremes and shares."""

from dataclasses import replace

import pytest

from vistune.adapt import Params
from vistune.adapt.language import CHINESE
from vistune.adapt.tasks.places import SHARE_KINDS


def test_name_region_and_locate_give_the_box(ask, dog_and_cats):
    for task in ("name_region", "locate"):
        (dog,), _ = ask(task, dog_and_cats)  # there are two cats
        assert (dog.slots["name"], dog.slots["box"]) == ("dog", "[50, 200, 300, 799]")
        assert dog.regions[0].box == (10, 20, 60, 80)
        assert dog.evidence == ("1",)


def test_name_region_refuses_a_box_shared_by_two_things(ask, picture):
    image = picture(("dog", (0, 0, 50, 50)), ("hourglass", (0, 0, 50, 48)), ("apple", (100, 0, 150, 50)))
    assert [c.slots["name"] for c in ask("name_region", image)[0]] == ["apple"]
    assert {c.slots["name"] for c in ask("locate", image)[0]} == {"dog", "hourglass", "apple"}


def test_locate_needs_an_exhaustive_class(ask, picture, category):
    image = picture(("dog", (0, 0, 50, 50)), ("apple", (100, 0, 150, 50)), vocabulary=(category("dog"),))
    assert [c.slots["name"] for c in ask("locate", image)[0]] == ["dog"]
    assert {c.slots["name"] for c in ask("name_region", image)[0]} == {"dog", "apple"}


def test_relative_position_is_right_either_way_round(ask, picture):
    image = picture(("dog", (10, 20, 60, 80)), ("apple", (120, 30, 160, 70)))
    seen = set()
    for key in range(20):
        (made,), _ = ask("relative_position", image, key=str(key))
        seen.add((made.slots["name"], made.kind, made.slots["other"], made.evidence))
    assert seen == {("dog", "left", "apple", ("1", "2")), ("apple", "right", "dog", ("2", "1"))}


def test_relative_position_refuses_what_is_unclear(ask, picture, dog_and_cats):
    assert ask("relative_position", dog_and_cats) == ([], [])  # two cats
    near = picture(("dog", (10, 20, 60, 80)), ("apple", (62, 30, 90, 70)))
    diagonal = picture(("dog", (0, 0, 40, 40)), ("apple", (100, 60, 140, 100)))
    over = picture(("dog", (0, 0, 100, 90)), ("apple", (20, 20, 40, 40)))
    for image in (near, diagonal, over):
        assert ask("relative_position", image) == ([], [])


def test_one_unclear_pair_does_not_use_up_the_limit(ask, picture):
    boxes = (("dog", (0, 0, 40, 40)), ("apple", (100, 60, 140, 100)), ("hourglass", (100, 0, 140, 40)))
    for key in range(20):
        made, _ = ask("relative_position", picture(*boxes), params=Params(), key=str(key))
        assert {frozenset(c.evidence) for c in made} == {frozenset("13"), frozenset("23")}


def test_the_extreme_of_several_named_things(ask, picture):
    image = picture(("dog", (0, 60, 30, 90)), ("apple", (100, 10, 110, 20)))
    made, refused = ask("extremes", image)
    assert not refused
    assert {(c.slots["extreme"], c.slots["name"]) for c in made} == {
        ("furthest to the left", "dog"),
        ("furthest to the right", "apple"),
        ("highest up", "apple"),
        ("lowest down", "dog"),
        ("largest", "dog"),
        ("smallest", "apple"),
    }
    assert {c.kind for c in made} == {"named"}
    assert {c.slots["among"] for c in made} <= {"the dog and the apple", "the apple and the dog"}
    assert all(set(c.evidence) == {"1", "2"} and c.regions[0].label == c.slots["name"] for c in made)
    (chinese, *_), _ = ask("extremes", image, CHINESE)
    assert chinese.slots["among"] in ("狗和苹果", "苹果和狗")


def test_the_extreme_of_one_kind_is_a_box(ask, picture):
    image = picture(("cat", (0, 0, 30, 30)), ("cat", (60, 0, 90, 30)), ("cat", (120, 0, 150, 30)))
    made, _ = ask("extremes", image)
    assert {(c.slots["extreme"], c.slots["box"], c.regions[0].annotation_id) for c in made} == {
        ("furthest to the left", "[0, 0, 150, 300]", "1"),
        ("furthest to the right", "[599, 0, 749, 300]", "3"),
    }
    assert all(c.boxes == (c.slots["box"],) and len(c.evidence) == len(c.regions) == 3 for c in made)


def test_extremes_refuse_what_is_not_known_completely(ask, picture, category):
    cats = (("cat", (0, 0, 30, 30)), ("cat", (60, 0, 90, 30)))
    assert ask("extremes", picture(*cats, vocabulary=(category("dog"),))) == ([], [])
    assert ask("extremes", picture(*cats, crowd=("cat",))) == ([], [])
    assert ask("extremes", picture(*cats, ("cat", (120, 0, 150, 30)), ("owl", (160, 50, 190, 90)))) == ([], [])
    assert ask("extremes", picture(("cat", (0, 0, 30, 30)), ("dog", (2, 2, 31, 29)))) == ([], [])  # no clear lead


def test_the_share_of_a_mask_or_of_a_box(ask, picture):
    image = picture(("dog", (0, 0, 100, 60)), ("apple", (120, 0, 180, 60)), area={"dog": 3000.0})
    made, _ = ask("area_share", image)
    found = {c.slots["extent"]: (c.slots["percent"], c.kind, c.evidence) for c in made}
    assert found == {
        "the dog": ("15", "from10to25", ("1",)),  # 3000 of 20000 pixels
        "the box around the apple": ("18", "from10to25", ("2",)),  # 3600
    }
    assert {c.slots["extent"] for c in ask("area_share", image, CHINESE)[0]} == {"狗", "苹果的外框"}


@pytest.mark.parametrize(
    ("width", "kind"),
    [
        *((4, "under5"), (15, "from5to10"), (30, "from10to25"), (70, "from25to50"), (150, "over50")),
        *((1, None), (10, None), (21, None), (46, None), (104, None)),  # hardly anything, and too near to a bound
    ],
)
def test_the_range_of_a_share(ask, picture, width, kind):
    made, _ = ask("area_share", picture(("dog", (0, 0, width, 100))))
    assert [c.kind for c in made] == ([kind] if kind else [])
    assert kind is None or kind in SHARE_KINDS


def test_a_mask_larger_than_its_box_is_no_mask(ask, picture):
    (made,), _ = ask("area_share", picture(("dog", (0, 0, 30, 100)), area={"dog": 9000.0}))
    assert (made.slots["extent"], made.slots["percent"]) == ("the box around the dog", "15")


def test_no_share_of_what_may_have_a_double(ask, dog_and_cats, picture, category):
    assert [c.slots["extent"] for c in ask("area_share", dog_and_cats)[0]] == ["the box around the dog"]
    unknown = picture(("dog", (0, 0, 30, 100)), vocabulary=(category("cat"),))
    assert ask("area_share", unknown) == ([], [])
    assert len(ask("area_share", replace(unknown, complete=("dog",)))[0]) == 1
