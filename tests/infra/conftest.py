"""The manifests as a cluster gets them, and the fake cluster of tests/jobs."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("jobs_conftest", ROOT / "tests" / "jobs" / "conftest.py")
_jobs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_jobs)
kubernetes, home, sort, plural, work, backend = (
    getattr(_jobs, name) for name in ("kubernetes", "home", "sort", "plural", "work", "backend")
)
sys.modules.setdefault("jobs_conftest", _jobs)


def rendered(folder: str) -> list[dict]:
    """What `kubectl apply -k` would send."""
    if not shutil.which("kubectl"):
        pytest.skip("THE MANIFESTS OF infra/k8s ARE NOT CHECKED: kubectl, which renders them, is not installed")
    done = subprocess.run(
        ["kubectl", "kustomize", str(ROOT / "infra" / "k8s" / folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="session", params=["overlays/local", "overlays/gpu"])
def overlay(request) -> list[dict]:
    return rendered(request.param)


@pytest.fixture(scope="session")
def runtime() -> dict:
    return yaml.safe_load((ROOT / "infra/k8s/cluster/runtime.yaml").read_text(encoding="utf-8"))
