"""The Kubeflow door: what the body of every component in components/ calls.

Nothing here imports kfp: artefacts are anything with a path and metadata.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from vistune.errors import Interrupted, VistuneError
from vistune.files import read_json, write_text
from vistune.jobs.backend import TASK_CONFIG
from vistune.params import override, read_tree
from vistune.params import resolve as read_params
from vistune.pins import held
from vistune.resolved import FILLED, pinned
from vistune.shown import show
from vistune.stages import STAGES, Receipt, Settings, code_digest, execute, home, outside, repository
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


def resolve(params: str, overrides: str, seed: int, model_name: str, stages: str = "") -> list[str]:
    """Checks all parameters before anything costs money, and returns each stage's own part of them, in which what may
    move (data under DVC, models of the hub) is named by what does not.

    A stage then depends on its own section alone: changing `tune` does not rerun `adapt`. On a cluster each section
    comes with the ids of what the stage would read besides: Kubeflow's cache knows an image by its name, and nothing
    of the files behind a path.
    params: a whole params.yaml as text; empty: the one in the repository or image. overrides: `stage.key=value`,
    one a line. seed: below 0 keeps the file's. model_name: empty keeps the file's. stages: that the pipeline runs, by
    commas; empty: all.
    """
    from vistune import lineage, tracking

    runs = stages.split(",") if stages else list(STAGES)

    with _spoken("parameters"):
        tree = parameters(params, overrides, seed, model_name)
        Settings.parse(tree)
        tree, filled = pinned(tree, runs)
        checked = Settings.parse(tree)
        run = os.environ.get(lineage.KFP_RUN, "")
        if run and tracking.enabled():
            tracking.open_pipeline(f"kubeflow {run[:8]}", lineage.ids())
        ids: dict[str, dict[str, Any]] = {s: ids_of(s, checked) if run and s in runs else {} for s in STAGES}
        if filled:
            ids["tune"][FILLED] = filled
        extra = {s: {"ids": found} for s, found in ids.items() if found}
        return [literal({"seed": checked.seed, s: tree.get(s) or {}, **extra.get(s, {})}) for s in STAGES]


def parameters(params: str, overrides: str, seed: int, model_name: str) -> dict[str, Any]:
    """The parameters tree of a pipeline run, not yet checked."""
    tree = read_tree(params, "params") if params else read_params(repository() / "params.yaml")
    for line in overrides.splitlines():
        if line.strip():
            override(tree, line.strip())
    if seed >= 0:
        tree["seed"] = seed
    if model_name:
        tree["promote"] = {**(tree.get("promote") or {}), "name": model_name}
    return tree


def ids_of(stage: str, settings: Settings) -> dict[str, Any]:
    """What a stage's result depends on besides parameters and inputs: its code, prompts and templates among it, and
    the files that its parameters name."""
    params = settings.sections[stage]
    return {**held(stage, params), "code": code_digest(stage), "outside": outside(stage, params)}


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
    shows: Mapping[str, Artifact] | None = None,
    home: str = "",
    part: tuple[int, int] | None = None,
    parts: Sequence[Artifact] = (),
) -> Receipt:
    """Runs one stage for the pipeline.

    settings: what `resolve` returned for it. inputs: stage -> folder. metrics: a KFP Metrics artefact to fill.
    shows: what the UI shows of the output, by its name in `shown`. home: a folder that outlives this container;
    empty: VISTUNE_HOME as it is. part, parts: as for `stages.execute`.
    """
    with _spoken(stage):
        if home:
            os.environ["VISTUNE_HOME"] = home
        tree = read_tree(settings, "settings")
        tree.pop("ids", None)
        folders = {name: Path(path) for name, path in inputs.items()}
        pieces = [Path(one.path) for one in parts]
        done = execute(stage, Settings.parse(tree), folders, Path(output.path), part, pieces)
        output.metadata.update(metadata(done))
        if metrics is not None:
            for name, value in numbers(done).items():
                metrics.log_metric(name, value)
        for name, artefact in (shows or {}).items():
            show(name, Path(output.path), artefact)
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
    shows: Mapping[str, Artifact] | None = None,
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
        return step("tune", literal(tree), inputs, output, metrics, shows)
    finally:
        new = submitted_manifests() - submitted
        text = "\n---\n".join(path.read_text(encoding="utf-8") for path, _ in sorted(new))
        write_text(Path(manifest.path), text)


def submitted_manifests() -> set[tuple[Path, int]]:
    """Manifests of jobs, and when each was submitted last."""
    return {(path, path.stat().st_mtime_ns) for path in (home() / "jobs").glob("*.yaml")}


def metadata(done: Receipt) -> dict[str, str]:
    """What an artefact says about itself in the KFP UI: the way back to the run and the data."""
    details = done.summary.get("details") or {}
    found = {
        "stage": done.stage,
        "digest": done.digest,
        "key": done.key,
        "mlflow_run_id": done.run_id,
        "model_version": f"models:/{details['name']}/{details['version']}" if details.get("version") else "",
        "dvc_md5": done.dvc_md5,
        "seconds": str(done.seconds),
        "cached": str(done.cached).lower(),
        "image": os.environ.get("VISTUNE_IMAGE", ""),
        **{f"pin.{name}": text for name, text in done.pins.items()},
    }
    return {key: value for key, value in found.items() if value}


def numbers(done: Receipt) -> dict[str, float]:
    """Metrics and row counts, as KFP's Metrics take them."""
    counts = done.summary.get("counts") or {}
    flat = {name: float(value) for name, value in counts.items() if isinstance(value, int | float)}
    rejected = counts.get("rejected") or {}
    return {**flat, "rejected": float(sum(rejected.values())), **done.metrics}


def verdict(folder: str, file: str) -> str:
    """ "pass", "fail" or "inconclusive": what `evaluate` or `promote` wrote into a file of `folder`."""
    found = read_json(Path(folder) / file)
    if found.get("verdict") not in ("pass", "fail", "inconclusive"):
        raise VistuneError(
            f"{folder}/{file} has verdict {found.get('verdict')!r}; expected pass, fail or inconclusive."
        )
    return found["verdict"]


def require_pass(found: str) -> None:
    """Fails the pipeline run, for CI, when the model did not pass."""
    with _spoken("verdict"):
        raise VistuneError(f"the verdict is {found}: the model did not pass its gate. The scorecard shows why.")


def preflight(params: str, overrides: str, seed: int, model_name: str, needs: str) -> None:
    """Checks all that a run needs before anything costs money. needs: what the compiled pipeline asks of the cluster,
    as JSON; see `vistune.preflight.Needs`."""
    from vistune import preflight as checks

    with _spoken("preflight"):
        findings = checks.run(parameters(params, overrides, seed, model_name), checks.Needs.read(needs))
        print(checks.table(findings), flush=True)
        if failed := [one for one in findings if one.state == "failed"]:
            raise VistuneError(f"{len(failed)} of {len(findings)} checks failed, and nothing was started.")


def cleanup(run: str, state: str, error: str) -> None:
    """Ends what the Kubeflow run `run` has left, and says how it ended. What of it fails is said last, as one error."""
    from vistune import ending

    with _spoken("cleanup"):
        ending.end(run, state, error)


def fetch(settings: str, model: str, base: str, trained_on: str, fetched: Artifact, release: Artifact) -> str:
    """Gets models from anywhere for `evaluate`, and returns its settings for what there is."""
    from vistune.fetched import fetch

    with _spoken("fetch"):
        return literal(fetch(read_tree(settings, "settings"), model, base, trained_on, fetched, release))


def vary(tune: str, variants: Sequence[str]) -> list[str]:
    """The settings of `tune` for each variant of a sweep."""
    from vistune.variants import vary

    with _spoken("variants"):
        return [literal(tree) for tree in vary(read_tree(tune, "tune"), variants)]


def among(evaluate: str, variants: Sequence[str]) -> str:
    """The settings of `evaluate` for all variants of a sweep, of which the best is put forward."""
    from vistune.variants import among

    with _spoken("gate"):
        return literal(among(read_tree(evaluate, "evaluate"), variants))


def best(
    variants: Sequence[str],
    models: Sequence[Artifact],
    scorecards: Sequence[Artifact],
    model: Artifact,
    score: Artifact,
) -> str:
    """The variant of a sweep whose gate's target is met best: its number and what it changed."""
    from vistune.variants import best

    with _spoken("best"):
        return best(variants, models, scorecards, model, score)
