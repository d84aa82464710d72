"""The Kubeflow door: what the body of every component in components/ calls.

Nothing here imports kfp: artefacts are anything with a path and metadata.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from vistune.errors import Interrupted, VistuneError
from vistune.files import read_json, write_text
from vistune.jobs.backend import TASK_CONFIG
from vistune.params import override, read_tree
from vistune.params import resolve as read_params
from vistune.stages import STAGES, Receipt, Settings, execute, home, repository
from vistune.summary import counts_line

BEGIN = "▸ "
"""Starts the first line a step prints; what the executor printed before it is not the step's."""


class Artifact(Protocol):
    """A KFP artefact, as far as a step needs one."""

    path: str
    metadata: dict[str, Any]


@contextlib.contextmanager
def _spoken(title: str) -> Iterator[None]:
    """Announces the step; turns a problem the user can act on into one paragraph and exit status 1."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    print(f"{BEGIN}{title}", flush=True)
    try:
        yield
    except VistuneError as error:
        print(f"vistune: {error}", flush=True)
        raise SystemExit(1) from None
    except Interrupted as stopped:
        print(f"vistune: {stopped}", flush=True)
        raise SystemExit(stopped.status) from None


def resolve(params: str, overrides: str, seed: int, model_name: str) -> list[str]:
    """Checks all parameters before anything costs money, and returns each stage's own part of them.

    A stage then depends on its own section alone: changing `tune` does not rerun `adapt`.
    params: a whole params.yaml as text; empty: the one in the repository or image. overrides: `stage.key=value`,
    one a line. seed: below 0 keeps the file's. model_name: empty keeps the file's.
    """
    with _spoken("parameters"):
        tree = read_tree(params, "params") if params else read_params(repository() / "params.yaml")
        for line in overrides.splitlines():
            if line.strip():
                override(tree, line.strip())
        if seed >= 0:
            tree["seed"] = seed
        if model_name:
            tree["promote"] = {**(tree.get("promote") or {}), "name": model_name}
        checked = Settings.parse(tree)
        return [literal({"seed": checked.seed, s: tree.get(s) or {}}) for s in STAGES]


def literal(tree: Mapping[str, Any]) -> str:
    """A parameters tree as one line of JSON (which is YAML) that `kfp.local` leaves alone: in arguments it replaces
    every "python3" by the path of the interpreter, and reads "{{$" as one of its placeholders.

    >>> print(literal({"tune": {"language": "/usr/lib/python3/model"}}))
    {"tune": {"language": "/usr/lib/python\\u0033/model"}}
    """
    text = json.dumps(tree, sort_keys=True, default=str)
    return text.replace("python3", "python\\u0033").replace("{{$", "{{\\u0024")


def step(
    stage: str,
    settings: str,
    inputs: Mapping[str, str],
    output: Artifact,
    metrics: Any = None,
    page: tuple[str, Artifact] | None = None,
) -> Receipt:
    """Runs one stage for the pipeline.

    settings: what `resolve` returned for it. inputs: stage -> folder. metrics: a KFP Metrics artefact to fill.
    page: (file of the output, artefact to show it as).
    """
    with _spoken(stage):
        folders = {name: Path(path) for name, path in inputs.items()}
        done = execute(stage, Settings.parse(read_tree(settings, "settings")), folders, Path(output.path))
        output.metadata.update(metadata(done))
        if metrics is not None:
            for name, value in numbers(done).items():
                metrics.log_metric(name, value)
        if page is not None:
            file, artefact = page
            Path(artefact.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(output.path) / file, artefact.path)
        print(f"{counts_line(done.summary)} · {'unchanged' if done.cached else f'{done.seconds:.1f} s'}", flush=True)
        return done


def job_step(
    backend: str,
    given: Mapping[str, Any],
    settings: str,
    inputs: Mapping[str, str],
    output: Artifact,
    metrics: Any,
    manifest: Artifact,
) -> Receipt:
    """`step` for `tune` where its processes run in a job. backend: of tune.job, unless the settings name another than
    the default. given: what Kubeflow sets on this step for its job (`kfp.dsl.TaskConfig`). manifest: the artefact that
    keeps what was submitted."""
    tree = read_tree(settings, "settings")
    tree["tune"] = {**(tree.get("tune") or {})}
    job = {**(tree["tune"].get("job") or {})}
    if job.get("backend", "local") == "local":
        job["backend"] = backend
    tree["tune"]["job"] = job
    os.environ[TASK_CONFIG] = json.dumps(given)
    submitted = submitted_manifests()
    try:
        return step("tune", literal(tree), inputs, output, metrics)
    finally:
        new = submitted_manifests() - submitted
        text = "\n---\n".join(path.read_text(encoding="utf-8") for path, _ in sorted(new))
        write_text(Path(manifest.path), text)


def submitted_manifests() -> set[tuple[Path, int]]:
    """Manifests of jobs, and when each was submitted last."""
    return {(path, path.stat().st_mtime_ns) for path in (home() / "jobs").glob("*.yaml")}


def metadata(done: Receipt) -> dict[str, str]:
    """What an artefact says about itself in the KFP UI: the way back to the run and the data."""
    found = {
        "stage": done.stage,
        "digest": done.digest,
        "key": done.key,
        "mlflow_run_id": done.run_id,
        "dvc_md5": done.dvc_md5,
        "seconds": str(done.seconds),
        "cached": str(done.cached).lower(),
        "image": os.environ.get("VISTUNE_IMAGE", ""),
    }
    return {key: value for key, value in found.items() if value}


def numbers(done: Receipt) -> dict[str, float]:
    """Metrics and row counts, as KFP's Metrics take them."""
    counts = done.summary.get("counts") or {}
    flat = {name: float(value) for name, value in counts.items() if isinstance(value, int | float)}
    rejected = counts.get("rejected") or {}
    return {**flat, "rejected": float(sum(rejected.values())), **done.metrics}


def verdict(folder: str) -> str:
    """ "pass", "fail" or "inconclusive": what `promote` wrote into `folder`."""
    found = read_json(Path(folder) / "promotion.json")
    if found.get("verdict") not in ("pass", "fail", "inconclusive"):
        raise VistuneError(
            f"{folder}/promotion.json has verdict {found.get('verdict')!r}; expected pass, fail or inconclusive."
        )
    return found["verdict"]


def cleanup(run: str) -> None:
    """Ends the jobs that the Kubeflow run `run` has left."""
    from vistune.jobs.cleanup import end_jobs

    with _spoken("cleanup"):
        ended = end_jobs(run)
        print("\n".join(f"{name} deleted" for name in ended) or "nothing was left", flush=True)


def require_pass(found: str) -> None:
    """Fails the pipeline run, for CI, when the tuned model did not pass."""
    with _spoken("verdict"):
        raise VistuneError(f"the verdict is {found}: the tuned model was not promoted. The report shows the evidence.")
