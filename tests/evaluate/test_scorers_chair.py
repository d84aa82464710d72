"""CHAIR: which objects a caption names, quirks of the published lexicon included."""

import math

import pytest

from vistune.evaluate.scorers import chair


@pytest.mark.parametrize(
    ("caption", "categories"),
    [
        ("two men and a puppy on the couches", ("person", "dog", "couch")),
        ("a wine glass, knives and a hot dog", ("wine glass", "knife", "hot dog")),
        ("a baby elephant beside a passenger train", ("elephant", "train")),
        ("the seat of a toilet", ("toilet",)),
        ("a bus and buses", ("bus",)),  # the singular of "bus" comes out as "bu"
        ("neckties, ties and a bow tie", ("tie",)),  # and that of "ties" as "ty"
        ("a motor bike", ()),  # one word, but " motor bike" begins with a space in the list
        ("scissors and skis", ("scissors", "skis")),
        ("doggies and collies", ()),  # plurals in -ie stay as they are
        ("nothing at all", ()),
    ],
)
def test_named_objects(caption: str, categories: tuple[str, ...]) -> None:
    assert chair.named(caption).categories == categories


def test_places_are_those_of_the_caption() -> None:
    found = chair.named("A hot dog near the stop sign")
    assert found.words == ("hot dog", "stop sign") and found.places == (1, 5)


def test_scores() -> None:
    rows = [
        (chair.named("a dog, a dog and a cat"), ["dog", "person"]),  # one of three mentions is wrong
        (chair.named("a person"), ["person"]),
        (chair.named("grass"), ["sheep"]),
    ]
    assert chair.scores(rows) == {"CHAIRs": 1 / 3, "CHAIRi": 1 / 4, "Recall": 2 / 4}
    assert all(math.isnan(value) for value in chair.scores([]).values())
    assert math.isnan(chair.scores(rows[2:])["CHAIRi"])


def test_every_category_is_met_by_its_own_name() -> None:
    """But for those that the lexicon's slips hide."""
    known = chair.lexicon().category
    assert len(set(known.values())) == 80
    missed = {name for name in set(known.values()) if name not in chair.named(f"there is a {name} here").categories}
    assert missed == {"bus"}
