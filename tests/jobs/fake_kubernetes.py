"""A Kubernetes API over real HTTP, in memory: objects with versions, list, watch, logs, and everything that goes wrong.

Paths, words and answers are those of a real API server as far as vistune reads them. What an operator does is played by
`operator`, a function that is called in a thread of its own for every job that is created.
"""

import copy
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer

from fake_api import NAMESPACE, SORTS, Handler, Problem, stamp


@dataclass
class Fault:
    """Something that happens to the next `times` requests whose "METHOD path?query" holds `part`."""

    part: str
    times: int
    do: Callable[[Handler], bool]  # true: the request is not handled any more
    after: bool = False  # after it was handled, instead of the answer


@dataclass
class FakeKubernetes:
    operator: Callable[["FakeKubernetes", dict], None] = lambda kubernetes, job: None
    served: tuple[str, ...] = tuple(SORTS)
    problems: Callable[[str, dict], list[str]] = lambda plural, body: []  # of an object, as its schema sees it
    tokens: set[str] = field(default_factory=set)  # empty: anyone
    objects: dict[tuple[str, str], dict] = field(default_factory=dict)  # (plural, name)
    requests: list[str] = field(default_factory=list)
    logs: dict[str, list[tuple[float, str]]] = field(default_factory=dict)  # pod -> lines
    allowed: Callable[[str, str, str], bool] = lambda verb, group, resource: True
    versions: dict[str, list[str]] = field(default_factory=dict)  # group -> those served, where not ours
    lingers: float = 0.0  # seconds that a deleted job takes to go away

    def __post_init__(self) -> None:
        self.lock = threading.Condition(threading.RLock())
        self.version, self.oldest = 100, 0
        self.history: list[tuple[int, str, str, dict]] = []
        self.faults: list[Fault] = []
        self.streams: set[Handler] = set()
        self.uids = (f"uid-{n}" for n in itertools.count(1))
        self.errors: list[BaseException] = []
        handler = type("Bound", (Handler,), {"kubernetes": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.cut()
        self.server.shutdown()
        self.server.server_close()

    # What goes wrong

    def fail(self, part: str, status: int = 503, times: int = 1, reason: str = "ServiceUnavailable") -> None:
        def answer(handler: Handler) -> bool:
            handler.answer(status, {"kind": "Status", "code": status, "reason": reason, "message": f"{reason} (test)"})
            return True

        self.faults.append(Fault(part, times, answer))

    def drop(self, part: str, times: int = 1, after: bool = False) -> None:
        """The connection closes before, or after, the request has been carried out; there is no answer."""

        def close(handler: Handler) -> bool:
            handler.hang_up()
            return True

        self.faults.append(Fault(part, times, close, after))

    def delay(self, part: str, seconds: float, times: int = 1) -> None:
        self.faults.append(Fault(part, times, lambda handler: time.sleep(seconds) or False))

    def expire(self) -> None:
        """All versions so far are forgotten: open watches end with 410, and so do those that ask for one of them."""
        with self.lock:
            self.version += 1
            self.oldest = self.version
            self.history.clear()
            self.lock.notify_all()

    def cut(self) -> None:
        """Every open watch and log ends in the middle of a line."""
        with self.lock:
            for stream in list(self.streams):
                stream.hang_up()
            self.lock.notify_all()

    # Objects

    def put(self, plural: str, body: dict, kind: str = "") -> dict:
        with self.lock:
            name = body["metadata"]["name"]
            known = (plural, name) in self.objects
            self.version += 1
            body = copy.deepcopy(body)
            body["metadata"] |= {"namespace": NAMESPACE, "resourceVersion": str(self.version)}
            if not known:
                body["metadata"] |= {"uid": next(self.uids), "creationTimestamp": stamp(time.time())[:19] + "Z"}
            self.objects[plural, name] = body
            self.history.append((self.version, plural, kind or ("MODIFIED" if known else "ADDED"), copy.deepcopy(body)))
            self.lock.notify_all()
            return copy.deepcopy(body)

    def remove(self, plural: str, name: str) -> None:
        with self.lock:
            if (gone := self.objects.pop((plural, name), None)) is not None:
                self.version += 1
                gone["metadata"]["resourceVersion"] = str(self.version)
                self.history.append((self.version, plural, "DELETED", gone))
                self.lock.notify_all()

    def get(self, plural: str, name: str) -> dict | None:
        with self.lock:
            return copy.deepcopy(self.objects.get((plural, name)))

    def all(self, plural: str) -> list[dict]:
        with self.lock:
            return [copy.deepcopy(body) for (kind, _), body in self.objects.items() if kind == plural]

    def delete(self, plural: str, name: str) -> None:
        """As a foreground deletion: the pods first, then the job."""
        body = self.get(plural, name)
        if body is None:
            raise Problem(404, "NotFound", f"{plural} {name!r} not found")
        if plural != "pods":
            body["metadata"]["deletionTimestamp"] = stamp(time.time())
            self.put(plural, body)
            threading.Thread(target=self._collect, args=(plural, name), daemon=True).start()
        else:
            self.remove(plural, name)

    def _collect(self, plural: str, name: str) -> None:
        time.sleep(self.lingers)
        for pod in self.pods(name):
            self.remove("pods", pod["metadata"]["name"])
        self.remove(plural, name)

    # What an operator does

    def pods(self, job: str) -> list[dict]:
        return [p for p in self.all("pods") if job in (p["metadata"].get("labels") or {}).values()]

    def pod(self, job: dict, index: int, phase: str = "Running", **status: object) -> dict:
        """Makes or changes the pod of one node. status: more of its status; `ended` is a container's exit code, or
        (code, reason)."""
        name, container = job["metadata"]["name"], "node" if job["kind"] == "TrainJob" else "pytorch"
        if job["kind"] == "TrainJob":
            pod, labels = (
                f"{name}-node-0-{index}",
                {
                    "jobset.sigs.k8s.io/jobset-name": name,
                    "jobset.sigs.k8s.io/replicatedjob-name": "node",
                    "batch.kubernetes.io/job-completion-index": str(index),
                },
            )
        else:
            kind, at = ("master", 0) if index == 0 else ("worker", index - 1)
            pod, labels = (
                f"{name}-{kind}-{at}",
                {
                    "training.kubeflow.org/job-name": name,
                    "training.kubeflow.org/replica-type": kind,
                    "training.kubeflow.org/replica-index": str(at),
                },
            )
        state: dict = {"running": {}} if phase == "Running" else {"waiting": {"reason": "ContainerCreating"}}
        if (ended := status.pop("ended", None)) is not None:
            code, reason = ended if isinstance(ended, tuple) else (ended, "Error" if ended else "Completed")
            state = {"terminated": {"exitCode": code, "reason": reason, "finishedAt": stamp(time.time())}}
        if (waiting := status.pop("waiting", None)) is not None:
            state = {"waiting": {"reason": waiting[0], "message": waiting[1]}}
        body = {
            "metadata": {**((self.get("pods", pod) or {}).get("metadata") or {}), "name": pod, "labels": labels},
            "status": {"phase": phase, "containerStatuses": [{"name": container, "state": state}], **status},
        }
        return self.put("pods", body)

    def condition(self, job: dict, kind: str, reason: str = "", message: str = "", status: str = "True") -> None:
        with self.lock:
            plural = "trainjobs" if job["kind"] == "TrainJob" else "pytorchjobs"
            body = self.get(plural, job["metadata"]["name"])
            if body and body["metadata"]["uid"] == job["metadata"]["uid"]:
                others = [c for c in body.setdefault("status", {}).get("conditions", []) if c["type"] != kind]
                new = {"type": kind, "status": status, "reason": reason or kind, "message": message}
                body["status"]["conditions"] = [*others, new]
                self.put(plural, body)

    def say(self, pod: dict, *lines: str) -> None:
        with self.lock:
            for line in lines:
                said = self.logs.setdefault(pod["metadata"]["name"], [])
                said.append((max(time.time(), said[-1][0] + 1e-5 if said else 0.0), line))
            self.lock.notify_all()

    def asked(self, part: str) -> int:
        with self.lock:
            return sum(part in request for request in self.requests)
