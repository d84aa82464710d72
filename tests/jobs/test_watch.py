"""What a watch and a log go through while a training runs for days."""

import threading
import time
from pathlib import Path

import pytest
from operators import succeed

from vistune.errors import VistuneError
from vistune.jobs.cluster import Cluster
from vistune.jobs.logs import Logs


def running(k, job):
    return [k.pod(job, n) for n in (0, 1)]


@pytest.mark.parametrize("trouble", ["expire", "cut", "gone", "busy", "silent"])
def test_the_end_of_a_job_is_seen_whatever_became_of_the_watch(kubernetes, backend, work, trouble):
    def operator(k, job):
        running(k, job)
        time.sleep(0.3)
        if trouble == "expire":
            k.expire()
        elif trouble == "cut":
            k.cut()
        elif trouble == "gone":  # the other form that 410 comes in
            k.fail("watch=true", 410, times=3, reason="Gone")
            k.cut()
        elif trouble == "busy":
            k.fail("GET", 503, times=8)
            k.cut()
        else:
            k.drop("GET", times=8)
            k.cut()
        succeed(k, job, work)

    kubernetes.operator = operator
    backend().run(work)


def test_an_expired_watch_lists_again(kubernetes, backend, work, plural):
    def operator(k, job):
        running(k, job)
        for _ in range(3):
            time.sleep(0.2)
            k.expire()
        succeed(k, job, work)

    kubernetes.operator = operator
    backend().run(work)
    lists = [r for r in kubernetes.requests if f"/{plural}?fieldSelector" in r and "watch=true" not in r]
    assert len(lists) == 4, "once at first, and once for every time"


def test_a_job_that_failed_while_nobody_watched_is_an_error(kubernetes, backend, work):
    def operator(k, job):
        running(k, job)
        time.sleep(0.3)
        k.fail("GET", 503, times=6)
        k.cut()
        k.pod(job, 0, "Failed", ended=1)
        k.condition(job, "Failed")
        k.expire()

    kubernetes.operator = operator
    with pytest.raises(VistuneError, match="exit code 1"):
        backend().run(work)


def test_a_watch_that_is_forbidden_is_an_error_at_once(kubernetes, backend, work):
    kubernetes.operator = running
    kubernetes.fail("/pods?labelSelector", 403, times=9, reason="Forbidden")
    with pytest.raises(VistuneError, match="403 Forbidden"):
        backend().run(work)


def test_a_watch_that_breaks_is_an_error(kubernetes, backend, work, monkeypatch):
    """An answer of another shape ends its thread; the step must not wait for ever."""
    kubernetes.operator = running
    monkeypatch.setattr("fake_kubernetes.Handler.listed", lambda *_: {"metadata": {}, "items": [{}]})
    monkeypatch.setattr("threading.excepthook", lambda *_: None)
    with pytest.raises(VistuneError, match="is no longer watched"):
        backend().run(work)


def test_the_token_is_read_again_when_it_was_replaced(kubernetes, backend, work, tmp_path):
    kubernetes.tokens = {"first"}

    def operator(k, job):
        running(k, job)
        time.sleep(0.3)
        k.tokens = {"second"}
        (tmp_path / "token").write_text("second")
        k.cut()
        succeed(k, job, work)

    kubernetes.operator = operator
    backend().run(work)


def test_one_request_alone_reads_the_token_again(kubernetes, tmp_path):
    cluster = Cluster()
    kubernetes.tokens = {"second"}
    (tmp_path / "token").write_text("second")
    assert cluster.call("GET", cluster.path("v1", "pods"))["items"] == []
    assert len(kubernetes.requests) == 2


def test_a_wrong_token_is_an_error(kubernetes, backend, work):
    kubernetes.tokens = {"another"}
    with pytest.raises(VistuneError, match="401"):
        backend().run(work)


def test_no_cluster_at_all(backend, work, monkeypatch, tmp_path):
    monkeypatch.setenv("VISTUNE_IMAGE", "i")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(VistuneError, match="no Kubernetes cluster can be reached from here"):
        backend().run(work)


def test_inside_a_pod_the_service_account_is_used(kubernetes, monkeypatch, tmp_path):
    account = tmp_path / "account"
    account.mkdir()
    for name, text in (("token", "first"), ("ca.crt", "certificate"), ("namespace", "team-a\n")):
        (account / name).write_text(text)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr("vistune.jobs.cluster.ACCOUNT", account)
    monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_TOKEN_FILENAME", str(account / "token"))
    monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_CERT_FILENAME", str(account / "ca.crt"))
    monkeypatch.setattr("kubernetes.client.rest.RESTClientObject.__init__", lambda self, configuration, *a, **k: None)
    cluster = Cluster()
    assert cluster.namespace == "team-a"
    assert cluster._api.configuration.host == "https://10.0.0.1:443"
    headers = {}
    cluster._api.update_params_for_auth(headers, [], ["BearerToken"])
    assert headers == {"authorization": "bearer first"}
    (account / "token").write_text("second")
    cluster._api, _ = cluster._connect()  # what a 401 leads to
    cluster._api.update_params_for_auth(headers, [], ["BearerToken"])
    assert headers == {"authorization": "bearer second"}


def lines(captured: str) -> list[str]:
    return [line for line in captured.splitlines() if line.startswith("step")]


def test_every_line_is_shown_once_though_connections_break(kubernetes, capsys):
    pod = kubernetes.pod({"kind": "TrainJob", "metadata": {"name": "j"}}, 0)
    logs = Logs(Cluster(), "/api/v1/namespaces/team-a/pods", "node", 0.01)
    logs.start()
    logs.show(pod)
    for n in range(60):
        kubernetes.say(pod, f"step {n} " + "x" * 200)
        if n % 7 == 3:
            time.sleep(0.05)
            kubernetes.cut()
        if n % 11 == 5:
            kubernetes.drop("/log", times=1)
    logs.show(kubernetes.pod({"kind": "TrainJob", "metadata": {"name": "j"}}, 0, "Succeeded", ended=0))
    logs.finish(5.0)
    assert not logs.is_alive()
    assert [line.split()[1] for line in lines(capsys.readouterr().out)] == [str(n) for n in range(60)]


def test_the_log_goes_on_with_the_pod_that_replaces_a_lost_one(kubernetes, backend, work, capsys):
    def operator(k, job):
        first, _ = running(k, job)
        k.say(first, "step 1", "step 2")
        time.sleep(0.4)
        k.remove("pods", first["metadata"]["name"])
        k.logs.clear()
        time.sleep(0.3)
        succeed(k, job, work, ["step 2 again", "step 3"])

    kubernetes.operator = operator
    backend().run(work)
    assert lines(capsys.readouterr().out) == ["step 1", "step 2", "step 2 again", "step 3"]


def test_a_log_that_may_not_be_read_stops_nothing(kubernetes, backend, work):
    kubernetes.fail("/log", 403, times=99, reason="Forbidden")
    kubernetes.operator = lambda k, job: succeed(k, job, work)
    backend().run(work)


def test_only_one_file_imports_the_client():
    folder = Path(__file__).parents[2] / "vistune"
    found = [
        p.name
        for p in folder.rglob("*.py")
        if "import kubernetes" in p.read_text() or "from kubernetes" in p.read_text()
    ]
    assert found == ["cluster.py"]


def test_a_pod_that_took_over_a_name_is_read_once(capsys):
    """Its lines may come before the watch tells that there is another pod."""
    known, told = threading.Event(), threading.Event()

    answers = [
        ["2026-01-01T00:00:01.1Z one"],
        ["2026-01-01T00:00:03.1Z two"],
        [],
        ["2026-01-01T00:00:03.1Z two", "2026-01-01T00:00:04Z three"],
    ]

    class Api:
        def lines(self, path, query, read):
            found = answers.pop(0) if answers else []
            if not found and not told.is_set():
                known.set()
                assert told.wait(20)
            return iter(found)

    def pod(uid, born):
        state = {"containerStatuses": [{"state": {"running": {}}}]}
        about = {"name": "job-master-0", "uid": uid, "creationTimestamp": f"2026-01-01T00:00:0{born}Z"}
        return {"metadata": about, "status": state}

    logs = Logs(Api(), "/pods", "trainer", 0.01)
    logs.show(pod("a", 0))
    logs.start()
    assert known.wait(20)
    logs.show(pod("b", 2))
    told.set()
    logs.finish(20)
    assert not logs.is_alive()
    assert capsys.readouterr().out.split() == ["one", "two", "three"]
