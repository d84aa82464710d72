"""What may be asked about one image: which names stand for exactly one thing, and which are proven absent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property, lru_cache

from vistune.adapt.draws import Draws
from vistune.adapt.geometry import has_area_as_text
from vistune.records import AnnotatedImage, Annotation, Category, Region

TRIES = 16
"""Draws for an absent category before the absent ones are listed: one image shows few of a vocabulary's names."""


def confusable(a: Category, b: Category) -> bool:
    """Whether a person could call one thing by the other's name: the words of one name are all in the other
    ("dog", "guide dog"), or so in another language. Such a pair is never asked apart.

    >>> confusable(Category("dog"), Category("guide dog")), confusable(Category("red apple"), Category("green apple"))
    (True, False)
    >>> confusable(Category("boat", names={"zh": "船"}), Category("ship", names={"zh": "船"}))
    True
    """
    x, y = _words(a.label), _words(b.label)
    if x <= y or y <= x:
        return True
    for language, name in a.names.items():
        other = b.names.get(language)
        if other and name and (name in other or other in name):
            return True
    return False


@lru_cache(maxsize=100_000)
def _words(label: str) -> frozenset[str]:
    """Words of a name, lower case, without a final s: only for comparing, so that "house" meets "houses"."""
    plain = "".join(c if c.isalnum() else " " for c in label.casefold())
    return frozenset(w[:-1] if w.endswith("s") else w for w in plain.split()) or frozenset((label,))


class Vocabulary:
    """The categories a data set annotates exhaustively, shared by its images."""

    def __init__(self, categories: Sequence[Category]) -> None:
        self.by_label = {c.label: c for c in sorted(categories, key=lambda c: c.label)}
        self._by_part: dict[str, list[Category]] = {}  # confusable names share a word or a character
        for category in self.by_label.values():
            for part in _parts(category):
                self._by_part.setdefault(part, []).append(category)
        self._confusable: dict[str, frozenset[str]] = {}
        self._pairs: dict[tuple[str, str], bool] = {}
        self._named: dict[tuple[str, str], list[Category]] = {}

    def __contains__(self, label: str) -> bool:
        return label in self.by_label

    def named(self, language: str, group: str = "") -> list[Category]:
        """Categories that have a name in `language`, of one group or ("") of all, in the order of their labels."""
        found = self._named.get((language, group))
        if found is None:
            found = [c for c in self.by_label.values() if c.name(language) and group in ("", c.group)]
            self._named[language, group] = found
        return found

    def confusable_with(self, category: Category) -> frozenset[str]:
        """Labels of the vocabulary that must not be called absent where `category` is present, itself included."""
        found = self._confusable.get(category.label)
        if found is None:
            near = {c.label: c for part in _parts(category) for c in self._by_part.get(part, ())}
            found = frozenset(label for label, c in near.items() if confusable(c, category))
            self._confusable[category.label] = found
        return found

    def confusable_pair(self, a: Category, b: Category) -> bool:
        """`confusable`, remembered."""
        key = (a.label, b.label)
        found = self._pairs.get(key)
        if found is None:
            found = self._pairs[key] = confusable(a, b)
        return found


def _parts(category: Category) -> set[str]:
    return {*_words(category.label), *(character for name in category.names.values() for character in name)}


class Scene:
    """One annotated image, seen by the tasks. Independent of the order of its annotations."""

    def __init__(self, image: AnnotatedImage, vocabulary: Vocabulary) -> None:
        self.image, self.vocabulary = image, vocabulary
        self.width, self.height = image.image.width, image.image.height
        self.objects = sorted(image.objects, key=lambda o: o.id)
        self.things = [o for o in self.objects if o.thing and not o.crowd]

    @cached_property
    def occurrences(self) -> Counter[str]:
        """How often each label is annotated, crowds and background included."""
        return Counter(o.category.label for o in self.objects)

    @cached_property
    def categories(self) -> dict[str, Category]:
        """Every category annotated in the image, by label in the order of the alphabet."""
        found = {o.category.label: o.category for o in self.objects}
        return dict(sorted(found.items()))

    @cached_property
    def clear(self) -> frozenset[str]:
        """Labels that no other category in the image could be called by."""
        present = list(self.categories.values())
        pair = self.vocabulary.confusable_pair
        return frozenset(a.label for a in present if not any(pair(a, b) for b in present if a is not b))

    @cached_property
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

    @cached_property
    def proven_unique(self) -> list[Annotation]:
        """Those of `unique` whose category is annotated exhaustively: there is no second one without a box."""
        return [o for o in self.unique if o.category.label in self.vocabulary]

    @cached_property
    def present(self) -> dict[str, list[Annotation]]:
        """Things by label, in the order of the alphabet."""
        found: dict[str, list[Annotation]] = {}
        for o in sorted(self.things, key=lambda o: o.category.label):
            found.setdefault(o.category.label, []).append(o)
        return found

    @cached_property
    def crowded(self) -> frozenset[str]:
        """Labels annotated as an uncounted group."""
        return frozenset(o.category.label for o in self.objects if o.crowd)

    @cached_property
    def not_absent(self) -> frozenset[str]:
        """Labels of the vocabulary that are annotated here, or that something here could be called by."""
        return frozenset().union(*(self.vocabulary.confusable_with(c) for c in self.categories.values()))

    def absent(self, language: str, group: str, asked: set[str], draws: Draws) -> Category | None:
        """A category proven absent (annotated exhaustively, not annotated here) and named in `language`, of `group`
        or ("") any, and not yet in `asked`. None when there is none."""
        pool, present = self.vocabulary.named(language, group), self.not_absent
        for _ in range(TRIES if pool else 0):  # nearly always the first try
            drawn = pool[draws.below(len(pool))]
            if drawn.label not in present and drawn.label not in asked:
                return drawn
        rest = [c for c in pool if c.label not in present and c.label not in asked]
        return rest[draws.below(len(rest))] if rest else None


def region(annotation: Annotation) -> Region:
    return Region(annotation.box, annotation.category.label, annotation.id)
