"""What is submitted: valid for the clusters' own schemas, and carrying what the step was given."""

import importlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from crd import missing, problems
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from operators import both, succeed

from vistune.errors import VistuneError
from vistune.jobs import JobParams, backend_for
from vistune.jobs.backend import TASK_CONFIG, Work

FILE = Path("/mnt/vistune/out/job.json")


def container(manifest: dict) -> dict:
    if manifest["kind"] == "TrainJob":
        return manifest["spec"]["trainer"]
    return manifest["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["containers"][0]


def pod(manifest: dict) -> dict:
    if manifest["kind"] == "TrainJob":
        (patch,) = manifest["spec"]["runtimePatches"]
        (node,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
        return node["template"]["spec"]["template"]["spec"]
    return manifest["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]


@both
@missing
def test_the_schemas_refuse_what_is_wrong(kubernetes, backend, work, plural):
    made = backend().manifest("j", work)
    assert problems(plural, made) == []
    assert problems(plural, {**made, "spec": {**made["spec"], "podSpecOverrides": []}}), "gone since Trainer 2.1"
    container(made)["resourcess"] = {}
    assert problems(plural, made)


@both
@missing
@given(
    nodes=st.integers(1, 64),
    each=st.integers(1, 8),
    queue=st.sampled_from(["", "gpus"]),
    limit=st.sampled_from([0, 60, 10**6]),
    bare=st.booleans(),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
def test_valid_whatever_is_asked_for(kubernetes, home, sort, plural, nodes, each, queue, limit, bare):
    work = Work("trainer", FILE, FILE, nodes, each)
    made = backend_for(JobParams(sort, nodes, queue=queue, run_deadline=limit), home)
    if bare:
        made.given = replace(made.given, resources={}, env=[], volumes=[], volume_mounts=[], tolerations=[])
    assert problems(plural, made.manifest("vistune-tune-0123456789abcdef", work)) == []


def test_trainer_models_accept_it(kubernetes, backend, work, sort):
    models = pytest.importorskip("kubeflow_trainer_api.models", reason="kubeflow-trainer-api is not installed")
    if sort == "trainjob":
        made = backend(queue="q", run_deadline=60).manifest("j", work)
        again = models.TrainerV1alpha1TrainJob.from_dict(made).to_dict()
        assert again["spec"]["trainer"]["numNodes"] == 2
        assert again["spec"]["runtimePatches"] == made["spec"]["runtimePatches"]


@both
def test_the_steps_resources_reach_the_pods(kubernetes, backend, work, home):
    made = backend().manifest("j", work)
    given = json.loads(os.environ[TASK_CONFIG])
    resources = container(made).get("resourcesPerNode") or container(made)["resources"]
    assert resources == given["resources"]
    assert pod(made)["nodeSelector"] == {"gpu": "h100"}
    assert pod(made)["tolerations"] == given["tolerations"]
    assert "affinity" not in pod(made), "an empty field would be a wish"
    assert given["volumes"][0] in pod(made)["volumes"]
    assert given["volume_mounts"][0] in pod(made)["containers"][0]["volumeMounts"]


@both
def test_environment(kubernetes, backend, work, home, monkeypatch):
    monkeypatch.setenv("VISTUNE_GIT_SHA", "abc")
    env = {one["name"]: one.get("value") for one in container(backend().manifest("j", work))["env"]}
    assert env["NCCL_DEBUG"] == "WARN" and env["VISTUNE_HOME"] == str(home) and env["VISTUNE_GIT_SHA"] == "abc"
    assert not [n for n in env if n.startswith(("PET_", "MLFLOW_"))], "the operator's, and a secret of the step alone"


@both
def test_nodes_and_processes(kubernetes, backend, work, sort):
    spec = backend().manifest("j", work)["spec"]
    if sort == "trainjob":
        assert (spec["trainer"]["numNodes"], spec["trainer"]["numProcPerNode"]) == (2, 2)
        return
    replicas = {name: r["replicas"] for name, r in spec["pytorchReplicaSpecs"].items()}
    assert (replicas, spec["nprocPerNode"]) == ({"Master": 1, "Worker": 1}, "2")
    one = backend(nodes=1).manifest("j", replace(work, nodes=1))["spec"]
    assert list(one["pytorchReplicaSpecs"]) == ["Master"], "a replica of none is refused"


@both
def test_the_cluster_ends_what_nobody_is_left_to_end(kubernetes, backend, work, sort):
    spec = backend(start_deadline=100, run_deadline=1000).manifest("j", work)["spec"]
    assert (spec if sort == "trainjob" else spec["runPolicy"])["activeDeadlineSeconds"] == 1100
    spec = backend(run_deadline=0).manifest("j", work)["spec"]
    assert "activeDeadlineSeconds" not in (spec if sort == "trainjob" else spec["runPolicy"])


@both
def test_the_queue_is_kueues(kubernetes, backend, work):
    labels = backend(queue="gpus").manifest("j", work)["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] == "gpus"


def test_the_same_wish_gives_the_same_manifest(kubernetes, backend, work):
    assert backend().manifest("j", work) == backend().manifest("j", work)


@both
def test_what_is_submitted_is_what_the_schemas_saw(kubernetes, backend, work):
    """The fake API refuses what the schemas refuse, after owners and annotations were added as well."""
    kubernetes.operator = lambda k, job: succeed(k, job, work)
    backend().run(work)
    kubernetes.problems = lambda plural, body: ['strict decoding error: unknown field "spec.runtimePatches"']
    kubernetes.remove(*next(key for key in kubernetes.objects if key[0] != "pods"))
    with pytest.raises(VistuneError, match=r"unknown field.*The cluster needs"):
        backend().run(work)


def test_without_an_image_there_is_no_job(kubernetes, backend, work, monkeypatch):
    monkeypatch.delenv("VISTUNE_IMAGE")
    with pytest.raises(VistuneError, match="VISTUNE_IMAGE is not set"):
        backend().run(work)


def test_every_class_of_the_table_exists():
    from vistune.jobs import BACKENDS

    for where in BACKENDS.values():
        module, _, name = where.rpartition(".")
        assert callable(getattr(importlib.import_module(module), name))
