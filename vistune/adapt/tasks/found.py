"""What a task finds, and what tasks share."""

from __future__ import annotations

from collections.abc import Iterator

from vistune.adapt.choices import Choices
from vistune.adapt.geometry import box_text, has_area_as_text, iou
from vistune.adapt.language import Language
from vistune.adapt.scene import Scene
from vistune.records import Annotation, Box, Category, Region, record

SAME_PLACE = 0.7
"""Overlap (IoU) with another thing from which on a box does not say which of the two it marks."""

WORDLESS = frozenset(("name_missing", "attribute_untranslated", "predicate_untranslated"))
"""Reasons of what cannot be said in a language."""

MAX_LISTED = 12
"""Kinds of things in one list."""


@record
class Candidate:
    """A fact ready to be phrased. `evidence`: ids of the annotations that make it true. `boxes`: the texts of boxes
    that slots hold, each the `box_text` of the region at its place; regions that come after have no box in the text."""

    slots: dict[str, str]
    evidence: tuple[str, ...]
    regions: tuple[Region, ...] = ()
    kind: str = ""
    polarity: str = ""
    boxes: tuple[str, ...] = ()
    choices: Choices | None = None
    listed: bool = False  # whether the source itself lists the choices, in the order before the shuffle
    framed: bool = False  # whether boxes are asked for, though the answer holds none


@record
class Refused:
    """A fact that cannot be phrased: `reason` is a short stable word, `detail` a sentence."""

    reason: str
    detail: str


Found = Iterator[Candidate | Refused]


def placed(scene: Scene, o: Annotation, language: Language, kind: str = "") -> Candidate | Refused:
    """A name and its box."""
    name = o.category.name(language.code)
    if not name:
        return unnamed(o.category, language)
    box = box_text(o.box, scene.width, scene.height)
    return Candidate({**language.forms(name), "box": box}, (o.id,), (scene.region(o),), kind, boxes=(box,))


def names_of(scene: Scene, language: Language) -> tuple[dict[str, str], Refused | None]:
    """Label -> name of the kinds of things shown, from left to right; or the refusal of one without a name."""
    first = sorted(scene.things, key=lambda o: (o.box[0], o.box[1], o.id))
    names: dict[str, str] = {}
    for o in first:
        name = o.category.name(language.code)
        if not name:
            return {}, unnamed(o.category, language)
        names.setdefault(o.category.label, name)
    return names, None


def amounts(scene: Scene, names: dict[str, str], language: Language) -> str:
    return language.enumerate([language.amount(name, len(scene.present[label])) for label, name in names.items()])


def unnamed(category: Category, language: Language) -> Refused:
    return Refused("name_missing", f"{category.label!r} has no name in {language.code}.")


def usable(scene: Scene, box: Box) -> bool:
    """Whether a box still has an area as text."""
    return has_area_as_text(box, scene.width, scene.height)


def marks_one(scene: Scene, o: Annotation, alike: bool = False) -> bool:
    """Whether a box says which thing is meant; with `alike`, said together with the thing's name."""
    return usable(scene, o.box) and not any(
        iou(o.box, other.box) >= SAME_PLACE
        for other in scene.things
        if other is not o and (not alike or other.category.label == o.category.label)
    )


def reference(scene: Scene, o: Annotation, language: Language, boxed: bool = False) -> tuple[str, str] | None:
    """The name of a thing, and the box that must be said with it: "" where the name alone says which thing is meant
    (not with `boxed`). None where even both would not."""
    name = o.category.name(language.code) or ""
    if o.id in scene.alone and not boxed:
        return name, ""
    return (name, box_text(o.box, scene.width, scene.height)) if marks_one(scene, o, alike=True) else None
