"""Where training runs: in processes of this machine, or in a job on a Kubernetes cluster.

Whoever trains writes a job file that any process can read, and hands it to a backend. The backend starts so many
processes on so many nodes, waits for them, and raises unless all of them ended well.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vistune.errors import VistuneError

if TYPE_CHECKING:
    from vistune.jobs.backend import TrainBackend


@dataclass(frozen=True)
class JobParams:
    """Where the training processes run, and how long is waited for them."""

    # local: on this machine. trainjob: Kubeflow Trainer, 2.2 or later. pytorchjob: the older training operator.
    backend: Literal["local", "trainjob", "pytorchjob"] = "local"
    nodes: int = 1  # machines; each runs one process per GPU that the step asks for
    runtime: str = "vistune-torch"  # ClusterTrainingRuntime of a TrainJob; infra/k8s has it
    queue: str = ""  # Kueue's local queue; empty: not queued
    queue_deadline: int = 86400  # seconds until the queue admits the job; 0: no limit
    start_deadline: int = 1800  # seconds from then until all pods run; 0: no limit
    run_deadline: int = 0  # seconds that they may run; 0: no limit
    restarts: int = 10  # after pods were preempted, evicted or lost; each goes on from the newest checkpoint
    when_stopped: Literal["delete", "suspend"] = "delete"  # what becomes of the job when this process is ended


BACKENDS = {  # tune.job.backend: class
    "local": "vistune.jobs.local.Local",
    "trainjob": "vistune.jobs.trainjob.TrainJob",
    "pytorchjob": "vistune.jobs.pytorchjob.PyTorchJob",
}


def backend_for(params: JobParams, home: Path) -> TrainBackend:
    """The backend that the parameters name. home: folder that a job's pods share with this process."""
    if params.nodes < 1 or params.restarts < 0:
        raise VistuneError(
            f"tune.job.nodes is {params.nodes} and tune.job.restarts {params.restarts}; expected at least 1 and 0."
        )
    for name in ("queue_deadline", "start_deadline", "run_deadline"):
        if getattr(params, name) < 0:
            raise VistuneError(f"tune.job.{name} is {getattr(params, name)}; expected seconds, or 0 for no limit.")
    if params.queue and params.when_stopped == "suspend":
        raise VistuneError(
            "tune.job.when_stopped is suspend, but a queue wakes what it has admitted. Set it to delete, or leave "
            "tune.job.queue empty."
        )
    module, _, name = BACKENDS[params.backend].rpartition(".")
    return getattr(importlib.import_module(module), name)(params, home)
