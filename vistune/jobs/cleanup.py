"""Ends the jobs of a pipeline run, for its exit handler: whatever became of the step that started them."""

from __future__ import annotations

from vistune.jobs.cluster import Cluster, Refused
from vistune.jobs.pytorchjob import PyTorchJob
from vistune.jobs.submit import RUN
from vistune.jobs.trainjob import TrainJob


def end_jobs(run: str) -> list[str]:
    """Deletes the unfinished jobs of the Kubeflow run `run`, and returns what they were called. A kind of job that the
    cluster does not have, or that this account may not see, has none."""
    cluster, ended = Cluster(), []
    for kind in (TrainJob.kind, PyTorchJob.kind):
        path = cluster.path(kind.group_version, kind.plural)
        try:
            found = cluster.call("GET", path, {"labelSelector": f"{RUN}={run}"})["items"]
        except Refused as refused:
            if refused.status in (403, 404):
                continue
            raise
        for job in found:
            name = job["metadata"]["name"]
            if kind.conditions(job).keys() & {kind.succeeded, "Failed"}:
                continue
            try:
                cluster.call("DELETE", f"{path}/{name}", {"propagationPolicy": "Foreground"})
            except Refused as refused:
                if refused.status != 404:
                    raise
            ended.append(f"{kind.name} {cluster.namespace}/{name}")
    return ended
