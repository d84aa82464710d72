"""Preflight without a cluster: parameters, endpoints, MLflow, secrets; every check is made, and each failure says what
to do."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vistune import preflight
from vistune.errors import VistuneError
from vistune.preflight import Needs, parameters
from vistune.reference import parameters as described
from vistune.stages import STAGES, module

KEY = "sk-planted-0123456789"
TEACHER = {"teacher": "openai", "model": "m-1"}


class Models(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        server.asked.append((self.path, self.headers.get("Authorization")))
        data = json.dumps({"data": [{"id": "m-1"}, {"id": "m-2"}]}).encode() if server.status == 200 else b"no"
        self.send_response(server.status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def endpoint():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Models)
    server.asked, server.status = [], 200
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def found(tree=None, needs=None):
    return {one.check: one for one in preflight.run(tree or {}, needs or Needs())}


def test_this_machine_is_ready():
    made = found()
    assert {one.state for one in made.values()} == {"ok", "skipped"}
    assert [n for n, one in made.items() if one.state == "ok"] == ["parameters", "suite and gate", "model name"]


def test_every_range_is_of_a_parameter():
    for name in parameters.RANGES:
        stage, _, key = name.partition(".")
        assert key in {p.name for p in described(module(stage).Params)}, name


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"tune": {"threads": -1}}, "tune.threads is -1; expected 0 to 4096"),
        ({"evaluate": {"confidence": 95.0}}, "evaluate.confidence is 95.0; expected 0.5 to"),
        ({"self_instruct": {"kinds": {"detail": 2.0}}}, "self_instruct.kinds.detail is 2.0; expected a share"),
        ({"tune": {"processes": 3, "job": {"nodes": 2}}}, "not the same number on each of 2 nodes"),
        ({"validate": {"yes_share_low": 0.7}}, "validate.yes_share_low is 0.7, above yes_share_high 0.55"),
    ],
)
def test_parameters_out_of_range(tree, said):
    one = found(tree)["parameters"]
    assert one.state == "failed" and said in one.said


def test_all_wrong_parameters_are_named_at_once_and_the_other_checks_are_made():
    tree = {"tune": {"zeor": 9}, "adapt": {"workers": -1}, "report": {"images": -5}, "promote": {"name": "a/b"}}
    made = found(tree)
    assert all(name in made["parameters"].said for name in ("mean tune.zero?", "adapt.workers", "report.images"))
    assert made["model name"].state == "failed" and made["suite and gate"].state == "ok"
    assert "unknown parameter tnue" in found({"tnue": {}})["parameters"].said


def test_processes_must_fit_the_gpus():
    needs = Needs(image="i", gpus=4, train_on="trainjob")
    tree = {"tune": {"processes": 16, "job": {"nodes": 2}}}
    assert "2 nodes with 4 GPUs have 8" in parameters_of(tree, needs)
    assert "Compile it with VISTUNE_TRAIN_ON=trainjob" in parameters_of(tree, Needs(image="i", gpus=4))


def parameters_of(tree, needs):
    from vistune.stages import Settings

    with pytest.raises(VistuneError) as failed:
        parameters.ranges(preflight.Plan(Settings.parse(tree), needs))
    return str(failed.value)


def test_unknown_suite_and_name():
    made = found({"evaluate": {"suite": "qick"}, "promote": {"name": "a/b"}})
    assert "did you mean evaluate.suite=quick?" in made["suite and gate"].said
    assert made["model name"].state == "failed"


def test_a_teacher_that_answers(endpoint, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    base = f"http://127.0.0.1:{endpoint.server_port}/v1"
    tree = {"self_instruct": {**TEACHER, "base_url": base}}
    one = found(tree)["teacher"]
    assert (one.state, one.said) == ("ok", f"m-1 at {base}")
    assert endpoint.asked == [("/v1/models", f"Bearer {KEY}")], "no token is spent"


@pytest.mark.parametrize(
    ("status", "model", "said"),
    [
        (401, "m-1", "refuses the key of self_instruct (401). Check OPENAI_API_KEY"),
        (503, "m-1", "answers with status 503"),
        (200, "m-9", "has no model 'm-9'; it lists m-1, m-2"),
    ],
)
def test_a_teacher_that_cannot_be_used(endpoint, monkeypatch, status, model, said):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    endpoint.status = status
    base = f"http://127.0.0.1:{endpoint.server_port}/v1"
    one = found({"self_instruct": {"teacher": "openai", "model": model, "base_url": base}})["teacher"]
    assert one.state == "failed" and said in one.said and KEY not in one.said


def test_nobody_answers_and_no_key(monkeypatch):
    gone = {"self_instruct": {**TEACHER, "base_url": "http://127.0.0.1:9/v1"}}
    assert "needs a key: OPENAI_API_KEY is not set" in found(gone)["teacher"].said
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert "http://127.0.0.1:9/v1 does not answer" in found(gone)["teacher"].said


def test_judge_and_servers_are_asked_too(endpoint, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    base = f"http://127.0.0.1:{endpoint.server_port}/v1"
    connection = {"model": "m-2", "base_url": base}
    made = found({"evaluate": {"judge": connection, "servers": {"other": connection}}})
    assert (made["judge"].state, made["servers"].state) == ("ok", "ok")


def test_a_key_in_an_address_is_not_shown(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    tree = {"self_instruct": {**TEACHER, "base_url": f"http://me:{KEY}@127.0.0.1:9/v1"}}
    assert KEY not in preflight.table(preflight.run(tree, Needs()))


def test_secrets_are_seen_by_what_kubernetes_gives_the_step(monkeypatch):
    tree, needs = {"self_instruct": TEACHER, "evaluate": {"judge": {"model": "m"}}}, Needs(image="i")
    said = found(tree, needs)["secrets"].said
    for secret in ("vistune-mlflow", "vistune-teacher", "vistune-judge"):
        assert f"kubectl create secret generic {secret}" in said
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("VISTUNE_TEACHER_API_KEY", KEY)
    assert "vistune-judge" in (said := found(tree, needs)["secrets"].said) and "vistune-teacher" not in said
    monkeypatch.setenv("VISTUNE_JUDGE_API_KEY", KEY)
    assert found(tree, needs)["secrets"].state == "ok"


def test_mlflow_must_outlive_the_pods(monkeypatch):
    monkeypatch.setenv("VISTUNE_TRACKING", "on")
    one = found({}, Needs(image="i"))["MLflow"]
    assert one.state == "failed" and "in a file of their own containers" in one.said
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    one = found({}, Needs(image="i"))["MLflow"]
    assert one.state == "failed" and "Start the server or correct MLFLOW_TRACKING_URI" in one.said


@pytest.mark.parametrize(
    ("stages", "looked"),
    [
        (("sources", "adapt", "self_instruct", "validate"), {"parameters", "teacher"}),
        (("sources", "evaluate"), {"parameters", "suite and gate", "judge", "servers"}),
        (("promote",), {"parameters", "model name"}),
        ((), {"parameters", "suite and gate", "model name", "teacher", "judge", "servers"}),
    ],
)
def test_each_pipeline_is_asked_for_what_it_needs(endpoint, monkeypatch, stages, looked):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    connection = {"model": "m-1", "base_url": f"http://127.0.0.1:{endpoint.server_port}/v1"}
    evaluate = {"judge": connection, "servers": {"other": connection}}
    made = found({"self_instruct": {**TEACHER, **connection}, "evaluate": evaluate}, Needs(stages=stages))
    assert {name for name, one in made.items() if one.state != "skipped"} == looked
    assert {made[name].state for name in looked} == {"ok"}
    monkeypatch.delenv("OPENAI_API_KEY")
    said = found({"self_instruct": TEACHER, "evaluate": evaluate}, Needs(image="i", stages=stages))["secrets"].said
    assert ("vistune-teacher" in said, "vistune-judge" in said) == ("teacher" in looked, "judge" in looked)


def test_parameters_of_stages_that_do_not_run_may_be_out_of_range():
    tree = {"tune": {"processes": 3, "job": {"nodes": 2}}, "evaluate": {"limit": 0}, "adapt": {"workers": -1}}
    assert found(tree, Needs(stages=("promote",)))["parameters"].state == "ok"
    one = found(tree, Needs(stages=("sources", "adapt")))["parameters"]
    assert "adapt.workers" in one.said and "tune" not in one.said and "evaluate" not in one.said


@pytest.mark.parametrize(("image", "state"), [("r.io/v:1", "skipped"), ("r.io/v@sha256:" + "0" * 64, "ok")])
def test_an_image_by_tag_is_said(image, state):
    assert found({}, Needs(image=image))["image"].state == state


def test_without_a_cluster_the_cluster_is_one_failed_check_each(monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    made = found({}, Needs(image="i", gpus=1, train_on="trainjob", claim="c", memory="1Gi", cpus="1"))
    for check in ("kind of job", "rights", "GPU quota", "volume"):
        assert made[check].state == "failed" and "no Kubernetes cluster can be reached" in made[check].said


def test_the_command(own_home):
    command = [sys.executable, "-m", "vistune.cli", "preflight", "--set", "tune.zero=7"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("FAILED   parameters") and len(lines) == len(preflight.run({}, Needs()))


def test_what_the_compiled_pipeline_says_is_read():
    assert Needs.read('{"image": "i", "gpus": 2, "train_on": "pod"}').gpus == 2
    with pytest.raises(VistuneError, match=r"did you mean needs\.gpus"):
        Needs.read('{"gpu": 2}')
    with pytest.raises(VistuneError, match="needs is not JSON"):
        Needs.read("{")


def test_who_submits_to_a_cluster_needs_none_of_its_keys():
    tree = {"self_instruct": TEACHER}
    preflight.require(tree, Needs(image="i", gpus=1), parameters_alone=True)
    with pytest.raises(VistuneError, match=r"FAILED +secrets"):
        preflight.require(tree, Needs(image="i"))
    with pytest.raises(VistuneError, match=r"adapt\.workers is -1"):
        preflight.require({"adapt": {"workers": -1}}, Needs(image="i"), parameters_alone=True)


def test_every_stage_has_its_section():
    assert {name.partition(".")[0] for name in parameters.RANGES} <= set(STAGES)
