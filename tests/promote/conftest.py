"""One MLflow store for the session, and tiny folders in place of finished stages."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from vistune import promote, tracking
from vistune.files import tree_digest, write_json
from vistune.stages import Context, code_digest

CLEAN = {"git.sha": "c" * 40, "git.dirty": "false"}


@pytest.fixture(scope="session")
def database(empty_store, tmp_path_factory) -> Path:
    """A folder with one MLflow store."""
    folder = tmp_path_factory.mktemp("mlflow")
    shutil.copy(empty_store, folder / "mlflow.db")
    return folder


@pytest.fixture(autouse=True)
def store(database, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database / 'mlflow.db'}")
    monkeypatch.setenv("VISTUNE_HOME", str(database))
    monkeypatch.setenv("VISTUNE_TRACKING", "on")
    monkeypatch.setattr("vistune.lineage.ids", lambda: CLEAN)


@pytest.fixture(scope="session")
def uploads() -> list[str]:
    return []


@pytest.fixture
def one_upload(uploads, store, monkeypatch) -> None:
    """One upload for the session; every version points to it. test_serving.py uploads a real model."""
    upload = tracking.log_vlm

    def once(*args, **kwargs):
        if not uploads:
            uploads.append(upload(*args, **kwargs))
        return uploads[0]

    monkeypatch.setattr(tracking, "log_vlm", once)


@pytest.fixture
def alias():
    """alias(name, which) -> the version that it names, or ""."""

    def version(name: str, which: str) -> str:
        found = tracking.get_alias(name, which)
        return found.version if found else ""

    return version


@pytest.fixture
def run_id(store):
    with tracking.parent_run("promote-test", {}) as run:
        yield run.run_id


def write_receipt(folder: Path, stage: str, digest: str, inputs: dict[str, str]) -> None:
    details = {"base": {"family": "small", "vision": "package:efficientnet-lite0", "language": "org/own-lm"}}
    write_json(folder / "receipt.json", {"stage": stage, "digest": digest, "summary": {"details": details}})
    write_json(folder / "execution.json", {"key": f"key-{stage}", "inputs": inputs, "code": code_digest(stage)})


def write_scores(folder: Path, model: Path, verdict: str, score: float) -> None:
    """A scorecard of one benchmark, and a verdict whose checks bear it out."""
    low, high = {"pass": (0.1, 0.3), "fail": (-0.3, -0.1), "inconclusive": (-0.1, 0.3)}[verdict]
    found = {"mean": (low + high) / 2, "low": low, "high": high, "items": 90, "images": 40}
    target = {"role": "target", "comparison": "tuned - base", "benchmarks": ["naming"]}
    target |= {"verdict": verdict, "estimate": found}
    gate = {"target": {"benchmarks": ["naming"], "above": 0.0}}
    write_json(folder / "verdict.json", {"verdict": verdict, "reasons": ["because"], "checks": [target], "gate": gate})
    means = (("tuned", score), ("base", 0.3))
    scores = [{"model": m, "condition": "image", "mean": v, "low": v, "high": v} for m, v in means]
    entry = {"name": "naming", "majority": 0.25, "scores": scores}
    card = {"models": {"tuned": tree_digest(model)}, "primary": "accuracy", "benchmarks": [entry], "groups": []}
    write_json(folder / "scorecard.json", card)
    write_answers(folder, ["a", "b"])


def write_answers(folder: Path, items: list[str]) -> None:
    about = {"benchmark": "naming", "image": "0" * 64, "question": "What is it?", "gold": "cat", "answer": "dog"}
    asked = [{**about, "item": i, "model": m, "condition": "image"} for i in items for m in ("base", "tuned")]
    (folder / "answers.jsonl").write_text("".join(json.dumps(a) + "\n" for a in asked))


@pytest.fixture
def make(tmp_path):
    """make(verdict, model=..., score=...) -> the input folders of a finished pipeline. `model` is the text in place of
    weights, or a folder with a real model."""

    def build(verdict: str = "pass", model: str | Path = "weights", score: float = 0.8) -> dict[str, Path]:
        name = model if isinstance(model, str) else model.name
        root = tmp_path / f"{verdict}-{name}-{score}"
        inputs = {s: root / s for s in ("sources", "validate", "tune", "evaluate")}
        sources = {
            "datasets": [{"name": "demo-train"}, {"name": "demo-validation", "split": "validation"}],
            "benchmarks": [{"name": "naming", "licence": "MIT"}],
        }
        write_json(inputs["sources"] / "sources.json", sources)
        credit = {"licence": "CC BY-SA 4.0", "attribution": "OpenMoji | all <b>authors</b>"}
        write_json(inputs["validate"] / "attribution.json", {f"images/{n}.png": credit for n in range(2)})
        write_json(inputs["validate"] / "release.json", {"digest": "d" * 64, "samples": 3, "images": 2})
        target = inputs["tune"] / "model"
        if isinstance(model, Path):
            shutil.copytree(model, target)
        else:
            target.mkdir(parents=True, exist_ok=True)
            (target / "model.safetensors").write_text(model)
        write_scores(inputs["evaluate"], target, verdict, score)
        write_receipt(inputs["sources"], "sources", "ds", {})
        write_receipt(inputs["validate"], "validate", "dv", {"sources": "ds"})
        write_receipt(inputs["tune"], "tune", f"dt-{name}", {"validate": "dv"})
        write_receipt(inputs["evaluate"], "evaluate", "de", {"sources": "ds", "validate": "dv", "tune": f"dt-{name}"})
        return inputs

    return build


@pytest.fixture
def go(tmp_path, run_id):
    """go(inputs, name) -> the content of promotion.json after the stage ran."""

    def execute(inputs: dict[str, Path], name: str, **params) -> dict:
        output = tmp_path / "out"
        output.mkdir(exist_ok=True)
        context = Context(seed=7, home=tmp_path / "home", root=tmp_path, run_id=run_id)
        promote.run(promote.Params(name, **params), inputs, output, context)
        return json.loads((output / "promotion.json").read_text())

    return execute
