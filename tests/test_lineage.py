"""Ids: git, and DVC's md5 as DVC itself records it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from vistune import lineage
from vistune.files import write_json
from vistune.stages import Settings, execute

ROOT = Path(__file__).parent.parent


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    return subprocess.check_output(command, text=True, stderr=subprocess.STDOUT).strip()


@pytest.fixture
def repository(fake_stages) -> Path:
    """A git repository with this project's DVC files, and fake stages."""
    git(fake_stages.parent, "init", "-q", str(fake_stages))
    for name in ("dvc.yaml", ".dvcignore", ".dvc/config", ".dvc/.gitignore", ".gitignore"):
        target = fake_stages / name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values():
        for dep in stage["deps"]:
            if not dep.startswith("outputs/"):
                (fake_stages / dep).mkdir(parents=True, exist_ok=True)
                (fake_stages / dep / "code.py").write_text("")
    git(fake_stages, "add", "-A")
    git(fake_stages, "commit", "-qm", "start")
    lineage.git.cache_clear()
    yield fake_stages
    lineage.git.cache_clear()


def test_md5_is_the_one_dvc_records(tmp_path):
    from dvc.repo import Repo

    data = tmp_path / "data"
    for name, content in {
        "a.txt": b"one\r\ntwo\n",
        "sub/b.bin": bytes(range(256)),
        "sub-dir/c": b"",
        "sub/ä.json": b"{}",
        "sub0": b"0",
        "execution.json": b"not data",
    }.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(content)
    (tmp_path / ".dvcignore").write_bytes((ROOT / ".dvcignore").read_bytes())
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        repo.add(str(data))
    recorded = yaml.safe_load((tmp_path / "data.dvc").read_text())["outs"][0]["md5"]
    assert lineage.dvc_md5(data) == recorded


def test_git_revision_and_dirty_flag(repository):
    sha = git(repository, "rev-parse", "HEAD")
    assert lineage.git() == (sha, False)
    (repository / "dvc.lock").write_text("schema: '2.0'\n")
    lineage.git.cache_clear()
    assert lineage.git() == (sha, False)
    (repository / "params.yaml").write_text("seed: 4\n")
    lineage.git.cache_clear()
    assert lineage.git() == (sha, True)
    assert lineage.ids()["git.dirty"] == "true"


def test_outside_a_repository_nothing_is_claimed(fake_stages):
    lineage.git.cache_clear()
    assert lineage.git() == ("", False)
    assert "git.sha" not in lineage.ids()
    assert tracked(fake_stages).startswith("DVC does not track the sources")
    lineage.git.cache_clear()


def test_an_image_says_which_commit_it_holds(monkeypatch):
    monkeypatch.setenv("VISTUNE_GIT_SHA", "e" * 40)
    monkeypatch.setenv("VISTUNE_IMAGE", "registry/vistune@sha256:1")
    lineage.git.cache_clear()
    assert lineage.ids()["git.sha"] == "e" * 40
    assert lineage.ids()["image"] == "registry/vistune@sha256:1"
    lineage.git.cache_clear()


def tracked(root: Path, rows: int = 3) -> str:
    """Runs the sources stage somewhere else and has its output tracked."""
    made = Settings.parse({"seed": 3, "sources": {"rows": rows}})
    execute("sources", made, {}, root / "elsewhere")
    return lineage.track_sources(root / "elsewhere", made)


def test_sources_of_a_run_come_under_dvc(repository, capfd):
    said = tracked(repository)
    md5 = lineage.recorded_md5("sources")
    assert said == f"DVC tracks the sources: md5 {md5} (commit dvc.lock to keep it)"
    assert capfd.readouterr() == ("", "")
    lock = (repository / "dvc.lock").read_text()
    assert tracked(repository) == f"DVC has the sources: md5 {md5}"
    assert (repository / "dvc.lock").read_text() == lock
    params = repository / "params.yaml"
    params.write_text(params.read_text().replace("sources: {rows: 3}", "sources: {rows: 5}"))
    assert tracked(repository, rows=5).startswith("DVC tracks the sources")
    assert lineage.recorded_md5("sources") not in ("", md5)


def test_dvc_lock_never_says_that_params_yaml_gave_what_an_override_gave(repository):
    assert "not those of params.yaml" in tracked(repository, rows=5)
    assert not (repository / "dvc.lock").exists()


@pytest.mark.slow
def test_repro_runs_every_stage_once(repository, monkeypatch):
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))  # activated

    def repro() -> str:
        done = subprocess.run(["dvc", "repro"], capture_output=True, text=True, check=False, cwd=repository)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    first = repro()
    for stage in ("sources", "adapt", "self_instruct", "validate", "tune", "evaluate", "promote", "report"):
        assert f"Running stage '{stage}'" in first
        assert lineage.recorded_md5(stage)
    assert "Running stage" not in repro()
    assert lineage.recorded_md5("validate") == lineage.dvc_md5(repository / "outputs" / "validate")


def test_dvc_stages_are_the_stages_with_their_inputs():
    from vistune.stages import STAGES

    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert list(stages) == list(STAGES)
    for name, stage in stages.items():
        assert stage["cmd"] == f"vistune {name}"
        assert stage["params"] == ["seed", name]
        assert stage["outs"] == [f"outputs/{name}"]
        assert [d for d in stage["deps"] if d.startswith("outputs/")] == [f"outputs/{i}" for i in STAGES[name].inputs]
        for dep in stage["deps"]:
            assert dep.startswith("outputs/") or (ROOT / dep).is_dir(), dep


def test_no_git_on_the_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    lineage.git.cache_clear()
    assert lineage.git(tmp_path) == ("", False)
    write_json(tmp_path / "x.json", {})
    assert lineage.dvc_md5(tmp_path).endswith(".dir")
