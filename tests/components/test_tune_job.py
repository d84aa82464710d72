"""The component `tune_job`: what Kubeflow gives the step reaches the job, and what was submitted is kept."""

import importlib.util
import json
import os
from pathlib import Path

import pytest
from kfp import dsl

from vistune import component
from vistune.errors import VistuneError
from vistune.jobs.backend import TASK_CONFIG
from vistune.params import read_tree

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tune_job():
    path = ROOT / "components/tune/component.py"
    spec = importlib.util.spec_from_file_location("component_tune_job", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.tune_job


@pytest.fixture
def call(tune_job, tmp_path, monkeypatch):
    """Calls the component with a stage in place of `tune`; returns the parameters that the stage got."""
    monkeypatch.setenv(TASK_CONFIG, "")

    def run(tree, stage=lambda: None, backend="trainjob", **given):
        got = {}

        def step(name, settings, inputs, output, metrics, shows):
            got.update(read_tree(settings, "settings"), inputs=inputs)
            stage()

        monkeypatch.setattr(component, "step", step)
        artifacts = {name: dsl.Artifact(name, str(tmp_path / name)) for name in ("release", "model", "manifest")}
        tune_job.python_func(
            settings=json.dumps(tree),
            backend=backend,
            metrics=dsl.Metrics("metrics", str(tmp_path / "metrics")),
            page=dsl.HTML("page", str(tmp_path / "page")),
            task_config=dsl.TaskConfig(**given),
            **artifacts,
        )
        return got

    return run


@pytest.mark.parametrize(
    ("job", "backend"), [(None, "trainjob"), ({"nodes": 4}, "trainjob"), ({"backend": "pytorchjob"}, "pytorchjob")]
)
def test_the_pipeline_says_where_unless_the_run_does(call, job, backend):
    got = call({"seed": 1, "tune": {"family": "small", "job": job}})
    assert got["tune"]["job"] == {**(job or {}), "backend": backend}
    assert (got["seed"], got["tune"]["family"]) == (1, "small")
    assert Path(got["inputs"]["validate"]).name == "release"


def test_the_steps_settings_are_the_jobs(call):
    call({"tune": {}}, resources={"limits": {"nvidia.com/gpu": "8"}}, node_selector={"gpu": "h100"})
    given = json.loads(os.environ[TASK_CONFIG])
    assert given["resources"] == {"limits": {"nvidia.com/gpu": "8"}}
    assert given["node_selector"] == {"gpu": "h100"}


def test_the_manifest_is_kept_also_when_the_job_fails(call, own_home, tmp_path):
    (own_home / "jobs").mkdir()
    (own_home / "jobs" / "before.yaml").write_text("of another step")

    def stage():
        (own_home / "jobs" / "mine.yaml").write_text("kind: TrainJob\n")
        raise VistuneError("the job failed")

    with pytest.raises(VistuneError):
        call({"tune": {}}, stage)
    assert (tmp_path / "manifest").read_text() == "kind: TrainJob\n"


def test_without_a_job_the_manifest_is_empty(call, tmp_path):
    call({"tune": {}})
    assert (tmp_path / "manifest").read_text() == ""
