"""What the sources say, as far as samples can be held against it: ids, names of objects, files, licences.

Read from the annotation files alone; no image is opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vistune.files import inside, path_digest
from vistune.records import Category
from vistune.sources import Dataset, Tally, load
from vistune.sources.join import annotation_paths, list_rows
from vistune.text import tokens


@dataclass(frozen=True)
class Shown:
    """One annotated image."""

    split: str
    ids: frozenset[str]  # of all annotations: objects, captions, questions
    labels: frozenset[str]  # of all objects, crowds and background included, and of what people said it shows
    attribution: str
    licence: str = ""  # of the image, as its source states it


@dataclass
class Names:
    """Category names in every language, found in text as longest runs of tokens."""

    labels: dict[str, frozenset[str]] = field(default_factory=dict)  # tokens of a name -> categories so named
    longest: int = 0

    def add(self, category: Category) -> None:
        for name in (category.label, *category.names.values()):
            words = tokens(name)
            key = " ".join(words)
            self.labels[key] = self.labels.get(key, frozenset()) | {category.label}
            self.longest = max(self.longest, len(words))

    def mentioned(self, text: str) -> Iterator[frozenset[str]]:
        """For each name in `text`, the categories it may mean. "hot dog" does not mention "dog".

        >>> names = Names()
        >>> for label in ("dog", "hot dog"):
        ...     names.add(Category(label))
        >>> [sorted(found) for found in names.mentioned("Any hot dogs, or a dog?")]
        [['hot dog'], ['dog']]
        """
        words, start = tokens(text), 0
        while start < len(words):
            for size in range(min(self.longest, len(words) - start), 0, -1):
                found = self._lookup(words[start : start + size])
                if found:
                    yield found
                    start += size
                    break
            else:
                start += 1

    def _lookup(self, words: Sequence[str]) -> frozenset[str]:
        key = " ".join(words)
        for end in ("", "s", "es"):  # regular plurals; an irregular one is not found, so nothing is concluded
            if key.endswith(end) and key.removesuffix(end) in self.labels:
                return self.labels[key.removesuffix(end)]
        return frozenset()


@dataclass
class Evidence:
    """One sources folder."""

    images: dict[str, Shown] = field(default_factory=dict)  # AnnotatedImage.id -> what it shows
    names: Names = field(default_factory=Names)
    files: set[tuple[str, str]] = field(default_factory=set)  # (path, sha256) of the annotation files


def read_evidence(root: Path) -> Evidence:
    evidence = Evidence()
    for dataset in load(root)[0]:
        _add(root, dataset, evidence)
    return evidence


def _add(root: Path, dataset: Dataset, evidence: Evidence) -> None:
    evidence.files.update((path, path_digest(inside(root, path))) for path in annotation_paths(dataset))
    # Rows that the reader refuses have been counted by the stages that made samples; here they are not evidence.
    listing = list_rows(root, dataset, [], "validate", Tally())
    for category in listing.vocabulary.values():
        evidence.names.add(category)
    for entry in listing.images.values():
        evidence.images[f"{dataset.name}/{entry.id}"] = Shown(
            dataset.split,
            frozenset(row.record.id for rows in entry.rows.values() for row in rows),
            frozenset(row.record.category.label for row in entry.rows["object"])
            | {row.record.category.label for row in entry.rows["label"] if row.record.present},
            entry.attribution,
            entry.licence,
        )
    for row in listing.dialogues:
        own = row.record
        shown = Shown(dataset.split, frozenset((own.id,)), frozenset(), own.attribution, own.licence)
        evidence.images[row.record.id] = shown
