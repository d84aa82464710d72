"""What the pods of both kinds of job have in common."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from vistune.errors import VistuneError
from vistune.jobs import JobParams
from vistune.jobs.backend import Place, Work

GRACE = 120
"""Seconds between a pod's being told to end and its being killed: time to finish the step and save it."""

PASSED_ON = ("VISTUNE_HOME", "VISTUNE_ROOT", "VISTUNE_IMAGE", "VISTUNE_GIT_SHA")
"""Environment of this process that every process of the job needs: where things lie, and what code it is."""

QUEUE = "kueue.x-k8s.io/queue-name"


def image(kind: str) -> str:
    """The image of this step, which a job's pods run too: the same code on all of them."""
    found = os.environ.get("VISTUNE_IMAGE", "")
    if not found:
        raise VistuneError(f"a {kind} runs the image of this step, but VISTUNE_IMAGE is not set. Set it.")
    return found


def command(work: Work) -> list[str]:
    """Of a pod: torchrun, on as many processes as the node gets."""
    numbers = [str(work.nodes), str(work.processes)]
    return ["python", "-m", "vistune.jobs.torchrun", work.module, str(work.file), *numbers]


def environment(place: Place) -> list[dict[str, Any]]:
    """The step's environment, and on top what this process knows and the step's settings do not say."""
    given = place.environment()
    names = {one["name"] for one in given}
    own = [{"name": n, "value": os.environ[n]} for n in PASSED_ON if n not in names and os.environ.get(n)]
    return [*given, *own]


def labels(params: JobParams) -> dict[str, str]:
    made = {"app.kubernetes.io/name": "vistune", "app.kubernetes.io/component": "tune"}
    return {**made, QUEUE: params.queue} if params.queue else made


def limit(params: JobParams) -> int | None:
    """Seconds after which the cluster itself ends the job, should nobody be left to do it."""
    return params.start_deadline + params.run_deadline if params.run_deadline else None


def pruned(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is empty: the API takes an empty field for a wish."""
    return {key: value for key, value in mapping.items() if value not in (None, "", [], {}, ())}
