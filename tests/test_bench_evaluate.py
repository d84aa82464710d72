"""The benchmark of evaluation: what it compares is the same on both sides, and its kept result meets the targets."""

import json

import pytest

from vistune.stages import repository

BENCH = repository() / "bench"


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))


def test_all_arms_are_asked_the_same(parts, tmp_path, monkeypatch):
    import yaml
    from parts import evaluate_job

    monkeypatch.setattr(evaluate_job, "model", lambda folder: None)
    evaluate_job.prepare(tmp_path)
    for name, (pictures, questions) in evaluate_job.SETS.items():
        rows = json.loads((tmp_path / f"{name}.json").read_text())
        assert len(rows) == pictures * questions
        assert len({(row["image"]["sha256"], row["question"]) for row in rows}) == len(rows)
        ours, theirs = (
            yaml.load((tmp_path / arm / f"{name}.yaml").read_text().replace("!function ", ""), yaml.BaseLoader)
            for arm in ("ours", "theirs")
        )
        assert {key for key in ours if ours[key] != theirs[key]} == {"doc_to_image", "doc_to_text"}
        lmms = yaml.load((tmp_path / "lmms" / f"{name}.yaml").read_text().replace("!function ", ""), yaml.BaseLoader)
        assert lmms["dataset_kwargs"]["data_files"] == {"test": f"{tmp_path}/{name}.json"}
        assert lmms["generation_kwargs"]["max_new_tokens"] == ours["generation_kwargs"]["max_gen_toks"]
        opened = evaluate_job.opened(rows[0])
        assert opened[0].size == (336, 336)


def test_the_kept_result_meets_its_targets():
    kept = json.loads((BENCH / "results" / "evaluate.json").read_text())
    assert kept["bench"] == "evaluate" and kept["command"].startswith("python bench/evaluate.py")
    assert kept["same_answers"] is True and kept["different_answers"] > 10
    assert kept["times_faster"] >= kept["target"]["times_faster"]
    quarter, whole = (kept["contamination"][size] for size in ("quarter", "whole"))
    assert whole["questions"] > 200_000 and whole["release_pictures"] == 600_000
    grown = whole["cpu_s"]["matching"] / quarter["cpu_s"]["matching"]
    assert grown < 6, "four times the pictures: in pairs it would be sixteen"
