"""OCRBench (arXiv 2305.07895, example.py of MultimodalOCR): an answer is right when it contains a gold text.

Both sides are stripped and lower-cased, and line ends become spaces; for HME100k (formulas) case counts and spaces are
dropped. An empty gold text is contained in everything. A question without an answer scores 0. The result is a sum over
1,000 questions. lmms-eval keeps its sums between two runs of one process, so they add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FORMULAS = "HME100k"


def contains(prediction: str | None, answers: str | Sequence[str], dataset: str = "") -> float:
    """1 or 0.

    >>> contains("It says HELLO\\nworld", ["hello world"]), contains("x", ["X"], "HME100k")
    (1.0, 0.0)
    """
    if prediction is None:
        return 0.0
    wanted = [answers] if isinstance(answers, str) else answers
    return float(any(_shape(answer, dataset) in _shape(prediction, dataset) for answer in wanted))


def _shape(text: str, dataset: str) -> str:
    if dataset == FORMULAS:
        return text.strip().replace("\n", " ").replace(" ", "")
    return text.lower().strip().replace("\n", " ")


def results(doc: Mapping[str, Any], answers: Sequence[str]) -> dict[str, Any]:
    """accuracy of the item; `final_score` sums over items (1,000 in all)."""
    right = contains(answers[0], doc["answers"], doc["dataset"])
    return {"accuracy": right, "final_score": right}


def final_score(values: Sequence[float]) -> float:
    return sum(values)
