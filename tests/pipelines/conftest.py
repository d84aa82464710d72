"""Compiled pipelines, and where the pipelines' files find one another."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
DIGEST = "registry.example/vistune@sha256:" + "a" * 64
KEY = "sk-planted-in-the-environment"

sys.path.insert(0, str(ROOT / "pipelines"))


class Compiled:
    """One compiled pipeline: its spec, and its executors' platform settings."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text()
        self.spec, self.platforms = yaml.safe_load_all(self.text)
        self.kubernetes = self.platforms["platforms"]["kubernetes"]

    def tasks(self) -> dict[str, dict]:
        """All tasks, of every level, by name."""
        dags = [self.spec["root"]["dag"], *(c["dag"] for c in self.spec["components"].values() if "dag" in c)]
        return {name: task for dag in dags for name, task in dag["tasks"].items()}

    def containers(self) -> dict[str, dict]:
        found = self.spec["deploymentSpec"]["executors"].items()
        return {name.removeprefix("exec-"): one["container"] for name, one in found if "container" in one}

    def pods(self) -> dict[str, dict]:
        return {n.removeprefix("exec-"): one for n, one in self.kubernetes["deploymentSpec"]["executors"].items()}

    def parameters(self) -> dict[str, dict]:
        return self.spec["root"]["inputDefinitions"]["parameters"]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """Compiles pipelines as `make compile` does, with these settings; each setting once."""
    made: dict[tuple, dict[str, Compiled]] = {}

    def run(*names: str, **environment: str) -> dict[str, Compiled]:
        key = (names, tuple(sorted(environment.items())))
        if key not in made:
            folder = tmp_path_factory.mktemp("ir")
            command = [sys.executable, str(ROOT / "pipelines/compiling.py"), *names, "--output", str(folder)]
            given = {n: v for n, v in os.environ.items() if not n.startswith("VISTUNE_")}
            given |= {"OPENAI_API_KEY": KEY, "MLFLOW_TRACKING_PASSWORD": KEY, **environment}
            done = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(done.stderr)
            made[key] = {path.stem: Compiled(path) for path in folder.glob("*.yaml")}
        return made[key]

    return run


@pytest.fixture(scope="session")
def plain(compiled):
    """All pipelines, each step in a pod of its own."""
    return compiled(VISTUNE_IMAGE=DIGEST, VISTUNE_RELEASE="1", VISTUNE_GPUS="2")


@pytest.fixture(scope="session")
def large(compiled):
    """All pipelines with everything that can be asked for: shards, a workspace, training in jobs."""
    return compiled(
        VISTUNE_IMAGE=DIGEST,
        VISTUNE_GPUS="8",
        VISTUNE_TRAIN_ON="trainjob",
        VISTUNE_SHARDS="3",
        VISTUNE_WORKSPACE="50Gi",
        VISTUNE_WORKSPACE_CLASS="nfs",
        VISTUNE_TTL_DAYS="2",
    )
