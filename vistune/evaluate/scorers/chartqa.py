"""ChartQA relaxed accuracy (arXiv 2203.10244, as in pix2struct's metrics.py): numbers within 5 % of the target are
right, other text must be equal but for case.

"%" divides by 100, so "50" is no answer to "50%". "1,000" is no number. A target of 0 leaves no room and is compared as
text. Five per cent of a year is a century: 2014 is taken for 2015.

How tools differ: the evaluation scripts of Qwen-VL and InternVL pass target and prediction in the wrong order, so there
the error is relative to the prediction (95.0 for 100 is wrong, 105.01 right). lm-eval's own task also compares percents
as they stand, drops commas, currency and quotes, and takes a first letter for the whole of a one-letter target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

TOLERANCE = 0.05


def relaxed(prediction: str, target: str) -> float:
    """1 or 0.

    >>> relaxed("105", "100"), relaxed("105.01", "100"), relaxed("50", "50%"), relaxed("Blue", "blue")
    (1.0, 0.0, 0.0, 1.0)
    """
    said, wanted = _number(prediction), _number(target)
    if said is not None and wanted:
        return float(abs(said - wanted) / abs(wanted) <= TOLERANCE)
    return float(prediction.lower() == target.lower())


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def results(doc: Mapping[str, Any], answers: Sequence[str]) -> dict[str, Any]:
    """accuracy: relaxed, of the answer without surrounding spaces; the best over the targets."""
    return {"accuracy": max(relaxed(answers[0].strip(), target) for target in doc["answers"])}
