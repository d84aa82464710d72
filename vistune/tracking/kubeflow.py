"""The MLflow run above those of the steps, on a cluster whose Kubeflow does not keep one itself.

Steps of a Kubeflow run start in pods of their own and share nothing but the run's id: they find their parent by its
tag. Where Kubeflow's MLflow plugin is on (`KFP_MLFLOW_CONFIG`), it makes the parent and ends it, and this does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from vistune.lineage import KFP_RUN
from vistune.tracking.runs import connect, create_run, experiment, platform, reachable

TAGS = {"vistune.run": "kubeflow"}


def kept() -> bool:
    """Whether Kubeflow keeps the runs itself."""
    return bool(platform() or os.environ.get("MLFLOW_RUN_ID"))


def open_pipeline(name: str, tags: Mapping[str, str]) -> str:
    """Id of the parent run of this Kubeflow run, made by whoever comes first; empty outside Kubeflow, and where its
    plugin keeps one."""
    run = os.environ.get(KFP_RUN, "")
    if not run or kept():
        return ""
    with reachable():
        client = connect()
        return parent_of(client) or create_run(client, name, {**tags, **TAGS, "kfp.run_id": run})


def parent_of(client: Any) -> str:
    """Id of the parent run of this step; empty when there is none."""
    run = os.environ.get(KFP_RUN, "")
    return _parent(client, run) if run and not kept() else ""


def end_pipeline(run: str, status: str) -> int:
    """Ends the parent of the Kubeflow run `run`, and the runs of steps that were killed; returns how many there were.
    status: FINISHED, FAILED or KILLED."""
    if kept():
        return 0
    with reachable():
        client = connect()
        parent, ended = _parent(client, run), 0
        if not parent:
            return 0
        where = [client.get_run(parent).info.experiment_id]
        for child in client.search_runs(where, f"tags.`mlflow.parentRunId` = '{parent}'", max_results=1000):
            if child.info.status == "RUNNING":
                client.set_terminated(child.info.run_id, "KILLED" if status == "KILLED" else "FAILED")
                ended += 1
        client.set_terminated(parent, status)
        return ended + 1


def _parent(client: Any, run: str) -> str:
    if not run.replace("-", "").isalnum():  # an id of Kubeflow is a UUID; anything else would be part of the filter
        return ""
    wanted = f"tags.`kfp.run_id` = '{run}' and tags.`vistune.run` = 'kubeflow'"
    found = client.search_runs([experiment(client)], wanted, order_by=["attributes.start_time ASC"], max_results=1)
    return found[0].info.run_id if found else ""
