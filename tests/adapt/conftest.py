"""Annotated images built by hand: a dog left of two cats on a light blue background, and variations of it."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from vistune.adapt import Params, PerImage
from vistune.adapt.draws import Draws
from vistune.adapt.language import ENGLISH, Language
from vistune.adapt.scene import Scene
from vistune.adapt.tasks import TASKS, Candidate, Refused
from vistune.adapt.vocabulary import Vocabulary
from vistune.records import (
    AnnotatedImage,
    Annotation,
    Caption,
    Category,
    ImageRef,
    Label,
    Phrase,
    Question,
    Relation,
    SourceFile,
    Table,
    TextLine,
)

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

PLENTY = Params(per_image=PerImage(**dict.fromkeys(TASKS, 20)))


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
        attributes: dict[str, tuple[str, ...]] | None = None,
        area: dict[str, float] | None = None,
        **fields: Any,
    ) -> AnnotatedImage:
        annotations = [
            Annotation(
                str(n),
                CATEGORIES[label],
                box,
                label in crowd,
                attributes=(attributes or {}).get(label, ()),
                area=(area or {}).get(label, 0.0),
            )
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


@pytest.fixture
def everything(picture: Callable[..., AnnotatedImage]) -> AnnotatedImage:
    """An image with every kind of annotation, so that every task finds something in it, in English at least."""
    dog, cat, other, apple = (10, 20, 60, 80), (120, 5, 160, 45), (125, 55, 165, 95), (80, 40, 100, 55)
    return picture(
        ("dog", dog),
        ("cat", cat),
        ("cat", other),
        ("apple", apple),
        attributes={"dog": ("brown", "large"), "apple": ("red",), "cat": ("wooden",)},
        area={"dog": 1500.0},
        captions=(
            Caption("c1", "A dog looks at two cats near an apple."),
            Caption("c2", "Some pets and fruit lie scattered over pale blue ground"),
            Caption("c3", "drawings that somebody arranged without much thought "),
            Caption("c4", "一只狗看着两只猫", "zh"),
        ),
        relations=(Relation("r1", "1", "looking at", "2"), Relation("r2", "4", "is below", "2")),
        labels=(Label("l1", CATEGORIES["dog"]), Label("l2", CATEGORIES["boat"], False)),
        phrases=(
            Phrase("p1", "a brown dog", (dog,), "description", ("1",)),
            Phrase("p2", "the upper cat", (cat,), "referring", ("2",), unique=True),
            Phrase("p3", "two cats", (cat, other), "caption_phrase", ("2", "3"), "c1", (15, 23)),
            Phrase("p4", "左边的狗", (dog,), "referring", ("1",), unique=True, language="zh"),
        ),
        lines=(TextLine("t1", "TOYS", (0, 0, 40, 10)), TextLine("t2", "for sale", (45, 0, 90, 10))),
        tables=(Table("b1", ("Toy", "Price"), (("dog", "$3"), ("cat", "$4.50"), ("apple", "$1"))),),
        questions=(
            Question("q1", "What color is the dog?", "brown", ("brown",), sentence="The dog is brown"),
            Question("q2", "Is it outside?", "no", ("no",)),
            Question("q3", "What does it say?", "toys for sale", ("toys for sale",), extractive=True),
            Question(
                "q4",
                "What do cats eat?",
                "meat",
                ("meat",),
                ("stones", "meat", "glass"),
                context="Cats hunt.",
                rationales=("Cats hunt animals, so they eat meat.",),
            ),
        ),
    )


@pytest.fixture
def ask() -> Callable[..., tuple[list[Candidate], list[Refused]]]:
    """Candidates and refusals of one task about an image."""

    def ask(
        task: str, image: AnnotatedImage, language: Language = ENGLISH, params: Params = PLENTY, key: str = "test"
    ) -> tuple[list[Candidate], list[Refused]]:
        scene = Scene(image, Vocabulary(image.vocabulary))
        found = list(TASKS[task].find(scene, language, params, Draws(0, key)))
        return [f for f in found if isinstance(f, Candidate)], [f for f in found if isinstance(f, Refused)]

    return ask
