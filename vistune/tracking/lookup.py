"""What MLflow has of runs: read, never written."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from vistune.errors import VistuneError
from vistune.tracking.runs import connect, reachable


@dataclass(frozen=True)
class RunFacts:
    """What MLflow has of a run."""

    run_id: str
    name: str
    status: str
    started: int  # milliseconds since 1970
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    inputs: dict[str, str]  # data set -> digest of vistune


def run_facts(run_id: str) -> RunFacts | None:
    """None when MLflow does not know the run, or has it deleted."""
    if not run_exists(run_id):
        return None
    run = connect().get_run(run_id)
    given = [i.dataset for i in (run.inputs.dataset_inputs if run.inputs else [])]
    inputs = {d.name: json.loads(d.source).get("digest", "") for d in given if d.source_type in ("dvc", "vistune")}
    info, data = run.info, run.data
    return RunFacts(
        run_id, info.run_name or "", info.status, info.start_time or 0, data.tags, data.params, data.metrics, inputs
    )


def children(run_id: str) -> list[RunFacts]:
    """The runs under a parent run, the first one first."""
    client = connect()
    with reachable():
        where = client.get_run(run_id).info.experiment_id
        found = client.search_runs([where], f"tags.`mlflow.parentRunId` = '{run_id}'", order_by=["start_time ASC"])
    return [facts for run in found if (facts := run_facts(run.info.run_id)) is not None]


def runs_that_read(digest: str, md5: str = "") -> list[RunFacts]:
    """The runs that read an output of a stage, by its digest and (for a data set) DVC's md5, the newest first."""
    client = connect()
    with reachable():
        where = [e.experiment_id for e in client.search_experiments()]
        named = [name[:36] for name in (digest, md5) if name]
        hits = [client.search_runs(where, f"dataset.digest = '{name}'") for name in named]
    facts = {run.info.run_id: run_facts(run.info.run_id) for page in hits for run in page}
    found = [f for f in facts.values() if f is not None and digest in f.inputs.values()]
    return sorted(found, key=lambda f: f.started, reverse=True)


def run_file(run_id: str, path: str) -> bytes:
    """The bytes of a file among the artefacts of a run. Raises VistuneError when it is not there."""
    client = connect()
    with reachable(), tempfile.TemporaryDirectory() as folder:
        try:
            return Path(client.download_artifacts(run_id, path, folder)).read_bytes()
        except OSError as error:
            why = f"({error}). It was deleted from the artefact store"
            raise VistuneError(f"run {run_id} keeps no {path} {why}.") from None


def run_tags(run_id: str) -> dict[str, str]:
    """The tags of a run; empty when MLflow does not know it."""
    return dict(connect().get_run(run_id).data.tags) if run_exists(run_id) else {}


def run_exists(run_id: str) -> bool:
    """Whether MLflow knows the run: a result reused from an earlier server or file names a run that is not here."""
    client = connect()
    from mlflow.exceptions import MlflowException

    with reachable():
        try:
            return client.get_run(run_id).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return False
            raise
