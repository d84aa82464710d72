"""Leakage: pictures and questions of held-out data that also occur in training.

Pictures that show the same, and samples of one group, form a cluster. A cluster that reaches into a benchmark or a
later split loses its earlier samples: benchmarks win over train, test over validation, validation over train.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vistune.errors import VistuneError
from vistune.records import Reject, Sample
from vistune.sources import BenchmarkItem
from vistune.text import normalise

RANK = {"train": 0, "validation": 1, "test": 2}

SLOT_WORDS = 3
"""A question with its choices cut out says which kind it is only if this many other words are left."""

ARTICLES = re.compile(r"\b(?:a|an|the) ")


class Clusters:
    """Union-find over names; a cluster is called after its smallest name, whatever the order of joins."""

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}

    def find(self, name: str) -> str:
        self.parent.setdefault(name, name)
        root = name
        while self.parent[root] != root:
            root = self.parent[root]
        while self.parent[name] != root:
            self.parent[name], name = root, self.parent[name]
        return root

    def join(self, a: str, b: str) -> None:
        low, high = sorted((self.find(a), self.find(b)))
        self.parent[high] = low


@dataclass(frozen=True)
class Pictures:
    """Which picture each image file shows, and which pictures are alike."""

    of: Mapping[str, str]  # sha256 of the file -> digest of its decoded pixels
    alike: Sequence[tuple[str, str]]  # pairs of pixel digests

    def clusters(self, samples: Iterable[Sample]) -> Clusters:
        clusters = Clusters()
        for a, b in self.alike:
            clusters.join(a, b)
        for s in samples:
            for image in s.images:
                clusters.join(f"group {s.group}", self.of[image.sha256])
        return clusters


def remove_leaks(
    samples: Sequence[Sample],
    items: Sequence[BenchmarkItem],
    pictures: Pictures,
    clusters: Clusters,
    level: Literal["image", "question"],
) -> tuple[list[Sample], list[Reject]]:
    """Samples that no held-out data shares a picture with, and rejects for the others.

    With level "question" a benchmark removes only rows that also ask one of its questions about that picture.
    """
    asked: dict[str, list[BenchmarkItem]] = {}
    for item in sorted(items, key=lambda i: i.id):
        asked.setdefault(clusters.find(pictures.of[item.image.sha256]), []).append(item)
    splits: dict[str, dict[str, Sample]] = {}
    for s in samples:
        splits.setdefault(clusters.find(f"group {s.group}"), {}).setdefault(s.split, s)
    kept, rejects = [], []
    for s in samples:
        cluster = clusters.find(f"group {s.group}")
        reject = None
        if s.split == "train" and cluster in asked:
            reject = _benchmark_leak(s, asked[cluster], pictures, level)
        last = max(splits[cluster], key=RANK.__getitem__)
        if reject is None and RANK[last] > RANK[s.split]:
            other = splits[cluster][last]
            how = _how(s, other.images[0].sha256, pictures) if other.images else "belongs to the group"
            reject = Reject("validate", s.id, f"leakage:{last}", f"its image {how} of {other.id} in {last}.")
        if reject:
            rejects.append(reject)
        else:
            kept.append(s)
    return kept, rejects


def _benchmark_leak(
    s: Sample, items: list[BenchmarkItem], pictures: Pictures, level: Literal["image", "question"]
) -> Reject | None:
    questions = {normalise(m.text) for m in s.messages if m.role == "user"} | {normalise(s.instruction)}
    same = [item for item in items if normalise(item.question) in questions]
    if level == "question" and not same:
        return None
    item = (same or items)[0]
    also = ", and it asks the same" if same else ""
    how = _how(s, item.image.sha256, pictures)
    return Reject("validate", s.id, f"leakage:{item.benchmark}", f"its image {how} of {item.id}{also}.")


def _how(s: Sample, sha256: str, pictures: Pictures) -> str:
    same = any(pictures.of[i.sha256] == pictures.of[sha256] for i in s.images)
    return "has the pixels of the image" if same else "nearly equals the image"


def refuse_held_out_wording(samples: Iterable[Sample], items: Iterable[BenchmarkItem]) -> int:
    """Raises VistuneError when training asks a question in the words of a task kind that is declared never trained.
    Returns the number of training rows looked at.

    A question matches with any names in place of the benchmark's choices: a training row "Is it a fox or an owl?"
    matches the benchmark's "Is it a cat or a dog?".
    """
    exact: dict[str, str] = {}
    slotted: dict[str, str] = {}
    for item in items:
        skeleton = wording(item.question, item.choices)
        words = [w for w in skeleton.split() if w != "_"]
        if "_" in skeleton.split() and len(words) >= SLOT_WORDS:
            slotted.setdefault(skeleton, item.benchmark)
        else:
            exact.setdefault(wording(item.question), item.benchmark)
    names = list(slotted)
    patterns = ["(" + ".+".join(re.escape(part) for part in name.split("_")) + ")" for name in names]
    pattern = re.compile("|".join(patterns)) if patterns else None
    found: list[tuple[str, str, str]] = []
    looked = 0
    for s in samples:
        if s.split != "train":
            continue
        looked += 1
        for text in dict.fromkeys([s.instruction, *(m.text for m in s.messages if m.role == "user")]):
            asked = wording(text)
            benchmark = exact.get(asked, "")
            # A format instruction ("Answer with one word.") may follow, so only the beginning has to match.
            if not benchmark and pattern and (match := pattern.match(asked)):
                benchmark = slotted[names[(match.lastindex or 1) - 1]]
            if benchmark:
                found.append((s.id, benchmark, text))
                break
    if found:
        shown = "; ".join(f"{id} asks {text!r:.90} as {benchmark} does" for id, benchmark, text in found[:10])
        raise VistuneError(
            f"{len(found)} training rows ask in the words of a task kind that a benchmark declares never trained: "
            f"{shown}. Remove the template or data that makes them, or set the benchmark's trained_task to true in "
            "`sources` if this kind is meant to be trained."
        )
    return looked


def wording(question: str, choices: Iterable[str] = ()) -> str:
    """A question without case, punctuation and articles, its choices replaced by "_".

    >>> wording("Is it a Cat or an old owl?", ("cat", "old owl"))
    'is it _ or _'
    """
    text = f" {ARTICLES.sub('', normalise(question) + ' ').strip()} "
    for choice in sorted({ARTICLES.sub("", normalise(c) + " ").strip() for c in choices}, key=len, reverse=True):
        if choice:
            text = text.replace(f" {choice} ", " _ ")
    return text.strip()
