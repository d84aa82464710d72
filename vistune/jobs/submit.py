"""Creating, adopting, restarting and stopping the one job that belongs to a piece of work."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vistune.errors import VistuneError
from vistune.files import write_text
from vistune.hashing import digest
from vistune.jobs import JobParams, failure
from vistune.jobs.backend import Work
from vistune.jobs.cluster import Cluster, Refused

CONTENT = "vistune/content"
"""Annotation: digest of what was asked for, by which a job is known to be the same."""

STOPPING = 25.0
"""Seconds for which stopping a job is tried; a pod that is told to end has 30."""

GOING = 900.0
"""Seconds for which a deleted job may take to go away with its pods."""

LOOK = 1.0
"""Seconds between two looks at whether it has."""

RUN = "pipeline/runid"
"""Label of Kubeflow's pods."""


@dataclass(frozen=True)
class Kind:
    """One sort of job."""

    name: str
    group_version: str
    plural: str
    container: str  # whose output is the training's
    succeeded: str  # type of the condition
    suspend: tuple[str, ...]  # where in `spec` it is said
    labels: str  # selector of a job's pods, for str.format
    slot: tuple[str, ...]  # labels that tell a job's pods from one another
    first: Mapping[str, str]  # labels of the first process's pod
    needs: str  # said when the cluster does not know the sort

    def suspended(self, job: Mapping[str, Any]) -> bool:
        node: Any = job.get("spec")
        for key in self.suspend:
            node = (node or {}).get(key)
        return bool(node)

    def suspension(self, wanted: bool) -> dict[str, Any]:
        """The change that suspends a job or lets it go on."""
        body: Any = wanted
        for key in reversed(("spec", *self.suspend)):
            body = {key: body}
        return body

    def conditions(self, job: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        """Those that hold, by their type."""
        found = (job.get("status") or {}).get("conditions") or []
        return {c["type"]: c for c in found if c.get("status") == "True"}


class Submission:
    """The name follows from the job file's place alone: whoever trains there finds the same job, so a step that is
    repeated adopts the job of its first try, and no second job ever writes to the same folder."""

    def __init__(
        self,
        cluster: Cluster,
        kind: Kind,
        params: JobParams,
        home: Path,
        work: Work,
        manifest: Callable[[str, Work], dict[str, Any]],
    ) -> None:
        self._cluster, self._kind, self._params = cluster, kind, params
        self.name = f"vistune-tune-{digest([str(work.file)])[:16]}"
        self.title = f"{kind.name} {cluster.namespace}/{self.name}"
        self._path = cluster.path(kind.group_version, kind.plural)
        self._one = f"{self._path}/{self.name}"
        self._work = work
        self._body = manifest(self.name, work)
        self._content = digest(self._body)
        self._body["metadata"]["annotations"] = {CONTENT: self._content}
        self._uid = ""
        self._foreign = False
        self._kept = home / "jobs" / f"{self.name}.yaml"

    def submit(self) -> bool:
        """Creates the job or adopts it, and keeps its manifest. False: an earlier process saw to it that it is done."""
        run, owners = self._owners()
        if run:
            self._body["metadata"].setdefault("labels", {})[RUN] = run
        if owners:
            self._body["metadata"]["ownerReferences"] = owners
        write_text(self._kept, yaml.safe_dump(self._body, sort_keys=False))
        job = self._placed()
        done = self._kind.conditions(job)
        if self._kind.succeeded in done and self._work.result.is_file():
            return False
        if done.keys() & {self._kind.succeeded, "Failed"}:  # of an earlier try
            self.again()
        return True

    def again(self) -> None:
        """The job once more, in place of one that has ended."""
        self.stop(wait=True)
        self._placed()

    def stop(self, suspend: bool = False, wait: bool = False) -> None:
        """Deletes the job with its pods, or suspends it: then it keeps no pod either. wait: until it is gone."""
        if self._foreign:
            return
        until = time.monotonic() + (GOING if wait else STOPPING)
        try:
            if suspend:
                self._cluster.call("PATCH", self._one, body=self._kind.suspension(True), patience=STOPPING)
                return
            query = {"propagationPolicy": "Foreground"}
            self._cluster.call("DELETE", self._one, query, patience=None if wait else STOPPING)
            while wait and time.monotonic() < until:
                self._cluster.call("GET", self._one)
                self._hold()
        except Refused as refused:
            if refused.status == 404:
                return
            self._left(refused)
        except VistuneError as error:
            if wait:
                raise
            self._left(error)
        if wait:
            raise VistuneError(f"{self.title} was deleted, but does not go away. Look for its finalizers.")

    def _left(self, error: VistuneError) -> None:
        print(f"tune: {self.title} could not be stopped ({error}). Delete it by hand: it may hold GPUs.", flush=True)

    def current(self, job: dict[str, Any]) -> bool:
        """Whether an object is the job of this attempt."""
        return job["metadata"].get("uid", "") == self._uid

    def exists(self) -> bool:
        """Whether the API itself still has the job of this attempt."""
        try:
            return self.current(self._cluster.call("GET", self._one))
        except Refused as refused:
            if refused.status == 404:
                return False
            raise

    def _placed(self) -> dict[str, Any]:
        """The job, new or adopted: a creation whose answer was lost is found to have happened."""
        while (job := self._created() or self._adopted()) is None:
            self._hold()
        self._uid = job["metadata"].get("uid", "")
        return job

    def _hold(self) -> None:
        """Waits a moment, unless this process is to end."""
        if self._cluster.stopping():
            raise VistuneError(f"{self.title}: this process was told to end.")
        time.sleep(LOOK)

    def _created(self) -> dict[str, Any] | None:
        """The new job; None when there is one of the name."""
        try:
            made = self._cluster.call("POST", self._path, {"fieldValidation": "Strict"}, self._body)
        except Refused as refused:
            if refused.status == 409:
                return None
            raise VistuneError(self._explained(refused)) from None
        print(f"tune: {self.title} created", flush=True)
        return made

    def _adopted(self) -> dict[str, Any] | None:
        """The job that is there already, if it is ours; None when it has gone meanwhile."""
        try:
            job = self._cluster.call("GET", self._one)
            while job["metadata"].get("deletionTimestamp"):
                self._hold()
                job = self._cluster.call("GET", self._one)
            if (job["metadata"].get("annotations") or {}).get(CONTENT) != self._content:
                self._foreign = True
                raise VistuneError(
                    f"{self.title} exists with other content than this step asks for (see {self._kept}). Wait for its "
                    f"end, or delete it: kubectl delete {self._kind.plural} {self.name} -n {self._cluster.namespace}"
                )
            owners = self._body["metadata"].get("ownerReferences") or []
            theirs = job["metadata"].get("ownerReferences") or []
            new = [one for one in owners if one["uid"] not in {o["uid"] for o in theirs}]
            change: dict[str, Any] = {"metadata": {"ownerReferences": [*theirs, *new]}} if new else {}
            if self._kind.suspended(job) and not self._params.queue:  # by us; a queue wakes what it suspended itself
                change |= self._kind.suspension(False)
            if change:
                job = self._cluster.call("PATCH", self._one, body=change)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise
        print(f"tune: {self.title} adopted: it was started by an earlier try of this step", flush=True)
        return job

    def _owners(self) -> tuple[str, list[dict[str, Any]]]:
        """The Kubeflow run, and what the job goes away with: the workflow of this step's pod, or else the pod."""
        name, uid = os.environ.get("KFP_POD_NAME"), os.environ.get("KFP_POD_UID")
        if not name or not uid:
            return "", []
        pod = self._cluster.call("GET", f"{self._cluster.path('v1', 'pods')}/{name}")
        run = (pod["metadata"].get("labels") or {}).get(RUN, "")
        for one in pod["metadata"].get("ownerReferences") or []:
            if one.get("kind") == "Workflow":
                return run, [{key: one[key] for key in ("apiVersion", "kind", "name", "uid")}]
        return run, [{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}]

    def _explained(self, refused: Refused) -> str:
        what = f"{self.title} cannot be created: {str(refused).rstrip('.')}"
        if advice := failure.hint(str(refused)):
            return f"{what}. {advice}"
        if refused.status == 404:
            return f"{what}. {self._kind.needs}"
        if refused.status == 403 and "quota" in str(refused):
            return f"{what}. The namespace's quota is used up: wait, ask for less, or queue with tune.job.queue."
        if refused.status == 403:
            return f"{what}. This step's service account lacks the rights of infra/k8s/base/pipeline-role.yaml."
        if refused.status in (400, 422):
            return f"{what}. The manifest is in {self._kept}. {self._kind.needs}"
        return what
