"""The gate's truth table, on answers made to measure."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from vistune.answers import Answer, Scores
from vistune.errors import VistuneError
from vistune.evaluate.gate import Gate, Protected, Target, decide, load_gate
from vistune.files import write_json
from vistune.statistics import clustered_error, detectable

REPOSITORY = Path(__file__).resolve().parents[2]

LOSS = "no_significant_loss"
GATE = Gate(Target(("new",)), (Protected(("old",), rule=LOSS),))


@pytest.fixture
def outcome(answer: Callable[..., Answer], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The verdict when each side answers a given share of 80 images' questions rightly."""

    def column(benchmark: str, model: str, condition: str, share: float, images: int = 80) -> list[Answer]:
        right = [math.nan if math.isnan(share) else float((n * 7) % images < share * images) for n in range(images)]
        return [answer(f"{benchmark}/{n}", model, condition, right[n]) for n in range(images)]

    def run(
        tuned: float = 0.8,
        base: float = 0.5,
        shuffled: float = 0.5,
        old: tuple[float, float] = (0.6, 0.6),
        gate: Gate = GATE,
        without: tuple[str, str, str] | None = None,
        images: int = 80,
    ) -> dict[str, Any]:
        answers = column("new", "tuned", "image", tuned, images) + column("new", "base", "image", base, images)
        answers += column("new", "tuned", "shuffled", shuffled, images)
        answers += column("old", "tuned", "image", old[1]) + column("old", "base", "image", old[0])
        answers = [a for a in answers if (a.benchmark, a.model, a.condition) != without]
        verdict = decide(gate, Scores(answers), seed=0, replicates=500)
        write_json(tmp_path / "verdict.json", verdict)
        return verdict

    return run


def test_pass_needs_both_comparisons(outcome: Any) -> None:
    verdict = outcome()
    assert verdict["verdict"] == "pass"
    assert len(verdict["reasons"]) == 2 and all("above 0" in reason for reason in verdict["reasons"])
    target = verdict["checks"][0]
    assert target["estimate"]["mean"] == pytest.approx(0.3)
    assert 0 < target["estimate"]["low"] < 0.3 < target["estimate"]["high"]
    assert target["p_value"] < 0.01 and target["detectable"] > 0


def test_a_model_that_does_not_look_is_not_promoted(outcome: Any) -> None:
    verdict = outcome(tuned=0.8, shuffled=0.8)
    assert verdict["verdict"] != "pass"
    assert all("image - shuffled" in reason for reason in verdict["reasons"])


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ({"tuned": 0.5, "base": 0.8}, "fail"),  # clearly worse
        ({"tuned": 0.5, "base": 0.5}, "fail"),  # the same answers: the interval is [0, 0]
        ({"tuned": 0.53, "base": 0.5, "shuffled": 0.2}, "inconclusive"),
        ({"old": (0.9, 0.5)}, "fail"),  # a protected loss outweighs a passed target
        ({"old": (0.61, 0.6)}, "pass"),  # a loss, but not a significant one
        ({"tuned": 0.53, "base": 0.5, "old": (0.9, 0.5)}, "fail"),
        ({"tuned": math.nan}, "fail"),
        ({"base": math.nan}, "fail"),
        ({"shuffled": math.nan}, "fail"),
        ({"old": (math.nan, 0.5)}, "fail"),
        ({"images": 12}, "inconclusive"),  # too few to decide, whatever they show
    ],
)
def test_truth_table(outcome: Any, case: dict[str, Any], expected: str) -> None:
    verdict = outcome(**case)
    assert verdict["verdict"] == expected
    assert verdict["reasons"] and all(isinstance(reason, str) for reason in verdict["reasons"])


@pytest.mark.parametrize(
    "without",
    [("new", "tuned", "image"), ("new", "base", "image"), ("new", "tuned", "shuffled"), ("old", "base", "image")],
)
def test_missing_evidence_fails_closed(outcome: Any, without: tuple[str, str, str]) -> None:
    verdict = outcome(without=without)
    assert verdict["verdict"] == "fail"
    benchmark, model, condition = without
    assert f"no accuracy of {benchmark} by {model} under '{condition}'" in verdict["reasons"][0]


def test_inconclusive_says_how_many_images_would_decide(outcome: Any) -> None:
    verdict = outcome(tuned=0.53, base=0.5, shuffled=0.2)
    (check,) = [c for c in verdict["checks"] if c["verdict"] == "inconclusive"]
    assert check["images_needed"] > 80
    assert f"about {check['images_needed']:,} images would decide" in verdict["reasons"][0]
    assert outcome(images=12)["checks"][0]["images_needed"] >= 30


def test_margin_and_threshold_move_the_verdict(outcome: Any) -> None:
    strict = Gate(Target(("new",), above=0.25), (Protected(("old",), rule=LOSS),))
    assert outcome(gate=strict)["verdict"] == "inconclusive"
    lenient = Gate(Target(("new",)), (Protected(("old",), 0.5),))
    assert outcome(old=(0.9, 0.5), gate=lenient)["verdict"] == "pass"
    everything = Gate(Target(("*",), over=("base",)))
    assert outcome(gate=everything)["checks"][0]["benchmarks"] == ["new", "old"]


def test_items_answered_on_one_side_only_are_refused(answer: Any) -> None:
    answers = [answer(f"new/{n}", "tuned", "image", 1.0) for n in range(40)]
    answers += [answer(f"new/{n}", "base", "image", 0.0) for n in range(1, 40)]
    with pytest.raises(VistuneError, match="1 items were answered on one side only, first new/0"):
        decide(GATE, Scores(answers), seed=0)
    with pytest.raises(VistuneError, match="answered twice"):
        Scores([*answers, answers[0]])


@pytest.mark.parametrize(
    ("old", "margin", "expected"),
    [
        ((0.9, 0.9), 0.05, "pass"),  # the same answers about 80 images
        ((0.9, 0.9), 0.02, "inconclusive"),  # 80 images without a loss do not exclude one in 50
        ((0.5, 0.9), 0.02, "pass"),  # better
        ((0.9, 0.86), 0.05, "inconclusive"),  # the loss is within the margin, its interval is not
        ((0.9, 0.5), 0.05, "fail"),
    ],
)
def test_protected_benchmarks_must_be_shown_not_to_be_worse(
    outcome: Any, old: tuple[float, float], margin: float, expected: str
) -> None:
    verdict = outcome(old=old, gate=Gate(Target(("new",)), (Protected(("old",), margin),)))
    check = verdict["checks"][-1]
    assert verdict["verdict"] == check["verdict"] == expected
    assert check["bound"] == -margin and (check["low_one_sided"] > -margin) == (expected == "pass")
    if expected == "inconclusive":
        assert "is not excluded" in check["reason"]


def test_few_images_show_no_non_inferiority(outcome: Any) -> None:
    gate = Gate(Target(("new",)), (Protected(("old",), 0.3),), minimum_images=81)
    checks = outcome(gate=gate)["checks"]
    assert [c["verdict"] for c in checks] == ["inconclusive"] * 3 and checks[-1]["images_needed"] == 81


def test_an_interval_of_a_few_wins_needs_the_permutation_test(answer: Callable[..., Answer]) -> None:
    """Five images better and none worse: the bootstrap never draws a loss, the signs of five say 1 in 16."""
    answers = []
    for n in range(60):
        for model, condition, right in (("tuned", "image", n < 5), ("base", "image", False)):
            answers.append(answer(f"new/{n}", model, condition, float(right)))
    (check,) = decide(Gate(Target(("new",), over=("base",))), Scores(answers), seed=0)["checks"]
    assert check["estimate"]["low"] > 0 and check["verdict"] == "inconclusive"
    assert check["p_mcnemar"] == 0.0625 and "too few images differ" in check["reason"]


def many(answer: Callable[..., Answer], gains: dict[str, int], images: int = 60) -> Scores:
    """base is right on every fifth image; tuned also on as many more of each benchmark as `gains` says, and on none at
    all where that is negative."""
    answers = []
    for name, gain in gains.items():
        for n in range(images):
            base = n % 5 == 0
            answers.append(answer(f"{name}/{n}", "base", "image", float(base)))
            right = gain >= 0 and (base or n < gain * 5 / 4)
            answers.append(answer(f"{name}/{n}", "tuned", "image", float(right)))
    return Scores(answers)


def test_any_of_several_targets_is_corrected_for_their_number(answer: Callable[..., Answer]) -> None:
    gains = {"a": 40, "b": 0, "c": 0}
    target = Target(("*",), over=("base",), improve="any")
    verdict = decide(Gate(target), many(answer, gains), seed=0)
    assert verdict["verdict"] == "pass"
    assert [c["benchmarks"] for c in verdict["checks"]] == [["a"]]
    assert {c["benchmarks"][0] for c in verdict["considered"]} == {"b", "c"}
    (won,) = verdict["checks"]
    assert won["p_holm"] == pytest.approx(3 * won["p_value"]) and won["p_holm"] <= 0.05
    each = decide(Gate(Target(("*",), over=("base",), improve="each")), many(answer, gains), seed=0)
    assert each["verdict"] == "fail" and len(each["checks"]) == 3
    # What one benchmark would show is not enough when it is one of twelve.
    weak = {"a": 7} | {f"z{n}": 0 for n in range(11)}
    alone = decide(Gate(replace(target, benchmarks=("a",))), many(answer, weak), seed=0)
    assert alone["verdict"] == "pass" and 0.05 / 12 < alone["checks"][0]["p_value"] < 0.05
    among = decide(Gate(target), many(answer, weak), seed=0)
    assert among["verdict"] == "inconclusive" and "by Holm" in among["reasons"][0]
    assert decide(Gate(target), many(answer, {"a": 0, "b": 0}), seed=0)["verdict"] == "fail"
    # Certain losses are no improvements that would leave fewer to correct for.
    beside = decide(Gate(target), many(answer, {"a": 7, "x": -1, "y": -1, "z": -1}), seed=0)
    assert beside["verdict"] == "inconclusive" and beside["checks"][0]["p_holm"] > 0.05


def simulated(generator: np.random.Generator, images: int, win: float, loss: float) -> list[tuple[float, float]]:
    """(tuned, base) on 1 to 4 questions of each image, which agree within an image half the time."""
    rows = []
    for _ in range(images):
        size, common = generator.integers(1, 5), generator.random()
        for own, together in zip(generator.random(size), generator.random(size) < 0.5, strict=True):
            draw = common if together else own
            rows.append((1.0, 0.0) if draw < win else (0.0, 1.0) if draw > 1 - loss else (1.0, 1.0))
        rows.append((math.nan, math.nan))  # end of the image
    return rows


def passes(answer: Any, gate: Gate, runs: int, images: int, win: float, loss: float, role: str) -> float:
    generator = np.random.default_rng(11)
    passed = 0
    for run in range(runs):
        answers, image = [], 0
        for n, (tuned, base) in enumerate(simulated(generator, images, win, loss)):
            if math.isnan(tuned):
                image += 1
                continue
            for model, right in (("tuned", tuned), ("base", base)):
                answers.append(answer(f"b/{n:04d}", model, "image", right, image=f"{image}"))
        checks = decide(gate, Scores(answers), seed=run, replicates=400)["checks"]
        passed += all(c["verdict"] == "pass" for c in checks if c["role"] == role)
    return passed / runs


@pytest.mark.slow
@pytest.mark.parametrize(("images", "rate"), [(30, 0.04), (60, 0.02), (60, 0.2), (150, 0.1)])
def test_false_promotion_rate_under_the_null(answer: Callable[..., Answer], images: int, rate: float) -> None:
    """No difference in truth, differing rarely or often: promoted at most one time in twenty."""
    gate = Gate(Target(("b",), over=("base",)))
    assert passes(answer, gate, 400, images, rate, rate, "target") <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize(("images", "win", "loss"), [(40, 0.0, 0.05), (80, 0.0, 0.05), (80, 0.1, 0.15), (200, 0, 0.05)])
def test_a_loss_of_the_margin_is_seldom_taken_for_none(
    answer: Callable[..., Answer], images: int, win: float, loss: float
) -> None:
    gate = Gate(Target(("b",), over=("base",)), (Protected(("b",), 0.05),))
    assert passes(answer, gate, 400, images, win, loss, "protected") <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 400)


@pytest.mark.slow
def test_power_of_the_gate_is_as_planned(answer: Callable[..., Answer]) -> None:
    """A difference as large as `detectable` says is found four times in five."""
    images, win, loss = 120, 0.17, 0.08
    generator = np.random.default_rng(5)
    rows = simulated(generator, 4000, win, loss)
    values = np.array([t - b for t, b in rows if not math.isnan(t)])
    ends = np.cumsum([math.isnan(t) for t, _ in rows])
    clusters = [int(e) for e, (t, _) in zip(ends, rows, strict=True) if not math.isnan(t)]
    error = clustered_error(values, clusters) * math.sqrt(4000 / images)
    assert detectable(error) == pytest.approx(win - loss, rel=0.15)
    found = passes(answer, Gate(Target(("b",), over=("base",))), 300, images, win, loss, "target")
    z = (win - loss) / error - 1.96
    assert found == pytest.approx(NormalDist().cdf(z), abs=0.06)


def test_protected_together_decide_what_each_alone_cannot(answer: Callable[..., Answer]) -> None:
    """Four benchmarks of 25 images without a loss: a margin of five points is shown for all, not for one."""
    answers = [
        answer(f"b{n % 4}/{n:03d}.0", model, "image", float(n % 3 == 0), benchmark=f"b{n % 4}")
        for n in range(100)
        for model in ("base", "tuned")
    ]
    names = ("b0", "b1", "b2", "b3")
    rules = [Protected(names, margin=0.05, together=together) for together in (True, False)]
    found = decide(Gate(Target(names, over=("base",)), tuple(rules), minimum_images=20), Scores(answers), 0, 200)
    verdicts = [(c["benchmarks"], c["verdict"]) for c in found["checks"] if c["role"] == "protected"]
    assert verdicts == [([*names], "pass"), *(([name], "inconclusive") for name in names)]
    worse = [replace(a, metrics={"accuracy": 0.0}) if a.model == "tuned" else a for a in answers]
    found = decide(Gate(Target(names, over=("base",)), tuple(rules[:1]), minimum_images=20), Scores(worse), 0, 200)
    assert found["checks"][-1]["verdict"] == "fail" and "4 benchmarks together" in found["checks"][-1]["reason"]


def test_gate_files_parse_strictly(tmp_path: Path) -> None:
    demo = load_gate(REPOSITORY / "eval", "demo")
    assert demo.target.over == ("base", "shuffled") and "which_of_two_trained" in demo.target.benchmarks
    assert not any("trained" in b and "which" not in b for b in demo.target.benchmarks)
    (tmp_path / "gates").mkdir()
    (tmp_path / "gates" / "mine.yaml").write_text("target: {benchmarks: [a]}\nprotect: []\n")
    with pytest.raises(VistuneError, match=r"unknown parameter mine.protect: did you mean mine.protected"):
        load_gate(tmp_path, "mine")
    (tmp_path / "gates" / "mine.yaml").write_text("target: {benchmarks: []}\n")
    with pytest.raises(VistuneError, match="names no target"):
        load_gate(tmp_path, "mine")
    for path in (REPOSITORY / "eval" / "gates").glob("*.yaml"):
        rules = load_gate(REPOSITORY / "eval", path.stem).protected
        assert rules[0].rule == "non_inferiority" and rules[0].margin > 0
        assert path.stem == "demo" or all(rule.rule == "non_inferiority" for rule in rules)
    for text, problem in (
        ("protected: [{benchmarks: [a]}]", "non-inferiority needs a margin above 0"),
        ("protected: [{benchmarks: [a], margin: -1}]", "expected a margin of at least 0"),
        ("protected: [{benchmarks: [], margin: 0.1}]", "at least one benchmark"),
        ("protected: [{benchmarks: [a], rule: none}]", "expected one of 'non_inferiority', 'no_significant_loss'"),
        ("confidence: 95", "expected a share from 0.5 to below 1"),
        ("minimum_images: 1", "expected at least 2"),
    ):
        (tmp_path / "gates" / "mine.yaml").write_text(f"target: {{benchmarks: [a]}}\n{text}\n")
        with pytest.raises(VistuneError, match=problem):
            load_gate(tmp_path, "mine")
