"""Metrics of which less is better, or neither more nor less: the margin is on the right side, and nothing passes by
saying nothing."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vistune.answers import Answer, Scores
from vistune.evaluate import page, scorecard
from vistune.evaluate.gate import Gate, Protected, Target, decide

LESS = {"chair": {"hallucinated": False, "chair_i": False, "words": None}}
IMAGES = 80


def captions(model: str, condition: str, share: float, **more: Any) -> list[Answer]:
    """One caption about each image; so large a share of them invents something."""
    rows = []
    for n in range(IMAGES):
        invents = float((n * 7) % IMAGES < share * IMAGES)
        metrics = {"hallucinated": invents, "right": 1 - invents, "words": 9.0}
        terms = {"chair_i": {"": (2 * invents, 4.0)}}
        about = {"benchmark": "chair", "task": "", "concepts": "external", "image": f"{n}", "path": "", "question": ""}
        said = {"gold": "", "kind": "generation", "answer": "", "metrics": metrics, "scores": {}, "terms": terms}
        rows.append(Answer(**{"item": f"chair/{n:03d}", "model": model, "condition": condition} | about | said | more))
    return rows


def answers(tuned: float, base: float, shuffled: float = 0.9) -> list[Answer]:
    return captions("tuned", "image", tuned) + captions("base", "image", base) + captions("tuned", "shuffled", shuffled)


def gate(metric: str, margin: float = 0.05, above: float = 0.0) -> Gate:
    return Gate(Target(("chair",), above=above, metric=metric), (Protected(("chair",), margin, metric),))


@pytest.mark.parametrize("metric", ["hallucinated", "chair_i"])
@pytest.mark.parametrize(
    ("tuned", "base", "target", "protected"),
    [
        (0.2, 0.6, "pass", "pass"),  # invents less
        (0.6, 0.2, "fail", "fail"),  # invents more: the sign that must not be turned round
        (0.4, 0.4, "fail", "inconclusive"),  # the same captions: 80 images do not exclude one in 50
    ],
)
def test_fewer_inventions_are_better(metric: str, tuned: float, base: float, target: str, protected: str) -> None:
    margin = 0.05 if tuned != base else 0.02
    verdict = decide(gate(metric, margin), Scores(answers(tuned, base), LESS), seed=0, replicates=300)
    found, looks, kept = verdict["checks"]
    assert (found["verdict"], kept["verdict"]) == (target, protected)
    assert found["comparison"] == kept["comparison"] == "base - tuned" and found["higher_is_better"] is False
    share = 1.0 if metric == "hallucinated" else 0.5
    assert found["estimate"]["mean"] == pytest.approx(share * (base - tuned), abs=1e-9)
    assert looks["comparison"] == "shuffled - image" and looks["verdict"] == "pass"
    assert f"base - tuned (less {metric} is better)" in found["reason"]
    assert kept["bound"] == -margin


def test_a_rise_within_the_margin_is_borne_and_one_beyond_it_is_not() -> None:
    """Five captions of 80 more: 6 points, against margins of 20 and of 3."""
    scores = Scores(answers(0.3625, 0.3), LESS)
    verdicts = [decide(gate("hallucinated", margin), scores, 0, 300)["checks"][-1] for margin in (0.2, 0.03)]
    assert [check["verdict"] for check in verdicts] == ["pass", "inconclusive"]
    assert verdicts[0]["estimate"]["mean"] == pytest.approx(-5 / 80)
    assert -0.2 < verdicts[0]["low_one_sided"] < -5 / 80


@settings(max_examples=15, deadline=None)
@given(
    tuned=st.floats(0, 1), base=st.floats(0, 1), margin=st.floats(0.01, 0.3), above=st.floats(-0.1, 0.1), together=...
)
def test_less_of_a_metric_is_more_of_its_opposite(
    tuned: float, base: float, margin: float, above: float, together: bool
) -> None:
    """Verdict, interval, p-values, bounds and images needed are the same for a share and for what it leaves of 1."""
    scores = Scores(answers(tuned, base), LESS)
    found = {}
    for metric in ("hallucinated", "right"):
        improve = "together" if together else "any"
        rule = Gate(
            Target(("chair",), ("base",), above, metric, improve),
            (Protected(("chair",), margin, metric),),
        )
        verdict = decide(rule, scores, 0, 100)
        told = [*verdict["checks"], *verdict["considered"]]
        drop = ("comparison", "reason", "metric", "higher_is_better")
        found[metric] = [{k: v for k, v in check.items() if k not in drop} for check in told]
    for less, more in zip(found["hallucinated"], found["right"], strict=True):
        assert less.pop("verdict") == more.pop("verdict")
        assert less.pop("estimate") == pytest.approx(more.pop("estimate"), abs=1e-9)
        assert less.pop("benchmarks") == more.pop("benchmarks")
        for key in less:
            assert less[key] == (pytest.approx(more[key], abs=1e-9) if isinstance(more[key], float) else more[key]), key


def test_images_that_invent_nothing_do_not_prove_too_much() -> None:
    """80 pictures without an invention on either side: a rise of one in 50 is not excluded, of one in 12 it is."""
    scores = Scores(answers(0.0, 0.0), LESS)
    for metric in ("hallucinated", "chair_i"):
        kept = [decide(gate(metric, m), scores, 0, 200)["checks"][-1]["verdict"] for m in (0.02, 0.08)]
        assert kept == ["inconclusive", "pass"], metric


def test_naming_nothing_is_not_the_best_score() -> None:
    silent = [
        Answer(**{**vars(a), "terms": {"chair_i": {"": (0.0, 0.0)}}}) if a.model == "tuned" else a
        for a in answers(0.0, 0.5)
    ]
    verdict = decide(gate("chair_i"), Scores(silent, LESS), seed=0, replicates=100)
    assert [check["verdict"] for check in verdict["checks"]] == ["fail"] * 3
    assert "not a number, so it cannot pass" in verdict["checks"][0]["reason"]
    column = Scores(silent, LESS).column(["chair"], "tuned", "image", "chair_i")
    assert column is not None and all(math.isnan(x) for x in column.values.ravel())


def test_what_is_neither_better_nor_worse_cannot_pass() -> None:
    verdict = decide(gate("words"), Scores(answers(0.1, 0.5), LESS), seed=0, replicates=100)
    assert verdict["verdict"] == "fail" and "more words is neither better nor worse" in verdict["reasons"][0]
    # Nor a metric that one benchmark wants high and another low.
    rows = [Answer(**{**vars(a), "item": f"o/{a.item}", "benchmark": "other"}) for a in answers(0.1, 0.5)]
    both = Scores([*answers(0.1, 0.5), *rows], LESS)
    target = Target(("chair", "other"), ("base",), metric="hallucinated")
    assert decide(Gate(target), both, 0, 100)["verdict"] == "fail"
    assert both.higher_is_better(["other"], "hallucinated") and not both.higher_is_better(["chair"], "hallucinated")


def test_the_page_says_which_way_is_better(answer: Callable[..., Answer]) -> None:
    rows = answers(0.1, 0.5)
    about = {"chair": {"task": "", "concepts": "external", "trained_task": False, "licence": ""}}
    runs = {"base": ["image"], "tuned": ["image", "shuffled"]}
    card = scorecard.build(Scores(rows, LESS), {}, about, runs, 0, 50, 0.95)
    told = {row["metric"] for row in page.measured(card)}
    assert told == {"hallucinated ↓", "chair i ↓", "words", "right ↑"}
    tables = {table["metric"]: table["higher_is_better"] for table in card["benchmarks"][0]["metrics"]}
    assert (
        json.dumps(tables, sort_keys=True) == '{"chair_i": false, "hallucinated": false, "right": true, "words": null}'
    )
