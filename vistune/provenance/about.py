"""`vistune explain` for what is not a sample: a run, a model version, a scorecard. Each names what to ask for next."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vistune import tracking
from vistune.errors import VistuneError
from vistune.files import read_json
from vistune.hashing import file_digest
from vistune.promote.registry import GATE, REASONS, history
from vistune.provenance.places import scorecard_file, version_of
from vistune.stages import EXECUTION, RECEIPT, STAGES, receipt, repository

Lines = Iterator[tuple[str, str]]

PIPELINE_RUN = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")
MLFLOW_RUN = re.compile(r"[0-9a-f]{32}")

SHOWN = 12
"""Parameters and metrics of a run that are shown."""


def about(id: str) -> str | None:
    """Everything known about a run (of MLflow, or a folder name of runs/), a model version or a scorecard, a paragraph
    of lines. None when `id` can be none of these. Raises VistuneError when it is one of them and is not there."""
    path = scorecard_file(id)
    if path is not None:
        found = _scorecard(path)
    elif id.startswith("models:/") or "@" in id:
        found = _version(version_of(id))
    elif PIPELINE_RUN.fullmatch(id):
        found = _pipeline(id)
    elif MLFLOW_RUN.fullmatch(id):
        found = _run(id)
    else:
        return None
    return "\n".join(f"{name:<12}{text}".rstrip() for name, text in found)


def _version(v: tracking.Version) -> Lines:
    tags = v.tags
    yield "model", f"{v.name} version {v.version} · {', '.join(v.aliases) or 'no alias'} · registered {_day(v.created)}"
    yield "verdict", tags.get(GATE, "not recorded")
    for reason in json.loads(tags.get(REASONS, "[]")):
        yield "", reason
    for event in history(v.name):
        if v.version in (event["version"], event["previous"]):
            of = f"version {event['version']}" + (f" after {event['previous']}" if event["previous"] else "")
            yield "log", f"{event['when']} {event['event']} {of} by {event['who']}"
    yield "weights", f"sha256 {tags.get('model.sha256', 'not recorded')}"
    yield "", f"tuned from {tags['base.models']}" if "base.models" in tags else ""
    yield "scorecard", f"sha256 {tags.get('scorecard.sha256', 'not recorded')}"
    yield "release", f"sha256 {tags.get('release.sha256', 'not recorded')}{_dvc(tags, 'validate')}"
    yield "sources", f"digest {tags.get('sources.digest', 'not recorded')}{_dvc(tags, 'sources')}"
    yield from _code(tags)
    for stage in STAGES:
        if run := tags.get(f"{stage}.run_id"):
            yield "run", f"{stage}: {run}"
    yield "check", f"vistune verify-lineage models:/{v.name}/{v.version}"


def _run(id: str) -> Lines:
    run = tracking.run_facts(id) if tracking.enabled() else None
    if run is None:
        raise VistuneError(f"MLflow has no run {id}. Check MLFLOW_TRACKING_URI; deleted runs are not shown.")
    yield "run", f"{run.name} · {run.status.lower()} · started {_day(run.started)}"
    if parent := run.tags.get("mlflow.parentRunId"):
        yield "part of", f"run {parent}"
    for name, digest in sorted(run.inputs.items()):
        yield "read", f"{name}, digest {digest}"
    if made := run.tags.get("vistune.digest"):
        yield "made", f"digest {made}{_dvc(run.tags, run.tags.get('vistune.stage', ''))}"
    for key, value in sorted(run.params.items())[:SHOWN]:
        yield "parameter", f"{key} = {value}"
    if len(run.params) > SHOWN:
        yield "", f"and {len(run.params) - SHOWN} more"
    for key, number in sorted(run.metrics.items())[:SHOWN]:
        yield "metric", f"{key} = {number:.6g}"
    yield from _code(run.tags)
    for child in tracking.children(id):
        yield "step", f"{child.name}: {child.run_id}"
    for v in _made_by(run.tags.get("vistune.stage", ""), id):
        yield "model", f"models:/{v.name}/{v.version} · {', '.join(v.aliases) or 'no alias'}"


def _pipeline(id: str) -> Lines:
    path = repository() / "runs" / id / "run.json"
    if not path.is_file():
        raise VistuneError(f"{path.parent} holds no finished run (run.json is missing). `ls {path.parent.parent}`.")
    made = read_json(path)
    yield "run", f"{id} · verdict {made['verdict']}"
    if made.get("mlflow_run"):
        yield "MLflow", f"run {made['mlflow_run']}"
    yield from _code(made.get("code", {}))
    for stage, done in made["stages"].items():
        yield "step", f"{stage}: {done['counts']}{' · reused' if done['unchanged'] else ''}"
        yield "", f"digest {done['digest']}{' · run ' + done['mlflow_run'] if done['mlflow_run'] else ''}"


def _scorecard(path: Path) -> Lines:
    card, digest = read_json(path), file_digest(path)
    if not isinstance(card, dict) or not isinstance(card.get("models"), dict):
        raise VistuneError(f"{path} is no scorecard (it names no models). Name the one that `vistune evaluate` wrote.")
    yield "scorecard", f"{path} · suite {card.get('suite', '')}"
    yield "", f"sha256 {digest}"
    for name, model in sorted(card["models"].items()):
        yield "model", f"{name}: {model}"
    verdict = path.with_name("verdict.json")
    if verdict.is_file():
        said = read_json(verdict)
        yield "verdict", f"{said.get('verdict')} (gate {said.get('gate_name', '')})"
        for reason in said.get("reasons", []):
            yield "", reason
    if (path.parent / RECEIPT).is_file() and (path.parent / EXECUTION).is_file():
        done = receipt(path.parent)
        for name, read in sorted(done.inputs.items()):
            yield "read", f"{name}, digest {read}"
        if done.run_id:
            yield "run", done.run_id
    for v in tracking.versions_with("scorecard.sha256", digest) if tracking.enabled() else []:
        yield "evidence", f"of models:/{v.name}/{v.version} · {', '.join(v.aliases) or 'no alias'}"


def _made_by(stage: str, run: str) -> list[tracking.Version]:
    return tracking.versions_with(f"{stage}.run_id", run) if stage in STAGES else []


def _code(tags: Mapping[str, Any]) -> Lines:
    if tags.get("git.sha"):
        dirty = " with uncommitted changes" if str(tags.get("git.dirty", "")).lower() == "true" else ""
        yield "code", f"commit {tags['git.sha']}{dirty} · vistune {tags.get('vistune.version', '')}"
    for key, name in (("image", "image"), ("kfp.run_id", "Kubeflow"), ("dvc.remote", "DVC remote")):
        if tags.get(key):
            yield name, str(tags[key])


def _dvc(tags: Mapping[str, str], stage: str) -> str:
    md5 = tags.get(f"dvc.{stage}.md5", "")
    return f" · DVC md5 {md5}" if md5 else ""


def _day(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(milliseconds / 1000))
