"""A fake cluster, the configuration that leads to it, and one job's work."""

import importlib.util
import json
import sys
import time
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).parent
for _name in ("fake_api", "fake_kubernetes", "crd", "operators"):
    if _name in sys.modules:  # tests/infra has loaded it
        continue
    _spec = importlib.util.spec_from_file_location(_name, HERE / f"{_name}.py")
    sys.modules[_name] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_name])

from crd import problems  # noqa: E402
from fake_kubernetes import NAMESPACE, FakeKubernetes  # noqa: E402

from vistune.jobs import JobParams, backend_for, cluster, follow, submit  # noqa: E402
from vistune.jobs.backend import TASK_CONFIG, Work  # noqa: E402

IMAGE = "registry.example/vistune@sha256:" + "a" * 64
GIVEN = {  # as Kubeflow hands it to the step
    "resources": {
        "limits": {"cpu": "16", "memory": "128Gi", "nvidia.com/gpu": "2"},
        "requests": {"cpu": "16", "memory": "128Gi"},
    },
    "env": [
        {"name": "VISTUNE_HOME", "value": "{home}"},
        {"name": "MLFLOW_TRACKING_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "NCCL_DEBUG", "value": "WARN"},
        {"name": "PET_NNODES", "value": "9"},
    ],
    "volumes": [{"name": "shared", "persistentVolumeClaim": {"claimName": "vistune-shared"}}],
    "volume_mounts": [{"name": "shared", "mountPath": "{home}"}],
    "node_selector": {"gpu": "h100"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": None,
}


@pytest.fixture
def kubernetes(tmp_path, monkeypatch):
    fake = FakeKubernetes(problems=problems)
    token = tmp_path / "token"
    token.write_text("first")
    configuration = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "k", "cluster": {"server": fake.url}}],
        "users": [{"name": "u", "user": {"tokenFile": str(token)}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": NAMESPACE}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(configuration))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
    monkeypatch.setenv("VISTUNE_IMAGE", IMAGE)
    for name in ("KUBERNETES_SERVICE_HOST", "KFP_POD_NAME", "KFP_POD_UID", "VISTUNE_TASK_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    for module, name, value in (
        (cluster, "FIRST", 0.02),
        (cluster, "LONGEST", 0.1),
        (cluster, "PATIENCE", 5.0),
        (submit, "LOOK", 0.02),
        (follow, "TICK", 0.02),
        (follow, "SETTLE", 0.3),
        (follow, "DRAIN", 3.0),
        (follow, "PAUSE", 0.02),
    ):
        monkeypatch.setattr(module, name, value)
    yield fake
    fake.close()
    assert fake.errors == []


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The folder that pods share, as a step has it mounted."""
    folder = tmp_path / "shared"
    (folder / "out").mkdir(parents=True)
    monkeypatch.setenv(TASK_CONFIG, json.dumps(GIVEN).replace("{home}", str(folder)))
    monkeypatch.setenv("VISTUNE_HOME", str(folder))
    return folder


@pytest.fixture
def sort(request):
    """The backend; `operators.both` asks for either."""
    return getattr(request, "param", "trainjob")


@pytest.fixture
def plural(sort):
    return f"{sort}s"


@pytest.fixture
def work(home):
    (home / "out" / "job.json").write_text("{}")
    return Work("trainer", home / "out" / "job.json", home / "out" / "summary.json", 2, 2)


@pytest.fixture
def backend(sort, home):
    def made(**params):
        return backend_for(JobParams(**{"backend": sort, "nodes": 2, **params}), home)

    return made


@pytest.fixture
def eventually():
    def holds(condition, seconds=5.0):
        until = time.monotonic() + seconds
        while not condition() and time.monotonic() < until:
            time.sleep(0.02)
        assert condition()

    return holds
