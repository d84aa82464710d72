"""Secrets are planted wherever a step gets them from, and looked for in everything that it leaves behind; of a run of
the whole pipeline in tests/pipelines/test_run.py."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from vistune.errors import VistuneError
from vistune.params import SECRET_NAME, override, refuse_secrets, resolve
from vistune.stages import Settings, execute

ROOT = Path(__file__).resolve().parent.parent
PLANTED = {  # variable -> what nobody may find
    "OPENAI_API_KEY": "sk-planted-teacher-0001",
    "VISTUNE_TEACHER_API_KEY": "sk-planted-teacher-0002",
    "VISTUNE_JUDGE_API_KEY": "sk-planted-judge-0003",
    "MLFLOW_TRACKING_PASSWORD": "planted-mlflow-password-0004",
    "MLFLOW_TRACKING_TOKEN": "planted-mlflow-token-0005",
    "AWS_SECRET_ACCESS_KEY": "planted/s3+secret/0006",
    "AWS_ACCESS_KEY_ID": "PLANTEDS3KEYID0007",
    "VISTUNE_NOTIFY_URL": "http://127.0.0.1:9/hooks/planted-webhook-0008",
    "KFP_TOKEN": "planted-kfp-token-0009",
    "HF_TOKEN": "hf_planted0010",
}


@pytest.fixture
def planted(monkeypatch) -> None:
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)


def found(text: str | bytes) -> list[str]:
    """Variables whose secret is in a text."""
    given = text if isinstance(text, bytes) else text.encode()
    return [name for name, value in PLANTED.items() if value.encode() in given]


def search(*folders: Path) -> list[str]:
    """Files with a secret in their name or content, archives opened."""
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    assert files, "there is something to search"
    leaks = []
    for path in files:
        leaks += [f"{path}: {name}" for name in found(str(path)) + found(path.read_bytes())]
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                leaks += [f"{path}!{one}: {n}" for one in archive.namelist() for n in found(archive.read(one))]
    return leaks


def test_the_search_finds_what_is_there(tmp_path):
    (tmp_path / "log").write_bytes(b"\xff\x00 key=" + PLANTED["OPENAI_API_KEY"].encode())
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", "a" * 99 + PLANTED["HF_TOKEN"])
    assert [one.rpartition(": ")[2] for one in search(tmp_path)] == ["HF_TOKEN", "OPENAI_API_KEY"]


def test_an_error_that_repeats_secrets_reaches_mlflow_without_them(
    fake_stages, planted, mlflow_store, monkeypatch, tmp_path
):
    """As the text of a library's error may have them. The address of a webhook is in none; see vistune/ending.py."""
    secrets = {name: value for name, value in PLANTED.items() if SECRET_NAME.search(name)}
    assert set(PLANTED) - set(secrets) == {"AWS_ACCESS_KEY_ID", "VISTUNE_NOTIFY_URL"}

    def refused(*_):
        raise ValueError(f"no access for {' '.join(secrets.values())} at http://me:{secrets['HF_TOKEN']}@host/v1")

    monkeypatch.setattr(sys.modules["vistune.sources"], "run", refused)
    with pytest.raises(ValueError, match="no access"):
        execute("sources", Settings.parse(resolve(fake_stages / "params.yaml")), {}, tmp_path / "out")
    assert b"no access for ***" in mlflow_store.read_bytes()
    assert search(tmp_path) == []


@pytest.mark.slow
def test_what_is_compiled_for_a_cluster_holds_none(planted, tmp_path):
    """Secrets reach a step as references, and no parameter of a pipeline is one."""
    command = [sys.executable, str(ROOT / "pipelines/compiling.py"), "--output", str(tmp_path)]
    environment = {**os.environ, "VISTUNE_TRAIN_ON": "trainjob"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert search(tmp_path) == [] == found(done.stdout + done.stderr)
    made = sorted(tmp_path.glob("*.yaml"))
    assert "instruction_tuning" in [path.stem for path in made]
    for spec, platform in (yaml.safe_load_all(path.read_text(encoding="utf-8")) for path in made):
        assert "secretAsEnv" in json.dumps(platform), "the steps do get their secrets"
        parts = [spec["root"], *spec["components"].values()]
        names = [name for one in parts for name in one.get("inputDefinitions", {}).get("parameters", {})]
        assert [name for name in names if SECRET_NAME.search(name)] == []
        containers = [one["container"] for one in spec["deploymentSpec"]["executors"].values() if "container" in one]
        plain = [env["name"] for container in containers for env in container.get("env", [])]
        assert plain and [name for name in plain if SECRET_NAME.search(name)] == []


def test_the_manifest_of_a_job_holds_none(planted, tmp_path, monkeypatch):
    """What the step was given as a reference stays one, and what only the step needs is not passed on."""
    from vistune.jobs import JobParams, backend_for
    from vistune.jobs.backend import TASK_CONFIG, Work

    def reference(name: str) -> dict:
        return {"name": name, "valueFrom": {"secretKeyRef": {"name": "vistune", "key": name}}}

    monkeypatch.setenv("VISTUNE_IMAGE", "vistune@sha256:" + "a" * 64)
    shared = {"name": "shared", "persistentVolumeClaim": {"claimName": "vistune-shared"}}
    given = {
        "resources": {"limits": {"nvidia.com/gpu": "2"}},
        "env": [*(reference(name) for name in PLANTED), {"name": "NCCL_DEBUG", "value": "WARN"}],
        "volumes": [shared],
        "volume_mounts": [{"name": "shared", "mountPath": str(tmp_path)}],
    }
    monkeypatch.setenv(TASK_CONFIG, json.dumps(given))
    for kind in ("trainjob", "pytorchjob"):
        work = Work("vistune.tune.launch", tmp_path / "job.json", tmp_path / "result.json", 2, 2)
        text = json.dumps(backend_for(JobParams(kind, 2), tmp_path).manifest("job", work))
        assert "NCCL_DEBUG" in text and found(text) == []
        assert not re.search("MLFLOW_TRACKING|OPENAI_API_KEY|KFP_TOKEN", text)


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("self_instruct.api_key=sk-planted-teacher-0001", "self_instruct.api_key is the name of a secret"),
        ("self_instruct.api_key_env=sk-planted-teacher-0001", "self_instruct.api_key_env is not the name of an env"),
        ("self_instruct.extra={auth: {token: planted-kfp-token-0009}}", "extra.auth.token is the name of a secret"),
        ("evaluate.servers={m: {password: 12345678}}", "evaluate.servers.m.password is the name of a secret"),
        ("evaluate.judge.base_url=https://me:planted@judge/v1", "judge.base_url is an address with a password or key"),
        ("evaluate.judge.base_url=https://judge/v1?api_key=planted", "judge.base_url is an address with a password"),
        ("adapt.sources=['coco:https://s3/x?X-Amz-Signature=planted']", r"adapt.sources\[0\] is an address with"),
    ],
)
def test_a_parameter_that_is_a_secret_is_refused(assignment, said):
    """Before anything runs or is submitted; the message does not repeat it."""
    tree = resolve(ROOT / "params.yaml", overrides=[assignment])
    with pytest.raises(VistuneError, match=said) as refused:
        Settings.parse(tree)
    assert "environment variable" in str(refused.value)
    assert "planted" not in str(refused.value) and "12345678" not in str(refused.value)


@pytest.mark.parametrize("assignment", ["seed.api_key=planted", "sources.demo.0.token=planted", ".=planted"])
def test_a_wrong_override_is_not_repeated_either(assignment):
    tree = {"seed": 0, "sources": {"demo": 1}}
    with pytest.raises(VistuneError) as refused:
        override(tree, assignment)
    assert "planted" not in str(refused.value)


def test_no_parameter_of_ours_is_refused():
    for file in (ROOT / "params.yaml", *(ROOT / "params").glob("*.yaml")):
        refuse_secrets(resolve(file))
    refuse_secrets({"tune": {"max_tokens": 1, "api_key_env": "MY_KEY"}, "x": {"token": "", "password": None}})
    refuse_secrets({"base_url": "http://host:8000/v1", "text": "mail me@host, a: b@c, https://host/a?page=2"})


def test_secrets_of_a_run_are_no_parameters_of_it():
    """Every variable planted here is one that the code or its libraries read."""
    sources = "\n".join(
        p.read_text(encoding="utf-8") for d in ("vistune", "pipelines") for p in (ROOT / d).rglob("*.py")
    )
    libraries = {"MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "HF_TOKEN"}
    assert [name for name in PLANTED if name not in sources and name not in libraries] == []
