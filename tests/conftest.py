"""Every test works in its own home, offline, without MLflow unless it asks, and never with a developer's keys."""

import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DVC_NO_ANALYTICS"] = "1"
os.environ["TORCHDYNAMO_DISABLE"] = "1"  # bitsandbytes would compile a kernel for each shape of weights, 9 s each

OUTSIDE = (
    "MLFLOW_RUN_ID",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_EXPERIMENT_NAME",
    "KFP_MLFLOW_CONFIG",
    "KFP_ENDPOINT",
    "OPENAI_API_KEY",
    "VISTUNE_GIT_SHA",
    "VISTUNE_IMAGE",
    "VISTUNE_PARENT_RUN",
    "VISTUNE_ROOT",
)

FAKES = Path(__file__).parent / "fake_stages"
STAGES = ("sources", "adapt", "self_instruct", "validate", "tune", "evaluate", "promote", "report")

# fake_stages: a sitecustomize for the subprocesses of the pipeline tests. parity: run by its own harness.
collect_ignore = ["fake_stages", "parity/systems", "parity/harness.py", "parity/__main__.py"]

# A job in the background ignores Ctrl-C, and all that it starts: tests that send one could not tell who ignores it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A new folder each time, in a folder of their own: pytest looks at all beside it before it numbers the next."""
    base = tmp_path_factory.mktemp("homes")
    return (base / str(n) for n in itertools.count())


@pytest.fixture(autouse=True)
def own_home(homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in OUTSIDE:
        monkeypatch.delenv(name, raising=False)
    home = next(homes)
    home.mkdir()
    monkeypatch.setenv("VISTUNE_HOME", str(home))
    monkeypatch.setenv("VISTUNE_TRACKING", "off")
    return home


@pytest.fixture
def warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python processes that the test starts, and those that they start, are forks of one that has the libraries."""
    from tests.warm import Popen

    monkeypatch.setattr(subprocess, "Popen", Popen)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SQLite file of an MLflow that has recorded nothing. Its tables take seconds to make."""
    from vistune.tracking.runs import connect

    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISTUNE_HOME", str(path.parent))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
        connect()
    return path


@pytest.fixture
def mlflow_store(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MLflow is on, in a file of the test's own, which is returned."""
    path = tmp_path / "mlflow.db"
    shutil.copy(empty_store, path)
    monkeypatch.setenv("VISTUNE_TRACKING", "on")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    return path


@pytest.fixture
def fake_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Quick stages instead of the real ones, here and in child processes, in a repository of their own, which is
    returned: a folder with params.yaml."""
    for name in STAGES:
        spec = importlib.util.spec_from_file_location(f"vistune.{name}", FAKES / "stage.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, f"vistune.{name}", module)
        spec.loader.exec_module(module)
    root = tmp_path / "repository"
    root.mkdir()
    (root / "params.yaml").write_text("".join(["seed: 3\n", *(f"{name}: {{rows: 3}}\n" for name in STAGES)]))
    monkeypatch.setenv("VISTUNE_ROOT", str(root))
    monkeypatch.setenv("PYTHONPATH", f"{FAKES}{os.pathsep}{Path(__file__).parent.parent}")
    monkeypatch.chdir(root)
    return root


@pytest.fixture(scope="session")
def tiny_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sources folder with a tiny demo corpus, shared by all tests: copy it before changing it."""
    from vistune.sources import DemoParams, Params, run
    from vistune.stages import Context

    output = tmp_path_factory.mktemp("sources")
    demo = DemoParams(
        train_scenes=12,
        align_scenes=4,
        validation_scenes=3,
        heldout_trained=4,
        heldout_aligned=3,
        heldout_unseen=3,
        easy_vqa_images=3,
        size=160,
    )
    run(Params(demo=demo), {}, output, Context(seed=0, home=output, root=output))
    return output
