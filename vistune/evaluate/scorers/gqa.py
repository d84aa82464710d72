"""GQA: exact match after LLaVA's post-processing (scripts/convert_gqa_for_eval.py: no final periods, lower case).

GQA's own eval.py compares text as it is, so what a model says is brought to that form first. lmms-eval also ignores
all punctuation and case on both sides, and so scores a little higher.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def exact(prediction: str, answer: str) -> float:
    """1 where they are the same, else 0. Spaces count.

    >>> exact("Left.", "left"), exact(" yes", "yes")
    (1.0, 0.0)
    """
    return float(prediction.rstrip(".").lower() == answer)


def results(doc: Mapping[str, Any], answers: Sequence[str]) -> dict[str, Any]:
    """accuracy: exact match."""
    return {"accuracy": exact(answers[0], doc["answer"])}
