"""docs/kubeflow.md: its commands, parameters, variables and quoted words are those of the code."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from vistune.jobs import JobParams
from vistune.jobs.backend import TASK_CONFIG, Place
from vistune.params import override
from vistune.reference import parameters
from vistune.stages import Settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/kubeflow.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\n(.*?)^```", TEXT, re.M | re.S)
LINES = [line for block in BLOCKS for line in block.splitlines()]
SOURCES = "\n".join(
    p.read_text(encoding="utf-8") for folder in ("vistune", "pipelines") for p in (ROOT / folder).rglob("*.py")
)


def test_folders_and_scripts_exist():
    applied = [line.split()[3] for line in LINES if line.startswith("kubectl apply -k infra")]
    assert applied and all((ROOT / folder / "kustomization.yaml").is_file() for folder in applied)
    scripts = [line.split()[0] for line in LINES if line.startswith("infra/")]
    assert scripts and all(os.access(ROOT / script, os.X_OK) for script in scripts)
    for name in re.findall(r"`(infra/[\w./-]+)`", TEXT):
        assert (ROOT / name).exists(), name


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in LINES if "TRAIN_ON" in line])
def test_the_compile_commands_compile(line, tmp_path):
    *given, command, target = line.split()
    assert (command, target) == ("make", "compile")
    assert "\t@$(BIN)/python pipelines/compiling.py" in (ROOT / "Makefile").read_text()
    code = [sys.executable, "pipelines/compiling.py", "instruction_tuning", "--output", str(tmp_path)]
    environment = {**os.environ, **dict(one.split("=") for one in given)}
    subprocess.run(code, cwd=ROOT, env=environment, check=True)
    spec, platform = yaml.safe_load_all((tmp_path / "instruction_tuning.yaml").read_text())
    cleanup, inside = spec["root"]["dag"]["tasks"]["cleanup"], spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    assert cleanup["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED", "also when a step failed"
    assert cleanup["inputs"]["parameters"]["run"]["runtimeValue"]["constant"] == "{{$.pipeline_job_uuid}}"
    task = inside["tune-job"]
    backend = environment["VISTUNE_TRAIN_ON"]
    assert task["inputs"]["parameters"]["backend"]["runtimeValue"]["constant"] == backend
    executor = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-tune-job"]
    assert [(m["constant"], m["mountPath"]) for m in executor["pvcMount"]] == [("vistune-shared", "/mnt/vistune")]
    passed = {
        p["field"]: p.get("applyToTask", False) for p in spec["components"]["comp-tune-job"]["taskConfigPassthroughs"]
    }
    assert passed == {
        "RESOURCES": False,
        "KUBERNETES_TOLERATIONS": False,
        "KUBERNETES_NODE_SELECTOR": False,
        "KUBERNETES_AFFINITY": False,
        "ENV": True,
        "KUBERNETES_VOLUMES": True,
    }
    container = spec["deploymentSpec"]["executors"]["exec-tune-job"]["container"]
    resources = container["resources"]
    assert resources["accelerator"]["resourceCount"] == "8"
    assert (resources["resourceCpuRequest"], resources["resourceMemoryLimit"]) == ("64", "512Gi")
    assert inside["evaluate"]["inputs"]["artifacts"]["model"]["taskOutputArtifact"]["producerTask"] == "tune-job"


@pytest.mark.slow
def test_another_place_to_train_is_an_error():
    environment = {**os.environ, "VISTUNE_TRAIN_ON": "mpi"}
    command = [sys.executable, "pipelines/compiling.py"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "VISTUNE_TRAIN_ON is 'mpi'; expected pod, trainjob or pytorchjob.\n"


def test_overrides_are_parameters():
    tree: dict = {}
    given = [line for line in LINES if re.match(r"tune\.[\w.]+=", line)]
    given += re.findall(r"--set (\S+)", "\n".join(LINES))
    assert len(given) == 6
    for one in given:
        override(tree, one)
    job = Settings.parse(tree).sections["tune"].job
    assert (job.backend, job.nodes, job.queue) == ("trainjob", 4, "team-a")


def test_the_table_of_parameters_is_complete_and_right():
    defaults = {p.name: p.default for p in parameters(JobParams)}
    table = dict(re.findall(r"^\| `tune\.job\.(\w+)` \| `?([\w-]+)`? \|", TEXT, re.M))
    assert set(table) == set(defaults) - {"nodes"}
    for name, said in table.items():
        assert said == {"''": "none", "0": "none"}.get(defaults[name], defaults[name]), name
    assert set(re.findall(r"tune\.job\.(\w+)", TEXT)) <= set(defaults)


def test_variables_are_read_somewhere():
    for name in set(re.findall(r"\bVISTUNE_\w+", TEXT)):
        assert name in SOURCES, name


def test_the_task_config_is_one(monkeypatch):
    text = re.search(r"VISTUNE_TASK_CONFIG='(.+?)'\n", TEXT, re.S)[1]
    monkeypatch.setenv(TASK_CONFIG, text)
    place = Place.from_environment()
    assert place.gpus() == 8 and place.mounted(Path("/mnt/vistune")) and json.loads(text)


def test_quoted_messages_are_the_codes():
    for words in ("waiting: ", "the queue has not admitted it", "is on no volume that the pods of a "):
        assert words in TEXT and words in SOURCES
    assert "The cluster needs Kubeflow Trainer 2.2 or later" in SOURCES


def test_the_table_of_rights_is_the_role():
    (role,) = [
        b for b in yaml.safe_load_all((ROOT / "infra/k8s/base/pipeline-role.yaml").read_text()) if b["kind"] == "Role"
    ]
    said = {
        resource: set(verbs.split(", "))
        for verbs, resources in re.findall(r"^\| ([a-z, ]+) \| (`[\w/`, ]+) \|", TEXT, re.M)
        for resource in re.findall(r"`([\w/]+)`", resources)
    }
    assert said == {resource: set(rule["verbs"]) for rule in role["rules"] for resource in rule["resources"]}


def test_make_targets_exist():
    targets = set(re.findall(r"^([\w-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    named = set(re.findall(r"`make ([a-z-]+)", TEXT)) | set(re.findall(r" make ([a-z-]+)", "\n".join(LINES)))
    assert {"compile", "lock", "image-smoke", "image-sign", "pipeline-run"} <= named <= targets


def test_the_table_of_secrets_is_what_the_steps_read():
    """Keys of each secret, as pipelines/placing.py reads them, under the default names of the pipeline's parameters."""
    tree = ast.parse((ROOT / "pipelines/placing.py").read_text(encoding="utf-8"))
    (read,) = [n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "SECRETS"]
    said = {
        name: re.findall(r"`(\w+)`", keys)
        for name, keys in re.findall(r"^\| `vistune-(\w+)` \| (`[\w`, ]+) \|", TEXT, re.M)
    }
    assert said == {name: list(keys) for name, keys in ast.literal_eval(read).items()}
    assert all(f'"vistune-{name}"' in ast.unparse(tree).replace("'", '"') for name in said)


def test_the_smoke_tests_variables_are_those_of_the_page():
    about = ast.get_docstring(ast.parse((ROOT / "infra/docker/smoke.py").read_text(encoding="utf-8")))
    variables = set(re.findall(r"^([A-Z_]+)  ", about, re.M)) - {"BASE"}
    assert variables == {name for name in variables if re.search(rf"`{name}[`=]", TEXT)} and len(variables) == 5
    assert "buildah, podman and runc (and debootstrap" in about and "buildah podman runc debootstrap" in TEXT
