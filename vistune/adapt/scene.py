"""What may be asked about one image: which names stand for exactly one thing, and which are proven absent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import combinations
from operator import attrgetter
from typing import Any, Generic, Literal, TypeVar

from vistune.adapt.draws import Draws
from vistune.adapt.geometry import has_area_as_text
from vistune.adapt.language import LANGUAGES
from vistune.adapt.vocabulary import Vocabulary
from vistune.records import AnnotatedImage, Annotation, Caption, Category, Label, Question, Region, record

TRIES = 16
"""Draws for an absent category before the absent ones are listed: one image shows few of a vocabulary's names."""

NEAREST = 8
"""A popular or adversarial absent category is one of the first so many that are absent."""

Negative = Literal["random", "similar", "popular", "adversarial"]
"""How an absent category is drawn: from all; from the group of one that is shown; from those that the data set shows
most often; from those that it shows together with one that is shown here (POPE, Li et al. 2023, section 3.2)."""


ID, LABEL = attrgetter("id"), attrgetter("category.label")

T = TypeVar("T")


class cached(Generic[T]):
    """`functools.cached_property` without its lock, which takes longer than most of what is worked out here."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self.make, self.__doc__ = make, make.__doc__

    def __get__(self, scene: Any, owner: Any = None) -> T:
        found = scene.__dict__[self.make.__name__] = self.make(scene)
        return found


@record
class Absent:
    """A category that the image is proven not to show. `evidence`: ids of the annotations that prove it."""

    category: Category
    evidence: tuple[str, ...]


class Scene:
    """One annotated image, seen by the tasks. Independent of the order of its annotations."""

    def __init__(self, image: AnnotatedImage, vocabulary: Vocabulary) -> None:
        self.image, self.vocabulary = image, vocabulary
        self.width, self.height = image.image.width, image.image.height
        self.objects = sorted(image.objects, key=ID)
        self.things = [o for o in self.objects if o.thing and not o.crowd]
        self._captions: dict[str, list[Caption]] = {}
        self._questions: dict[str, tuple[list[Question], list[tuple[str, str]]]] = {}

    @cached
    def regions(self) -> tuple[Region, ...]:
        """All objects, background and crowds included."""
        return tuple(Region(o.box, o.category.label, o.id) for o in self.objects)

    @cached
    def _regions(self) -> dict[int, Region]:
        return dict(zip(map(id, self.objects), self.regions, strict=True))

    def region(self, o: Annotation) -> Region:
        """Of one of `objects`."""
        return self._regions[id(o)]

    @cached
    def every(self) -> tuple[str, ...]:
        """Ids of all objects: what a statement about the whole image rests on."""
        return tuple(map(ID, self.objects))

    @cached
    def occurrences(self) -> Counter[str]:
        """How often each label is annotated, crowds and background included."""
        return Counter(map(LABEL, self.objects))

    @cached
    def categories(self) -> dict[str, Category]:
        """Every category annotated in the image, by label in the order of the alphabet."""
        found = {o.category.label: o.category for o in self.objects}
        return dict(sorted(found.items()))

    @cached
    def by_id(self) -> dict[str, Annotation]:
        return {o.id: o for o in self.objects}

    @cached
    def complete(self) -> frozenset[str]:
        """Labels of which every instance in this image is annotated, though the data set annotates other images for
        other ones."""
        return frozenset(self.image.complete)

    def speaks(self, language: str) -> bool:
        """Whether the data set names its categories in a language. Of one without a vocabulary this image tells."""
        shown = [*self.categories.values(), *(verdict.category for verdict in self.image.labels)]
        return bool(self.vocabulary.named(language)) or any(category.name(language) for category in shown)

    def exhaustive(self, label: str) -> bool:
        """Whether an instance that is not annotated does not exist."""
        return label in self.vocabulary.by_label or label in self.complete

    @cached
    def clear(self) -> frozenset[str]:
        """Labels that no other category in the image could be called by."""
        pair = self.vocabulary.confusable_pair
        unclear = {c.label for ab in combinations(self.categories.values(), 2) if pair(*ab) for c in ab}
        return frozenset(self.categories.keys() - unclear)

    @cached
    def unique(self) -> list[Annotation]:
        """Things whose name fits nothing else that is annotated, and whose box has an area as text."""
        seen, clear = self.occurrences, self.clear
        return [
            o
            for o in self.things
            if seen[o.category.label] == 1
            and o.category.label in clear
            and has_area_as_text(o.box, self.width, self.height)
        ]

    @cached
    def proven_unique(self) -> list[Annotation]:
        """Those of `unique` whose category is annotated exhaustively: there is no second one without a box."""
        return [o for o in self.unique if self.exhaustive(o.category.label)]

    @cached
    def alone(self) -> frozenset[str]:
        """Ids of `proven_unique`: "the dog" says which."""
        return frozenset(o.id for o in self.proven_unique)

    @cached
    def present(self) -> dict[str, list[Annotation]]:
        """Things by label, in the order of the alphabet."""
        found: dict[str, list[Annotation]] = {}
        for o in sorted(self.things, key=LABEL):
            found.setdefault(o.category.label, []).append(o)
        return found

    @cached
    def crowded(self) -> frozenset[str]:
        """Labels annotated as an uncounted group."""
        return frozenset(o.category.label for o in self.objects if o.crowd)

    @cached
    def labels(self) -> list[Label]:
        """Verdicts that the image shows a category, ordered by label."""
        return sorted((v for v in self.image.labels if v.present), key=lambda v: (v.category.label, v.id))

    @cached
    def denied(self) -> list[Label]:
        """Verdicts that it does not, where nothing that it does show could be called so."""
        shown = [*self.categories.values(), *(v.category for v in self.labels)]
        pair = self.vocabulary.confusable_pair
        verdicts = sorted((v for v in self.image.labels if not v.present), key=lambda v: (v.category.label, v.id))
        return [v for v in verdicts if not any(pair(v.category, c) for c in shown)]

    @cached
    def not_absent(self) -> frozenset[str]:
        """Labels of the vocabulary that are annotated here, or that something here could be called by. What a caption
        speaks of counts as shown: annotators overlook things that others describe."""
        shown = [*self.categories.values(), *(v.category for v in self.labels)]
        texts: dict[str, list[str]] = {}
        for c in self.image.captions:
            texts.setdefault(c.language, []).append(c.text)
        for language in texts.keys() & LANGUAGES.keys():
            found = self.vocabulary.names(LANGUAGES[language]).labels(texts[language])
            shown += map(self.vocabulary.by_label.__getitem__, found)
        return frozenset().union(*(self.vocabulary.confusable_with(c) for c in shown))

    def captions(self, language: str) -> list[Caption]:
        """In one language, ordered by id."""
        found = self._captions.get(language)
        if found is None:
            found = self._captions[language] = sorted(
                (c for c in self.image.captions if c.language == language), key=ID
            )
        return found

    def questions(self, language: str) -> tuple[list[Question], list[tuple[str, str]]]:
        """Questions in one language, ordered by id, and reason and detail for those that are empty or a repetition."""
        found = self._questions.get(language)
        if found is None:
            found = self._questions[language] = _distinct([q for q in self.image.questions if q.language == language])
        return found

    def absent(
        self, language: str, asked: set[str], draws: Draws, how: Negative = "random", near: Category | None = None
    ) -> Absent | None:
        """A category proven absent and named in `language`, not yet in `asked` (to which it is added): annotated
        exhaustively and not annotated here, or denied by a verdict about this image. `how` is followed as far as the
        data set allows, seen from `near`, which is shown. None when there is no such category."""
        if near is not None and how in ("popular", "adversarial"):
            found = self._ranked(language, asked, draws, how, near)
            # Without statistics of the data set, things of one group are what is seen together.
            found = found or (self._drawn(language, near.group, asked, draws) if how == "adversarial" else None)
        else:
            found = self._drawn(language, near.group, asked, draws) if near is not None and how == "similar" else None
        found = found or self._drawn(language, "", asked, draws)
        if found is not None:
            asked.add(found.category.label)
        return found

    def _drawn(self, language: str, group: str, asked: set[str], draws: Draws) -> Absent | None:
        # Where nothing is annotated, nobody may have looked.
        pool = self.vocabulary.named(language, group) if self.things else []
        present = self.not_absent
        for _ in range(TRIES if pool else 0):  # nearly always the first try
            drawn = pool[draws.below(len(pool))]
            if drawn.label not in present and drawn.label not in asked:
                return Absent(drawn, self.every)
        rest = [Absent(c, self.every) for c in pool if c.label not in present and c.label not in asked]
        rest += [
            Absent(v.category, (v.id,))
            for v in self.denied
            if v.category.name(language) and group in ("", v.category.group) and v.category.label not in asked
        ]
        return rest[draws.below(len(rest))] if rest else None

    def _ranked(self, language: str, asked: set[str], draws: Draws, how: Negative, near: Category) -> Absent | None:
        statistics, known = self.vocabulary.statistics, self.vocabulary.by_label
        ranked = statistics.popular if how == "popular" else statistics.companions.get(near.label, ())
        found: list[Category] = []
        for label in ranked:
            if label in known and label not in self.not_absent and label not in asked and known[label].name(language):
                found.append(known[label])
                if len(found) == NEAREST:
                    break
        return Absent(found[draws.below(len(found))], self.every) if found else None


def _distinct(questions: list[Question]) -> tuple[list[Question], list[tuple[str, str]]]:
    asked: set[tuple[str, ...]] = set()
    usable, faults = [], []
    for q in sorted(questions, key=lambda q: q.id):
        text = q.text.strip()
        key = (text.casefold(), q.context, *q.choices)
        if not text or not q.answer.strip():
            faults.append(("question_empty", f"question {q.id} has no {'answer' if text else 'text'}."))
        elif key in asked:
            faults.append(("question_duplicate", f"question {q.id} was asked before: {text!r:.80}."))
        else:
            asked.add(key)
            usable.append(q)
    return usable, faults
