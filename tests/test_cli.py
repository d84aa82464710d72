"""The command line: every stage by its name, inputs by layout, errors as one paragraph."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vistune import cli, stages
from vistune.stages import STAGES, receipt


def vistune(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vistune.cli", *arguments]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def run(*arguments: str) -> str:
    """In this process, for speed. Raises what the command raises."""
    done = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_help_lists_every_stage():
    text = run("--help")
    for stage in STAGES:
        assert f"\n  {stage} " in text


def test_stages_by_name_meet_under_outputs(fake_stages):
    for stage in STAGES:
        text = run(stage)
        assert text.startswith(f"{stage}: 4 in → 3 out, 1 rejected (spare 1) · ")
        assert receipt(Path("outputs") / stage).stage == stage
    assert "unchanged" in run("adapt")


def test_demo_data_is_the_stage_sources(fake_stages):
    run("demo-data")
    assert receipt(Path("outputs/sources")).stage == "sources"


def test_inputs_output_and_parameters_from_the_command_line(fake_stages, tmp_path):
    run("sources", "--output", str(tmp_path / "s"), "--set", "sources.rows=5")
    (tmp_path / "more.yaml").write_text("adapt: {rows: 2}\nsources: {rows: 1}\n")
    run("adapt", "--input", f"sources={tmp_path / 's'}", "--overlay", str(tmp_path / "more.yaml"))
    made = receipt(Path("outputs/adapt"))
    assert made.summary["counts"]["out"] == 2
    assert made.summary["metrics"]["read"] == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["adapt"], "outputs/sources holds no finished stage output"),
        (["adapt", "--set", "adapt.row=1"], "unknown parameter adapt.row: did you mean adapt.rows?"),
        (["adapt", "--set", "tune.rwos=1"], "unknown parameter tune.rwos: did you mean tune.rows?"),
        (["adapt", "--input", "source=x"], "expected NAME=DIR with NAME one of sources"),
        (["adapt", "--params", "no.yaml"], "no.yaml does not exist"),
        (["sources", "--set", "sources.fail=the file a.json is missing"], "the file a.json is missing"),
    ],
)
def test_a_users_mistake_is_one_paragraph_and_status_1(fake_stages, arguments, message):
    done = vistune(*arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_debug_shows_the_traceback(fake_stages):
    done = vistune("sources", "--set", "sources.fail=broken", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_defect_is_a_traceback(fake_stages):
    done = vistune("sources", "--set", "sources.crash=true")
    assert done.returncode == 1
    assert "ValueError: a defect in the stage" in done.stderr


def test_stage_help_explains_inputs_outputs_and_parameters(fake_stages):
    text = " ".join(run("validate", "--help").split())
    for name in STAGES["validate"].inputs:
        assert f"outputs/{name}" in text
    assert "rows rows written (int, default 3)" in text


@pytest.mark.parametrize("stage", STAGES)
def test_help_of_the_real_stages(stage):
    text = run(stage, "--help")
    assert f"section `{stage}` of params.yaml" in text


def test_params_prints_what_a_run_would_use(fake_stages):
    text = run("params", "--set", "tune.rows=8", "--set", "seed=11")
    assert "seed: 11" in text
    again = fake_stages / "again.yaml"
    again.write_text(text)
    assert run("params", "--params", str(again)) == text


def test_own_data_replaces_the_demo(monkeypatch, tmp_path):
    """`--source` becomes the sources stage's parameters; every later stage reads only what it leaves."""
    seen = []
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("seed: 1\nsources:\n  demo: {train_scenes: 5}\n")
    monkeypatch.setattr(cli, "run_stage", lambda stage, tree, given, output: seen.append((stage, tree)))
    run("adapt", "--source", "coco_instances:a/boxes.json,images=a/jpg", "--source", "vqa:q.json,annotations=a.json")
    assert [stage for stage, _ in seen] == ["sources", "adapt"]
    made = stages.Settings.parse(seen[0][1]).sections["sources"]
    assert made.demo is None
    assert [d.name for d in made.datasets] == ["boxes", "q"]
    assert made.datasets[0].images == "a/jpg"


def test_rollback_names_the_model_of_params(monkeypatch, tmp_path):
    from vistune import promote

    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("promote: {name: mine}\n")
    monkeypatch.setattr(promote, "rollback", lambda name: f"{name} is back")
    assert run("rollback") == "mine is back\n"
    assert run("rollback", "--model", "other") == "other is back\n"


def test_no_secret_in_what_is_written(fake_stages, tmp_path):
    key = "sk-planted-abcdef"
    assert vistune("sources", OPENAI_API_KEY=key).returncode == 0
    home = Path(os.environ["VISTUNE_HOME"])
    for file in [*home.rglob("*"), *Path("outputs").rglob("*")]:
        assert not file.is_file() or key not in file.read_text()


def test_execution_is_json_a_person_can_read(fake_stages):
    run("sources")
    found = json.loads(Path("outputs/sources/execution.json").read_text())
    assert set(found) >= {"key", "params", "code", "inputs", "seconds", "run_id", "dvc_md5"}
