"""Real training through the component `tune_job`: the fake cluster runs the commands of its pods as processes."""

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from kfp import dsl
from operators import both, gone

from vistune import stages
from vistune.errors import VistuneError
from vistune.files import tree_digest
from vistune.jobs.backend import TASK_CONFIG

ROOT = Path(__file__).parents[2]
STAGE = {
    "name": "instruct",
    "objective": "instruct",
    "steps": 8,
    "batch": 2,
    "learning_rates": {"connector": 2e-3, "language": 5e-3},
    "checkpoint_every": 2,
}


def loaded(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return loaded("tune_conftest", ROOT / "tests/tune/conftest.py").make_release(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def of_two_processes(release, tmp_path_factory):
    """Digest of the model that two processes of this machine train."""
    from tests.warm import Popen
    from vistune.params import parse
    from vistune.tune import Params, run

    here = {"preset": "tiny", "dtype": "float32", "threads": 1, "processes": 2, "stages": [STAGE]}
    folder = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", Popen)
        run(parse(Params, here, "tune"), {"validate": release}, folder, stages.Context(7, folder / "home", ROOT))
    return tree_digest(folder / "model")


@pytest.fixture
def train(home, release, tmp_path, monkeypatch):
    """Calls the component as Kubeflow's executor does; returns its output folder."""
    monkeypatch.setattr(stages, "verified", lambda folder: stages.Receipt("validate", "0" * 64, {}))
    component = loaded("components_tune", ROOT / "components/tune/component.py").tune_job
    given = json.loads(os.environ[TASK_CONFIG])
    given["resources"]["limits"]["nvidia.com/gpu"] = "1"

    def run(backend, **job):
        made = {name: dsl.Artifact(name, str(tmp_path / f"{backend}-{name}")) for name in ("model", "page", "manifest")}
        metrics = dsl.Metrics("metrics", str(tmp_path / "metrics"))
        stage = {**STAGE, **job.pop("stage", {})}
        tune = {"preset": "tiny", "dtype": "float32", "threads": 1, "stages": [stage], "job": {"nodes": 2, **job}}
        component.python_func(
            settings=json.dumps({"seed": 7, "tune": tune}),
            backend=backend,
            release=dsl.Artifact("release", str(release)),
            metrics=metrics,
            task_config=dsl.TaskConfig(**given),
            **made,
        )
        assert metrics.metadata["instruct/final_loss"] > 0
        return Path(made["model"].path), Path(made["manifest"].path)

    return run


class Nodes:
    """Runs a job's pods as processes, and does to it what its operator does. disturb: called with the pods' processes
    and the number of the attempt, while they run."""

    def __init__(self, disturb=lambda attempt, processes: None):
        self.disturb, self.attempts = disturb, 0

    def __call__(self, kubernetes, job):
        self.attempts += 1
        plural = "trainjobs" if job["kind"] == "TrainJob" else "pytorchjobs"
        spec = job["spec"]
        if plural == "trainjobs":
            container, nodes = spec["trainer"], spec["trainer"]["numNodes"]
        else:
            replicas = spec["pytorchReplicaSpecs"]
            container = replicas["Master"]["template"]["spec"]["containers"][0]
            nodes = sum(r["replicas"] for r in replicas.values())
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        pods, processes, readers = [], [], []
        for n in range(nodes):
            pods.append(kubernetes.pod(job, n))
            if plural == "trainjobs":
                own = {"PET_NNODES": str(nodes), "PET_NODE_RANK": str(n), "PET_NPROC_PER_NODE": "1"}
                own |= {"PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": port}
            else:
                own = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(nodes), "RANK": str(n)}
            given = {one["name"]: one["value"] for one in container["env"] if "value" in one}
            environment = {k: v for k, v in os.environ.items() if not k.startswith(("VISTUNE_", "KFP_"))}
            process = subprocess.Popen(
                [sys.executable, *container["command"][1:]],
                env={**environment, "OMP_NUM_THREADS": "1", **given, **own},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=ROOT,
            )
            processes.append(process)
            readers.append(threading.Thread(target=self._read, args=(kubernetes, pods[-1], process), daemon=True))
            readers[-1].start()
        threading.Thread(target=self.disturb, args=(self.attempts, processes), daemon=True).start()
        while any(process.poll() is None for process in processes):
            body = kubernetes.get(plural, job["metadata"]["name"])
            if body is None or body["metadata"]["uid"] != job["metadata"]["uid"]:
                for process in processes:
                    process.send_signal(signal.SIGTERM)
                for process in processes:
                    process.wait()
                return
            time.sleep(0.05)
        for reader in readers:
            reader.join()
        for n, process in enumerate(processes):
            code = process.returncode if process.returncode >= 0 else 128 - process.returncode
            lost = [{"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}]
            more = {"conditions": lost} if getattr(process, "preempted", False) else {}
            kubernetes.pod(job, n, "Failed" if code else "Succeeded", ended=code, **more)
        failed = any(process.returncode for process in processes)
        done = "Complete" if plural == "trainjobs" else "Succeeded"
        kubernetes.condition(job, "Failed" if failed else done)

    def _read(self, kubernetes, pod, process):
        for line in process.stdout:
            kubernetes.say(pod, line.rstrip("\n"))


@both
@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_two_nodes_train_what_two_processes_train(kubernetes, train, sort, of_two_processes, capsys):
    kubernetes.operator = Nodes()
    model, manifest = train(sort)
    out = capsys.readouterr().out
    assert "tune: 2 process(es), 1 threads, cpu, float32" in out, "the first process's own words"
    kinds = {"trainjob": "TrainJob", "pytorchjob": "PyTorchJob"}
    assert yaml.safe_load(manifest.read_text())["kind"] == kinds[sort]
    assert not (model / "job.json").exists() and not (model / "summary.json").exists()
    assert len((model / "history.jsonl").read_text().splitlines()) == 8
    posts = kubernetes.asked("POST")
    again, empty = train(sort)
    assert kubernetes.asked("POST") == posts, "a finished result needs no job"
    assert empty.read_text() == ""
    assert tree_digest(again / "model") == tree_digest(model / "model")
    assert tree_digest(model / "model") == of_two_processes


def whole(pid):
    """A process and all below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in whole(int(child)))]


def lose(pid):
    """As a node that goes takes a pod."""
    for one in whole(pid):
        os.kill(one, signal.SIGKILL)


def runs(pid):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_a_preempted_node_costs_one_checkpoint_interval(kubernetes, train, home, capsys):
    def disturb(attempt, processes):
        if attempt > 1:
            return
        while not list(home.glob("stages/tune/*.partial/checkpoints/instruct/step-??????")):
            time.sleep(0.02)
        processes[1].preempted = True
        lose(processes[1].pid)

    kubernetes.operator = nodes = Nodes(disturb)
    model, _ = train("trainjob", stage={"steps": 30})
    assert nodes.attempts == 2
    out = capsys.readouterr().out
    assert "(TerminationByKubelet); attempt 2 goes on from the newest checkpoint" in out
    assert "tune instruct: continues after step" in out
    steps = [json.loads(line)["step"] for line in (model / "history.jsonl").read_text().splitlines()]
    assert steps == list(range(30)), "each step once"


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_a_failed_training_is_red_and_says_why(kubernetes, train, capsys):
    kubernetes.operator = Nodes()
    with pytest.raises(SystemExit) as stop:
        train("trainjob", stage={"datasets": ["none-of-this-name"]})
    assert stop.value.code == 1
    out = capsys.readouterr().out
    assert "vistune: TrainJob team-a/" in out and "exit code 1" in out and "none-of-this-name" in out
    assert gone(kubernetes, "trainjobs")


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_terminating_the_step_ends_the_pods(kubernetes, train, home, capsys):
    started = []

    def disturb(attempt, processes):
        while not list(home.glob("stages/tune/*.partial/checkpoints/instruct/step-??????")):
            time.sleep(0.02)
        started.extend(pid for process in processes for pid in whole(process.pid))
        os.kill(os.getpid(), signal.SIGTERM)

    kubernetes.operator = Nodes(disturb)
    with pytest.raises(SystemExit) as stop:
        train("trainjob", stage={"steps": 2000})
    assert stop.value.code == 143
    assert gone(kubernetes, "trainjobs")
    assert len(started) == 4, "in each pod torchrun, and what it has started"
    until = time.monotonic() + 30
    while any(map(runs, started)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(runs, started))


def test_a_step_without_the_shared_volume_says_so(kubernetes, train, monkeypatch, capsys):
    monkeypatch.setenv("VISTUNE_HOME", "/tmp/not-shared")
    with pytest.raises((SystemExit, VistuneError)):
        train("trainjob")
    assert "is on no volume that the pods of a TrainJob can share" in capsys.readouterr().out
