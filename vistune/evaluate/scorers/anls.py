"""ANLS, average normalised Levenshtein similarity (DocVQA, InfographicVQA, ST-VQA; arXiv 1905.13648).

1 minus the edit distance over the longer length, the best over the valid answers, and 0 below the threshold of 0.5.
The paper gives 0 from a normalised distance of 0.5 on; the competition's script (RRC, used here) and Pythia's keep
exactly 0.5, so "13" for "12" is worth 0.5. The script compares lower-cased text with single spaces, but divides by the
raw lengths; an empty answer to an empty target is right. Pythia's variant (`similarity_m4c`) only strips and lowers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

THRESHOLD = 0.5


def anls(prediction: str, answers: Sequence[str], threshold: float = THRESHOLD) -> float:
    """The competition's score of one answer.

    >>> round(anls("ITC Limited.", ["itc limited"]), 4), anls("he", ["hello"]), anls("13", ["12"])
    (0.9167, 0.0, 0.5)
    """
    from rapidfuzz.distance import Levenshtein

    said, shortest = " ".join(prediction.strip().lower().split()), 1.0
    for answer in answers:
        longer = max(len(answer.upper()), len(prediction.upper()))
        wanted = " ".join(answer.strip().lower().split())
        shortest = min(shortest, Levenshtein.distance(wanted, said) / longer if longer else 0.0)
    score = 1.0 - shortest
    return score if score >= threshold else 0.0


def similarity_m4c(prediction: str, answer: str) -> float:
    """Pythia's score against one answer. Its script divides by zero when both are empty; here that is 1.

    >>> similarity_m4c("HELLO ", "hello"), similarity_m4c("", "")
    (1.0, 1.0)
    """
    from rapidfuzz.distance import Levenshtein

    said, wanted = prediction.lower().strip(), answer.lower().strip()
    longer = max(len(said), len(wanted))
    score = 1 - Levenshtein.distance(said, wanted) / longer if longer else 1.0
    return score if score >= THRESHOLD else 0.0


def results(doc: Mapping[str, Any], answers: Sequence[str]) -> dict[str, Any]:
    """anls: the competition's."""
    return {"anls": anls(answers[0], doc["answers"])}
