"""`vistune explain` of runs, versions and scorecards, and the other commands' output."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from vistune import cli, tracking
from vistune.errors import VistuneError
from vistune.files import write_json
from vistune.provenance.about import about


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_version_says_what_made_it_and_what_became_of_it(chain):
    tags = chain.champion.tags
    text = run("explain", "models:/vistune-demo@champion")
    for line in (
        "model       vistune-demo version 2 · challenger, champion · registered ",
        "verdict     pass",
        "promote version 2 after 1 by ann",
        f"weights     sha256 {tags['model.sha256']}",
        "            tuned from package:efficientnet-lite0, org/own-lm",
        f"release     sha256 {tags['release.sha256']} · DVC md5 {tags['dvc.validate.md5']}",
        f"code        commit {tags['git.sha']} · vistune ",
        f"run         tune: {tags['tune.run_id']}",
        "check       vistune verify-lineage models:/vistune-demo/2",
    ):
        assert line in text, text
    assert "promote version 2 after 1 by ann" in run("explain", "vistune-demo@previous_champion")


def test_a_run_says_what_it_read_and_made(chain):
    tags = chain.champion.tags
    text = run("explain", tags["tune.run_id"])
    for line in (
        "run         tune · finished · started ",
        f"read        validate, digest {tags['validate.digest']}",
        f"made        digest {tags['tune.digest']}",
        "parameter   steps = 3",
        "model       models:/vistune-demo/2 · challenger, champion",
    ):
        assert line in text, text
    with pytest.raises(VistuneError, match="MLflow has no run 0000"):
        about("0" * 32)


def test_a_parent_run_lists_its_steps(chain, monkeypatch):
    with tracking.parent_run("whole", {}) as parent:
        monkeypatch.setenv("VISTUNE_PARENT_RUN", parent.run_id)
        with tracking.stage_run("adapt", {"x": 1}, 0, {}) as child:
            pass
    assert f"step        adapt: {child.run_id}" in run("explain", parent.run_id)
    assert f"part of     run {parent.run_id}" in run("explain", child.run_id)


def test_a_scorecard_says_whose_evidence_it_is(chain):
    text = run("explain", "outputs/evaluate")
    for line in (
        "suite demo",
        "verdict     pass",
        "because",
        "evidence    of models:/vistune-demo/2 · challenger, champion",
    ):
        assert line in text, text
    assert run("explain", "outputs/evaluate/scorecard.json") == text


def test_a_pipeline_run_of_this_machine(chain):
    stage = {"counts": "3 in → 2 out", "unchanged": True, "digest": "d" * 64, "mlflow_run": "a" * 32}
    made = {"verdict": "fail", "mlflow_run": "b" * 32, "code": {"git.sha": "c" * 40, "git.dirty": "true"}}
    write_json(chain.root / "runs/20260101-000000-abcd/run.json", made | {"stages": {"adapt": stage}})
    text = run("explain", "20260101-000000-abcd")
    assert "verdict fail" in text and "adapt: 3 in → 2 out · reused" in text and "with uncommitted changes" in text
    with pytest.raises(VistuneError, match="holds no finished run"):
        about("20260101-000000-abce")


def test_what_is_a_samples_id_is_left_to_samples(chain):
    assert about("vt1:abc") is None


def test_verify_lineage_says_link_by_link_what_it_found(chain, change):
    text = run("verify-lineage", "models:/vistune-demo@champion")
    assert "holds    model weights" in text
    assert text.endswith("the lineage of models:/vistune-demo@champion holds; 4 links were not looked at\n")
    with pytest.raises(VistuneError, match="4 links of models:/vistune-demo@champion could not be looked at"):
        run("verify-lineage", "models:/vistune-demo@champion", "--strict")
    with (
        change(chain.folders["sources"] / "sources.json", b"{}"),
        pytest.raises(VistuneError, match="is broken at: output of sources"),
    ):
        run("verify-lineage", "models:/vistune-demo@champion")


def test_purge_lists_and_writes(chain, tmp_path):
    text = run("purge", "--licence", "CC BY-NC 2.0")
    assert text.startswith("licence CC BY-NC 2.0 touches\n  12 samples of the release in outputs/validate\n")
    assert "  models:/vistune-demo/2 · challenger, champion\n" in text
    assert "nothing on this machine" in run("purge", "--source", "roads")
    with pytest.raises(VistuneError, match="needs to know what is withdrawn"):
        run("purge")


def test_promotions_tell_the_history(chain, change):
    text = run("promotions", "vistune-demo")
    events = [line.split()[1] for line in text.splitlines() if not line.startswith(" ")]
    assert events == ["register", "promote"] * 2
    assert text.count("not compared with champion version 1: the gate declares no target") == 2
    assert "version 2 after 1 by ann · gate pass" in text
    with pytest.raises(VistuneError, match="other has no promotions"):
        run("promotions", "other")
