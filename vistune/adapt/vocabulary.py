"""The names of a data set: which could be said of the same thing, which of them a text mentions, and how often its
images show them and show them together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, combinations, islice, pairwise

from vistune.adapt.language import Language
from vistune.records import Category, record

COMPANIONS = 64
"""Categories remembered for each as those it is seen with most often."""

MOST_TOGETHER = 100
"""Categories of one image whose pairs are counted; a scene with more says little about any pair."""


@dataclass(frozen=True)
class Statistics:
    """How often images of a data set show its categories. Plain data, so that it can be sent to other processes."""

    popular: tuple[str, ...] = ()  # labels, the most frequent first
    companions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # label -> labels seen with it, as above

    @classmethod
    def of(cls, images: Iterable[Iterable[str]]) -> Statistics:
        """Counts the labels of each image once. Independent of the order of images and labels.

        >>> Statistics.of([["dog", "ball"], ["dog", "ball", "dog"], ["dog", "cat"]]).companions["dog"]
        ('ball', 'cat')
        """
        single: Counter[str] = Counter()
        pairs: Counter[tuple[str, str]] = Counter()
        for labels in images:
            found = sorted(set(labels))
            single.update(found)
            if len(found) <= MOST_TOGETHER:
                pairs.update(combinations(found, 2))
        together: dict[str, list[tuple[int, str]]] = {}
        for (a, b), count in pairs.items():
            together.setdefault(a, []).append((-count, b))
            together.setdefault(b, []).append((-count, a))
        return cls(
            tuple(sorted(single, key=lambda label: (-single[label], label))),
            {label: tuple(b for _, b in sorted(found)[:COMPANIONS]) for label, found in sorted(together.items())},
        )


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

    def __init__(self, categories: Sequence[Category], statistics: Statistics | None = None) -> None:
        self.by_label = {c.label: c for c in sorted(categories, key=lambda c: c.label)}
        self.statistics = statistics or Statistics()
        self._by_part: dict[str, list[Category]] = {}  # confusable names share a word or a character
        for category in self.by_label.values():
            for part in _parts(category):
                self._by_part.setdefault(part, []).append(category)
        self._confusable: dict[str, frozenset[str]] = {}
        self._pairs: dict[tuple[str, str], bool] = {}
        self._named: dict[tuple[str, str], list[Category]] = {}
        self._names: dict[str, Names] = {}

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

    def names(self, language: Language) -> Names:
        """The names of the vocabulary in one language, to be found in text."""
        found = self._names.get(language.code)
        if found is None:
            found = self._names[language.code] = Names(self.by_label.values(), language)
        return found


@record
class Mention:
    """A name in a text."""

    label: str
    start: int  # characters
    end: int
    form: str  # which noun slot of its name it is: "name" or "plural"


class Names:
    """Names in one language, found in text as the longest runs of words: "hot dog" does not mention a dog."""

    def __init__(self, categories: Iterable[Category], language: Language) -> None:
        self.language = language
        self._found: dict[tuple[str, ...], tuple[str, str]] = {}
        for category in categories:
            name = category.name(language.code)
            forms = language.forms(name) if name else {}
            for form in ("plural", "name"):  # the singular wins where both are one word: "sheep"
                words = self._split(forms.get(form, ""))
                if words:
                    self._found[words] = (category.label, form)
        self._sizes: dict[str, list[int]] = {}  # first word -> numbers of words of names that begin so, largest first
        for first, *rest in self._found:
            sizes = self._sizes.setdefault(first, [])
            if len(rest) + 1 not in sizes:
                sizes.append(len(rest) + 1)
                sizes.sort(reverse=True)

    def _split(self, text: str) -> tuple[str, ...]:
        return tuple(word.lower() for word in self.language.words.findall(text))

    def mentions(self, text: str) -> list[Mention]:
        """In the order of the text. A name does not reach over a comma."""
        found = self.language.words.finditer(text)
        if text.isascii():  # remembered, and the same words: each as long as before
            hits = list(self._hits(self.language.words_of(text)))
            words = list(islice(found, sum(hits[-1][:2]))) if hits else []
        else:
            words = list(found)
            hits = list(self._hits([word.group().lower() for word in words]))
        return [
            Mention(label, words[at].start(), words[at + size - 1].end(), form)
            for at, size, label, form in hits
            if not any(text[a.end() : b.start()].strip() for a, b in pairwise(words[at : at + size]))
        ]

    def labels(self, texts: Iterable[str]) -> set[str]:
        """Of the categories that are mentioned in texts, read as one."""
        words = list(chain.from_iterable(map(self.language.words_of, texts)))
        return {label for _, _, label, _ in self._hits(words)}

    def _hits(self, words: Sequence[str]) -> Iterator[tuple[int, int, str, str]]:
        """First word, number of words, label and form of each mention."""
        end, sizes = 0, self._sizes
        for at in [at for at, word in enumerate(words) if word in sizes]:
            for size in sizes[words[at]] if at >= end else ():
                hit = self._found.get(tuple(words[at : at + size]))
                if hit and at + size <= len(words):  # a slice is shorter at the end
                    yield at, size, *hit
                    end = at + size
                    break


def _parts(category: Category) -> set[str]:
    return {*_words(category.label), *(character for name in category.names.values() for character in name)}
