"""What the API server of Kubeflow Pipelines says of a run, over HTTP."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vistune.errors import VistuneError
from vistune.provenance.kubeflow import run_of

RUN = {"run_id": "r-1", "state": "SUCCEEDED", "pipeline_version_reference": {"pipeline_version_id": "v-1"}}


class Api(BaseHTTPRequestHandler):
    """Knows run r-1 and answers whoever has the token."""

    def do_GET(self):
        known = {"/apis/v2beta1/runs/r-1": (200, json.dumps(RUN)), "/apis/v2beta1/runs/odd": (200, "<html>")}
        status, body = known.get(self.path, (404, "{}"))
        status = 401 if self.headers.get("Authorization") != "Bearer planted-token" else status
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *arguments):
        """Nothing: the test's output is for the test."""


@pytest.fixture
def api(monkeypatch):
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("KFP_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("KFP_TOKEN", "planted-token")
        yield server
        server.shutdown()


def test_a_run_and_none(api, monkeypatch):
    assert run_of("r-1") == RUN
    for run, message in [("r-2", "has no run r-2: it was deleted"), ("odd", "does not answer")]:
        with pytest.raises(VistuneError, match=message):
            run_of(run)
    monkeypatch.setenv("KFP_TOKEN", "wrong-token")
    with pytest.raises(VistuneError, match="answered 401") as refused:
        run_of("r-1")
    assert "token" not in str(refused.value)
    monkeypatch.setenv("KFP_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(VistuneError, match="does not answer"):
        run_of("r-1")
    monkeypatch.delenv("KFP_ENDPOINT")
    assert run_of("r-1") is None
