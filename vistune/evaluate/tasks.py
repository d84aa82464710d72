"""What the task files in eval/tasks call: documents of a benchmark, and the metrics of one document.

A document is one question with its choices and a reference to its image (digest and path, no pixels).
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.hashing import keyed
from vistune.sources import Benchmark, load, read_benchmark

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {word: str(n) for n, word in enumerate(WORDS)}


class Docs(list[dict[str, Any]]):
    """The documents of one task, as lm-eval wants a split: a sequence that knows its columns."""

    def __init__(self, rows: Sequence[dict[str, Any]], total: int) -> None:
        super().__init__(rows)
        self.total = total  # in the benchmark, before the limit
        self.features = dict.fromkeys(rows[0]) if rows else {}


def docs(benchmark: str, sources: str, seed: int, limit: int | None = None, **_: Any) -> dict[str, Docs]:
    """The benchmark's questions about at most `limit` images. Which images is a keyed choice of their digests, so
    benchmarks over the same images keep the same ones."""
    root, known = Path(sources), _benchmarks(sources)
    if benchmark not in known:
        raise VistuneError(
            f"the evaluation suite needs the benchmark {benchmark!r}; the sources hold {', '.join(known) or 'none'}. "
            "Set evaluate.suite to one that fits your sources, for example 'all'."
        )
    items = read_benchmark(root, known[benchmark])
    if not items:
        raise VistuneError(f"benchmark {benchmark} has no questions. Remove it from the sources, or add questions.")
    shas = {item.image.sha256 for item in items}
    chosen = set(sorted(shas, key=lambda sha: (keyed(seed, "limit", sha), sha))[:limit])
    rows = []
    for item in items:
        if item.image.sha256 in chosen:
            row = asdict(item) | {"choices": list(item.choices), "gold": item.choices.index(item.answer)}
            rows.append(row | {"pool": f"{item.concepts} images in {Path(item.image.path).parent.as_posix()}"})
    return {"test": Docs(rows, len(items))}


@cache
def _benchmarks(sources: str) -> dict[str, Benchmark]:
    return {b.name: b for b in load(Path(sources))[1]}


def generated_docs(generated_images: int, **arguments: Any) -> dict[str, Docs]:
    """The questions that are answered in free text: those about the first `generated_images` images of `docs`."""
    return docs(**arguments | {"limit": generated_images})


def best(scores: Sequence[float]) -> int:
    """The first choice with the highest score.

    >>> best([-2.0, -1.0, -1.0])
    1
    """
    return max(range(len(scores)), key=lambda n: scores[n])


def choice_results(doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, Any]:
    """Metrics of a multiple-choice question from the log-likelihood of each choice.

    acc: the gold choice has the highest mean log-probability per token, end of turn included (the score we report:
    names differ in length). acc_sum: the highest sum. greedy: the gold choice is what greedy decoding would say.
    predicted: the chosen text.
    """
    choice = best([r.mean for r in results])
    return {
        "acc": float(choice == doc["gold"]),
        "acc_sum": float(best([r[0] for r in results]) == doc["gold"]),
        "greedy": float(results[doc["gold"]][1]),
        "predicted": doc["choices"][choice],
    }


def generation_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """exact_match: the free answer equals the gold answer after `normalise`."""
    return {"exact_match": float(normalise(results[0]) == normalise(doc["answer"])), "predicted": normalise(results[0])}


def normalise(text: str) -> str:
    """Lower case, no punctuation at the ends of words, no leading article, number words as digits.

    >>> normalise(" A fire engine. "), normalise("Two"), normalise("T-shirt")
    ('fire engine', '2', 't-shirt')
    """
    words = [w.strip(string.punctuation) for w in text.lower().split()]
    words = [NUMBERS.get(w, w) for w in words if w]
    if len(words) > 1 and words[0] in ("a", "an", "the"):
        words = words[1:]
    return " ".join(words)


def most_frequent(answers: Sequence[str]) -> float:
    """Share of the most frequent prediction: near 1, the model says the same whatever it is asked.

    >>> most_frequent(["yes", "yes", "no"])
    0.6666666666666666
    """
    return Counter(answers).most_common(1)[0][1] / len(answers)
