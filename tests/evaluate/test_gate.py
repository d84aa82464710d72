"""The gate's truth table, on answers made to measure."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vistune.errors import VistuneError
from vistune.evaluate.answers import Answer, Scores
from vistune.evaluate.gate import Gate, Protected, Target, decide, load_gate
from vistune.files import write_json

REPOSITORY = Path(__file__).resolve().parents[2]

GATE = Gate(Target(("new",)), (Protected(("old",)),))


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
    strict = Gate(Target(("new",), above=0.25), (Protected(("old",)),))
    assert outcome(gate=strict)["verdict"] == "inconclusive"
    lenient = Gate(Target(("new",)), (Protected(("old",), margin=0.5),))
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
