"""All compiled pipelines: what the official protos say to them, and what the pods of their steps get."""

import re
from pathlib import Path

import pytest
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

ROOT = Path(__file__).parents[2]
NAMES = ("data_only", "evaluate_only", "instruction_tuning", "promote_only", "sweep")


def both(plain, large):
    return [(f"{kind}/{name}", made[name]) for kind, made in (("plain", plain), ("large", large)) for name in NAMES]


def test_make_compile_writes_every_pipeline(plain):
    assert sorted(plain) == sorted(NAMES)
    names = {made.spec["pipelineInfo"]["name"] for made in plain.values()}
    assert names == {f"vistune-{name.replace('_', '-')}" for name in NAMES}
    assert all(made.spec["pipelineInfo"]["description"] for made in plain.values())


def test_the_driver_knows_every_pipeline():
    import compiling
    import run

    assert tuple(compiling.PIPELINES) == run.NAMES
    assert sorted(run.NAMES) == sorted(NAMES)


def test_every_step_says_what_compiled_it(plain):
    for container in plain["sweep"].containers().values():
        given = {one["name"]: one["value"] for one in container["env"]}
        assert re.match(r"0\.1\.0\+(g[0-9a-f]{12}(\.dirty)?|nogit)$", given["VISTUNE_KFP_PIPELINE_VERSION"])


def test_they_parse_as_the_official_protos(plain, large):
    for where, made in both(plain, large):
        proto = json_format.ParseDict(made.spec, pipeline_spec_pb2.PipelineSpec())
        again = json_format.ParseDict(json_format.MessageToDict(proto), pipeline_spec_pb2.PipelineSpec())
        assert again == proto, where
        json_format.ParseDict(made.platforms, pipeline_spec_pb2.PlatformSpec())
        for name, pod in made.pods().items():
            parsed = json_format.ParseDict(pod, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
            assert all(secret.optional for secret in parsed.secret_as_env), (where, name)
            assert all(one.optional for one in parsed.config_map_as_env), (where, name)


def test_every_parameter_that_a_task_names_is_in_its_scope(plain, large):
    """A pod's secret, config map, selector and tolerations are parameters as well, which loops must pass on."""
    looked = 0
    for where, made in both(plain, large):
        todo = [("root", made.spec["root"])]
        while todo:
            name, component = todo.pop()
            known = component.get("inputDefinitions", {}).get("parameters", {})
            for task in component["dag"]["tasks"].values():
                inner = made.spec["components"][task["componentRef"]["name"]]
                pod = made.kubernetes["deploymentSpec"]["executors"].get(inner.get("executorLabel"), {})
                for wanted in re.findall(r"'componentInputParameter': '([^']+)'", f"{task.get('inputs')} {pod}"):
                    assert wanted in known, (where, name, wanted)
                    looked += 1
                if "dag" in inner:
                    todo.append((task["componentRef"]["name"], inner))
    assert looked > 300


def test_every_parameter_of_every_pipeline_is_explained(plain):
    for name, made in plain.items():
        for parameter, about in made.parameters().items():
            assert about.get("description"), (name, parameter)
    needed = {n: {p for p, a in m.parameters().items() if "defaultValue" not in a} for n, m in plain.items()}
    assert needed == {
        "instruction_tuning": set(),
        "data_only": set(),
        "sweep": set(),
        "evaluate_only": {"model"},
        "promote_only": {"sources", "release", "model", "scorecard"},
    }


def test_secrets_and_config_maps_are_named_by_parameters(plain):
    for made in plain.values():
        for name, pod in made.pods().items():
            named = [s["secretNameParameter"]["componentInputParameter"] for s in pod.get("secretAsEnv", [])]
            named += [c["configMapNameParameter"]["componentInputParameter"] for c in pod["configMapAsEnv"]]
            assert all("cluster_secret_" in n or "cluster_config_map" in n for n in named), name
    given = plain["sweep"].parameters()
    assert given["cluster_secret_mlflow"]["defaultValue"] == "vistune-mlflow"
    assert given["cluster_config_map"]["defaultValue"] == "vistune-settings"


def test_every_pod_has_a_time_limit_a_user_and_labels(plain, large):
    for where, made in both(plain, large):
        for name, pod in made.pods().items():
            assert int(pod["activeDeadlineSeconds"]) >= 3600, (where, name)
            assert pod["securityContext"] == {"runAsNonRoot": True}, (where, name)
            assert pod["podMetadata"]["labels"]["app.kubernetes.io/name"] == "vistune", (where, name)
            assert pod["fieldPathAsEnv"] == [
                {"name": "VISTUNE_KFP_RUN", "fieldPath": "metadata.labels['pipeline/runid']"}
            ]


def test_gpu_pods_get_node_selector_tolerations_and_shared_memory(plain, large):
    for where, made in both(plain, large):
        for name, pod in made.pods().items():
            gpu = name in ("tune", "tune-job", "evaluate")
            assert ("nodeSelector" in pod, "tolerations" in pod) == (gpu, gpu), (where, name)
            memory = {"volumeName": "shm", "mountPath": "/dev/shm", "medium": "Memory", "sizeLimit": "8Gi"}
            assert pod.get("emptyDirMounts", []) == ([memory] if name in ("tune", "evaluate") else []), (where, name)
    selector = plain["sweep"].pods()["tune"]["nodeSelector"]["nodeSelectorJson"]
    assert selector["componentInputParameter"].endswith("cluster_gpu_node_selector")
    tolerations = plain["sweep"].pods()["tune"]["tolerations"][0]["tolerationJson"]
    assert tolerations["componentInputParameter"].endswith("cluster_gpu_tolerations")


def test_the_exit_handler_is_around_everything(plain, large):
    for where, made in both(plain, large):
        root = made.spec["root"]["dag"]["tasks"]
        assert set(root) == {"cleanup", "exit-handler-1"}, where
        cleanup = root["cleanup"]
        assert cleanup["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}, "also when a step failed"
        assert cleanup["inputs"]["parameters"]["run"]["runtimeValue"]["constant"] == "{{$.pipeline_job_uuid}}"
        assert cleanup["inputs"]["parameters"]["status"] == {"taskFinalStatus": {"producerTask": "exit-handler-1"}}


def test_a_finished_run_goes_away_with_its_volume(plain, large):
    """The workspace's claim belongs to the workflow, and no pipeline makes a claim of its own."""
    assert plain["sweep"].kubernetes["pipelineConfig"] == {"resourceTtlOnCompletion": 7 * 86400}
    config = large["sweep"].kubernetes["pipelineConfig"]
    assert config == {
        "resourceTtlOnCompletion": 2 * 86400,
        "workspace": {
            "size": "50Gi",
            "kubernetes": {"pvcSpecPatch": {"accessModes": ["ReadWriteMany"], "storageClassName": "nfs"}},
        },
    }
    for where, made in both(plain, large):
        assert "createpvc" not in made.text.lower() and "deletepvc" not in made.text.lower(), where


def test_the_workspace_keeps_what_a_repeated_step_goes_on_from(large, plain):
    given = {}
    for name, task in large["instruction_tuning"].tasks().items():
        home = task.get("inputs", {}).get("parameters", {}).get("home")
        if home:
            given[name] = home["runtimeValue"]["constant"]
    assert set(given) == {"self-instruct-part", "evaluate"}, "a training job has its own claim"
    assert set(given.values()) == {"{{$.workspace_path}}/vistune"}
    assert "workspace_path" not in plain["instruction_tuning"].text


def test_data_stages_fan_out_and_come_together(large, plain):
    for name in ("data_only", "instruction_tuning", "sweep"):
        made = large[name]
        loops = [t for t in made.tasks().values() if "parameterIterator" in t]
        fixed = [t["parameterIterator"]["items"]["raw"] for t in loops if "raw" in t["parameterIterator"]["items"]]
        assert fixed == ["[0, 1, 2]"] * 2, name
        merge = made.tasks()["adapt-merge"]["inputs"]["artifacts"]["parts"]
        assert merge["taskOutputArtifact"]["producerTask"].startswith("for-loop"), name
        assert made.tasks()["validate"]["inputs"]["artifacts"]["adapt"]["taskOutputArtifact"] == {
            "producerTask": "adapt-merge",
            "outputArtifactKey": "samples",
        }
        part = made.tasks()["adapt-part"]["inputs"]["parameters"]
        assert part["parts"]["runtimeValue"]["constant"] == 3
    assert "adapt-part" not in plain["data_only"].tasks()


def test_only_the_best_of_a_sweep_can_be_promoted(plain):
    found = plain["sweep"].tasks()
    given = found["promote"]["inputs"]["artifacts"]
    for name in ("model", "scorecard"):
        assert given[name]["taskOutputArtifact"] == {"producerTask": "best", "outputArtifactKey": name}
    (loop,) = [t for t in found.values() if "parameterIterator" in t]
    assert loop["parameterIterator"]["items"]["inputParameter"] == "pipelinechannel--vary-Output"
    assert loop["iteratorPolicy"]["parallelismLimit"] == 4


def test_promote_only_takes_artefacts_by_their_address(plain):
    found = plain["promote_only"].tasks()
    importers = {n: t for n, t in found.items() if n.startswith("importer")}
    assert len(importers) == 4
    assert not any(t["cachingOptions"].get("enableCache") for t in importers.values())
    executors = plain["promote_only"].spec["deploymentSpec"]["executors"]
    kinds = sorted(e["importer"]["typeSchema"]["schemaTitle"] for e in executors.values() if "importer" in e)
    assert kinds == ["system.Artifact", "system.Dataset", "system.Dataset", "system.Model"]


def test_the_job_gets_what_the_step_was_given(large):
    executor = large["instruction_tuning"].spec["components"]["comp-tune-job"]
    passed = {one["field"] for one in executor["taskConfigPassthroughs"]}
    assert passed >= {"RESOURCES", "KUBERNETES_TOLERATIONS", "KUBERNETES_NODE_SELECTOR", "KUBERNETES_VOLUMES", "ENV"}
    pod = large["instruction_tuning"].pods()["tune-job"]
    assert pod["pvcMount"][0]["mountPath"] == "/mnt/vistune"


@pytest.mark.parametrize("name", NAMES)
def test_the_file_of_a_pipeline_reads_as_a_table(name):
    """Placing, fan-out and compiling are elsewhere."""
    text = (ROOT / "pipelines" / f"{name}.py").read_text()
    assert len(text.splitlines()) < 80
    assert "kubernetes" not in text and "os.environ" not in text


def test_the_page_names_every_setting_and_pipeline():
    about = (ROOT / "pipelines/placing.py").read_text().split('"""')[1]
    page = (ROOT / "docs/kubeflow.md").read_text()
    settings = set(re.findall(r"^(VISTUNE_\w+)", about, re.M))
    assert len(settings) > 10 and all(f"`{name}`" in page for name in settings)
    assert all(f"| `{name}` |" in page for name in NAMES)
