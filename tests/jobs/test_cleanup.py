"""What a run's exit handler ends: its own unfinished jobs, of either kind, and nothing else."""

import importlib.util
from pathlib import Path

import pytest
from kfp import dsl

from vistune.errors import VistuneError
from vistune.jobs.cleanup import end_jobs
from vistune.jobs.submit import RUN


def job(kubernetes, plural, name, run, **conditions):
    kind = "TrainJob" if plural == "trainjobs" else "PyTorchJob"
    made = kubernetes.put(plural, {"kind": kind, "metadata": {"name": name, "labels": {RUN: run}}, "spec": {}})
    for condition in conditions:
        kubernetes.condition(made, condition)
    kubernetes.pod(made, 0)


def left(kubernetes):
    return {body["metadata"]["name"] for plural in ("trainjobs", "pytorchjobs") for body in kubernetes.all(plural)}


def test_the_runs_own_unfinished_jobs_are_ended(kubernetes, eventually):
    job(kubernetes, "trainjobs", "orphan", "r1")
    job(kubernetes, "pytorchjobs", "old-orphan", "r1")
    job(kubernetes, "trainjobs", "done", "r1", Complete=True)
    job(kubernetes, "trainjobs", "failed", "r1", Failed=True)
    job(kubernetes, "trainjobs", "of-another-run", "r2")
    kubernetes.fail("DELETE", 503, times=2)
    assert end_jobs("r1") == ["TrainJob team-a/orphan", "PyTorchJob team-a/old-orphan"]
    eventually(lambda: left(kubernetes) == {"done", "failed", "of-another-run"})


@pytest.mark.parametrize("served", [("trainjobs", "pods"), ("pytorchjobs", "pods"), ("pods",)])
def test_a_cluster_has_one_kind_or_none(kubernetes, served):
    kubernetes.served = served
    assert end_jobs("r1") == []


def test_what_cannot_be_ended_is_an_error(kubernetes):
    job(kubernetes, "trainjobs", "orphan", "r1")
    kubernetes.allowed = lambda verb, group, resource: verb != "delete"
    with pytest.raises(VistuneError, match="403"):
        end_jobs("r1")


def test_the_component_says_what_it_ended(kubernetes, capsys):
    path = Path(__file__).parents[2] / "components/cleanup/component.py"
    spec = importlib.util.spec_from_file_location("component_cleanup", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert all(given.description for given in module.cleanup.component_spec.inputs.values())
    job(kubernetes, "trainjobs", "orphan", "r1")
    status = dsl.PipelineTaskFinalStatus("FAILED", "run", "exit-handler-1", 1, "tune failed")
    module.cleanup.python_func("r1", status)
    module.cleanup.python_func("r9", status)
    said = "▸ cleanup\nTrainJob team-a/orphan deleted\n▸ cleanup\nno job was left\n"
    assert capsys.readouterr().out == said
