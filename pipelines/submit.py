"""Runs a pipeline on a Kubeflow cluster: uploads the compiled pipeline as a version, and starts a run of it.

From the environment: KFP_ENDPOINT (https://...), KFP_NAMESPACE (multi-user clusters), KFP_EXPERIMENT ("vistune"),
KFP_TOKEN (bearer token), KFP_CA_CERT (file), WAIT=0 (start the run and leave; else the exit status is the verdict),
TERMINATE=1 (Ctrl-C and SIGTERM while waiting end the run on the cluster as well), DOCKER_CONFIG (folder with a login
for the registry of the image), and what placing.py reads.
"""

import contextlib
import hashlib
import json
import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import compiling
import kfp
import kfp_server_api
import placing
import yaml
from run import STAGES, arguments
from urllib3.exceptions import HTTPError

from vistune import containerimage, tracking
from vistune.component import literal
from vistune.errors import VistuneError

POLL_SECONDS = 10.0
PATIENCE_SECONDS = 600.0  # how long the server may not answer while a run is awaited
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
STATUS = {"verdict_fail": 2, "verdict_inconclusive": 3}  # the task that fails a run of which nothing else failed


def there(
    name: str, tree: dict, given: Mapping[str, str] | None = None, schedule: str = "", poll: float = POLL_SECONDS
) -> int:
    """Submits a run of the pipeline `name`, and waits for it unless WAIT=0. With a schedule (cron, six fields) it is
    repeated instead, one run at a time. Returns the exit status."""
    wait = os.environ.get("WAIT") != "0" and not schedule
    _pin_image()
    package = compiling.compile_to(name)
    pipeline_spec = compiling.build(name, placing.Cluster.from_environment())
    values = {"params": literal(tree), **arguments(pipeline_spec, given or {})}
    if "promote" in STAGES[name]:
        values.setdefault("require_pass", wait)
    try:
        client = _client()
        namespace = os.environ.get("KFP_NAMESPACE") or None
        pipeline = _pipeline(client, namespace, package)
        version = _version(client, pipeline, package)
        experiment = client.create_experiment(os.environ.get("KFP_EXPERIMENT", "vistune"), namespace=namespace)
        title = f"{name.replace('_', '-')} {version.display_name}"
        what = {"params": values, "pipeline_id": pipeline, "version_id": version.pipeline_version_id}
        if schedule:
            repeated = client.create_recurring_run(
                experiment.experiment_id, title, cron_expression=schedule, max_concurrency=1, no_catchup=True, **what
            )
            print(f"recurring run {repeated.recurring_run_id} of version {version.display_name}: {schedule}")
            print(f"  {_endpoint().rstrip('/')}/#/recurringrun/details/{repeated.recurring_run_id}", flush=True)
            return 0
        run = client.run_pipeline(experiment.experiment_id, f"{title} {time.strftime('%Y-%m-%d %H:%M:%S')}", **what)
    except (kfp_server_api.ApiException, HTTPError, TimeoutError) as error:
        raise VistuneError(
            f"Kubeflow Pipelines at {_endpoint()} refused: {_reason(error).rstrip('.')}. Check KFP_ENDPOINT, KFP_TOKEN "
            "and KFP_NAMESPACE; without KFP_ENDPOINT the pipeline runs on this machine."
        ) from error
    print(f"run {run.run_id} of version {version.display_name}", flush=True)
    links = {
        "run": f"runs/details/{run.run_id}",
        "version": f"pipelines/details/{pipeline}/version/{what['version_id']}",
    }
    for kind, link in links.items():
        print(f"  {kind:<8} {_endpoint().rstrip('/')}/#/{link}", flush=True)
    if os.environ.get("MLFLOW_TRACKING_URI"):
        print(f"  MLflow   {tracking.redact_text(os.environ['MLFLOW_TRACKING_URI'])}", flush=True)
    if not wait:
        return 0
    with _interruptible(client, run.run_id):
        return _wait(client, run.run_id, poll)


def _pin_image() -> None:
    """Puts the digest of the steps' image in the place of its tag, before anything is compiled with it. An image of
    no registry is what the nodes have under its name, which is said."""
    image = os.environ.get("VISTUNE_IMAGE") or placing.IMAGE
    found = containerimage.pinned(image)
    os.environ["VISTUNE_IMAGE"] = found
    if found != image:
        print(f"image {image} is {found}", flush=True)
    elif "@" not in image:
        print(f"image {image} is what the nodes have: it names no registry, so nothing says what is in it", flush=True)


@contextlib.contextmanager
def _interruptible(client: kfp.Client, run_id: str) -> Iterator[None]:
    """Ctrl-C, and SIGTERM as a CI job gets it, end the run where TERMINATE=1 asks for it; else it goes on."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        if os.environ.get("TERMINATE") == "1":
            try:
                client.terminate_run(run_id)
                said = f"run {run_id} was told to end"
            except (kfp_server_api.ApiException, HTTPError) as error:
                said = f"run {run_id} could not be ended ({_reason(error)}); end it in the UI: it may hold GPUs"
        else:
            said = f"run {run_id} goes on; TERMINATE=1 ends it with this command"
        print(f"\n{said}", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _endpoint() -> str:
    return tracking.redact_text(os.environ["KFP_ENDPOINT"])


def _client() -> kfp.Client:
    warnings.filterwarnings(
        "ignore", message="This client only works with Kubeflow Pipeline v2", category=FutureWarning
    )
    logging.disable(logging.ERROR)  # a traceback for each of five attempts to reach the server
    try:
        return kfp.Client(
            host=os.environ["KFP_ENDPOINT"],
            namespace=os.environ.get("KFP_NAMESPACE", "kubeflow"),
            existing_token=os.environ.get("KFP_TOKEN"),
            ssl_ca_cert=os.environ.get("KFP_CA_CERT"),
        )
    finally:
        logging.disable(logging.NOTSET)


def _named(name: str) -> str:
    """The API's filter for one name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def _pipeline(client: kfp.Client, namespace: str | None, package: Path) -> str:
    """Id of our pipeline on the server, which is created if it is not there, without a version: an upload would make
    one of the pipeline's own name."""
    spec = next(yaml.safe_load_all(package.read_text(encoding="utf-8")))
    name, description = spec["pipelineInfo"]["name"], spec["pipelineInfo"].get("description", "")
    if not (found := client.list_pipelines(namespace=namespace, filter=_named(name)).pipelines):
        wanted = kfp_server_api.V2beta1Pipeline(display_name=name, description=description, namespace=namespace)
        try:
            return client.pipelines.pipeline_service_create_pipeline(wanted).pipeline_id
        except kfp_server_api.ApiException as error:
            if error.status != 409:  # else: another run of this was first
                raise
        found = client.list_pipelines(namespace=namespace, filter=_named(name)).pipelines
    return found[0].pipeline_id


def _version(client: kfp.Client, pipeline: str, package: Path) -> Any:
    """The uploaded version: one per revision. The same content twice is one version; other content under a name
    that is taken is refused."""
    content = hashlib.sha256(package.read_bytes()).hexdigest()
    name = placing.version()
    if not name.rpartition("+g")[2].isalnum():  # work in progress: as many versions as contents
        name = f"{name.removesuffix('.dirty')}.{content[:8]}"
    mark = f"sha256:{content}"
    try:
        return client.upload_pipeline_version(str(package), name, pipeline_id=pipeline, description=mark)
    except kfp_server_api.ApiException as error:
        if error.status != 409:
            raise
    versions = client.list_pipeline_versions(pipeline, filter=_named(name)).pipeline_versions or []
    there = next((v for v in versions if v.display_name == name), None)
    if there is None or there.description != mark:
        raise VistuneError(
            f"version {name} of the pipeline exists on {_endpoint()} with other content (another image or other "
            "compile settings). Commit the change, or compile with the settings of that version."
        )
    return there


def _wait(client: kfp.Client, run_id: str, poll: float) -> int:
    """Prints the tasks' states as they change. 0: passed; 2: failed its gate; 3: inconclusive; 1: an error."""
    shown: dict[str, tuple[str, str]] = {}  # id -> name and state; a name stands for each turn of a loop
    answered = time.monotonic()
    while True:
        try:
            run = client.get_run(run_id)
            answered = time.monotonic()
        except (kfp_server_api.ApiException, HTTPError) as error:
            lost = isinstance(error, kfp_server_api.ApiException) and error.status in (400, 401, 403, 404)
            if lost or time.monotonic() - answered > PATIENCE_SECONDS:
                raise VistuneError(
                    f"run {run_id} can no longer be followed: {_reason(error)}. It may still run on {_endpoint()}."
                ) from error
            time.sleep(poll)
            continue
        for task in (run.run_details.task_details if run.run_details else None) or []:
            name = (task.display_name or "").replace("-", "_")
            now = (name, task.state)
            if task.state and name in _steps() and shown.get(task.task_id or name) != now:
                shown[task.task_id or name] = now
                print(f"  {name:<20} {task.state.lower()}", flush=True)
        if run.state in ENDED:
            break
        time.sleep(poll)
    failed = sorted({name for name, state in shown.values() if state == "FAILED"})
    print(f"run {run_id} {run.state.lower()}" + (f" in {', '.join(failed)}" if failed else ""), flush=True)
    if run.state == "SUCCEEDED":
        return 0
    if len(failed) == 1 and failed[0] in STATUS:
        return STATUS[failed[0]]
    print(f"vistune: {run.error.message if run.error else 'see the logs of the run'}", file=sys.stderr)
    return 1


def _steps() -> set[str]:
    return {*placing.PODS, *placing.VARIANTS}


def _reason(error: Exception) -> str:
    """The server's own words: `message` of its JSON answer, else what the client says."""
    if isinstance(error, kfp_server_api.ApiException):
        try:
            said = json.loads(error.body or "")["message"]
        except (ValueError, KeyError, TypeError):
            said = error.reason
        return f"{error.status} {tracking.redact_text(str(said))}"
    return tracking.redact_text(str(error)[:300])
