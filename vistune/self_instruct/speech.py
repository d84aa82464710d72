"""Phrases of the grammar teacher, filled with facts: `Speaker.turn("where", x=cat)` gives a question and an answer.

Choices between phrases are keyed by the run's seed, the image and what is being said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import permutations
from pathlib import Path
from typing import Any, TypeVar

import yaml

from vistune import english
from vistune.hashing import choose, shuffled, uniform
from vistune.records import Annotation
from vistune.self_instruct import facts
from vistune.self_instruct.facts import Facts
from vistune.self_instruct.mentions import Names

T = TypeVar("T")
Pair = tuple[str, str]
Slots = dict[str, Any]

_SLOT = re.compile(r"\{\w+\}")

MAX_LISTED = 8
"""Distinct things named in one list."""


@cache
def phrases() -> dict[str, Any]:
    return yaml.safe_load((Path(__file__).parent / "grammar.yaml").read_text("utf-8"))


@dataclass(frozen=True)
class Family:
    """What the members of some groups of categories have in common."""

    name: str
    one: str  # "an animal"
    many: str  # "animals"
    needs: tuple[tuple[str, str], ...]  # a question that its members answer, and the answer
    closed: bool  # no other group has members


@cache
def families() -> dict[str, tuple[Family, frozenset[str]]]:
    """By plain group: its family, and the names in the group that are no members."""
    found = {}
    for name, row in phrases()["families"].items():
        needs = tuple((need["question"], need["use"]) for need in row.get("need", ()))
        family = Family(name, row["one"], row["many"], needs, row.get("closed", False))
        for group in row["groups"]:
            found[group] = (family, frozenset(row["not"]))
    return found


def plain_group(group: str) -> str:
    """
    >>> plain_group("animal-mammal")
    'animal mammal'
    """
    return " ".join(group.lower().replace("-", " ").split())


def family(label: str, group: str) -> Family | None:
    """The family of a category, or None when its group says nothing about its members."""
    found = families().get(plain_group(group))
    return None if found is None or label in found[1] else found[0]


@lru_cache(maxsize=8192)
def neutral(names: Names, template: str) -> bool:
    """Whether a phrase names nothing of a vocabulary, slots aside: "in a mirror" is not for data sets with mirrors."""
    return not names.find(_SLOT.sub("_", template))


@dataclass(frozen=True)
class Speaker:
    facts: Facts
    seed: int
    kind: str  # of dialogue; two kinds about one image speak independently

    def one(self, options: Sequence[T], *key: Any) -> T:
        return choose(options, self.seed, "grammar", self.facts.image.id, self.kind, *key)

    def order(self, items: Iterable[T], *key: Any) -> list[T]:
        return shuffled(items, self.seed, "grammar", self.facts.image.id, self.kind, *key)

    def chance(self, *key: Any) -> float:
        return uniform(self.seed, "grammar", self.facts.image.id, self.kind, *key)

    def fill(self, template: str, slots: Slots) -> str:
        return english.sentence(template.format_map(slots))

    def turn(self, name: str, **slots: Any) -> Pair:
        """A question and its answer from the phrases called `name`."""
        row = phrases()["turns"][name]
        question = self.one(self.usable(row["questions"]), name, "question")
        answer = self.one(self.usable(row["answers"]), name, "answer")
        return self.fill(question, slots), self.fill(answer, slots)

    def say(self, name: str, **slots: Any) -> str:
        """A sentence of a description."""
        return self.fill(self.one(self.usable(phrases()["detail"][name]), name), slots)

    def usable(self, templates: list[str]) -> list[str]:
        """The templates that name nothing of the vocabulary themselves; all when none is left."""
        return [t for t in templates if neutral(self.facts.names, t)] or templates

    # What the slots hold.

    def place(self, thing: Annotation, *key: Any) -> str:
        """ "in the top left corner" """
        return self.one(phrases()["places"][self.cell(thing)], "place", thing.id, *key)

    def cell(self, thing: Annotation) -> str:
        return facts.place(thing.box, self.facts.image.image.width, self.facts.image.image.height)

    def thing(self, thing: Annotation) -> Slots:
        """Slots about one object that `the {x}` names without doubt."""
        label = thing.category.label
        return {
            "x": label,
            "xs": english.plural(label),
            "a_x": english.with_article(label),
            "be": english.be(label),
            "take": "take" if english.number(label) == "plural" else "takes",
            "place": self.place(thing),
        }

    def number(self, label: str, n: int, x: str = "x", count: str = "n") -> Slots:
        """Slots about `n` of a kind."""
        return {
            x: label,
            f"{x}s": english.plural(label),
            count: english.number_word(n),
            f"{x}_{count}": label if n == 1 else english.plural(label),
            f"be_{count}": "is" if n == 1 else "are",
        }

    def inventory(self, labels: Iterable[str] | None = None) -> Slots:
        """Slots with the list of all things (or of those with `labels`), each with its number."""
        counts = {k: n for k, n in self.facts.tally.items() if labels is None or k in labels}
        shown = self.order(list(counts)[:MAX_LISTED], "inventory")
        parts = [english.amount(k, counts[k]) for k in shown]
        if len(shown) < len(counts) or (labels is None and self.facts.crowds):
            parts.append("other things")
        first = shown[0] if shown else ""
        return {"list": english.join(parts), "be_list": english.be(first, counts.get(first, 1)) if first else "are"}

    def definite(self, labels: Iterable[str]) -> str:
        """ "the cat and the two dogs" """
        counts = self.facts.tally
        parts = []
        for label in self.order(labels, "definite"):
            n = counts[label]
            parts.append(
                f"the {label}" if n == 1 or not english.is_counted(label) else f"the {english.amount(label, n)}"
            )
        return english.join(parts)

    def absent(self, label: str) -> Slots:
        """Slots about a thing that is not in the image."""
        return {
            "z": label,
            "zs": english.plural(label),
            "a_z": english.with_article(label),
            "be_z": english.be(label),
        }

    def related(self) -> list[tuple[Annotation, Annotation, str]]:
        """Pairs of single objects that plainly lie beside, above or below each other."""
        pairs = permutations(self.facts.singles[:8], 2)
        return [(a, b, rel) for a, b in pairs if (rel := facts.relation(a.box, b.box))]

    def relation(self, a: Annotation, b: Annotation, rel: str) -> Slots:
        words = phrases()["relations"]
        wrong = self.one(words[facts.OPPOSITE[rel]], "wrong rel")
        return {**self.thing(a), "y": b.category.label, "rel": self.one(words[rel], "rel"), "wrong_rel": wrong}

    def background(self) -> Slots:
        colour = self.facts.background
        return {"bg": colour, "a_bg": f"{english.article(colour)} {colour}"}
