"""The API of the fake cluster over HTTP: paths, words and answers."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

NAMESPACE = "team-a"
SORTS = {
    "trainjobs": "trainer.kubeflow.org/v1alpha1",
    "pytorchjobs": "kubeflow.org/v1",
    "pods": "v1",
    "resourcequotas": "v1",
    "persistentvolumeclaims": "v1",
    "storageclasses": "storage.k8s.io/v1",
}


class Problem(Exception):
    def __init__(self, status: int, reason: str, message: str = "") -> None:
        super().__init__(message or reason)
        self.status, self.reason = status, reason


def stamp(seconds: float) -> str:
    whole, fraction = int(seconds), f"{seconds % 1:.9f}"[2:].rstrip("0")
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + (f".{fraction}" if fraction else "") + "Z"


def merged(base: dict, change: dict) -> dict:
    for key, value in change.items():
        if value is None:
            base.pop(key, None)
        else:
            base[key] = merged(base.get(key) or {}, value) if isinstance(value, dict) else value
    return base


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    kubernetes: Any  # the fake cluster
    rbufsize = 0
    disable_nagle_algorithm = True  # or each answer waits 40 ms for the acknowledgement of its header

    def log_message(self, *_: object) -> None:
        pass

    def hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(2)

    def do_GET(self) -> None:
        fake, asked = self.kubernetes, f"{self.command} {self.path}"
        split = urlsplit(self.path)
        query = dict(parse_qsl(split.query))
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        with fake.lock:
            fake.requests.append(asked)
            due = [fault for fault in fake.faults if fault.part in asked and fault.times > 0]
            for fault in due:
                fault.times -= 1
        if any(fault.do(self) for fault in due if not fault.after):
            return
        try:
            token = self.headers.get("Authorization", "").removeprefix("Bearer ").removeprefix("bearer ").strip()
            if fake.tokens and token not in fake.tokens:
                raise Problem(401, "Unauthorized")
            answer = self.handled(split.path.strip("/").split("/"), query, body)
        except Problem as problem:
            said = {"kind": "Status", "code": problem.status, "reason": problem.reason, "message": str(problem)}
            self.answer(problem.status, said)
            return
        except OSError:
            return
        if any(fault.do(self) for fault in due if fault.after):
            return
        if answer is not None:
            self.answer(201 if self.command == "POST" else 200, answer)

    do_POST = do_PATCH = do_DELETE = do_GET

    def handled(self, parts: list[str], query: dict, body: dict | None) -> dict | None:
        fake = self.kubernetes
        if "namespaces" not in parts:
            return self.about(parts, body or {})
        at = parts.index("namespaces")
        group, (namespace, plural, *rest) = "/".join(parts[1:at]), parts[at + 1 :]
        if plural not in fake.served or SORTS[plural] != group:
            raise Problem(404, "NotFound", "the server could not find the requested resource")
        if namespace != NAMESPACE:
            raise Problem(403, "Forbidden", f"{plural} is forbidden in namespace {namespace}")
        name = rest[0] if rest else ""
        verb = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}.get(self.command) or (
            "get" if name else "watch" if query.get("watch") else "list"
        )
        resource = "/".join([plural, *rest[1:]])
        if not fake.allowed(verb, group.rpartition("/")[0], resource):
            raise Problem(403, "Forbidden", f"cannot {verb} resource {resource} in API group {group}")
        if rest[1:] == ["log"]:
            return self.log(name, query)
        if self.command == "POST":
            return self.create(plural, body or {}, query)
        if not name:
            return self.watch(plural, query) if query.get("watch") else self.listed(plural, query)
        with fake.lock:
            found = fake.get(plural, name)
            if found is None:
                raise Problem(404, "NotFound", f'{plural} "{name}" not found')
            if self.command == "PATCH":
                assert self.headers["Content-Type"] == "application/merge-patch+json"
                return fake.put(plural, merged(found, body or {}))
        if self.command == "DELETE":
            fake.delete(plural, name)
            return {"kind": "Status", "status": "Success"}
        return found

    def about(self, parts: list[str], body: dict) -> dict:
        """What is served, and what the caller may do."""
        fake = self.kubernetes
        if parts[-1] == "selfsubjectaccessreviews":
            asked = body["spec"]["resourceAttributes"]
            assert asked["namespace"] == NAMESPACE
            resource = "/".join(x for x in (asked["resource"], asked.get("subresource")) if x)
            return {**body, "status": {"allowed": fake.allowed(asked["verb"], asked["group"], resource)}}
        if parts[-1] == "storageclasses":  # which belong to no namespace
            if not fake.allowed("list", "storage.k8s.io", "storageclasses"):
                raise Problem(403, "Forbidden", "cannot list resource storageclasses at the cluster scope")
            return self.listed("storageclasses", {})
        group = "/".join(parts[1:])
        plurals = [p for p in fake.served if SORTS[p] == group or SORTS[p].partition("/")[0] == group]
        if not plurals:
            raise Problem(404, "NotFound", "the server could not find the requested resource")
        if "/" in group:
            return {"kind": "APIResourceList", "groupVersion": group, "resources": [{"name": p} for p in plurals]}
        versions = fake.versions.get(group) or sorted({SORTS[p].partition("/")[2] for p in plurals})
        return {"kind": "APIGroup", "name": group, "versions": [{"version": v} for v in versions]}

    def create(self, plural: str, body: dict, query: dict) -> dict:
        fake = self.kubernetes
        if found := fake.problems(plural, body):
            raise Problem(400, "BadRequest", "; ".join(found))
        if query.get("dryRun") == "All":
            return body
        with fake.lock:
            if fake.get(plural, body["metadata"]["name"]) is not None:
                raise Problem(409, "AlreadyExists", f'{plural} "{body["metadata"]["name"]}" already exists')
            made = fake.put(plural, body)
        threading.Thread(target=self.operate, args=(made,), daemon=True).start()
        return made

    def operate(self, job: dict) -> None:
        try:
            self.kubernetes.operator(self.kubernetes, job)
        except BaseException as error:
            self.kubernetes.errors.append(error)

    def listed(self, plural: str, query: dict) -> dict:
        fake = self.kubernetes
        with fake.lock:
            items = [body for body in fake.all(plural) if selected(body, query)]
            return {"kind": "List", "metadata": {"resourceVersion": str(fake.version)}, "items": items}

    def watch(self, plural: str, query: dict) -> None:
        fake, after = self.kubernetes, int(query["resourceVersion"])
        until = time.monotonic() + float(query.get("timeoutSeconds", 60))
        with self.stream() as send:
            while time.monotonic() < until:
                with fake.lock:
                    if after < fake.oldest:
                        status = {"kind": "Status", "code": 410, "reason": "Expired"}
                        send(json.dumps({"type": "ERROR", "object": status}))
                        return
                    new = [(v, kind, body) for v, p, kind, body in fake.history if v > after and p == plural]
                    if not new:
                        fake.lock.wait(0.2)
                for version, kind, body in new:
                    after = version
                    if selected(body, query):
                        send(json.dumps({"type": kind, "object": body}))

    def log(self, pod: str, query: dict) -> None:
        fake = self.kubernetes
        found = fake.get("pods", pod)
        if found is None:
            raise Problem(404, "NotFound", f'pods "{pod}" not found')
        status = found["status"]["containerStatuses"][0]
        if query["container"] != status["name"]:
            raise Problem(400, "BadRequest", f"container {query['container']} is not valid for pod {pod}")
        if "waiting" in status["state"]:
            raise Problem(400, "BadRequest", f'container in pod "{pod}" is waiting to start')
        shown = 0
        with self.stream() as send:
            while True:
                with fake.lock:
                    lines = [
                        one for one in fake.logs.get(pod, []) if stamp(one[0])[:19] >= query.get("sinceTime", "")[:19]
                    ]
                    if "tailLines" in query:
                        lines = lines[-int(query["tailLines"]) :]
                    state = (
                        (fake.get("pods", pod) or {})
                        .get("status", {})
                        .get("containerStatuses", [{}])[0]
                        .get("state", {})
                    )
                    open_ended = query.get("follow") == "true" and "running" in state
                    if shown == len(lines) and open_ended:
                        fake.lock.wait(0.2)
                for at, text in lines[shown:]:
                    send(f"{stamp(at)} {text}" if query.get("timestamps") == "true" else text)
                shown = len(lines)
                if not open_ended:
                    return

    @contextlib.contextmanager
    def stream(self) -> Iterator[Callable[[str], None]]:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.kubernetes.streams.add(self)

        def send(line: str) -> None:
            data = line.encode() + b"\n"
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

        try:
            yield send
            self.wfile.write(b"0\r\n\r\n")
        finally:
            self.kubernetes.streams.discard(self)

    def answer(self, status: int, body: dict) -> None:
        data = json.dumps(body).encode()
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)


def selected(body: dict, query: dict) -> bool:
    labels = body["metadata"].get("labels") or {}
    if (wanted := query.get("labelSelector")) and not all(
        labels.get(one.partition("=")[0]) == one.partition("=")[2] for one in wanted.split(",")
    ):
        return False
    field = query.get("fieldSelector", "").partition("metadata.name=")[2]
    return not field or field == body["metadata"]["name"]
