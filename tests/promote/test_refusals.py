"""What is missing, broken or about another model stops the stage before anything is registered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vistune import tracking
from vistune.errors import VistuneError
from vistune.files import write_json
from vistune.promote import registry

pytestmark = pytest.mark.usefixtures("one_upload")


def rewire(folder: Path, inputs: dict[str, str]) -> None:
    """Changes which inputs the receipt of a stage says it read."""
    write_json(folder / "execution.json", json.loads((folder / "execution.json").read_text()) | {"inputs": inputs})


def check(low: float | None = 0.1, **changes) -> dict:
    found = {"mean": 0.2, "low": low, "high": 0.3}
    about = {"role": "target", "comparison": "tuned - base", "benchmarks": ["x"]}
    return {**about, "verdict": "pass", "estimate": found, **changes}


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ({"verdict": None}, "a verdict is one of"),
        ({"verdict": "PASS"}, "a verdict is one of"),
        ({"verdict": True}, "a verdict is one of"),
        ({"verdict": "fail", "target": {"low": float("nan")}}, "nan at target.low"),
        ({"verdict": "fail", "rules": [{"low": float("inf")}]}, r"inf at rules\[0\].low"),
        ({"verdict": "fail", "reasons": "good"}, "not a list of sentences"),
        ({"verdict": "pass"}, "no check of a target"),
        ({"verdict": "pass", "checks": [check(role="protected")]}, "no check of a target"),
        ({"verdict": "pass", "checks": [check(estimate=None)]}, "has no interval"),
        ({"verdict": "pass", "checks": [check(low=None)]}, "has no interval"),
        ({"verdict": "pass", "checks": [check(low=0.0)]}, "did not pass"),
        ({"verdict": "pass", "checks": [check(low=0.1)], "gate": {"target": {"above": 0.1}}}, "did not pass"),
        ({"verdict": "pass", "checks": [check(), check(role="protected", verdict="fail")]}, "did not pass"),
        ([], "a verdict is one of"),
    ],
)
def test_a_broken_verdict_registers_nothing(make, go, gate, message):
    inputs = make()
    (inputs["evaluate"] / "verdict.json").write_text(json.dumps(gate))
    with pytest.raises(VistuneError, match=message):
        go(inputs, "broken")
    assert tracking.search_versions("broken") == []


def breakers():
    def no_verdict(i):
        (i["evaluate"] / "verdict.json").unlink()

    def nan_score(i):
        (i["evaluate"] / "scorecard.json").write_text('{"tuned": {"accuracy": NaN}}')

    def no_release(i):
        write_json(i["validate"] / "release.json", {"samples": 3})

    def other_model(i):
        rewire(i["evaluate"], {"tune": "another-model-digest"})

    def other_release(i):
        rewire(i["tune"], {"validate": "another-release"})

    def no_chain(i):
        rewire(i["evaluate"], {})

    def swapped(i):
        (i["tune"] / "model" / "model.safetensors").write_text("other weights")

    def pickle(i):
        (i["tune"] / "model" / "pytorch_model.bin").write_text("x")

    def no_weights(i):
        (i["tune"] / "model" / "model.safetensors").unlink()

    return {
        no_verdict: "does not exist",
        nan_score: "nan at tuned.accuracy",
        no_release: "has no digest",
        other_model: "read another output of tune",
        other_release: "read another output of validate",
        no_chain: "does not say which output of tune",
        swapped: "the scorecard is about model",
        pickle: "can run code",
        no_weights: "no safetensors",
    }


@pytest.mark.parametrize("breaker", breakers(), ids=lambda b: b.__name__)
def test_missing_evidence_or_lineage_registers_nothing(make, go, breaker):
    inputs = make()
    breaker(inputs)
    with pytest.raises(VistuneError, match=breakers_message(breaker)):
        go(inputs, "unproven")
    assert tracking.search_versions("unproven") == []


def breakers_message(breaker) -> str:
    return next(message for b, message in breakers().items() if b.__name__ == breaker.__name__)


@pytest.mark.parametrize(("text", "message"), [("", "no answer of the tuned"), ("{}\n", "line 1"), ("x", "line 1")])
def test_a_scorecard_without_its_answers_registers_nothing(make, go, text, message):
    inputs = make()
    (inputs["evaluate"] / "answers.jsonl").write_text(text)
    with pytest.raises(VistuneError, match=message):
        go(inputs, "answerless")
    (inputs["evaluate"] / "answers.jsonl").unlink()
    with pytest.raises(VistuneError, match="kept no answers"):
        go(inputs, "answerless")
    assert tracking.search_versions("answerless") == []


def test_without_mlflow_nothing_is_registered(make, go, monkeypatch):
    monkeypatch.setenv("VISTUNE_TRACKING", "off")
    out = go(make(), "untracked")
    assert (out["version"], out["aliases"], out["model_uri"]) == ("", [], "")


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "a@b", " a", "a\nb"])
def test_names_that_an_address_cannot_hold_are_refused(name):
    with pytest.raises(VistuneError, match="cannot name a model"):
        registry.check_name(name)
