"""Questions about scenes with short answers, as in VQA: what the demo's training and validation files ask."""

from __future__ import annotations

from dataclasses import dataclass

from vistune.english import plural, with_article
from vistune.hashing import choose, shuffled
from vistune.sources.demo.backgrounds import TEXTURES
from vistune.sources.demo.scenes import Scene

PER_SCENE = 6

SIDES = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom"}

COLOUR = ("What color is the background?", "What is the color of the background?", "Which color is behind everything?")
SIDE = ("What is {place}?", "What do you see {place}?", "What is {place} of the picture?")
SHOWN = ("What is shown in the picture?", "What is this?", "What does the picture show?")
TOTAL = ("How many objects are there?", "How many things are in the picture?", "How many drawings can you count?")
NUMBER = ("How many {plural} are there?", "How many {plural} do you see?")
BIGGEST = ("What is the biggest object?", "What is drawn largest?")
TEXTURE = ("Is the background {texture}?",)
OTHER = ("What is there besides {name}?", "What else is there, apart from {name}?")


@dataclass(frozen=True)
class Asked:
    """One question; `kind` is its first words, as VQA's `question_type`."""

    text: str
    answer: str
    kind: str
    choices: tuple[str, ...] = ()

    @property
    def answer_type(self) -> str:
        if self.answer in ("yes", "no"):
            return "yes/no"
        return "number" if self.answer.isdigit() else "other"


def questions(scene: Scene, seed: int) -> list[Asked]:
    """Up to `PER_SCENE` questions of different kinds that the scene answers without doubt."""
    key = ("demo", "questions", scene.id)
    asked = [Asked(choose(COLOUR, seed, *key, "colour"), scene.background.colour.name, "what color")]
    counts = scene.counts()
    if len(scene.objects) == 1:
        asked.append(Asked(choose(SHOWN, seed, *key, "shown"), scene.objects[0].concept.name, "what is"))
    sides = [(side, scene.alone_at(side)) for side in SIDES]
    clear = [(side, placed.concept.name) for side, placed in sides if placed is not None]
    for side, name in shuffled(clear, seed, *key, "sides")[:3]:
        asked.append(Asked(choose(SIDE, seed, *key, side).format(place=SIDES[side]), name, "what is"))
    if choose((True, False), seed, *key, "ask total"):
        asked.append(Asked(choose(TOTAL, seed, *key, "total"), str(len(scene.objects)), "how many"))
    for concept, number in counts.items():
        if number > 1:
            text = choose(NUMBER, seed, *key, "number").format(plural=plural(concept.name))
            asked.append(Asked(text, str(number), "how many"))
    first, *rest = sorted(scene.objects, key=lambda p: -p.area)
    if rest and first.area > 1.7 * rest[0].area:
        asked.append(Asked(choose(BIGGEST, seed, *key, "biggest"), first.concept.name, "what is"))
    if len(counts) == 2:
        one, other = shuffled(counts, seed, *key, "other")
        text = choose(OTHER, seed, *key, "form").format(name=with_article(one.name))
        asked.append(Asked(text, other.name, "what is"))
    if choose((True, False, False), seed, *key, "ask texture"):
        asked.append(_texture(scene, seed, *key))
    return shuffled(asked, seed, *key, "choice")[:PER_SCENE]


def _texture(scene: Scene, seed: int, *key: object) -> Asked:
    texture = choose((scene.background.texture, choose(TEXTURES, seed, *key, "texture")), seed, *key, "which")
    answer = "yes" if texture == scene.background.texture else "no"
    return Asked(choose(TEXTURE, seed, *key, "is").format(texture=texture), answer, "is the")
