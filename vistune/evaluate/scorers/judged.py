"""Answers that a judge reads: MM-Vet, LLaVA-Bench, GAVIE, HallusionBench.

A reply that holds no score is counted in a column of its own, `parse_failures`, and is part of no mean: MM-Vet's script
takes it for 0.0, LLaVA-Bench's for [-1, -1], which it then averages in. Each answer is judged `votes` times; its score
is the mean of the votes that could be read, and `spread` the mean of their standard deviations: what the judge itself
adds to the noise. For HallusionBench, whose votes are verdicts, it is the share of votes that differ from that of most.
All scores are shares (MM-Vet and LLaVA-Bench print them times 100, GAVIE times 10).

GAVIE's script writes the width of a box in the place of its height. The task `gavie` shows the judge the true height;
`gavie_original` repeats the slip, for comparison with published numbers.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from vistune.evaluate import judge
from vistune.evaluate.judge import Case
from vistune.evaluate.scorers import hallusionbench

Scores = tuple[float, ...]
"""Shares, in the order of a protocol's columns."""


def mm_vet(reply: str) -> float | None:
    """The correctness, 0 to 1: the text before the first space of the reply.

    >>> mm_vet("0.5 because"), mm_vet("about half"), mm_vet("1.5")
    (0.5, None, None)
    """
    try:
        score = float(reply.split(" ")[0].strip())
    except ValueError:
        return None
    return score if 0 <= score <= 1 else None


def pair_of_scores(reply: str) -> tuple[float, float] | None:
    """The two scores on the first line, as LLaVA's eval_gpt_review_bench.py reads them: commas become spaces, and
    there must be exactly one space between the two, so that "8, 7" fails.

    >>> pair_of_scores("8 7\\nbecause"), pair_of_scores("8,7"), pair_of_scores("8, 7")
    ((8.0, 7.0), (8.0, 7.0), None)
    """
    parts = reply.split("\n")[0].replace(",", " ").split(" ")
    if len(parts) != 2:
        return None
    try:
        return float(parts[0]), float(parts[1])
    except ValueError:
        return None


def gavie(reply: str) -> tuple[float, float] | None:
    """Relevancy and accuracy, 0 to 10: the first number behind each heading's "score of the answer1".

    >>> gavie("Relevancy:\\nscore of the answer1: 8\\nreason: fits\\nAccuracy:\\nscore of the answer1: 6")
    (8.0, 6.0)
    """
    found = []
    for heading in ("relevancy", "accuracy"):
        match = re.search(rf"{heading}\W.*?score of the answer\s*1\W*?(\d+(?:\.\d+)?)", reply, re.I | re.S)
        if match is None or float(match.group(1)) > 10:
            return None
        found.append(float(match.group(1)))
    return found[0], found[1]


def _mm_vet(reply: str) -> Scores | None:
    score = mm_vet(reply)
    return None if score is None else (score,)


def _tenths(pair: tuple[float, float] | None) -> Scores | None:
    return pair and tuple(score / 10 for score in pair)


def _verdict(reply: str) -> Scores | None:
    """0 wrong, 1 right, 2 unclear. The official script takes what else is said for unclear; it is a failure here."""
    said = hallusionbench.verdict(reply)
    return None if said == hallusionbench.UNCLEAR and "unclear" not in reply.lower() else (float(said),)


READERS: dict[str, Callable[[str], Scores | None]] = {
    "mm_vet": _mm_vet,
    "llava_bench": lambda reply: _tenths(pair_of_scores(reply)),  # reference, model
    "gavie": lambda reply: _tenths(gavie(reply)),  # relevancy, accuracy
    "hallusionbench": _verdict,
}
"""How the reply is read to the prompt of the same name in judge_prompts.yaml."""


@cache
def prompts() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(
        (Path(__file__).parent / "judge_prompts.yaml").read_text(encoding="utf-8")
    )
    return found


def case(protocol: str, doc: Mapping[str, Any], answer: str) -> Case:
    """What the judge is asked about an answer."""
    prompt = prompts()[protocol]
    fields = {
        "question": doc["question"],
        "truth": doc["answer"].replace("<AND>", " <AND> ").replace("<OR>", " <OR> "),
        "reference": doc["answer"],
        "answer": answer,
        **{name: str(doc.get(name, "")) for name in ("captions", "seen", "details")},
    }
    # Replaced in one pass: a model's answer may hold braces, or the name of another field.
    user = re.sub(r"\{(\w+)\}", lambda match: fields[match.group(1)], prompt["user"])
    system = ({"role": "system", "content": prompt["system"]},) if prompt["system"] else ()
    sampling = {"temperature": prompt["temperature"], "max_tokens": prompt["max_tokens"]}
    about = tuple(str(doc.get(name, "")) for name in ("category", "subcategory", "set", "figure", "question_id"))
    return Case(doc["id"], protocol, (*system, {"role": "user", "content": user}), sampling, about)


def votes(cases: Sequence[Case]) -> list[list[Scores]]:
    """The votes on each case that could be read. Raises VistuneError without a judge."""
    return [
        [vote for reply in replies if (vote := READERS[one.protocol](reply)) is not None]
        for one, replies in zip(cases, judge.replies(cases), strict=True)
    ]


def score(cases: Sequence[Case], column: int = 0) -> float:
    """Mean over items of the first score: MM-Vet's correctness, GAVIE's relevancy."""
    items = [statistics.fmean(vote[column] for vote in given) for given in votes(cases) if given]
    return statistics.fmean(items) if items else math.nan


def second(cases: Sequence[Case]) -> float:
    """Mean over items of the second score: that of the model in LLaVA-Bench, GAVIE's accuracy."""
    return score(cases, 1)


def relative(cases: Sequence[Case]) -> float:
    """LLaVA-Bench: the model's mean score over the reference's."""
    reference = score(cases)
    return second(cases) / reference if reference else math.nan


def parse_failures(cases: Sequence[Case]) -> float:
    """Share of the votes that hold no score."""
    read = sum(map(len, votes(cases)))
    return 1 - read / sum(len(replies) for replies in judge.replies(cases))


def spread(cases: Sequence[Case]) -> float:
    """Mean standard deviation of an item's votes (of the last score); NaN where nothing was judged twice."""
    found = [statistics.pstdev(vote[-1] for vote in given) for given in votes(cases) if len(given) > 1]
    return statistics.fmean(found) if found else math.nan


def dissent(cases: Sequence[Case]) -> float:
    """HallusionBench, whose votes are verdicts: mean share of an item's votes that differ from its verdict; NaN where
    nothing was judged twice."""
    found = [1 - max(map(given.count, given)) / len(given) for given in votes(cases) if len(given) > 1]
    return statistics.fmean(found) if found else math.nan


def rows(cases: Sequence[Case]) -> list[hallusionbench.Row | None]:
    """HallusionBench: the verdict that most votes give; None where they say nothing."""
    found: list[hallusionbench.Row | None] = []
    for one, given in zip(cases, votes(cases), strict=True):
        category, subcategory, group, figure, question = one.about
        said = int(statistics.mode(vote[0] for vote in given)) if given else -1
        found.append((category, subcategory, group, figure, question, said) if given else None)
    return found


def _accuracies(cases: Sequence[Case]) -> dict[str, float]:
    return hallusionbench.accuracies([row for row in rows(cases) if row])


def aacc(cases: Sequence[Case]) -> float:
    return _accuracies(cases)["aAcc"]


def facc(cases: Sequence[Case]) -> float:
    return _accuracies(cases)["fAcc"]


def qacc(cases: Sequence[Case]) -> float:
    return _accuracies(cases)["qAcc"]


def results_mm_vet(doc: Mapping[str, Any], answers: Sequence[str]) -> dict[str, Any]:
    one = case("mm_vet", doc, answers[0])
    return {"score": one, "parse_failures": one, "spread": one}


def results_llava_bench(doc: Mapping[str, Any], answers: Sequence[str]) -> dict[str, Any]:
    one = case("llava_bench", doc, answers[0])
    return {"relative": one, "score": one, "parse_failures": one, "spread": one}


def results_gavie(doc: Mapping[str, Any], answers: Sequence[str]) -> dict[str, Any]:
    one = case("gavie", doc, answers[0])
    return {"relevancy": one, "accuracy": one, "parse_failures": one, "spread": one}


def results_hallusionbench(doc: Mapping[str, Any], answers: Sequence[str]) -> dict[str, Any]:
    one = case("hallusionbench", doc, answers[0])
    return {"aAcc": one, "fAcc": one, "qAcc": one, "parse_failures": one, "spread": one}
