"""What is registered, under which aliases, and what its card says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from vistune import tracking
from vistune.files import write_json
from vistune.promote import registry

pytestmark = pytest.mark.usefixtures("one_upload")


def write_answers(folder: Path, items: list[str]) -> None:
    """The same answers, about other items."""
    first = json.loads((folder / "answers.jsonl").read_text().splitlines()[-1])
    (folder / "answers.jsonl").write_text("".join(json.dumps({**first, "item": i}) + "\n" for i in items))


@pytest.mark.parametrize(
    ("verdict", "aliases", "champion"),
    [("pass", ["challenger", "champion"], "1"), ("fail", ["challenger"], ""), ("inconclusive", ["challenger"], "")],
)
def test_only_a_pass_makes_a_champion(make, go, alias, verdict, aliases, champion, capsys):
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


def test_another_scorecard_of_the_same_model_is_another_version(make, go, alias):
    go(make(score=0.8), "scores")
    assert go(make("fail", score=0.1), "scores")["version"] == "2"
    assert (alias("scores", "champion"), alias("scores", "challenger")) == ("1", "2")


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


def test_events_are_in_the_registry_too(make, go, tmp_path):
    go(make(), "tagged")
    tags = tracking.get_version("tagged", "1").tags
    kept = sorted(json.loads(v)["event"] for k, v in tags.items() if k.startswith("promotion."))
    assert kept == ["promote", "register"]


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
