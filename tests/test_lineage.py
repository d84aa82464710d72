"""Ids: git, and DVC's md5 as DVC itself records it."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from vistune import lineage
from vistune.errors import VistuneError
from vistune.files import write_json
from vistune.stages import STAGES, Settings, code_digest, execute

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


def dvc(*arguments: str) -> None:
    """The command that a user runs; in this process, since each of its own takes seconds to start."""
    from dvc.cli import main

    assert main(list(arguments)) == 0, arguments


def pushed_and_pulled(repository: Path, url: str) -> None:
    """`dvc push` to the default remote, everything local lost, `dvc pull`: the same md5, and what a remote lacks."""
    md5 = lineage.recorded_md5("sources")
    assert lineage.remote(md5) == {"dvc.remote": url}
    assert lineage.remote("0" * 32 + ".dir") == {}
    assert lineage.missing_in_remote(md5) == [md5]
    dvc("push", "-q", "sources")
    assert lineage.missing_in_remote(md5) == []
    for lost in (repository / ".dvc/cache", repository / "outputs/sources"):
        shutil.rmtree(lost)
    dvc("pull", "-q", "sources")
    assert lineage.dvc_md5(repository / "outputs/sources") == md5


def test_a_remote_that_is_a_folder(repository, tmp_path):
    tracked(repository)
    md5 = lineage.recorded_md5("sources")
    assert lineage.remote(md5) == {}, "none is configured"
    with pytest.raises(VistuneError, match="DVC's remote does not answer"):
        lineage.missing_in_remote(md5)
    store = tmp_path / "store"
    store.mkdir()
    dvc("remote", "add", "-q", "-d", "store", str(store))
    pushed_and_pulled(repository, str(store))
    rows = next(p for p in (store / "files/md5").rglob("*") if p.is_file() and not p.name.endswith(".dir"))
    rows.chmod(0o644)
    rows.unlink()
    assert len(lineage.missing_in_remote(md5)) >= 1


@pytest.mark.skipif(
    not (importlib.util.find_spec("moto") and importlib.util.find_spec("dvc_s3")),
    reason="NOT TESTED: DVC's S3 remote. It needs the extras s3 and dev of pyproject.toml; run `make setup`",
)
def test_a_remote_in_s3(repository, monkeypatch):
    import boto3
    from moto.server import ThreadedMotoServer

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "planted-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="vistune")
        tracked(repository)
        dvc("remote", "add", "-q", "-d", "store", "s3://vistune/data")
        dvc("remote", "modify", "-q", "store", "endpointurl", endpoint)
        pushed_and_pulled(repository, "s3://vistune/data")
        kept = boto3.client("s3", endpoint_url=endpoint).list_objects_v2(Bucket="vistune")["Contents"]
        assert all(o["Key"].startswith("data/files/md5/") for o in kept)
    finally:
        server.stop()
    for file in (*repository.glob("*"), *(repository / ".dvc").glob("config*")):
        assert not file.is_file() or b"planted-secret" not in file.read_bytes(), file


def test_a_password_in_the_address_of_a_remote_is_left_out(repository):
    tracked(repository)
    with open(repository / ".dvc/config", "a") as f:
        f.write("[core]\n    remote = store\n['remote \"store\"']\n    url = https://me:pw@host/data\n")
    config = (
        (repository / ".dvc/config")
        .read_text()
        .replace("[core]\n    analytics = false\n    check_update = false\n", "")
    )
    (repository / ".dvc/config").write_text(config)
    assert lineage.remote(lineage.recorded_md5("sources")) == {"dvc.remote": "https://***@host/data"}


@pytest.mark.slow
def test_the_code_of_a_commit_is_hashed_as_a_run_hashes_it(tmp_path, monkeypatch):
    """In a checkout of its own: the same digests, and others after a stage was changed, also while that is not
    committed."""
    for folder in ("vistune", "eval"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    git(tmp_path.parent, "init", "-q", str(tmp_path))
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "start")
    monkeypatch.setenv("VISTUNE_ROOT", str(tmp_path))
    (tmp_path / "vistune/promote/card.py").write_text("changed, not committed")
    first = git(tmp_path, "rev-parse", "HEAD")
    found = lineage.code_at(first, ["sources", "promote"])
    assert found == {stage: code_digest(stage) for stage in ("sources", "promote")}
    git(tmp_path, "commit", "-qam", "second")
    assert lineage.commit_exists(first) and not lineage.commit_exists("0" * 40)
    assert lineage.code_at("0" * 40, ["promote"]) == {}


def test_one_orchestrator_per_run():
    """Kubeflow's steps, and what they call, never start `dvc repro`, and DVC's stages never start the pipeline: each of
    the two decides what is up to date, and would undo the other's decision."""
    steps = [*ROOT.glob("components/*/*.py"), *ROOT.glob("pipelines/*.py"), *(ROOT / "vistune").rglob("*.py")]
    for path in steps:
        code = path.read_text(encoding="utf-8")
        assert not re.search(r"""dvc["', ]+repro\b(?!`)|repo\.reproduce|\.repro\(""", code), path
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        assert stage["cmd"] == f"vistune {name}" and name in STAGES
