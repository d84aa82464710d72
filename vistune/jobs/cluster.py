"""The Kubernetes API: plain requests, repeated where that helps. The one file that imports the kubernetes client."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from vistune.errors import VistuneError

CONNECT, READ = 10.0, 60.0
"""Seconds to wait for a connection, and for the next bytes of an answer."""

PATIENCE = 900.0
"""Seconds for which a request is repeated while the API server does not answer, is too busy or fails itself."""

FIRST, LONGEST = 0.5, 15.0
"""Seconds before the first repetition, doubled up to the longest."""

PASSING = (408, 429, 500, 502, 503, 504)

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class Refused(VistuneError):
    """An answer that repeating does not change. status: HTTP's; reason: Kubernetes' own word for it."""

    def __init__(self, message: str, status: int, reason: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


class Cluster:
    """An API server and the namespace to work in: the pod's own, or those of the current kubeconfig context."""

    def __init__(self, stopping: Callable[[], bool] = lambda: False) -> None:
        """stopping: whether this process was told to end; then only what was given its own patience is repeated."""
        self.stopping = stopping
        self._api, self.namespace = self._connect()

    def _connect(self) -> tuple[Any, str]:
        """Reads the credentials again each time, since a service account's token is replaced while a job runs."""
        import kubernetes
        from kubernetes.config import ConfigException

        configuration = kubernetes.client.Configuration()
        try:
            if os.environ.get("KUBERNETES_SERVICE_HOST"):
                kubernetes.config.load_incluster_config(configuration)
                namespace = (ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
            else:
                kubernetes.config.load_kube_config(client_configuration=configuration)
                _, context = kubernetes.config.list_kube_config_contexts()
                namespace = context["context"].get("namespace") or "default"
        except (ConfigException, OSError, KeyError, TypeError) as error:
            raise VistuneError(
                f"no Kubernetes cluster can be reached from here ({error}). Run in a pod with a service account, set "
                "KUBECONFIG, or set tune.job.backend to local."
            ) from None
        configuration.retries = False
        return kubernetes.client.ApiClient(configuration), namespace

    def path(self, group_version: str, plural: str, name: str = "", part: str = "") -> str:
        root = "/api" if "/" not in group_version else "/apis"
        return "/".join(
            one for one in (root, group_version, "namespaces", self.namespace, plural, name, part) if one
        ).replace("//", "/")

    def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        patience: float | None = None,
    ) -> dict[str, Any]:
        """The JSON of the answer. Raises Refused; VistuneError after `patience` (else PATIENCE) seconds without one."""
        import urllib3

        until, wait, renewed = time.monotonic() + (PATIENCE if patience is None else patience), FIRST, False

        def over() -> bool:
            return time.monotonic() + wait > until or (patience is None and self.stopping())

        while True:
            try:
                with self._send(method, path, query, body) as answer:
                    return json.loads(answer.data)
            except Refused as refused:
                if refused.status == 401 and not renewed:
                    (self._api, self.namespace), renewed = self._connect(), True
                    continue
                if refused.status not in PASSING or over():
                    raise
            except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
                if over():
                    raise VistuneError(
                        f"the Kubernetes API does not answer: {method} {path}: {type(error).__name__}: {error}"
                    ) from None
            time.sleep(wait)
            wait = min(2 * wait, LONGEST)

    def lines(self, path: str, query: Mapping[str, Any], read: float = READ) -> Iterator[str]:
        """The lines of an answer that stays open. Ends without an error when the connection does; raises Refused."""
        import urllib3

        try:
            try:
                answer = self._send("GET", path, query, None, read)
            except Refused as refused:
                if refused.status == 401:
                    self._api, self.namespace = self._connect()
                raise
            with answer:
                pieces = answer.read_chunked() if answer.chunked else iter(lambda: answer.read1(65536), b"")
                rest = b""
                for piece in pieces:
                    *whole, rest = (rest + piece).split(b"\n")
                    yield from (line.decode(errors="replace") for line in whole)
                if rest:
                    yield rest.decode(errors="replace")
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError):
            return

    def _send(self, method: str, path: str, query: Mapping[str, Any] | None, body: Any, read: float = READ) -> Any:
        """The client's own credentials and TLS, without its models. Raises Refused for an answer other than 2xx."""
        import urllib3

        headers = {"Accept": "*/*" if path.endswith("/log") else "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json" if method == "PATCH" else "application/json"
        self._api.update_params_for_auth(headers, [], ["BearerToken"])
        answer = self._api.rest_client.pool_manager.request(
            method,
            self._api.configuration.host + path + (f"?{urlencode(query)}" if query else ""),
            body=None if body is None else json.dumps(body),
            headers=headers,
            timeout=urllib3.Timeout(connect=CONNECT, read=read),
            preload_content=False,
            retries=False,
        )
        if answer.status >= 300:
            with answer:
                raise _refused(method, path, answer.status, answer.data)
        return answer


def _refused(method: str, path: str, status: int, body: bytes) -> Refused:
    try:
        said = json.loads(body)
        message, reason = str(said.get("message", "")), str(said.get("reason", ""))
    except (ValueError, AttributeError):  # a proxy's page
        message, reason = body[:200].decode(errors="replace"), ""
    return Refused(f"Kubernetes refused {method} {path}: {status} {message}", status, reason)
