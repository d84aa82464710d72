"""A candidate beside a champion, with planted answers."""

import json
import math
from dataclasses import replace

import pytest

from vistune.comparison import Comparison, compare, rows

GATE = {"target": {"benchmarks": ["naming"], "metric": "accuracy"}}
VERDICT = {"gate": GATE, "checks": [{"role": "target"}]}


def answered(right, benchmark="naming", metric="accuracy"):
    """One question about each image; right: whether it was answered rightly."""
    found = enumerate(float(one) for one in right)
    return [
        {"benchmark": benchmark, "item": f"{benchmark}/{n}", "image": f"i{n}", "metrics": {metric: v}} for n, v in found
    ]


def beside(ours, theirs, verdict=VERDICT):
    return compare("3", ours, theirs, verdict, seed=0)


@pytest.mark.parametrize(
    ("right", "mean", "said"),
    [
        ([0] * 40 + [1] * 60, -0.2, "worse"),
        ([1] * 80 + [0] * 20, 0.0, "neither better nor worse for certain"),
        ([1] * 100, 0.2, "better"),
        ([1] * 80 + [1, 0] * 10, 0.1, "better"),
    ],
)
def test_the_interval_decides(right, mean, said):
    found = beside(answered(right), answered([1] * 80 + [0] * 20))
    assert found.estimate.mean == pytest.approx(mean)
    assert (found.estimate.items, found.estimate.images) == (100, 100)
    assert found.worse == (found.estimate.high < 0) == (said == "worse")
    assert found.sentence.endswith(f"about 100 images: {said}.")


def test_a_small_loss_is_not_shown_to_be_one():
    found = beside(answered([1] * 78 + [0] * 22), answered([1] * 80 + [0] * 20))
    assert found.estimate.mean == pytest.approx(-0.02) and not found.worse and found.estimate.high >= 0


def test_questions_of_one_image_are_one_observation():
    """Eight questions of each of five images: 40 independent ones would show this loss, five images do not."""
    ours, theirs = answered([1, 0] * 20), answered([1] * 40)
    few = [[{**row, "image": f"i{n // 8}"} for n, row in enumerate(side)] for side in (ours, theirs)]
    uneven = answered([0] * 8 + [1] * 8 + [0] * 8 + [1] * 16)
    few[0] = [{**row, "image": f"i{n // 8}"} for n, row in enumerate(uneven)]
    assert beside(uneven, theirs).worse
    found = beside(*few)
    assert found.estimate.images == 5 and not found.worse


def test_pairs_are_by_item_whatever_the_order():
    ours, theirs = answered([1, 1, 0, 0] * 10), answered([1, 0, 1, 0] * 10)
    assert beside(ours, theirs) == beside(ours[::-1], theirs[5:] + theirs[:5])
    assert beside(ours, theirs[:20]).estimate.items == 20, "what one of both was not asked counts for neither"


def test_less_can_be_better():
    verdict = {**VERDICT, "checks": [{"role": "target", "higher_is_better": False}]}
    found = beside(answered([0] * 100), answered([1] * 60 + [0] * 40), verdict)
    assert found.estimate.mean == pytest.approx(0.6) and "(less accuracy is better)" in found.sentence


def test_ratios_are_computed_anew():
    """F1 of 2 TP over (said yes + is yes): 1 for the candidate, 2/3 for the champion."""
    gate = {"target": {"benchmarks": ["*"], "metric": "f1"}}
    pairs = [(f"p/{n}", f"i{n}") for n in range(40)]
    sides = []
    for hit in ([True] * 40, [True, False] * 20):
        terms = [{"f1": {"": [2.0 * h, h + 1.0]}} for h in hit]
        sides.append(
            [
                {"benchmark": "p", "item": i, "image": m, "metrics": {}, "terms": t}
                for (i, m), t in zip(pairs, terms, strict=True)
            ]
        )
    found = beside(*sides, {"gate": gate, "checks": []})
    assert found.estimate.mean == pytest.approx(1 - 2 * 20 / 60)
    assert found.benchmarks == ("p",)


@pytest.mark.parametrize(
    ("theirs", "verdict", "said"),
    [
        (answered([1] * 9, metric="f1"), VERDICT, "one of both has no accuracy of naming"),
        (answered([1], "other"), VERDICT, "one of both has no accuracy of naming"),
        ([], VERDICT, "one of both has no accuracy"),
        (answered([1]), VERDICT, "1 image in common give no interval"),
        (answered([1] * 9), {"gate": None}, "the gate declares no target"),
        (
            answered([1] * 9),
            {**VERDICT, "checks": [{"role": "target", "higher_is_better": None}]},
            "the gate declares no",
        ),
    ],
)
def test_what_cannot_be_compared_says_why(theirs, verdict, said):
    found = beside(answered([1] * 9), theirs, verdict)
    assert (found.estimate, found.worse) == (None, False)
    assert found.sentence.startswith("not compared with champion version 3: ") and said in found.sentence


def test_what_is_kept_of_the_answers(tmp_path):
    one = {"benchmark": "b", "item": "b/1", "kind": "choice", "image": "i", "metrics": {"accuracy": 1.0}, "cluster": ""}
    private = {"question": "Who?", "answer": "me", "gold": "me", "scores": {"me": -1.0}}
    written = [
        {**one, **private, "model": model, "condition": condition, "item": item}
        for model, condition, item in [
            ("tuned", "image", "b/2"),
            ("tuned", "image", "b/1"),
            ("tuned", "none", "b/1"),
            ("base", "image", "b/1"),
            ("tuned", "image", "b/seen"),
        ]
    ]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in written))
    (tmp_path / "contaminated.json").write_text('["b/seen"]')
    assert rows(tmp_path) == [one, {**one, "item": "b/2"}]


def test_the_tag_gives_the_same_comparison_back():
    found = beside(answered([1, 0] * 20), answered([0, 1] * 20))
    assert Comparison.read(json.loads(json.dumps(found.facts()))) == found
    lost = Comparison("3", missing="why")
    assert Comparison.read(json.loads(json.dumps(lost.facts()))) == lost
    assert not replace(found, estimate=replace(found.estimate, high=math.nan)).worse
