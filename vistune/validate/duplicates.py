"""Rows that say the same about the same picture: exact after normalisation, then nearly the same.

Only rows about one picture are compared: "What colour is the bus?" under a thousand pictures is a thousand rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vistune.records import Reject, Sample
from vistune.text import normalise, tokens

SIDES = (
    {"left", "right", "top", "bottom", "above", "below", "front", "behind", "upper", "lower", "inside", "outside"}
    | {"yes", "no", "not", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"}
    | set("左右上下前后里外没不一二两三四五六七八九十")
)
"""Words that change what a sentence states, besides names and digits."""


def remove_exact(samples: Iterable[Sample], pixels: Mapping[str, str]) -> tuple[list[Sample], list[Reject]]:
    """Keeps the first row by id of those with equal turns about equal pixels. pixels: file sha256 -> pixel digest."""
    first: dict[tuple[object, ...], str] = {}
    kept, rejects = [], []
    for s in sorted(samples, key=lambda s: s.id):
        turns = tuple((m.role, normalise(m.text) or m.text) for m in s.messages)
        key = (s.split, _pictures(s, pixels), turns)
        if key in first:
            detail = f"same text and picture as {first[key]}."
            rejects.append(Reject("validate", s.id, "duplicate_exact", detail))
        else:
            first[key] = s.id
            kept.append(s)
    return kept, rejects


@dataclass(frozen=True)
class Said:
    """What a row asks and answers, as tokens."""

    sample: Sample
    asked: frozenset[str]
    answer: list[str]
    facts: Counter[str]


def remove_near(
    samples: Sequence[Sample], pixels: Mapping[str, str], threshold: float, words: int
) -> tuple[list[Sample], list[Reject], int]:
    """Keeps the first row by id of those that say nearly the same in answer to one task about one picture. Returns
    also how many rows were compared: those whose response has at least `words` tokens.

    A short response carries its meaning in one word, where overlap says nothing: "yes" to two questions is no
    duplicate. See `near` for what makes two long ones alike.
    """
    names = {word for s in samples for r in s.regions for word in tokens(r.label)}
    groups: dict[tuple[object, ...], list[Said]] = {}
    for s in sorted(samples, key=lambda s: s.id):
        answer = [word for m in s.messages if m.role == "assistant" for word in tokens(m.text)]
        if s.images and len(answer) >= words:
            asked = frozenset(word for m in s.messages if m.role == "user" for word in tokens(m.text))
            facts = Counter(w for w in answer if w in names or w in SIDES or w.isdecimal())
            key = (s.split, s.task, s.language, _pictures(s, pixels))
            groups.setdefault(key, []).append(Said(s, asked, answer, facts))
    rejects: dict[str, Reject] = {}
    for group in groups.values():
        for n, later in enumerate(group):
            for first in group[:n]:
                if first.sample.id not in rejects and (score := near(first, later, threshold)):
                    detail = f"its response has ROUGE-L {score:.2f} to that of {first.sample.id}."
                    rejects[later.sample.id] = Reject("validate", later.sample.id, "duplicate_near", detail)
                    break
    kept = [s for s in samples if s.id not in rejects]
    return kept, list(rejects.values()), sum(len(g) for g in groups.values())


def near(a: Said, b: Said, threshold: float) -> float:
    """The ROUGE-L F1 of two responses if it is above `threshold` and they state the same, else 0.

    They do not state the same when they differ in a name (of a region anywhere in the data), a digit or a side, or
    in a word that also tells their questions apart: "There are no frogs, but two cats" answers "How many frogs?".
    """
    if a.facts != b.facts:
        return 0.0
    score = rouge_l(a.answer, b.answer)
    differ = set((Counter(a.answer) - Counter(b.answer)) + (Counter(b.answer) - Counter(a.answer)))
    return score if score > threshold and not differ & (a.asked ^ b.asked) else 0.0


def rouge_l(a: Sequence[str], b: Sequence[str]) -> float:
    """ROUGE-L F1 (Lin 2004) of two token sequences: 0 to 1.

    >>> rouge_l("a red bus".split(), "a blue bus".split())
    0.6666666666666666
    """
    from rapidfuzz.distance import LCSseq

    return 2 * LCSseq.similarity(a, b) / (len(a) + len(b)) if a or b else 1.0


def _pictures(s: Sample, pixels: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(pixels[i.sha256] for i in s.images)
