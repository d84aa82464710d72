"""The end of a run on a cluster: every part is done whatever becomes of the others, and the webhook stays a secret."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vistune import ending, tracking
from vistune.errors import VistuneError
from vistune.jobs import cleanup
from vistune.lineage import KFP_RUN
from vistune.tracking import kubeflow, runs

RUN = "0f3c9a52-7d1e-4f0e-9a51-7b6a3f0b0001"


class Hook(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, json.loads(body)))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def hook(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.got, server.answers = [], []
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv(ending.NOTIFY, f"http://127.0.0.1:{server.server_port}/services/T0/planted-secret")
    monkeypatch.setattr(ending, "PAUSE", 0.01)
    monkeypatch.setattr(cleanup, "end_jobs", lambda run: [])
    yield server
    server.shutdown()
    server.server_close()


def test_a_notice_says_how_the_run_ended(hook, capsys, monkeypatch):
    monkeypatch.setenv(ending.UI, "https://kfp.example/")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-planted-0123456789")
    ending.end(RUN, "FAILED", "tune failed with sk-planted-0123456789")
    ((path, body),) = hook.got
    assert path == "/services/T0/planted-secret"
    link = f"https://kfp.example/#/runs/details/{RUN}"
    assert body == {"text": f"vistune: run {RUN} failed: tune failed with ***\n{link}"}
    out = capsys.readouterr().out
    assert "a notice was sent" in out and "planted" not in out


@pytest.mark.parametrize(("answers", "tries"), [([503, 500], 3), ([404], 1), ([503, 503, 503], 3)])
def test_a_notice_is_tried_again_and_its_failure_is_no_error(hook, capsys, answers, tries):
    hook.answers = list(answers)
    ending.end(RUN, "SUCCEEDED", "")
    assert len(hook.got) == tries
    out = capsys.readouterr().out
    assert ("a notice was sent" in out) == (len(answers) < tries)
    assert "planted" not in out


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/planted", "ftp://planted", "http://[planted"])
def test_an_address_that_leads_nowhere_is_not_printed(hook, capsys, monkeypatch, address):
    monkeypatch.setenv(ending.NOTIFY, address)
    ending.end(RUN, "SUCCEEDED", "")
    out = capsys.readouterr().out
    assert "the notice did not arrive: " in out and "planted" not in out


def test_without_an_address_nothing_is_sent(hook, monkeypatch):
    monkeypatch.delenv(ending.NOTIFY)
    ending.end(RUN, "SUCCEEDED", "")
    assert hook.got == []


def test_somebody_is_told_also_when_jobs_could_not_be_ended(hook, monkeypatch):
    def refused(run):
        raise VistuneError("the Kubernetes API does not answer")

    monkeypatch.setattr(cleanup, "end_jobs", refused)
    with pytest.raises(VistuneError, match="the Kubernetes API does not answer"):
        ending.end(RUN, "FAILED", "")
    assert len(hook.got) == 1


@pytest.fixture
def client(mlflow_store):
    return runs.connect()


def status(client, run):
    return client.get_run(run).info.status


@pytest.mark.slow
@pytest.mark.parametrize(
    ("state", "wanted"), [("SUCCEEDED", "FINISHED"), ("FAILED", "FAILED"), ("CANCELLED", "KILLED")]
)
def test_the_runs_in_mlflow_get_their_final_status(client, hook, monkeypatch, state, wanted):
    """Steps find the parent by the Kubeflow run's id, and one that was killed is not left running."""
    monkeypatch.setenv(KFP_RUN, RUN)
    parent = tracking.open_pipeline("kubeflow 0f3c", {"git.sha": "a"})
    assert tracking.open_pipeline("again", {}) == parent, "one for the whole run"
    with tracking.stage_run("adapt", {"rows": 1}, 1, {}) as done:
        pass
    killed = runs.create_run(client, "tune", {}, parent)
    ending.end(RUN, state, "")
    assert (status(client, parent), status(client, done.run_id)) == (wanted, "FINISHED")
    assert status(client, killed) == ("KILLED" if wanted == "KILLED" else "FAILED")
    tags = client.get_run(done.run_id).data.tags
    assert tags["mlflow.parentRunId"] == parent
    assert client.get_run(parent).data.tags["kfp.run_id"] == RUN


@pytest.mark.slow
def test_kubeflows_own_plugin_keeps_its_runs(client, hook, monkeypatch):
    """Where it is on, no second tree grows beside its own, and its status is left to it."""
    theirs = runs.create_run(client, "of the platform", {})
    monkeypatch.setenv(KFP_RUN, RUN)
    monkeypatch.setenv("KFP_MLFLOW_CONFIG", json.dumps({"parentRunId": theirs}))
    assert tracking.open_pipeline("ours", {}) == ""
    with tracking.stage_run("adapt", {"rows": 1}, 1, {}) as step:
        pass
    ending.end(RUN, "FAILED", "")
    assert status(client, theirs) == "RUNNING"
    assert client.get_run(step.run_id).data.tags["mlflow.parentRunId"] == theirs
    assert len(client.search_runs([client.get_run(theirs).info.experiment_id])) == 2


def test_an_id_that_is_none_finds_nothing():
    assert kubeflow._parent(None, "x' or tags.a != '") == ""
