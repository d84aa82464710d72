"""Runs the pipeline on a Kubeflow cluster: uploads the compiled pipeline as a version, and starts a run of it.

From the environment: KFP_ENDPOINT (https://...), KFP_NAMESPACE (multi-user clusters), KFP_EXPERIMENT ("vistune"),
KFP_TOKEN (bearer token), KFP_CA_CERT (file), WAIT=1 (wait for the end; the exit status is then the verdict), and
what instruction_tuning.py reads.
"""

import hashlib
import json
import logging
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import instruction_tuning
import kfp
import kfp_server_api
import yaml
from urllib3.exceptions import HTTPError

import vistune
from vistune import lineage, tracking
from vistune.component import literal
from vistune.errors import VistuneError

POLL_SECONDS = 10.0
PATIENCE_SECONDS = 600.0  # how long the server may not answer while a run is awaited
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")


def there(tree: dict, poll: float = POLL_SECONDS) -> int:
    """Submits the run and, with WAIT=1, waits for it. Returns the exit status."""
    wait = os.environ.get("WAIT") == "1"
    instruction_tuning.compile_to(instruction_tuning.TARGET)
    try:
        client = _client()
        namespace = os.environ.get("KFP_NAMESPACE") or None
        pipeline = _pipeline(client, namespace)
        version = _version(client, pipeline, instruction_tuning.TARGET)
        experiment = client.create_experiment(os.environ.get("KFP_EXPERIMENT", "vistune"), namespace=namespace)
        run = client.run_pipeline(
            experiment.experiment_id,
            f"instruction-tuning {version.display_name} {time.strftime('%Y-%m-%d %H:%M:%S')}",
            params={"params": literal(tree), "require_pass": wait},
            pipeline_id=pipeline,
            version_id=version.pipeline_version_id,
        )
    except (kfp_server_api.ApiException, HTTPError, TimeoutError) as error:
        raise VistuneError(
            f"Kubeflow Pipelines at {_endpoint()} refused: {_reason(error).rstrip('.')}. Check KFP_ENDPOINT, KFP_TOKEN "
            "and KFP_NAMESPACE; without KFP_ENDPOINT the pipeline runs on this machine."
        ) from error
    print(f"run {run.run_id} of version {version.display_name}", flush=True)
    return _wait(client, run.run_id, poll) if wait else 0


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


def _pipeline(client: kfp.Client, namespace: str | None) -> str:
    """Id of our pipeline on the server, which is created if it is not there."""
    spec = next(yaml.safe_load_all(instruction_tuning.TARGET.read_text(encoding="utf-8")))
    name = spec["pipelineInfo"]["name"]
    found = client.list_pipelines(namespace=namespace, filter=_named(name)).pipelines
    if found:
        return found[0].pipeline_id
    description = spec["pipelineInfo"].get("description", "")
    return client.upload_pipeline(str(instruction_tuning.TARGET), name, description, namespace).pipeline_id


def _version(client: kfp.Client, pipeline: str, package: Path) -> Any:
    """The uploaded version: one per revision. The same content twice is one version; other content under a name
    that is taken is refused."""
    content = hashlib.sha256(package.read_bytes()).hexdigest()
    sha, dirty = lineage.git()
    name = f"{vistune.__version__}+" + (f"g{sha[:12]}" if sha else "nogit")
    if dirty or not sha:
        name += f".{content[:8]}"  # work in progress: as many versions as contents
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
    """Prints the tasks' states as they change. 0: passed; 2: the verdict was not pass; 1: anything else."""
    shown: dict[str, str] = {}
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
            if task.state and task.display_name in _steps() and shown.get(task.display_name) != task.state:
                shown[task.display_name] = task.state
                print(f"  {task.display_name:<15} {task.state.lower()}", flush=True)
        if run.state in ENDED:
            break
        time.sleep(poll)
    failed = sorted(name for name, state in shown.items() if state == "FAILED")
    print(f"run {run_id} {run.state.lower()}" + (f" in {', '.join(failed)}" if failed else ""), flush=True)
    if run.state == "SUCCEEDED":
        return 0
    if failed == ["verdict"]:
        return 2
    print(f"vistune: {run.error.message if run.error else 'see the logs of the run'}", file=sys.stderr)
    return 1


def _steps() -> set[str]:
    return set(instruction_tuning.REQUESTS)


def _reason(error: Exception) -> str:
    """The server's own words: `message` of its JSON answer, else what the client says."""
    if isinstance(error, kfp_server_api.ApiException):
        try:
            said = json.loads(error.body or "")["message"]
        except (ValueError, KeyError, TypeError):
            said = error.reason
        return f"{error.status} {tracking.redact_text(str(said))}"
    return tracking.redact_text(str(error)[:300])
