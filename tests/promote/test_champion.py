"""The candidate beside the champion: planted answers of both, the champion's read back from the registry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vistune import tracking
from vistune.errors import VistuneError
from vistune.promote.evidence import evidence_folder
from vistune.promote.journal import Journal

pytestmark = pytest.mark.usefixtures("one_upload")


def answers(folder: Path, right: list[int], metric: str = "accuracy") -> None:
    """Replaces what was answered: one question about each of so many images."""
    about = {"benchmark": "naming", "question": "What is it?", "gold": "cat", "answer": "secret words"}
    asked = [
        {
            **about,
            "item": f"q{n}",
            "image": f"{n:064d}",
            "model": model,
            "condition": "image",
            "metrics": {metric: value},
        }
        for n, value in enumerate(right)
        for model in ("base", "tuned")
    ]
    (folder / "answers.jsonl").write_text("".join(json.dumps(a) + "\n" for a in asked))


@pytest.fixture
def registered(make, go):
    """registered(name, weights, right) -> promotion.json of a model with these answers; its gate passed."""

    def promote(name: str, weights: str, right: list[int], **options) -> dict:
        inputs = make(model=weights)
        answers(inputs["evaluate"], right)
        return go(inputs, name, **options)

    return promote


HALF = [1, 0] * 30


@pytest.mark.parametrize(
    ("name", "right", "mean", "champion"),
    [("worse", [0] * 60, -0.5, "1"), ("equal", HALF, 0.0, "2"), ("better", [1] * 60, 0.5, "2")],
)
def test_only_what_is_shown_to_be_worse_stays_challenger(registered, tmp_path, name, right, mean, champion, capsys):
    assert registered(name, "old", HALF)["comparison"] is None
    out = registered(name, "new", right)
    assert (out["verdict"], out["version"], out["champion"]) == ("pass", "2", champion)
    found = out["comparison"]
    assert (found["champion"], found["estimate"]["mean"], found["estimate"]["images"]) == ("1", mean, 60)
    assert (found["estimate"]["high"] < 0) == (champion == "1")
    sentence = f"gain over champion version 1: {100 * mean:+.1f} points"
    card = (tmp_path / "out/model_card.md").read_text()
    assert sentence in card and sentence in capsys.readouterr().out and sentence in " ".join(out["reasons"])
    tags = tracking.get_version(name, "2").tags
    assert json.loads(tags["champion.compared"]) == found
    logged = [e for e in Journal(tmp_path / "home/promotions.jsonl").events(name) if e["version"] == "2"]
    assert [e["event"] for e in logged] == ["register", "promote"][: 1 + (champion == "2")]
    assert all(e["comparison"] == found for e in logged)
    if champion == "1":
        assert out["aliases"] == ["challenger"]
        assert out["reasons"][-1] == (
            "held back: it is worse than champion version 1 on what its gate declares as target."
        )


def test_a_worse_model_stays_challenger_whatever_is_allowed(registered):
    registered("strict", "old", HALF)
    out = registered("strict", "new", [0] * 60, allow_new_evaluation=True, require_clean_git=False)
    assert out["aliases"] == ["challenger"]


def test_a_rerun_says_the_same(registered, tmp_path):
    registered("same", "old", HALF)
    first = registered("same", "new", [1] * 60)
    log = (tmp_path / "home/promotions.jsonl").read_bytes()
    card = (tmp_path / "out/model_card.md").read_bytes()
    again = registered("same", "new", [1] * 60)
    assert again == first and again["comparison"]["champion"] == "1"
    assert (tmp_path / "home/promotions.jsonl").read_bytes() == log
    assert (tmp_path / "out/model_card.md").read_bytes() == card


def test_another_evaluation_set_is_not_compared(registered):
    registered("other", "old", HALF)
    out = registered("other", "new", [1] * 50, allow_new_evaluation=True)
    assert out["champion"] == "2" and out["comparison"]["estimate"] is None
    assert "not compared with champion version 1: it was measured on other questions." in out["reasons"]
    assert "held back: the evaluation set changed" in registered("other", "third", [1] * 51)["reasons"][-1]


def test_a_champion_without_answers_is_not_compared(registered):
    registered("old-style", "old", HALF)
    tracking.runs.connect().delete_model_version_tag("old-style", "1", "answers.sha256")
    out = registered("old-style", "new", [0] * 60)
    assert (out["champion"], out["comparison"]["estimate"]) == ("2", None)
    assert "not compared with champion version 1: no answers are kept with it." in out["reasons"]


def test_answers_that_were_changed_stop_the_promotion(registered, tmp_path):
    registered("forged", "old", HALF)
    version = tracking.get_version("forged", "1")
    forged = tmp_path / "answers.jsonl"
    forged.write_text("")
    tracking.log_file(version.run_id, forged, evidence_folder(version.tags["scorecard.sha256"]))
    with pytest.raises(VistuneError, match=r"answers kept with champion version 1 .* are not those"):
        registered("forged", "new", [0] * 60)
    assert [v.version for v in tracking.search_versions("forged")] == ["1"]


def test_no_word_of_an_answer_is_kept(registered):
    registered("words", "old", HALF)
    version = tracking.get_version("words", "1")
    held = tracking.run_file(version.run_id, f"{evidence_folder(version.tags['scorecard.sha256'])}/answers.jsonl")
    assert held.count(b"\n") == 60 and b"secret words" not in held and b"What is it?" not in held
