"""The output of the first process, on this step's own: followed, and found again when a connection or pod is lost."""

from __future__ import annotations

import re
import sys
import threading
from typing import Any

from vistune.errors import VistuneError
from vistune.jobs.cluster import Cluster

IDLE = 90.0
"""Seconds without a line after which the connection is opened again."""


def moment(text: str) -> tuple[str, str]:
    """Sorts RFC 3339 times, whose fractions have no trailing zeros.

    >>> moment("2026-01-02T03:04:05.1Z") < moment("2026-01-02T03:04:05.09Z")
    False
    """
    seconds, _, fraction = text.rstrip("Z").partition(".")
    return seconds, fraction.ljust(9, "0")


STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")


class Logs(threading.Thread):
    """Follows the pod that `show` was last called with. Every line is printed once."""

    def __init__(self, cluster: Cluster, pods: str, container: str, pause: float) -> None:
        """pods: path of the pods in the API."""
        super().__init__(name="logs", daemon=True)
        self._cluster, self._pods, self._container, self._pause = cluster, pods, container, pause
        self._pod: dict[str, Any] = {}
        self._changed, self._ended = threading.Event(), threading.Event()

    def show(self, pod: dict[str, Any]) -> None:
        """pod: the first process's, as it is now."""
        if pod.get("status") != self._pod.get("status") or pod["metadata"]["uid"] != self._uid():
            self._pod = pod
            self._changed.set()

    def finish(self, seconds: float) -> None:
        """Waits for the last lines of a pod that has ended, so long at most."""
        self._ended.set()
        self._changed.set()
        self.join(seconds)

    def _uid(self) -> str:
        return self._pod.get("metadata", {}).get("uid", "")

    def run(self) -> None:
        last: tuple[str, str] = ("", "")
        followed = name = ""
        while True:
            self._changed.wait(self._pause)
            self._changed.clear()
            pod = self._pod
            uid = pod.get("metadata", {}).get("uid", "")
            if uid != followed:
                # One that took over the name may have been read already, before it was known to be another.
                if pod["metadata"]["name"] != name or moment(pod["metadata"]["creationTimestamp"]) > last:
                    last = ("", "")
                followed, name = uid, pod["metadata"]["name"]
            if uid and _has_output(pod):
                before = None
                while before != last and uid == self._uid():  # a connection that ended early had more to say
                    before = last
                    last = self._follow(name, last)
            if self._ended.is_set() and pod is self._pod:
                return

    def _follow(self, pod: str, last: tuple[str, str]) -> tuple[str, str]:
        query = {"container": self._container, "follow": "true", "timestamps": "true"}
        if last[0]:
            query["sinceTime"] = f"{last[0]}Z"  # of whole seconds, so the lines of the last one come again
        try:
            for line in self._cluster.lines(f"{self._pods}/{pod}/log", query, read=IDLE):
                stamp, _, text = line.partition(" ")
                if not STAMP.match(stamp) or (at := moment(stamp)) <= last:
                    continue
                last = at
                print(text, flush=True)
        except VistuneError:  # not started yet, or gone; the pod's state says which, and what to do
            sys.stdout.flush()
        return last


def _has_output(pod: dict[str, Any]) -> bool:
    """Whether the pod's container has been started."""
    states = [one.get("state") or {} for one in pod.get("status", {}).get("containerStatuses") or []]
    return any("running" in state or "terminated" in state for state in states)


def tail(cluster: Cluster, pods: str, pod: str, container: str, lines: int) -> list[str]:
    """The last lines of a pod, none where they cannot be had."""
    try:
        found = list(cluster.lines(f"{pods}/{pod}/log", {"container": container, "tailLines": lines}))
    except VistuneError:
        return []
    return found[-lines:]
