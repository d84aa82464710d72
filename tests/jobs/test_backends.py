"""Which backend is taken, how many processes it starts, where they read, and how a pod's processes are started."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest

from vistune.errors import VistuneError
from vistune.jobs import BACKENDS, JobParams, backend_for
from vistune.jobs.backend import TASK_CONFIG, Place
from vistune.jobs.failure import HINTS, hint
from vistune.reference import parameters
from vistune.stages import STAGES, Settings


def test_unknown_keys_are_errors():
    with pytest.raises(VistuneError, match=r"unknown parameter tune\.job\.node: did you mean tune\.job\.nodes"):
        Settings.parse({"tune": {"job": {"node": 2}}})
    with pytest.raises(VistuneError, match=r"tune.job.backend is 'mpi'; expected one of 'local', 'trainjob'"):
        Settings.parse({"tune": {"job": {"backend": "mpi"}}})
    assert Settings.parse({}).sections["tune"].job == JobParams()


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (JobParams(nodes=0), "expected at least 1"),
        (JobParams(nodes=2), "local has this machine alone"),
        (JobParams(restarts=-1), "expected at least 1 and 0"),
        (JobParams("trainjob", queue="q", when_stopped="suspend"), "a queue wakes what it has admitted"),
        (JobParams(run_deadline=-1), "tune.job.run_deadline is -1; expected seconds"),
    ],
)
def test_values_that_make_no_sense(params, said, tmp_path):
    with pytest.raises(VistuneError, match=said):
        backend_for(params, tmp_path)


@pytest.mark.parametrize(("wanted", "each"), [(0, 2), (4, 2), (2, 1)])
def test_processes_of_a_node(backend, wanted, each):
    assert backend().processes(wanted) == each


def test_processes_that_do_not_divide(backend):
    with pytest.raises(VistuneError, match=r"tune.processes is 3: not the same number on each"):
        backend().processes(3)


def test_without_gpus_a_node_runs_one_process(backend, monkeypatch):
    monkeypatch.setenv(TASK_CONFIG, "{}")
    assert backend().processes(0) == 1


def test_the_release_is_copied_to_where_pods_read(backend, home, tmp_path):
    release = tmp_path / "artifact"
    release.mkdir()
    (release / "samples.parquet").write_text("rows")
    placed = backend().place(release)
    assert placed.is_relative_to(home) and (placed / "samples.parquet").read_text() == "rows"
    assert backend().place(release) == placed
    assert backend().place(placed) == placed, "what is there already is not copied"


@pytest.mark.parametrize("change", ["no volume", "emptyDir", "read only", "elsewhere"])
def test_a_home_that_pods_do_not_share_is_an_error(backend, home, tmp_path, monkeypatch, change):
    given = json.loads(os.environ[TASK_CONFIG])
    if change == "no volume":
        given["volumes"] = None
    elif change == "emptyDir":
        given["volumes"] = [{"name": "shared", "emptyDir": {}}]
    elif change == "read only":
        given["volume_mounts"][0]["readOnly"] = True
    else:
        given["volume_mounts"][0]["mountPath"] = "/mnt/other"
    monkeypatch.setenv(TASK_CONFIG, json.dumps(given))
    with pytest.raises(VistuneError, match=r"is on no volume that the pods of a .* can share"):
        backend().place(tmp_path)


@pytest.mark.parametrize("text", ["[", "[]", '{"resource": {"a": 1}}', '{"env": {"a": 1}}'])
def test_a_malformed_task_config(text, monkeypatch):
    monkeypatch.setenv(TASK_CONFIG, text)
    with pytest.raises(VistuneError, match="VISTUNE_TASK_CONFIG is not a JSON object with some of resources, env"):
        Place.from_environment()


def test_the_names_are_kubeflows():
    from kfp import dsl

    assert {f.name for f in fields(dsl.TaskConfig)} == {f.name for f in fields(Place)}


def test_every_hint_has_its_pattern():
    for text, advice in (
        ("ErrImagePull: x", "pulled"),
        ("Evicted", ""),
        ("No space left on device", "volume is full"),
        ("ncclSystemError: x", "NCCL found no way"),
        ("CreateContainerConfigError", "does not exist"),
    ):
        assert advice in hint(text)
    assert len({advice for _, advice in HINTS}) == len(HINTS)


RANK = """
import os, sys, time
print("rank", os.environ["RANK"], "of", os.environ["WORLD_SIZE"], sys.argv[1], flush=True)
if sys.argv[1].startswith("fail") and os.environ["RANK"] == "1":
    os._exit(int(sys.argv[1][4:]))
if sys.argv[1] == "kill":
    os.kill(os.getpid(), 9)
if sys.argv[1] == "wait":
    import signal
    def end(*_):
        print("saved", flush=True)
        os._exit(143)
    signal.signal(signal.SIGTERM, end)
    time.sleep(60)
"""


@pytest.fixture
def pods(tmp_path):
    """Starts what runs in pods, as the operators set their environment."""
    (tmp_path / "trainer.py").write_text(RANK)
    started = []

    def start(argument, nodes=1, processes=2, **environment):
        command = [sys.executable, "-m", "vistune.jobs.torchrun", "trainer", argument, str(nodes), str(processes)]
        path = f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"
        pod = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(pod)
        return pod

    yield start
    for pod in started:
        pod.kill()
        pod.wait()


@pytest.mark.slow
def test_two_pods_find_each_other(pods):
    port = "29611"
    first = pods("ok", 2, 1, PET_NODE_RANK="0", PET_MASTER_ADDR="127.0.0.1", PET_MASTER_PORT=port, PET_NNODES="2")
    second = pods("ok", 2, 1, RANK="1", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    out = [pod.communicate(timeout=120)[0] for pod in (first, second)]
    assert "rank 0 of 2 ok" in out[0] and "rank 1 of 2 ok" in out[1]
    assert (first.returncode, second.returncode) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize(("argument", "status"), [("fail7", 7), ("kill", 137)])
def test_a_pod_exits_as_its_first_failed_process(pods, argument, status):
    pod = pods(argument)
    out, _ = pod.communicate(timeout=120)
    assert pod.returncode == status
    assert "of this pod ended with" in out


@pytest.mark.slow
def test_a_pod_that_is_told_to_end_lets_its_processes_save(pods):
    pod = pods("wait")
    while "rank" not in pod.stdout.readline():
        time.sleep(0.05)
    time.sleep(2.0)
    pod.send_signal(signal.SIGTERM)
    out, _ = pod.communicate(timeout=120)
    assert pod.returncode == 143
    assert out.count("saved") == 2


def test_the_table_is_the_parameters():
    (choices,) = [p.type for p in parameters(JobParams) if p.name == "backend"]
    assert all(name in choices for name in BACKENDS)


def test_jobs_know_no_stage():
    """A stage hands them a job file and the module that reads it."""
    for path in (Path(__file__).parents[2] / "vistune" / "jobs").glob("*.py"):
        imported = re.findall(r"^\s*(?:from|import) vistune\.(\w+)", path.read_text(), re.MULTILINE)
        assert not set(imported) & set(STAGES), path
