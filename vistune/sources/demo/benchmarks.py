"""Held-out questions about new scenes, as VQA multiple-choice files: five kinds for every set of concepts.

`which_of_two` is a kind that no training file holds. Distractors come from the same set of concepts as the scene,
never from the scene itself, and never with a name that could also be true of something in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache

from vistune.english import plural, with_article
from vistune.hashing import choose, keyed, shuffled
from vistune.sources.demo.backgrounds import COLOURS
from vistune.sources.demo.drawings import Concept
from vistune.sources.demo.questions import SIDES, Asked
from vistune.sources.demo.scenes import Scene

Questions = list[tuple[int, Asked]]  # scene id and question


def presence(scenes: Sequence[Scene], concepts: Sequence[Concept], most: int, seed: int) -> Questions:
    """One "yes" and one "no" a scene; every second "no" names a concept of the same subgroup as one in the scene."""
    asked: Questions = []
    for rank, scene in enumerate(_order(scenes, seed, "presence")):
        key = ("demo", "presence", scene.id)
        there = choose(list(scene.counts()), seed, *key, "yes")
        absent = distractors(scene, concepts, rank % 2 == 0, 1, seed, *key)[0]
        for concept, answer in ((there, "yes"), (absent, "no")):
            text = f"Is there {with_article(concept.name)} in the picture?"
            asked.append((scene.id, Asked(text, answer, "is there", ("yes", "no"))))
    return asked


def counting(scenes: Sequence[Scene], concepts: Sequence[Concept], most: int, seed: int) -> Questions:
    """How many objects there are, or, in half of the scenes that repeat a concept, how many of that."""
    asked: Questions = []
    choices = tuple(str(n) for n in range(1, most + 1))
    for scene in scenes:
        repeated = [(concept, n) for concept, n in scene.counts().items() if n > 1]
        what, number = "objects", len(scene.objects)
        if repeated and keyed(seed, "demo", "counting", scene.id) % 2:
            what, number = plural(repeated[0][0].name), repeated[0][1]
        asked.append((scene.id, Asked(f"How many {what} are there in the picture?", str(number), "how many", choices)))
    return asked


def naming(scenes: Sequence[Scene], concepts: Sequence[Concept], most: int, seed: int) -> Questions:
    """What stands alone on one side, or is the only object; scenes where neither holds are left out."""
    asked: Questions = []
    for scene in scenes:
        key = ("demo", "naming", scene.id)
        sides = [(f"What is {place}?", p) for side, place in SIDES.items() if (p := scene.alone_at(side)) is not None]
        if len(scene.objects) == 1:
            sides = [("What is shown in the picture?", scene.objects[0])]
        if not sides:
            continue
        text, placed = choose(sides, seed, *key, "side")
        others = distractors(scene, concepts, True, 3, seed, *key, like=placed.concept)
        names = [placed.concept.name, *(c.name for c in others)]
        asked.append((scene.id, Asked(text, names[0], "what is", tuple(shuffled(names, seed, *key, "choices")))))
    return asked


def colour(scenes: Sequence[Scene], concepts: Sequence[Concept], most: int, seed: int) -> Questions:
    asked: Questions = []
    for scene in scenes:
        names = tuple(shuffled([c.name for c in COLOURS], seed, "demo", "colour", scene.id))
        answer = scene.background.colour.name
        asked.append((scene.id, Asked("What color is the background?", answer, "what color", names)))
    return asked


def which_of_two(scenes: Sequence[Scene], concepts: Sequence[Concept], most: int, seed: int) -> Questions:
    """The right one is named first in exactly every second question, in keyed order."""
    asked: Questions = []
    for rank, scene in enumerate(_order(scenes, seed, "which_of_two")):
        key = ("demo", "which_of_two", scene.id)
        there = choose(list(scene.counts()), seed, *key)
        absent = distractors(scene, concepts, rank // 2 % 2 == 0, 1, seed, *key, like=there)[0]
        pair = (there.name, absent.name) if rank % 2 == 0 else (absent.name, there.name)
        text = f"Which one is in the picture, {with_article(pair[0])} or {with_article(pair[1])}?"
        asked.append((scene.id, Asked(text, there.name, "which one", pair)))
    return asked


KINDS: dict[str, tuple[bool, Callable[[Sequence[Scene], Sequence[Concept], int, int], Questions]]] = {
    # kind: (occurs in training, how it is asked)
    "presence": (True, presence),
    "counting": (True, counting),
    "naming": (True, naming),
    "colour": (True, colour),
    "which_of_two": (False, which_of_two),
}


def distractors(
    scene: Scene,
    concepts: Sequence[Concept],
    hard: bool,
    number: int,
    seed: int,
    *key: object,
    like: Concept | None = None,
) -> list[Concept]:
    """`number` concepts that are not in the scene. Hard ones share the subgroup, then the group, of `like` (of any
    concept in the scene if None); easy ones come from other groups; both fall back to the rest."""
    present = list(scene.counts())
    near = [like] if like is not None else present
    subgroups, groups = {c.subgroup for c in near}, {c.group for c in near}
    tiers: tuple[list[Concept], ...] = ([], [], [])
    for concept in concepts:
        tiers[0 if concept.subgroup in subgroups else 1 if concept.group in groups else 2].append(concept)
    found: list[Concept] = []
    for tier in tiers if hard else reversed(tiers):
        while tier and len(found) < number:
            drawn = tier.pop(keyed(seed, *key, "distractor", len(tier)) % len(tier))
            if not any(_could_be(drawn.name, p.name) for p in present):
                found.append(drawn)
    return found


@cache
def _could_be(one: str, other: str) -> bool:
    """Whether one name holds all words of the other: "potato" could be said of a "sweet potato"."""
    first, second = (set(re.findall(r"\w+", name.lower())) for name in (one, other))
    return first <= second or second <= first


def _order(scenes: Sequence[Scene], seed: int, kind: str) -> list[Scene]:
    return shuffled(scenes, seed, "demo", kind, "order")
