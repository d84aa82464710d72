"""Runs: one per execution of a stage, under one parent per pipeline run."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import getpass
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.collection import no_collection
from vistune.errors import VistuneError
from vistune.stages import home, repository
from vistune.tracking.text import first_line, flatten, metric_name, numbers, redact, redact_text

if TYPE_CHECKING:
    from vistune.stages import Receipt

FLUSH_METRICS = 200
FLUSH_SECONDS = 5.0
PAUSE_SECONDS = 60.0  # after a refusal


def enabled() -> bool:
    return os.environ.get("VISTUNE_TRACKING", "on").lower() not in ("off", "0", "false", "no")


def uri() -> str:
    """Where MLflow lies: $MLFLOW_TRACKING_URI, else the endpoint of Kubeflow's MLflow plugin, else a SQLite file: in
    the repository, or at home where that is an image's copy, which a step cannot write to."""
    given = os.environ.get("MLFLOW_TRACKING_URI") or platform().get("endpoint")
    folder = repository().resolve()
    return given or f"sqlite:///{(folder if os.access(folder, os.W_OK) else home()) / 'mlflow.db'}"


class Tracker:
    """The run of one stage. Without a client (tracking is off) everything is accepted and nothing recorded."""

    def __init__(self, client: Any = None, run_id: str = "") -> None:
        self.client, self.run_id = client, run_id
        self._metrics: list[tuple[str, float, int, int]] = []
        self._flushed = time.monotonic()
        self._warned = False

    def log(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Records metrics (of training step `step`); they are sent in batches."""
        now = int(time.time() * 1000)
        self._metrics += [(metric_name(k), float(v), now, step) for k, v in metrics.items()]
        waited = time.monotonic() - self._flushed
        if waited > FLUSH_SECONDS or (waited > 0 and len(self._metrics) >= FLUSH_METRICS):
            self.flush()

    def flush(self) -> None:
        """Sends what is buffered; what the server does not take stays for the next flush."""
        self._flushed = time.monotonic()
        if self.client is None:
            self._metrics.clear()
        while self._metrics and self._send(self._metrics[:1000]):
            del self._metrics[:1000]

    def tag(self, tags: Mapping[str, str]) -> None:
        if self.client is not None and tags:
            self._send(tags=tags)

    def end(self, status: str) -> None:
        """status: FINISHED, FAILED or KILLED."""
        self.flush()
        if self.client is not None:
            self._send(status=status)

    def _send(
        self,
        metrics: Sequence[tuple[str, float, int, int]] = (),
        tags: Mapping[str, str] | None = None,
        status: str = "",
    ) -> bool:
        """Whether MLflow took it. A server that stops answering costs a warning, not hours of training."""
        from mlflow.entities import Metric, RunTag
        from mlflow.exceptions import MlflowException

        try:
            if metrics or tags:
                named = [RunTag(k, str(v)[:5000]) for k, v in (tags or {}).items()]
                self.client.log_batch(self.run_id, metrics=[Metric(*m) for m in metrics], tags=named)
            if status:
                self.client.set_terminated(self.run_id, status)
        except MlflowException as error:
            if not self._warned:
                self._warned = True
                print(f"warning: MLflow run {self.run_id} lacks what it refused: {first_line(error)}", file=sys.stderr)
            self._flushed = time.monotonic() + PAUSE_SECONDS
            return False
        return True

    def finish(self, receipt: Receipt) -> None:
        """Records what the stage produced: summary metrics, row counts, and the ids that name the result."""
        counts = {f"counts.{k}": v for k, v in numbers(receipt.summary.get("counts", {})).items()}
        self.log({**receipt.metrics, **counts, "seconds": receipt.seconds})
        self.flush()
        self.tag(
            {
                "vistune.key": receipt.key,
                "vistune.digest": receipt.digest,
                "vistune.code": receipt.code,
                **({f"dvc.{receipt.stage}.md5": receipt.dvc_md5} if receipt.dvc_md5 else {}),
                **{f"pin.{receipt.stage}.{name}": text for name, text in receipt.pins.items()},
            }
        )


@contextlib.contextmanager
def stage_run(
    stage: str,
    params: Any,
    seed: int,
    inputs: Mapping[str, str],
    dvc: Mapping[str, str] | None = None,
) -> Iterator[Tracker]:
    """The MLflow run of one execution of `stage`: parameters, input digests and revision on entry, status on exit.

    params: the stage's dataclass. inputs: stage -> digest of its output. dvc: stage -> md5 that DVC gives it.
    """
    if not enabled():
        yield Tracker()
        return
    from vistune import lineage

    tags = {"vistune.stage": stage, **lineage.ids(), **{f"dvc.{k}.md5": v for k, v in (dvc or {}).items()}}
    adopted = os.environ.get("MLFLOW_RUN_ID", "")
    if adopted == os.environ.get("VISTUNE_PARENT_RUN"):  # `vistune run` adopted it for all stages together
        adopted = ""
    with reachable():
        client = connect()
        if adopted:
            tracker = Tracker(client, adopted)
            tracker.tag(tags)
        else:
            from vistune.tracking.kubeflow import parent_of

            parent = os.environ.get("VISTUNE_PARENT_RUN") or platform().get("parentRunId") or parent_of(client)
            tracker = Tracker(client, create_run(client, stage, tags, parent))
        _log_params(client, tracker.run_id, {"seed": str(seed), **flatten(params)})
        _log_inputs(client, tracker.run_id, stage, inputs, dvc or {})
    status = "FAILED"
    try:
        yield tracker
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    except Exception as error:
        tracker.tag({"vistune.error": redact_text(first_line(error))})
        raise
    finally:
        tracker.flush() if adopted else tracker.end(status)


@contextlib.contextmanager
def reachable() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        from mlflow.exceptions import MlflowException  # not before `connect` imports MLflow in its own way

        if not isinstance(error, MlflowException):
            raise
        raise VistuneError(
            f"MLflow at {redact_text(uri())} refused: {first_line(error).rstrip('.')}. Start the server or correct "
            "MLFLOW_TRACKING_URI; unset it to use a local file; VISTUNE_TRACKING=off runs without MLflow."
        ) from None


@cache
def _client_for(address: str) -> Any:
    """MLflow's hundreds of thousands of objects stay: frozen, no collection looks through them again, neither while the
    stage works nor when the process ends, which is two fifths of what a step costs to be tracked."""
    try:
        with no_collection():
            import mlflow

            logging.getLogger("alembic").setLevel(logging.WARNING)  # one line per migration of a new SQLite file
            logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
            if not address.startswith("sqlite:"):
                return mlflow.MlflowClient(address, address)
            home().mkdir(parents=True, exist_ok=True)
            with open(home() / "mlflow.lock", "w") as lock:  # two processes must not create the tables at once
                fcntl.flock(lock, fcntl.LOCK_EX)
                client = mlflow.MlflowClient(address, address)
                client.search_experiments(max_results=1)
            return client
    finally:
        if not gc.get_freeze_count():  # once: later freezes would keep what is garbage by then
            gc.freeze()


def connect() -> Any:
    """The MLflow client. Raises VistuneError when the server or file cannot be used."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # seconds, not minutes, when no server answers
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # Both ask for what a VLM's signature already says.
    warnings.filterwarnings("ignore", message=r".*An input example was not provided", category=UserWarning)
    address = uri()
    with reachable():
        client = _client_for(address)
    import mlflow

    # MLflow's module functions go where the process was last sent, which may be another store than this client's.
    mlflow.set_tracking_uri(address)
    mlflow.set_registry_uri(address)
    return client


def platform() -> dict[str, str]:
    """What Kubeflow Pipelines' MLflow plugin says about this task; empty outside it."""
    text = os.environ.get("KFP_MLFLOW_CONFIG", "")
    if not text:
        return {}
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise VistuneError(f"KFP_MLFLOW_CONFIG is not JSON ({error}); it is set by the pipeline platform.") from None
    return {k: str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def experiment(client: Any) -> str:
    """Id of the experiment: $MLFLOW_EXPERIMENT_ID, else the one named $MLFLOW_EXPERIMENT_NAME ("vistune")."""
    given = os.environ.get("MLFLOW_EXPERIMENT_ID") or platform().get("experimentId")
    if given:
        return given
    from mlflow.exceptions import MlflowException

    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "vistune")
    found = client.get_experiment_by_name(name)
    if found is None:
        local = uri().startswith("sqlite:")
        place = (home() / "mlartifacts").as_uri() if local else None
        try:
            return client.create_experiment(name, artifact_location=place)
        except MlflowException:  # another process was first
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise VistuneError(f"MLflow experiment {name!r} is deleted. Restore it, or set MLFLOW_EXPERIMENT_NAME.")
    return found.experiment_id


def create_run(client: Any, name: str, tags: Mapping[str, str], parent: str = "") -> str:
    extra = {"mlflow.parentRunId": parent} if parent else {}
    if tags.get("git.sha"):
        extra["mlflow.source.git.commit"] = tags["git.sha"]
    with contextlib.suppress(KeyError, OSError):  # a container's user id may have no name
        extra["mlflow.user"] = getpass.getuser()
    where = client.get_run(parent).info.experiment_id if parent else experiment(client)
    return client.create_run(where, tags={**tags, **extra}, run_name=name).info.run_id


@contextlib.contextmanager
def parent_run(name: str, tags: Mapping[str, str]) -> Iterator[Tracker]:
    """The parent run of a local pipeline run; adopts `MLFLOW_RUN_ID` when a platform opened one."""
    from vistune import lineage

    client = connect()
    adopted = os.environ.get("MLFLOW_RUN_ID", "")
    with reachable():
        tracker = Tracker(client, adopted or create_run(client, name, {**lineage.ids(), **tags}))
    status = "FAILED"
    try:
        yield tracker
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        tracker.flush() if adopted else tracker.end(status)


def _log_params(client: Any, run_id: str, params: Mapping[str, str]) -> None:
    """Parameters cannot be changed once logged: a retry that adopted the run keeps what is there."""
    from mlflow.entities import Param

    there = client.get_run(run_id).data.params
    new = [Param(k[:250], v[:6000]) for k, v in redact(params).items() if k[:250] not in there]
    for start in range(0, len(new), 100):
        client.log_batch(run_id, params=new[start : start + 100])


def _log_inputs(client: Any, run_id: str, stage: str, inputs: Mapping[str, str], dvc: Mapping[str, str]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    datasets = []
    for name, digest in inputs.items():
        md5 = dvc.get(name, "")
        source = {"path": f"outputs/{name}", "digest": digest, **({"dvc_md5": md5} if md5 else {})}
        entity = Dataset(name, (md5 or digest)[:36], "dvc" if md5 else "vistune", json.dumps(source, sort_keys=True))
        datasets.append(DatasetInput(entity, [InputTag("mlflow.data.context", stage)]))
    if datasets:
        client.log_inputs(run_id, datasets)


def log_file(run_id: str, path: Path, folder: str = "") -> None:
    """Keeps a file as an artefact of a run."""
    if run_id and enabled():
        with reachable():
            connect().log_artifact(run_id, str(path), folder or None)
