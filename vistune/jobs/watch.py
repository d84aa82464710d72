"""Keeps the present state of some objects: list, then watch, and list again when the watch has expired."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Mapping
from typing import Any

from vistune.errors import VistuneError
from vistune.jobs.cluster import Cluster, Refused

WINDOW = 60
"""Seconds after which the server is asked to end a watch, so that a connection that died unnoticed costs a minute."""


class Watch(threading.Thread):
    """Puts (name, {object name: object}) into `found`: first what is there, then whatever it has become. An error that
    stays is put as (name, VistuneError), and ends the thread."""

    def __init__(
        self, cluster: Cluster, name: str, path: str, query: Mapping[str, str], found: queue.Queue, pause: float
    ) -> None:
        super().__init__(name=f"watch-{name}", daemon=True)
        self._cluster, self._path, self._query, self._found, self._pause = cluster, path, dict(query), found, pause
        self._ended = threading.Event()

    def end(self) -> None:
        self._ended.set()

    def run(self) -> None:
        version = ""
        objects: dict[str, dict[str, Any]] = {}
        try:
            while not self._ended.is_set():
                if not version:
                    listed = self._cluster.call("GET", self._path, self._query)
                    objects = {one["metadata"]["name"]: one for one in listed.get("items") or []}
                    version = listed.get("metadata", {}).get("resourceVersion", "") or "0"
                    self._tell(objects)
                version = self._follow(version, objects)
                self._ended.wait(self._pause)
        except VistuneError as error:
            self._found.put((self.name.removeprefix("watch-"), error))

    def _follow(self, version: str, objects: dict[str, dict[str, Any]]) -> str:
        """Follows one watch to its end; returns the version to go on from, "" when it has expired."""
        query = {
            **self._query,
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WINDOW),
        }
        try:
            for line in self._cluster.lines(self._path, query, read=WINDOW + 15):
                if self._ended.is_set():
                    return version
                try:
                    event = json.loads(line)
                except ValueError:  # the connection broke inside an event; it comes again
                    return version
                kind, about = event.get("type"), event.get("object") or {}
                if kind == "ERROR":  # 410 Gone, mostly: the server has forgotten this version
                    return ""
                version = about.get("metadata", {}).get("resourceVersion", version)
                if kind == "DELETED":
                    objects.pop(about["metadata"]["name"], None)
                elif kind in ("ADDED", "MODIFIED"):
                    objects[about["metadata"]["name"]] = about
                if kind != "BOOKMARK":
                    self._tell(objects)
        except Refused as refused:
            if refused.status in (403, 404):
                raise
            time.sleep(self._pause)  # the list that follows repeats as long as it is worth it
            return "" if refused.status != 401 else version
        return version

    def _tell(self, objects: dict[str, dict[str, Any]]) -> None:
        self._found.put((self.name.removeprefix("watch-"), dict(objects)))
