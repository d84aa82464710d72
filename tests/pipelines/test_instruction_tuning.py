"""The compiled pipeline: valid for the official protos, and carrying what a cluster needs."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from vistune.stages import STAGES
from vistune.tracking.text import SECRET_NAME

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "pipelines" / "instruction_tuning.py"
DIGEST = "registry.example/vistune@sha256:" + "a" * 64
KEY = "sk-planted-in-the-environment"


def compiled(tmp_path: Path, **environment: str) -> tuple[dict, dict, str]:
    target = tmp_path / "pipeline.yaml"
    code = (
        "import runpy, sys; from pathlib import Path; "
        f"runpy.run_path({str(SOURCE)!r})['compile_to'](Path({str(target)!r}))"
    )
    environment = {**os.environ, "OPENAI_API_KEY": KEY, "MLFLOW_TRACKING_PASSWORD": KEY, **environment}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    text = target.read_text()
    spec, platforms = yaml.safe_load_all(text)
    return spec, platforms, text


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("ir"), VISTUNE_IMAGE=DIGEST, VISTUNE_RELEASE="1", VISTUNE_GPUS="2")


def test_parses_as_the_official_protos(cluster):
    spec, platforms, _ = cluster
    proto = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    assert proto.pipeline_info.name == "vistune-instruction-tuning"
    platform = json_format.ParseDict(platforms, pipeline_spec_pb2.PlatformSpec())
    executors = platform.platforms["kubernetes"].deployment_spec.executors
    for name, fields in executors.items():
        made = json_format.ParseDict(
            json_format.MessageToDict(fields), kubernetes_executor_config_pb2.KubernetesExecutorConfig()
        )
        assert made.secret_as_env, name
        assert all(secret.optional for secret in made.secret_as_env)


def tasks(spec: dict) -> dict:
    return spec["root"]["dag"]["tasks"]


def containers(spec: dict) -> dict:
    return {k.removeprefix("exec-"): v["container"] for k, v in spec["deploymentSpec"]["executors"].items()}


def test_stages_are_connected_as_the_table_says(cluster):
    found = tasks(cluster[0])
    for stage, entry in STAGES.items():
        wanted = {name.replace("_", "-") for name in (*entry.inputs, "resolve")}
        given = {
            source.get("taskOutputArtifact", source.get("taskOutputParameter"))["producerTask"]
            for kind in found[stage.replace("_", "-")]["inputs"].values()
            for source in kind.values()
        }
        assert given == wanted, stage


def test_every_container_has_requests_and_the_image_by_digest(cluster):
    for name, container in containers(cluster[0]).items():
        assert container["image"] == DIGEST
        assert container["resources"]["resourceCpuRequest"], name
        assert container["resources"]["resourceMemoryRequest"] == container["resources"]["resourceMemoryLimit"], name
        assert "pip install" not in " ".join(container["command"]), "nothing is installed at run time"


def test_only_tune_and_evaluate_ask_for_gpus(cluster):
    for name, container in containers(cluster[0]).items():
        accelerator = container["resources"].get("accelerator", {})
        wanted = {"resourceType": "nvidia.com/gpu", "resourceCount": "2"} if name in ("tune", "evaluate") else {}
        assert {k: v for k, v in accelerator.items() if k in wanted} == wanted, name
        assert bool(accelerator) == bool(wanted)


@pytest.mark.slow
def test_without_gpus_nothing_asks_for_one(tmp_path):
    spec, _, _ = compiled(tmp_path, VISTUNE_GPUS="0")
    assert not any("accelerator" in c["resources"] for c in containers(spec).values())


def test_caching_and_retries(cluster):
    found = tasks(cluster[0])
    cached = {name for name, task in found.items() if task.get("cachingOptions", {}).get("enableCache")}
    assert cached == {"sources", "adapt", "self-instruct", "validate"}
    for stage in STAGES:
        policy = found[stage.replace("_", "-")]["retryPolicy"]
        assert policy["maxRetryCount"] == 2
        assert policy["backoffFactor"] == 2.0
    assert "retryPolicy" not in found["resolve"], "a wrong parameter stays wrong"


def test_the_last_task_fails_a_run_that_did_not_pass(cluster):
    spec, _, _ = cluster
    outer = tasks(spec)["condition-1"]
    assert "require_pass" in outer["triggerPolicy"]["condition"]
    assert "report" in outer["dependentTasks"], "the evidence is written first"
    inner = spec["components"]["comp-condition-1"]["dag"]["tasks"]["condition-2"]
    assert inner["triggerPolicy"]["condition"].endswith("promote-Output'] != 'pass'")
    assert list(spec["components"]["comp-promote"]["outputDefinitions"]["parameters"]) == ["Output"]


def test_parameters_are_few_typed_explained_and_hold_no_secret(cluster):
    spec, _, _ = cluster
    given = spec["root"]["inputDefinitions"]["parameters"]
    types = {name: p["parameterType"] for name, p in given.items()}
    assert types == {
        "params": "STRING",
        "overrides": "STRING",
        "seed": "NUMBER_INTEGER",
        "model_name": "STRING",
        "require_pass": "BOOLEAN",
    }
    for name, parameter in given.items():
        assert parameter["description"], name
        assert "defaultValue" in parameter, name
        assert not SECRET_NAME.search(name)


def test_only_the_teachers_step_sees_its_key(cluster):
    _, platforms, _ = cluster
    executors = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    holders = [n for n, e in executors.items() if "vistune-teacher" in str(e)]
    assert holders == ["exec-self-instruct"]


def test_no_secret_value_in_the_file(cluster):
    assert KEY not in cluster[2]


@pytest.mark.slow
def test_compiles_to_the_same_bytes(cluster, tmp_path):
    again = compiled(tmp_path, VISTUNE_IMAGE=DIGEST, VISTUNE_RELEASE="1", VISTUNE_GPUS="2")
    assert again[2] == cluster[2]


@pytest.mark.slow
def test_a_release_refuses_an_image_without_digest(tmp_path):
    with pytest.raises(RuntimeError, match="a release names its image by digest"):
        compiled(tmp_path, VISTUNE_IMAGE="vistune:latest", VISTUNE_RELEASE="1")


def test_locally_the_same_tasks_without_the_clusters_settings():
    spec = importlib.util.spec_from_file_location("instruction_tuning_local", SOURCE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    local = module.build(None).pipeline_spec
    assert {*local.root.dag.tasks} == {"resolve", "condition-1", *(s.replace("_", "-") for s in STAGES)}
    text = str(json_format.MessageToDict(local))
    for word in ("accelerator", "retryPolicy", "resourceCpuRequest"):
        assert word not in text
    del sys.modules[spec.name]
