"""The compiled instruction-tuning pipeline: connected as the stages' table says, and carrying what a cluster needs."""

import sys

import pytest
from google.protobuf import json_format

from vistune.stages import STAGES
from vistune.tracking.text import SECRET_NAME

DIGEST = "registry.example/vistune@sha256:" + "a" * 64
KEY = "sk-planted-in-the-environment"


@pytest.fixture(scope="module")
def pipeline(plain):
    return plain["instruction_tuning"]


def producers(task: dict) -> set[str]:
    """Tasks whose outputs a task takes."""
    return {
        source.get("taskOutputArtifact", source.get("taskOutputParameter"))["producerTask"]
        for kind in task["inputs"].values()
        for source in kind.values()
        if source.keys() & {"taskOutputArtifact", "taskOutputParameter"}
    }


def test_stages_are_connected_as_the_table_says(pipeline):
    found = pipeline.tasks()
    for stage, entry in STAGES.items():
        wanted = {name.replace("_", "-") for name in (*entry.inputs, "resolve")}
        assert producers(found[stage.replace("_", "-")]) == wanted, stage


def test_nothing_starts_before_the_preflight_is_through(pipeline):
    found = pipeline.tasks()
    assert "dependentTasks" not in found["preflight"]
    assert found["resolve"]["dependentTasks"] == ["preflight"]
    given = found["preflight"]["inputs"]["parameters"]
    assert given.keys() == {"params", "overrides", "seed", "model_name", "needs"}
    assert '"gpus": 2' in given["needs"]["runtimeValue"]["constant"]


def test_every_container_has_requests_and_the_image_by_digest(pipeline):
    for name, container in pipeline.containers().items():
        assert container["image"] == DIGEST
        assert container["resources"]["resourceCpuRequest"], name
        assert container["resources"]["resourceMemoryRequest"] == container["resources"]["resourceMemoryLimit"], name
        assert "pip install" not in " ".join(container["command"]), "nothing is installed at run time"


def test_only_tune_and_evaluate_ask_for_gpus(pipeline):
    for name, container in pipeline.containers().items():
        accelerator = container["resources"].get("accelerator", {})
        wanted = {"resourceType": "nvidia.com/gpu", "resourceCount": "2"} if name in ("tune", "evaluate") else {}
        assert {k: v for k, v in accelerator.items() if k in wanted} == wanted, name
        assert bool(accelerator) == bool(wanted)


@pytest.mark.slow
def test_without_gpus_nothing_asks_for_one(compiled):
    made = compiled("instruction_tuning", VISTUNE_GPUS="0")["instruction_tuning"]
    assert not any("accelerator" in c["resources"] for c in made.containers().values())
    assert not any("nodeSelector" in pod or "tolerations" in pod for pod in made.pods().values())


def test_caching_and_retries(pipeline):
    found = pipeline.tasks()
    cached = {name for name, task in found.items() if task.get("cachingOptions", {}).get("enableCache")}
    leaves = {name for name in found if not name.startswith(("exit-handler", "condition"))}
    assert cached & leaves == {"sources", "adapt", "self-instruct", "validate"}
    for stage in STAGES:
        policy = found[stage.replace("_", "-")]["retryPolicy"]
        assert policy == {
            "maxRetryCount": 2,
            "backoffDuration": "30s",
            "backoffFactor": 2.0,
            "backoffMaxDuration": "600s",
        }
    for once in ("resolve", "preflight", "verdict-fail"):
        assert "retryPolicy" not in found[once], "what is wrong stays wrong"


def test_the_last_task_fails_a_run_that_did_not_pass(pipeline):
    found = pipeline.tasks()
    (outer,) = [t for t in found.values() if "require_pass" in t.get("triggerPolicy", {}).get("condition", "")]
    assert "report" in outer["dependentTasks"], "the evidence is written first"
    for verdict in ("fail", "inconclusive"):
        inner = [t["triggerPolicy"]["condition"] for t in found.values() if f"== '{verdict}'" in str(t)]
        assert len(inner) == 1 and "promote-Output" in inner[0]
        assert f"verdict-{verdict}" in found
    assert list(pipeline.spec["components"]["comp-promote"]["outputDefinitions"]["parameters"]) == ["Output"]


def test_parameters_are_few_typed_explained_and_hold_no_secret(pipeline):
    given = pipeline.parameters()
    own = {name: p["parameterType"] for name, p in given.items() if not name.startswith("cluster_")}
    assert own == {
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


def test_only_the_steps_that_ask_see_a_key(pipeline):
    holders: dict[str, set[str]] = {}
    for name, pod in pipeline.pods().items():
        for secret in pod.get("secretAsEnv", []):
            for key in secret["keyToEnv"]:
                holders.setdefault(key["envVar"], set()).add(name)
    assert holders["OPENAI_API_KEY"] == {"self-instruct", "evaluate"}
    assert holders["VISTUNE_TEACHER_API_KEY"] == holders["VISTUNE_JUDGE_API_KEY"] == {"preflight"}
    assert holders["VISTUNE_NOTIFY_URL"] == {"cleanup"}
    assert holders["MLFLOW_TRACKING_PASSWORD"] == set(pipeline.pods()) - {"verdict-fail", "verdict-inconclusive"}


def test_no_secret_of_the_environment_is_compiled_in(plain):
    assert all(KEY not in made.text for made in plain.values())


@pytest.mark.slow
def test_the_same_source_compiles_to_the_same_bytes(compiled):
    settings = {"VISTUNE_IMAGE": "vistune:one"}
    first = compiled("instruction_tuning", **settings)["instruction_tuning"].text
    assert compiled("instruction_tuning", **settings, PYTHONHASHSEED="7")["instruction_tuning"].text == first


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"VISTUNE_IMAGE": "vistune:latest", "VISTUNE_RELEASE": "1"}, "by digest"),
        ({"VISTUNE_SHARDS": "0"}, "VISTUNE_SHARDS is '0'; expected a whole number of at least 1"),
        ({"VISTUNE_WORKSPACE": "big"}, "VISTUNE_WORKSPACE is 'big'; expected a size such as 100Gi"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(compiled, environment, message):
    with pytest.raises(RuntimeError, match=message):
        compiled("instruction_tuning", **environment)


def test_local_pipeline_has_the_same_tasks_and_no_cluster_settings():
    import compiling

    local = compiling.build("instruction_tuning", None).pipeline_spec
    assert {*local.root.dag.tasks} == {"resolve", "condition-1", *(s.replace("_", "-") for s in STAGES)}
    text = str(json_format.MessageToDict(local))
    for word in ("accelerator", "retryPolicy", "resourceCpuRequest", "cluster_"):
        assert word not in text
    for name in compiling.PIPELINES:
        sys.modules.pop(name, None)
