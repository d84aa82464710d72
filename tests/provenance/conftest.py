"""A whole chain in a repository of its own: sources, release, two models, scorecards, MLflow runs, registered versions.
Built once; a test that breaks a link mends it again (`change`, `retag`)."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from vistune import lineage, promote, store, tracking
from vistune.files import tree_digest, write_json
from vistune.hashing import file_digest, merkle_root
from vistune.records import ImageRef, Lineage, Reject, Sample, SourceFile, conversation, sample_id
from vistune.stages import EXECUTION, RECEIPT, Context, Receipt

MODEL = "vistune-demo"
LICENCES = {"shelf": "CC-BY-4.0", "street": "CC-BY-NC-2.0"}


def samples(images: dict[str, ImageRef]) -> list[Sample]:
    """Three rows of adapt and one of self_instruct about each of two images of each data set."""
    rows = []
    for name, image in sorted(images.items()):
        dataset, number = name.split("/")
        for n, (task, template, prompt) in enumerate(
            [("presence", "presence.en.03@1", ""), ("caption", "caption.en.01@2", ""), ("detail", "", "detail@1")] * 2
        ):
            made = Lineage(
                name,
                (f"{number}{n}",),
                (SourceFile(f"{dataset}/labels.json", "f" * 64),),
                template,
                prompt,
                "e" * 64 if prompt else "",
                "grammar@1" if prompt else "",
            )
            rows.append(
                Sample(
                    *(sample_id(task, made, 0), dataset, "train", task, "self_instruct" if prompt else "adapt"),
                    *(f"{task}?", "", "yes", conversation([(f"{task}?", "yes")]), (image,), made),
                    *(LICENCES[dataset], f"group {number}"),
                )
            )
    return rows


def write_release(folder: Path, work: Path) -> None:
    images = {}
    for n, name in enumerate(["shelf/1", "shelf/2", "street/1", "street/2"]):
        file = work / f"{n}.png"
        work.mkdir(exist_ok=True)
        Image.new("RGB", (40, 30), (n, 50, 200)).save(file)
        images[name] = store.add_image(folder, file, store.describe_image(work, file.name))
    rows = samples(images)
    store.write_samples(folder, rows)
    store.write_rejects(folder, [Reject("validate", "vt1:gone", "box_outside", "box 1 leaves its image.")])
    shards = {p.name: file_digest(p) for p in folder.glob("samples-*.parquet")}
    digest = merkle_root([*shards.items(), *((i.path, i.sha256) for i in images.values())])
    write_json(folder / "release.json", {"digest": digest, "samples": len(rows), "images": 4, "by": {}})
    credit = {i.path: {"licence": LICENCES[n.split("/")[0]], "attribution": n} for n, i in images.items()}
    write_json(folder / "attribution.json", credit)
    write_json(folder / "checks.json", {"checks": [], "warnings": []})


@dataclass
class Chain:
    root: Path
    folders: dict[str, Path]

    @property
    def champion(self) -> tracking.Version:
        found = tracking.get_alias(MODEL, "champion")
        assert found is not None
        return found

    def seal(self, stage: str, inputs: list[str]) -> None:
        """Makes a folder a finished output, with an MLflow run that read its inputs."""
        folder = self.folders[stage]
        digest = tree_digest(folder, (RECEIPT, EXECUTION))
        base = {"vision": "package:efficientnet-lite0", "language": "org/own-lm"}
        write_json(folder / RECEIPT, {"stage": stage, "digest": digest, "summary": {"details": {"base": base}}})
        md5 = lineage.dvc_md5(folder) if stage in ("sources", "validate") else ""
        read = {name: json.loads((self.folders[name] / RECEIPT).read_text())["digest"] for name in inputs}
        with tracking.stage_run(stage, {"steps": 3}, 7, read) as tracker:
            done = Receipt(stage, digest, {}, "k" * 32, read, run_id=tracker.run_id, dvc_md5=md5, code=f"code-{stage}")
            tracker.finish(done)
        made = {"key": done.key, "inputs": read, "code": done.code, "run_id": done.run_id, "dvc_md5": md5}
        write_json(folder / EXECUTION, made)

    def tune(self, weights: str) -> None:
        """Another model from the same release, its scorecard, and its promotion."""
        model, scores = self.folders["tune"] / "model", self.folders["evaluate"]
        model.mkdir(parents=True, exist_ok=True)
        (model / "model.safetensors").write_text(weights)
        self.seal("tune", ["validate"])
        found = {"mean": 0.2, "low": 0.1, "high": 0.3}
        target = {"role": "target", "comparison": "tuned - base", "benchmarks": ["naming"], "verdict": "pass"}
        verdict = {"verdict": "pass", "reasons": ["because"], "checks": [{**target, "estimate": found}], "gate": {}}
        write_json(scores / "verdict.json", verdict)
        entry = {"name": "naming", "scores": [{"model": "tuned", "condition": "image", **found}]}
        card = {"models": {"tuned": tree_digest(model)}, "primary": "accuracy", "suite": "demo", "benchmarks": [entry]}
        write_json(scores / "scorecard.json", card)
        answer = {"model": "tuned", "condition": "image", "benchmark": "naming", "item": "a", "image": "0" * 64}
        (scores / "answers.jsonl").write_text(json.dumps({**answer, "question": "?", "gold": "cat"}) + "\n")
        self.seal("evaluate", ["sources", "validate", "tune"])
        output = self.root / "outputs/promote"
        output.mkdir(exist_ok=True)
        with tracking.stage_run("promote", {"name": MODEL}, 7, {}) as tracker:
            context = Context(seed=7, home=self.root / ".vistune", root=self.root, run_id=tracker.run_id)
            promote.run(promote.Params(MODEL), self.folders, output, context)


def enter(root: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("VISTUNE_ROOT", str(root))
    patch.setenv("VISTUNE_HOME", str(root / ".vistune"))
    patch.setenv("VISTUNE_TRACKING", "on")
    patch.setenv("VISTUNE_USER", "ann")
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
    patch.chdir(root)
    lineage.git.cache_clear()


@pytest.fixture(scope="session")
def built(empty_store, tmp_path_factory) -> Chain:
    root = tmp_path_factory.mktemp("chain")
    shutil.copy(empty_store, root / "mlflow.db")
    (root / ".gitignore").write_text("*\n!.gitignore\n")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "start"]):
        git = ["git", "-C", str(root), "-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run([*git, *command], check=True)
    with pytest.MonkeyPatch.context() as patch:
        enter(root, patch)
        chain = Chain(root, {s: root / "outputs" / s for s in ("sources", "validate", "tune", "evaluate")})
        datasets = [{"name": name, "licence": licence} for name, licence in LICENCES.items()]
        write_json(chain.folders["sources"] / "sources.json", {"datasets": datasets, "benchmarks": []})
        chain.seal("sources", [])
        write_release(chain.folders["validate"], root / "work")
        chain.seal("validate", ["sources"])
        chain.tune("first weights")
        chain.tune("second weights")
    lineage.git.cache_clear()
    return chain  # outside: other tests of the session are not to live in this folder


@pytest.fixture
def chain(built, monkeypatch) -> Iterator[Chain]:
    enter(built.root, monkeypatch)
    yield built
    lineage.git.cache_clear()


@contextlib.contextmanager
def changed(path: Path, data: bytes | None) -> Iterator[None]:
    """`path` with other bytes, or (None) away, for a while."""
    before, times = path.read_bytes(), path.stat()
    path.unlink()
    if data is not None:
        path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@contextlib.contextmanager
def tagged(version: tracking.Version, key: str, value: str) -> Iterator[None]:
    """A version with another value of a tag, for a while."""
    tracking.set_version_tag(version.name, version.version, key, value)
    try:
        yield
    finally:
        tracking.set_version_tag(version.name, version.version, key, version.tags[key])


@pytest.fixture
def change():
    return changed


@pytest.fixture
def retag():
    return tagged
