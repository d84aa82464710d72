"""The end of a pipeline run on a cluster: its jobs are ended, its MLflow runs get their status, somebody is told."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from vistune.errors import VistuneError

NOTIFY = "VISTUNE_NOTIFY_URL"
"""Environment variable: where a notice is posted. It comes from a secret: who knows the address can write there."""

UI = "VISTUNE_KFP_UI"
"""Environment variable: address of Kubeflow's pages, for the link in the notice."""

TRIES, PAUSE, SECONDS = 3, 2.0, 10.0
"""Of a notice: how often it is tried, the pause in between, and how long an answer is awaited."""

STATUS = {"SUCCEEDED": "FINISHED", "CANCELLED": "KILLED", "CANCELED": "KILLED"}
"""Kubeflow's states as MLflow has them; all others are failures."""


def end(run: str, state: str, error: str) -> None:
    """All three, whatever becomes of the others. Raises VistuneError in the end with what went wrong, apart from a
    notice that did not arrive, which is only said."""
    parts: tuple[Callable[[], None], ...] = (
        lambda: jobs(run),
        lambda: runs(run, state),
        lambda: notify(run, state, error),
    )
    problems = []
    for part in parts:
        try:
            part()
        except VistuneError as problem:
            problems.append(str(problem))
    if problems:
        raise VistuneError(" ".join(problems))


def jobs(run: str) -> None:
    """Deletes the training jobs that the run has not finished."""
    from vistune.jobs.cleanup import end_jobs

    ended = end_jobs(run)
    print("\n".join(f"{name} deleted" for name in ended) or "no job was left", flush=True)


def runs(run: str, state: str) -> None:
    """Gives the run's MLflow run, and those of its steps that were killed, their final status."""
    from vistune import tracking

    if tracking.enabled() and os.environ.get("MLFLOW_TRACKING_URI"):
        closed = tracking.end_pipeline(run, STATUS.get(state, "FAILED"))
        print(f"MLflow: {closed} runs of this pipeline run ended as {STATUS.get(state, 'FAILED').lower()}", flush=True)


def notify(run: str, state: str, error: str) -> None:
    """Posts one sentence as {"text": ...}, which Slack, Mattermost, Teams and most webhooks take. The address is never
    printed."""
    from vistune.tracking import redact_text

    address = os.environ.get(NOTIFY, "").strip()
    if not address:
        return
    text = f"vistune: run {run} {state.lower()}" + (f": {redact_text(error)[:500]}" if error else "")
    if os.environ.get(UI):
        text += f"\n{os.environ[UI].rstrip('/')}/#/runs/details/{run}"
    why = _posted(address, json.dumps({"text": text}).encode())
    print(f"the notice did not arrive: {why}" if why else "a notice was sent", flush=True)


def _posted(address: str, body: bytes) -> str:
    """Empty when it arrived, else why not."""
    if not address.startswith(("http://", "https://")):
        return "its address begins with neither https:// nor http://"
    why = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE)
        try:
            request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=SECONDS):
                return ""
        except urllib.error.HTTPError as error:
            why = f"status {error.code}"
            if error.code < 500 and error.code != 429:
                break
        except (urllib.error.URLError, OSError, ValueError) as error:
            why = type(getattr(error, "reason", error)).__name__  # its text may hold the address
    return why
