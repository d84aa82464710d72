"""A job on a Kubernetes cluster from its creation to its end. Trainer's and the older operator's differ in a `Kind`."""

from __future__ import annotations

import queue
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vistune.errors import Interrupted, VistuneError
from vistune.interrupt import Interruption
from vistune.jobs import JobParams, failure
from vistune.jobs.backend import Place, Work
from vistune.jobs.cluster import Cluster
from vistune.jobs.logs import Logs, tail
from vistune.jobs.submit import Kind, Submission
from vistune.jobs.watch import Watch

TICK = 0.5
"""Seconds between two looks at the clock and at signals."""

PAUSE = 1.0
"""Seconds before a connection that ended is opened again."""

DRAIN = 10.0
"""Seconds in which the last lines of a job that has ended are awaited."""

SETTLE = 60.0
"""Seconds for which the result of a job that succeeded may not yet be seen here, on network storage."""


@dataclass
class Seen:
    """What the watches have told."""

    job: dict[str, Any] | None = None
    pods: dict[str, dict[str, Any]] | None = None
    error: VistuneError | None = None


class Followed:
    """The part of both Kubernetes backends that they share."""

    kind: Kind

    def __init__(self, params: JobParams, home: Path) -> None:
        self.params, self.home, self.given = params, home, Place.from_environment()

    def processes(self, wanted: int) -> int:
        nodes = self.params.nodes
        if wanted % nodes:
            raise VistuneError(f"tune.processes is {wanted}: not the same number on each of tune.job.nodes={nodes}.")
        return wanted // nodes or self.given.gpus() or 1

    def place(self, release: Path) -> Path:
        """A copy in the folder that pods share, hard links where they can be."""
        from vistune.files import link_tree, tree_digest

        if not self.given.mounted(self.home):
            raise VistuneError(
                f"VISTUNE_HOME={self.home} is on no volume that the pods of a {self.kind.name} can share. Mount a "
                "ReadWriteMany claim on the step, and set VISTUNE_HOME to a folder of it."
            )
        if release.resolve().is_relative_to(self.home):
            return release.resolve()
        target = self.home / "releases" / tree_digest(release)[:32]
        if not target.is_dir():
            link_tree(release, target)
        return target

    def manifest(self, name: str, work: Work) -> dict[str, Any]:
        raise NotImplementedError

    def run(self, work: Work) -> None:
        with Interruption(lambda number: None) as interruption:
            cluster = Cluster(stopping=lambda: bool(interruption.signal))
            submission = Submission(cluster, self.kind, self.params, self.home, work, self.manifest)
            try:
                if submission.submit():
                    self._wait(cluster, submission, work, interruption)
            except BaseException as error:
                stopped = interruption.signal
                submission.stop(suspend=bool(stopped) and self.params.when_stopped == "suspend")
                if stopped and isinstance(error, VistuneError | Interrupted):
                    raise Interrupted(_stopped(stopped, submission.title, self.params), stopped) from None
                raise
        _settled(work.result, submission.title)

    def _wait(self, cluster: Cluster, submission: Submission, work: Work, interruption: Interruption) -> None:
        """Until the job has succeeded. Raises VistuneError when it failed, Interrupted on a signal."""
        kind, name = self.kind, submission.name
        news: queue.Queue = queue.Queue()
        pods, jobs = cluster.path("v1", "pods"), cluster.path(kind.group_version, kind.plural)
        selected = {"labelSelector": kind.labels.format(name=name)}
        watches = [
            Watch(cluster, "job", jobs, {"fieldSelector": f"metadata.name={name}"}, news, PAUSE),
            Watch(cluster, "pods", pods, selected, news, PAUSE),
        ]
        logs = Logs(cluster, pods, kind.container, PAUSE)
        for thread in (*watches, logs):
            thread.start()
        try:
            seen, fleet, clock, attempts = Seen(), Fleet(kind), Clock(self.params), 1
            while True:
                if interruption.signal:
                    raise Interrupted("", interruption.signal)
                _take(news, seen)
                if seen.error:
                    raise seen.error
                if not all(watch.is_alive() for watch in watches) and news.empty():
                    raise VistuneError(f"{submission.title} is no longer watched: see the error above.")
                if seen.job is None or seen.pods is None or (seen.job and not submission.current(seen.job)):
                    continue
                state = _state(seen.job, kind)
                if state == "gone" and submission.exists():
                    continue  # what was seen is older than this attempt
                if state == "failed":  # what is known of the pods may be older than what is known of the job
                    seen.pods = {p["metadata"]["name"]: p for p in cluster.call("GET", pods, selected)["items"]}
                fleet.see(seen.pods)
                if fleet.first:
                    logs.show(fleet.first)
                problem = ""
                if state == "succeeded":
                    logs.finish(DRAIN)
                    return
                if state == "failed" and (why := fleet.disrupted(kind.conditions(seen.job))):
                    if attempts <= self.params.restarts:
                        logs.finish(DRAIN)
                        attempts += 1
                        print(f"tune: lost {why}; attempt {attempts} goes on from the newest checkpoint", flush=True)
                        submission.again()
                        seen.job, fleet, clock = None, fleet.next(), Clock(self.params)
                        logs = Logs(cluster, pods, kind.container, PAUSE)
                        logs.start()
                        continue
                    problem = f"failed: lost {why}, after tune.job.restarts={self.params.restarts}"
                elif state == "failed":
                    problem = "failed"
                elif state == "gone":
                    problem = "was deleted while it ran"
                else:
                    problem = clock.tick(_phase(state, fleet.pods, work.nodes), failure.waiting(fleet.pods.values()))
                if problem:
                    logs.finish(DRAIN if state == "failed" else 0.0)
                    raise VistuneError(self._report(cluster, f"{submission.title} {problem}", seen.job, fleet))
        finally:
            for watch in watches:
                watch.end()
            logs.finish(0.0)

    def _report(self, cluster: Cluster, title: str, job: dict[str, Any], fleet: Fleet) -> str:
        ends = failure.ended(fleet.known.values())
        culprit = ends[0].pod if ends else (fleet.first or {}).get("metadata", {}).get("name", "")
        path = cluster.path("v1", "pods")
        lines = tail(cluster, path, culprit, self.kind.container, failure.LINES) if culprit else []
        return failure.report(title, self.kind.conditions(job).values(), fleet.known.values(), lines)


class Fleet:
    """The pods of one attempt. An operator may replace them; of each place the newest pod counts."""

    def __init__(self, kind: Kind, before: frozenset[str] = frozenset()) -> None:
        """before: uids of the pods of earlier attempts."""
        self._kind, self._before = kind, before
        self.known: dict[tuple[str, ...], dict[str, Any]] = {}  # place -> its newest pod, as last seen
        self.pods: dict[str, dict[str, Any]] = {}  # those that are there now
        self.first: dict[str, Any] | None = None  # of the first process
        self._vanished: dict[tuple[str, ...], str] = {}  # place -> pod that went away before any pod failed

    def see(self, pods: Mapping[str, dict[str, Any]]) -> None:
        self.pods = {n: p for n, p in pods.items() if p["metadata"].get("uid") not in self._before}
        for pod in sorted(self.pods.values(), key=lambda p: p["metadata"].get("creationTimestamp") or ""):
            labels = pod["metadata"].get("labels") or {}
            place = tuple(labels.get(key, "") for key in self._kind.slot)
            self.known[place] = pod
            self._vanished.pop(place, None)
            if self._kind.first.items() <= labels.items():
                self.first = pod
        if not failure.ended(self.known.values()):
            for place, pod in self.known.items():
                name = pod["metadata"]["name"]
                if name not in self.pods and pod.get("status", {}).get("phase") != "Succeeded":
                    self._vanished[place] = name

    def disrupted(self, conditions: Mapping[str, Mapping[str, Any]]) -> str:
        """The pod that was lost through no fault of the training, and how; "" when the failure is its own."""
        if any(c.get("reason") == "DeadlineExceeded" for c in conditions.values()):
            return ""
        return failure.disrupted(self.known.values()) or next((f"{n} (gone)" for n in self._vanished.values()), "")

    def next(self) -> Fleet:
        uids = {p["metadata"].get("uid", "") for p in self.known.values()}
        return Fleet(self._kind, self._before | uids)


class Clock:
    """The deadlines of the three phases; each starts when the phase does, running time adds up."""

    def __init__(self, params: JobParams) -> None:
        self._limits = {
            "queue": (params.queue_deadline, "the queue did not admit it within tune.job.queue_deadline"),
            "start": (params.start_deadline, "its pods did not all run within tune.job.start_deadline"),
            "run": (params.run_deadline, "it ran longer than tune.job.run_deadline"),
        }
        self._phase, self._since, self._ran, self._said = "", time.monotonic(), 0.0, ""

    def tick(self, phase: str, waiting: list[str]) -> str:
        """What is wrong, or "". waiting: why pods do not run; said once each time it changes."""
        now = time.monotonic()
        if phase != self._phase:
            if self._phase == "run":
                self._ran += now - self._since
            self._phase, self._since = phase, now
        said = "; ".join(waiting) if phase == "start" else "the queue has not admitted it" if phase == "queue" else ""
        if said and said != self._said:
            print(f"tune: waiting: {said}", flush=True)
        self._said = said
        hopeless = [one for one in waiting if one.partition(":")[0] in failure.HOPELESS]
        if hopeless:
            return "its pods can never run"
        limit, what = self._limits[phase]
        spent = now - self._since + (self._ran if phase == "run" else 0.0)
        return f"{what}={limit}" if limit and spent > limit else ""


def _take(news: queue.Queue, seen: Seen) -> None:
    """Everything that is new, or nothing after a tick."""
    try:
        name, value = news.get(timeout=TICK)
        while True:
            if isinstance(value, VistuneError):
                seen.error = value
            elif name == "pods":
                seen.pods = value
            else:
                seen.job = next(iter(value.values()), {})
            name, value = news.get_nowait()
    except queue.Empty:
        return


def _state(job: dict[str, Any], kind: Kind) -> str:
    """succeeded, failed, gone, suspended or active."""
    if not job:
        return "gone"
    conditions = kind.conditions(job)
    if kind.succeeded in conditions:
        return "succeeded"
    if "Failed" in conditions:
        return "failed"
    return "suspended" if kind.suspended(job) else "active"


def _phase(state: str, pods: Mapping[str, dict[str, Any]], nodes: int) -> str:
    if state == "suspended":
        return "queue"
    phases = [pod.get("status", {}).get("phase") for pod in pods.values()]
    return "run" if sum(phase in ("Running", "Succeeded") for phase in phases) >= nodes else "start"


def _stopped(number: int, title: str, params: JobParams) -> str:
    done = {"delete": "deleted", "suspend": "suspended"}[params.when_stopped]
    return (
        f"{signal.Signals(number).name} ended the training; {title} is {done}. Run the same command again to go on "
        "from the newest checkpoint."
    )


def _settled(result: Path, title: str) -> None:
    until = time.monotonic() + SETTLE
    while not result.is_file():
        if time.monotonic() > until:
            raise VistuneError(
                f"{title} succeeded, but {result} is not there. The job's pods and this step must have the same volume "
                "at the same path."
            )
        time.sleep(TICK)
