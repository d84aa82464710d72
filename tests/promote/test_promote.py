"""Registration, aliases, the log: one SQLite store for the session, tiny folders in place of real stages."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from vistune import promote, tracking
from vistune.errors import VistuneError
from vistune.files import write_json
from vistune.promote import registry
from vistune.promote.journal import Journal


@pytest.fixture(scope="module")
def uploads() -> list[str]:
    return []


@pytest.fixture(autouse=True)
def quick(uploads, monkeypatch):
    """One upload for this file; every version points to it. test_serving.py uploads a real model."""
    upload = tracking.log_vlm

    def once(*args, **kwargs):
        if not uploads:
            uploads.append(upload(*args, **kwargs))
        return uploads[0]

    monkeypatch.setattr(tracking, "log_vlm", once)


def write_answers(folder: Path, items: list[str]) -> None:
    """The same answers, about other items."""
    first = json.loads((folder / "answers.jsonl").read_text().splitlines()[-1])
    (folder / "answers.jsonl").write_text("".join(json.dumps({**first, "item": i}) + "\n" for i in items))


def rewire(folder: Path, inputs: dict[str, str]) -> None:
    """Changes which inputs the receipt of a stage says it read."""
    write_json(folder / "execution.json", json.loads((folder / "execution.json").read_text()) | {"inputs": inputs})


def alias(name: str, which: str) -> str:
    version = tracking.get_alias(name, which)
    return version.version if version else ""


@pytest.mark.parametrize(
    ("verdict", "aliases", "champion"),
    [("pass", ["challenger", "champion"], "1"), ("fail", ["challenger"], ""), ("inconclusive", ["challenger"], "")],
)
def test_only_a_pass_makes_a_champion(make, go, verdict, aliases, champion, capsys):
    name = f"truth-{verdict}"
    out = go(make(verdict), name)
    assert (out["aliases"], alias(name, "champion"), alias(name, "challenger")) == (aliases, champion, "1")
    assert out["model_uri"] == f"models:/{name}@{aliases[-1]}"
    assert "because" in capsys.readouterr().out
    tags = tracking.get_version(name, "1").tags
    assert (tags["gate"], json.loads(tags["gate.reasons"])) == (verdict, ["because"])
    assert tags["release.sha256"] == "d" * 64
    assert tags["tune.key"] == "key-tune"
    assert tags["seed"] == "7"


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


def test_a_rerun_adds_nothing(make, go, tmp_path, monkeypatch):
    first = go(make(), "again")
    log = (tmp_path / "home/promotions.jsonl").read_bytes()
    tags = tracking.get_version("again", "1").tags
    monkeypatch.setattr(tracking, "log_vlm", lambda *a, **k: pytest.fail("uploaded again"))
    assert go(make_again(tmp_path), "again") == first
    assert [v.version for v in tracking.search_versions("again")] == ["1"]
    assert (tmp_path / "home/promotions.jsonl").read_bytes() == log
    assert tracking.get_version("again", "1").tags == tags


def make_again(tmp_path) -> dict[str, Path]:
    return {s: tmp_path / "pass-weights-0.8" / s for s in ("sources", "validate", "tune", "evaluate")}


def test_another_scorecard_of_the_same_model_is_another_version(make, go):
    go(make(score=0.8), "scores")
    assert go(make("fail", score=0.1), "scores")["version"] == "2"
    assert (alias("scores", "champion"), alias("scores", "challenger")) == ("1", "2")


def test_champion_previous_and_rollback(make, go, tmp_path):
    home, name = tmp_path / "home", "chain"
    for weights in ("a", "b", "c"):
        go(make(model=weights), name)
    assert (alias(name, "champion"), alias(name, "previous_champion")) == ("3", "2")
    assert "version 2 is champion again" in promote.rollback(name, home)
    assert (alias(name, "champion"), alias(name, "previous_champion")) == ("2", "1")
    promote.rollback(name, home)
    assert (alias(name, "champion"), alias(name, "previous_champion")) == ("1", "")
    with pytest.raises(VistuneError, match="first champion"):
        promote.rollback(name, home)
    assert moves(tmp_path, name) == [
        ("promote", "1", ""),
        ("promote", "2", "1"),
        ("promote", "3", "2"),
        ("rollback", "2", "3"),
        ("rollback", "1", "2"),
    ]


def test_a_version_that_was_rolled_back_stays_challenger(make, go, tmp_path):
    go(make(model="a"), "held")
    bad = make(model="b")
    go(bad, "held")
    promote.rollback("held", tmp_path / "home")
    out = go(bad, "held")
    assert (out["version"], out["aliases"], alias("held", "champion")) == ("2", ["challenger"], "1")
    assert "rolled back on" in out["reasons"][-1]


def test_rollback_without_champion_is_a_clear_error(make, go, tmp_path):
    with pytest.raises(VistuneError, match="no champion"):
        promote.rollback("nobody", tmp_path)
    go(make("fail"), "never")
    with pytest.raises(VistuneError, match="no champion"):
        promote.rollback("never", tmp_path)


def test_a_champion_that_moved_meanwhile_stays(make, go, monkeypatch):
    """Another machine promotes version 2 while this one uploads version 3."""
    go(make(model="a"), "race")
    go(make("fail", model="b"), "race")
    upload = tracking.log_vlm

    def slow(*args, **kwargs):
        uri = upload(*args, **kwargs)
        tracking.set_alias("race", "champion", "2")
        return uri

    monkeypatch.setattr(tracking, "log_vlm", slow)
    with pytest.raises(VistuneError, match="changed from version 1 to 2"):
        go(make(model="c"), "race")
    assert alias("race", "champion") == "2"
    assert alias("race", "challenger") == "3"


def test_a_kill_between_log_and_move_is_completed(make, go, tmp_path, monkeypatch):
    go(make(model="a"), "killed")
    inputs = make(model="b")
    move = tracking.set_alias

    def die(name, which, version):
        if which == "champion":
            raise KeyboardInterrupt
        move(name, which, version)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tracking, "set_alias", die)
        go(inputs, "killed")
    assert alias("killed", "champion") == "1"
    assert go(inputs, "killed")["champion"] == "2"
    assert moves(tmp_path, "killed") == [("promote", "1", ""), ("promote", "2", "1")]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tracking, "set_alias", die)
        promote.rollback("killed", tmp_path / "home")
    assert alias("killed", "champion") == "2"
    promote.rollback("killed", tmp_path / "home")
    assert (alias("killed", "champion"), alias("killed", "previous_champion")) == ("1", "")
    assert moves(tmp_path, "killed")[2:] == [("rollback", "1", "2")]


def moves(tmp_path, name) -> list[tuple[str, str, str]]:
    events = Journal(tmp_path / "home/promotions.jsonl").events(name)
    return [(e["event"], e["version"], e["previous"]) for e in events if e["event"] != "register"]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ({"git.sha": "abc", "git.dirty": "true"}, "git tree has uncommitted changes"),
        ({}, "git commit is not known"),
    ],
)
def test_code_that_is_not_committed_is_held_back(make, go, monkeypatch, ids, message):
    name = f"held-{len(ids)}"
    monkeypatch.setattr("vistune.lineage.ids", lambda: ids)
    out = go(make(), name)
    assert out["aliases"] == ["challenger"]
    assert f"held back: the {message}" in out["reasons"][-1]
    assert go(make(model="b"), name, require_clean_git=False)["aliases"] == ["challenger", "champion"]


def test_a_model_of_code_that_no_commit_holds_is_held_back(make, go, run_id):
    """The tree is clean now; the code that tuned was another, and only its run can say which commit that was."""
    inputs = make(model="other")
    made = inputs["tune"] / "execution.json"
    write_json(made, json.loads(made.read_text()) | {"code": "another"})
    out = go(inputs, "code")
    assert (out["aliases"], "tune.git.sha" in out["lineage"]) == (["challenger"], False)
    assert "the code that ran stage tune is of no known commit" in out["reasons"][-1]
    tracking.runs.connect().set_tag(run_id, "git.sha", "e" * 40)
    tracking.runs.connect().set_tag(run_id, "git.dirty", "false")
    write_json(made, json.loads(made.read_text()) | {"run_id": run_id})
    out = go(inputs, "code")
    assert (out["aliases"], out["lineage"]["tune.git.sha"]) == (["challenger", "champion"], "e" * 40)


def test_a_changed_evaluation_set_is_held_back(make, go):
    go(make(model="a"), "questions")
    inputs = make(model="b")
    write_answers(inputs["evaluate"], ["a", "b", "c"])
    out = go(inputs, "questions")
    assert out["aliases"] == ["challenger"]
    assert "the evaluation set changed: champion version 1 was measured on questions" in out["reasons"][-1]
    assert go(inputs, "questions", allow_new_evaluation=True)["aliases"] == ["challenger", "champion"]


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


def test_a_log_that_was_cut_or_edited_stops_the_next_promotion(make, go, tmp_path):
    log = tmp_path / "home/promotions.jsonl"
    go(make(model="a"), "cut")
    go(make(model="b"), "cut")
    whole, third = log.read_bytes(), make(model="c")
    lines = whole.splitlines(keepends=True)
    assert len(lines) == 4
    for n in range(1, 4):
        log.write_bytes(b"".join(lines[:n] + lines[n + 1 :]))
        with pytest.raises(
            VistuneError, match="was edited" if n < 3 else "was cut: it lacks the promote of cut version 2"
        ):
            go(third, "cut")
        log.write_bytes(whole)
    log.write_bytes(whole.replace(b'"verdict":"pass"', b'"verdict":"fail"', 1))
    with pytest.raises(VistuneError, match="line 2 does not follow"):
        promote.rollback("cut", tmp_path / "home")
    log.write_bytes(whole + b'{"after":"half a li')
    assert go(third, "cut")["champion"] == "3"


def test_events_are_in_the_registry_too(make, go, tmp_path):
    go(make(), "tagged")
    tags = tracking.get_version("tagged", "1").tags
    kept = sorted(json.loads(v)["event"] for k, v in tags.items() if k.startswith("promotion."))
    assert kept == ["promote", "register"]


def test_without_mlflow_nothing_is_registered(make, go, monkeypatch):
    monkeypatch.setenv("VISTUNE_TRACKING", "off")
    out = go(make(), "untracked")
    assert (out["version"], out["aliases"], out["model_uri"]) == ("", [], "")


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "a@b", " a", "a\nb"])
def test_names_that_an_address_cannot_hold_are_refused(name):
    with pytest.raises(VistuneError, match="cannot name a model"):
        registry.check_name(name)


def test_a_long_card_is_cut_at_a_line():
    card = "\n".join(["x" * 99] * 80)
    cut = registry._description(card)
    assert len(cut) <= registry.DESCRIPTION
    assert cut.split("\n\n(Cut")[0] in card
    assert registry._description("short") == "short"


def test_evidence_of_outcome_without_pass_is_never_champion(make):
    from vistune.promote.evidence import collect

    evidence = collect(make(), 0)
    assert evidence.champion
    assert not replace(evidence, verdict="inconclusive").champion
    assert not replace(evidence, hold="x").champion


def test_the_card_says_what_the_model_is_and_how_it_was_measured(make, go, tmp_path):
    go(make(), "carded")
    card = (tmp_path / "out/model_card.md").read_text()
    for part in (
        "not photographs",
        "Intended for trying, testing and comparing",
        "Not for decisions about people",
        "**pass**",
        "- because",
        "| naming | 80.0 [80.0, 80.0] | 30.0 [30.0, 30.0] |",
        "+20.0 [+10.0, +30.0]",
        "Learned from: demo-train.",
        "Benchmarks under MIT: naming",
        "package:efficientnet-lite0 (Apache-2.0) and org/own-lm (under its own licence)",
        "| CC BY-SA 4.0 | OpenMoji \\| all &lt;b&gt;authors&lt;/b&gt; | 2 |",
        "Held out for measuring: naming",
        "d" * 64,
    ):
        assert part in card, part
    assert tracking.runs.connect().get_model_version("carded", "1").description == card


def test_another_statement_and_other_data_replace_the_demos(make, go, tmp_path):
    inputs = make(model="own")
    write_json(inputs["sources"] / "sources.json", {"datasets": [{"name": "shelf"}], "benchmarks": []})
    go(inputs, "own")
    assert "photographs" not in (tmp_path / "out/model_card.md").read_text()
    go(inputs, "own", data_statement="Shelves of one shop.")
    assert "Shelves of one shop." in (tmp_path / "out/model_card.md").read_text()
