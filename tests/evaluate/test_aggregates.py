"""Scores over many items as sums of ratios: the same numbers as the scorers give, on all items and on any part."""

import math
import random
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vistune.answers import Answer, Scores
from vistune.evaluate import aggregates, judge
from vistune.evaluate.judge import Case
from vistune.evaluate.scorers import captions, chair, hallusionbench, judged, mmbench, mme, ocrbench, pope
from vistune.statistics import clustered_error, score, subtract

draw = random.Random(0)
WORDS = ("cat", "dog", "table", "on", "a", "the")


def sentence() -> list[str]:
    return [draw.choice(WORDS) for _ in range(draw.randint(2, 7))]


POPE = [(draw.random() < 0.6, draw.random() < 0.5) for _ in range(60)]
MME = [(s, f"{s}-{n}", draw.random() < 0.7) for s in ("existence", "OCR") for n in range(9) for _ in range(2)]
MMBENCH = [(f"q{n}", turn, draw.random() < 0.8) for n in range(20) for turn in range(4)]
CAPTIONS = [(sentence(), [sentence(), sentence()]) for _ in range(12)]
LONGER = [(sentence() + sentence(), [sentence() + sentence() + sentence()]) for _ in range(200)]
CHAIR = [(chair.named("a dog on a table"), ("dog",)), (chair.named("a cat"), ("cat",)), (chair.named("a"), ("bus",))]
HALLUSION = [
    (draw.choice(("VD", "VS")), "chart", str(n % 3), str(n % 4), str(n % 2), draw.choice((0, 1, 2))) for n in range(24)
]
CASES: list[tuple[Callable[..., float], list[Any]]] = [
    (pope.precision, POPE),
    (pope.recall, POPE),
    (pope.f1, POPE),
    (pope.f1, [(False, True), (False, False)]),
    (mme.perception, MME),
    (mme.cognition, [("code_reasoning", "a", True), ("code_reasoning", "a", False)]),
    (mmbench.circular, MMBENCH),
    (ocrbench.final_score, [1.0, 0.0, 1.0, 1.0]),
    (mmbench.vanilla, MMBENCH),
    (captions.cider, CAPTIONS),
    (captions.bleu_1, CAPTIONS),
    (captions.bleu_4, LONGER),
    (captions.bleu_4, [(["a", "cat"], [["a", "dog", "on"]])] * 3),
    (chair.chair_i, CHAIR),
    (chair.recall, CHAIR),
    (hallusionbench.aacc, HALLUSION),
    (hallusionbench.facc, HALLUSION),
    (hallusionbench.qacc, HALLUSION),
]


def values(aggregation: Callable[..., float], rows: list[Any], answer: Callable[..., Answer]) -> np.ndarray:
    terms = aggregates.of_items({"m": aggregation}, [{"m": row} for row in rows])
    answers = [answer(f"b/{n:03d}", "tuned", "image", 1.0, metrics={}, terms=t) for n, t in enumerate(terms)]
    column = Scores(answers).column(["b"], "tuned", "image", "m")
    assert column is not None
    return column.values


@pytest.mark.parametrize(("aggregation", "rows"), CASES)
def test_terms_give_the_scorers_number(
    aggregation: Callable[..., float], rows: list[Any], answer: Callable[..., Answer]
) -> None:
    assert score(values(aggregation, rows, answer)) == pytest.approx(aggregation(rows), abs=1e-9)


def test_a_resampled_score_is_the_score_of_the_resampled_items(answer: Callable[..., Answer]) -> None:
    """F1 and MME of drawn images are what the scorer says about these, not a mean of the items' parts."""
    for aggregation, rows, size in ((pope.f1, POPE, 3), (mme.perception, MME, 2)):
        terms = values(aggregation, rows, answer)
        for _ in range(5):
            images = [draw.randrange(len(rows) // size) for _ in range(len(rows) // size)]
            drawn = [size * image + n for image in images for n in range(size)]
            again = [rows[n] for n in drawn]
            if aggregation is mme.perception:  # an image drawn twice is two images
                again = [(s, f"{p}/{n // 2}", right) for n, (s, p, right) in enumerate(again)]
            assert score(terms[drawn]) == pytest.approx(aggregation(again), abs=1e-9)


def test_bleu_has_the_interval_of_resampled_bleu(answer: Callable[..., Answer]) -> None:
    """Linearised, against computing it anew from the drawn captions."""
    again = [captions.bleu([LONGER[draw.randrange(200)] for _ in range(200)], 4) for _ in range(150)]
    error = clustered_error(values(captions.bleu_4, LONGER, answer), range(200))
    assert error == pytest.approx(statistics.stdev(again), rel=0.15)


def test_judged_scores_have_terms_and_unread_votes_none(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[..., Answer]
) -> None:
    said = {"a": ["0.5", "0.7"], "b": ["maybe", "1.0"], "c": ["?", "?"]}
    monkeypatch.setattr(judge, "replies", lambda cases: [said[case.item] for case in cases])
    cases = [Case(item, "mm_vet", (), {}) for item in said]
    for aggregation in (judged.score, judged.spread, judged.parse_failures):
        assert score(values(aggregation, cases, answer)) == pytest.approx(aggregation(cases))
    assert score(values(judged.score, cases, answer)) == pytest.approx((0.6 + 1.0) / 2)


def test_hallusionbench_with_a_judge_counts_figures_and_pairs(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[..., Answer]
) -> None:
    words = [draw.choice(("correct", "incorrect", "correct", "unclear", "?")) for _ in HALLUSION]
    monkeypatch.setattr(judge, "replies", lambda cases: [[words[int(case.item)]] for case in cases])
    cases = [Case(str(n), "hallusionbench", (), {}, row[:5]) for n, row in enumerate(HALLUSION)]
    for aggregation in (judged.aacc, judged.facc, judged.qacc):
        assert score(values(aggregation, cases, answer)) == pytest.approx(aggregation(cases))
    assert math.isnan(judged.dissent(cases))
    replies = [["correct", "correct", "incorrect", "?"], ["unclear", "unclear"], ["correct", "?"]]
    monkeypatch.setattr(judge, "replies", lambda cases: [replies[int(case.item)] for case in cases])
    assert judged.dissent(cases[:3]) == pytest.approx((1 / 3 + 0) / 2), "of the answers that were read twice"
    assert score(values(judged.dissent, cases[:3], answer)) == pytest.approx(1 / 6)


def test_a_difference_is_a_sum_of_ratios_as_well(answer: Callable[..., Answer]) -> None:
    a, b = values(pope.f1, POPE, answer), values(pope.f1, [(not said, truth) for said, truth in POPE], answer)
    assert score(subtract(a, b)) == pytest.approx(score(a) - score(b))


def test_several_benchmarks_count_equally_where_the_metric_is_no_mean(answer: Callable[..., Answer]) -> None:
    sets = {"random": POPE[:40], "popular": POPE[40:]}
    answers = []
    for name, rows in sets.items():
        terms = aggregates.of_items({"f1": pope.f1}, [{"f1": row} for row in rows])
        answers += [answer(f"{name}/{n:02d}", "tuned", "image", 1.0, terms=t) for n, t in enumerate(terms)]
    scores = Scores(answers)
    both = scores.column(list(sets), "tuned", "image", "f1")
    assert both and score(both.values) == pytest.approx(sum(pope.f1(rows) for rows in sets.values()) / 2)
    assert scores.metrics("random") == ["accuracy", "accuracy_sum", "f1", "greedy"]
    assert scores.column(["random", "none"], "tuned", "image", "f1") is None


def test_items_that_hang_together_are_one_cluster() -> None:
    docs = [
        {"id": "1", "images": ["b"], "group": "set"},
        {"id": "2", "images": ["c", "a"]},
        {"id": "3", "images": [], "group": "set"},
        {"id": "4", "images": []},
        {"id": "5", "images": ["c"], "group": ""},
        {"id": "6", "images": ["d"]},
    ]
    found = aggregates.clusters(docs, lambda doc: [{"sha256": sha} for sha in doc["images"]])
    assert found[0] == found[2] and found[1] == found[4] == "a" and found[5] == "d"
    assert len(set(found)) == 4
