"""Annotated images built by hand: a dog left of two cats on a light blue background, and variations of it."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from vistune.records import AnnotatedImage, Annotation, Caption, Category, ImageRef, Question, SourceFile

CATEGORIES = {
    c.label: c
    for c in (
        Category("dog", "animal", {"zh": "狗"}),
        Category("guide dog", "animal", {"zh": "导盲犬"}),
        Category("cat", "animal", {"zh": "猫"}),
        Category("owl", "animal", {"zh": "猫头鹰"}),
        Category("wolf", "animal", {"zh": "狼"}),
        Category("apple", "food", {"zh": "苹果"}),
        Category("hourglass", "object", {"zh": "沙漏"}),
        Category("boat", "vehicle", {"zh": "船"}),
        Category("ship", "vehicle", {"zh": "船"}),
        Category("grapes", "food", {"zh": "葡萄"}),
        Category("bread", "food", {"zh": "面包"}),
        Category("kite", "object"),  # has no Chinese name
    )
}
BLUE = Category("light blue", "background", {"zh": "浅蓝色"})


@pytest.fixture
def category() -> Callable[[str], Category]:
    return CATEGORIES.__getitem__


@pytest.fixture
def picture() -> Callable[..., AnnotatedImage]:
    """picture(("dog", box), ...): an image of 200 x 100 pixels. Objects get the ids "1", "2", ..."""

    def build(
        *objects: tuple[Any, ...],
        number: int = 1,
        crowd: tuple[str, ...] = (),
        captions: tuple[Caption, ...] = (),
        questions: tuple[Question, ...] = (),
        vocabulary: tuple[Category, ...] = tuple(CATEGORIES.values()),
        background: bool = True,
        **fields: Any,
    ) -> AnnotatedImage:
        annotations = [
            Annotation(str(n), CATEGORIES[label], box, label in crowd)
            for n, (label, box) in enumerate(objects, start=1)
        ]
        if background:
            annotations.append(Annotation("99", BLUE, (0, 0, 200, 100), thing=False))
        sha256 = hashlib.sha256(str(number).encode()).hexdigest()
        known = {
            "id": f"toys/{number}",
            "dataset": "toys",
            "split": "train",
            "image": ImageRef(sha256, 200, 100, "png", f"toys/images/{number}.png"),
            "licence": "CC0",
            "captions": captions,
            "objects": tuple(annotations),
            "questions": questions,
            "vocabulary": vocabulary,
            "files": (SourceFile("toys/boxes.json", "ab" * 32),),
        }
        return AnnotatedImage(**{**known, **fields})

    return build


@pytest.fixture
def dog_and_cats(picture: Callable[..., AnnotatedImage]) -> AnnotatedImage:
    """A dog, left of two cats one above the other."""
    return picture(
        ("dog", (10, 20, 60, 80)),
        ("cat", (120, 5, 160, 45)),
        ("cat", (120, 55, 160, 95)),
        captions=(Caption("c1", "a dog and two cats"), Caption("c2", "three pets")),
        questions=(
            Question("q1", "What color is the dog?", "brown", ("brown",)),
            Question("q2", "Is it outside?", "no", ("no",)),
        ),
    )
