"""`KFP_ENDPOINT`: against an HTTP server that answers as the v2beta1 API does."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest
import yaml

PIPELINES = Path(__file__).parent.parent.parent / "pipelines"
TOKEN = "tok-planted-0123456789"
DIGEST = "sha256:" + "b" * 64
SUBMIT = (
    f"import sys; sys.path.insert(0, {str(PIPELINES)!r}); import submit; "
    "sys.exit(submit.there('instruction_tuning', {'seed': 3}, {}, '', 0.05))"
)


class Api(BaseHTTPRequestHandler):
    """The state lies in the server object: pipelines, versions, runs, and the answers still to be spoilt."""

    def log_message(self, *arguments):
        pass

    def answer(self, body: dict, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        state, url = self.server, urlparse(self.path)
        query = parse_qs(url.query)
        state.tokens.add(self.headers.get("authorization"))
        wanted = json.loads(query["filter"][0])["predicates"][0] if "filter" in query else {}
        name = wanted.get("stringValue") or wanted.get("string_value")

        def matching(items: list[dict]) -> list[dict]:
            return [i for i in items if name in (None, i["display_name"])]

        path = url.path.removeprefix("/apis/v2beta1")
        if path == "/pipelines":
            found = matching(state.pipelines)
            self.answer({"pipelines": found, "total_size": len(found)} if found else {})
        elif path == "/healthz":
            self.answer({"multi_user": False})
        elif path.endswith("/versions"):
            self.answer({"pipeline_versions": matching(state.versions)})
        elif path == "/experiments":
            self.answer({"experiments": matching(state.experiments)} if state.experiments else {})
        elif path.startswith("/runs/"):
            if state.spoilt:
                return self.answer({"code": 14, "message": "upstream is restarting"}, state.spoilt.pop(0))
            time.sleep(state.slow)
            tasks, outcome = state.script[min(state.polls, len(state.script) - 1)]
            state.polls += 1
            details = [
                {"display_name": n.partition("/")[0].replace("_", "-"), "task_id": f"t-{n}", "state": s}
                for n, s in tasks.items()
            ]
            self.answer({"run_id": "r1", "state": outcome, "run_details": {"task_details": details}})
        else:
            self.answer({"message": f"no {path}"}, 404)

    def do_POST(self):
        state, url = self.server, urlparse(self.path)
        query = {k: v[0] for k, v in parse_qs(url.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = url.path.removeprefix("/apis/v2beta1")
        if path == "/pipelines":  # creates no version
            name = json.loads(body)["display_name"]
            if state.raced:
                state.pipelines.append({"pipeline_id": "p1", "display_name": name, "name": name})
            if any(p["display_name"] == name for p in state.pipelines):
                return self.answer({"code": 6, "message": "a pipeline with this name exists"}, 409)
            state.pipelines.append(json.loads(body) | {"pipeline_id": "p1", "name": name})
            self.answer(state.pipelines[-1])
        elif path == "/pipelines/upload_version":
            if state.refuse:
                return self.answer({"code": 3, "message": state.refuse}, 400)
            if any(v["display_name"] == query["name"] for v in state.versions):
                return self.answer({"code": 6, "message": "a version with this name exists"}, 409)
            state.uploads.append(body)
            version = {"pipeline_id": query["pipelineid"], "pipeline_version_id": f"v{len(state.versions) + 1}"}
            state.versions.append(version | {"display_name": query["name"], "description": query["description"]})
            self.answer(state.versions[-1])
        elif path == "/experiments":
            state.experiments.append(json.loads(body) | {"experiment_id": "e1"})
            self.answer(state.experiments[-1])
        elif path == "/recurringruns":
            state.recurring.append(json.loads(body))
            self.answer(json.loads(body) | {"recurring_run_id": "rr1", "status": "ENABLED"})
        elif path == "/runs/r1:terminate":
            state.terminated += 1
            self.answer({}) if state.terminates else self.answer({"code": 5, "message": "no such run"}, 404)
        elif path == "/runs":
            if state.wrong:
                return self.answer({"code": 3, "message": state.wrong}, 400)
            state.runs.append(json.loads(body))
            self.answer(json.loads(body) | {"run_id": "r1", "state": "PENDING"})
        else:
            self.answer({"message": f"no {path}"}, 404)

    def do_HEAD(self):
        """As a registry of images that holds one."""
        found = self.path == "/v2/team/vistune/manifests/1.0"
        self.send_response(200 if found else 404)
        self.send_header("Docker-Content-Digest", DIGEST)
        self.end_headers()


OK = [({"resolve": "RUNNING"}, "RUNNING"), ({"resolve": "SUCCEEDED", "tune": "RUNNING", "root": "RUNNING"}, "RUNNING")]


@pytest.fixture
def server(fake_stages, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    for name in ("pipelines", "versions", "experiments", "runs", "uploads", "spoilt", "recurring"):
        setattr(server, name, [])
    server.tokens, server.polls, server.refuse, server.wrong = set(), 0, "", ""
    server.slow, server.terminated, server.terminates, server.raced = 0.0, 0, True, False
    server.script = [*OK, ({"tune": "SUCCEEDED"}, "SUCCEEDED")]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("KFP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("KFP_TOKEN", TOKEN)
    monkeypatch.setenv("HOME", str(fake_stages))
    yield server
    server.shutdown()
    server.server_close()


def submit(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {"WAIT": "0", **environment}
    driver = [sys.executable, str(PIPELINES / "run.py"), *options]
    command = driver if environment["WAIT"] == "0" else [sys.executable, "-c", SUBMIT]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=240
    )


@pytest.mark.slow
def test_uploads_once_and_runs_by_version(server):
    first = submit()
    assert first.returncode == 0, first.stderr
    second = submit()
    assert second.returncode == 0, second.stderr
    assert len(server.uploads) == 1, "the same content twice is one version"
    (version,) = server.versions
    assert re.fullmatch(r"0\.1\.0\+(g[0-9a-f]{12}|nogit)(\.[0-9a-f]{8})?", version["display_name"])
    assert len(server.runs) == 2
    run = server.runs[0]
    assert run["pipeline_version_reference"] == {"pipeline_id": "p1", "pipeline_version_id": "v1"}
    assert run["experiment_id"] == "e1"
    given = run["runtime_config"]["parameters"]
    assert given["require_pass"] is False
    assert yaml.safe_load(given["params"])["tune"] == {"rows": 3}
    assert server.tokens == {f"Bearer {TOKEN}"}
    assert "/#/runs/details/r1\n" in first.stdout
    assert "/#/pipelines/details/p1/version/v1\n" in first.stdout
    for said in (first.stdout, first.stderr, str(server.uploads), str(server.runs)):
        assert TOKEN not in said


@pytest.mark.slow
def test_the_image_is_looked_up_before_anything_is_compiled(server):
    tag = f"127.0.0.1:{server.server_port}/team/vistune:1.0"
    server.raced = True
    done = submit("--pipeline", "data_only", VISTUNE_IMAGE=tag, VISTUNE_RELEASE="1")
    assert done.returncode == 0, done.stderr
    pinned = tag.replace(":1.0", f"@{DIGEST}")
    assert f"image {tag} is {pinned}" in done.stdout
    uploaded = server.uploads[0].decode()
    assert uploaded.count(f"image: {pinned}") > 5 and tag not in uploaded
    lost = submit("--pipeline", "data_only", VISTUNE_IMAGE=tag.replace("1.0", "2.0"))
    assert (lost.returncode, len(server.uploads)) == (1, 1)
    assert "has no team/vistune:2.0. Check VISTUNE_IMAGE" in lost.stderr


@pytest.mark.slow
def test_other_content_under_a_taken_name_is_refused(server, monkeypatch):
    monkeypatch.setenv("VISTUNE_GIT_SHA", "a" * 40)
    assert submit().returncode == 0
    other = submit(VISTUNE_GPUS="4")
    assert other.returncode == 1
    assert "version 0.1.0+gaaaaaaaaaaaa of the pipeline exists" in other.stderr
    assert len(server.runs) == 1


@pytest.mark.slow
def test_waits_and_returns_the_verdict(server):
    server.spoilt = [503, 500]
    done = submit(WAIT="")  # as if nobody had set it
    assert done.returncode == 0, done.stderr
    assert server.runs[0]["runtime_config"]["parameters"]["require_pass"] is True
    states = [line.split() for line in done.stdout.splitlines() if line.startswith("  ") and "://" not in line]
    assert states == [["resolve", "running"], ["resolve", "succeeded"], ["tune", "running"], ["tune", "succeeded"]]


@pytest.mark.slow
def test_a_pipeline_that_promotes_nothing_needs_no_pass(server):
    other = SUBMIT.replace("'instruction_tuning', {'seed': 3}, {}", "'evaluate_only', {'seed': 3}, {'model': 'm'}")
    done = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "require_pass" not in server.runs[0]["runtime_config"]["parameters"]


@pytest.mark.slow
@pytest.mark.parametrize(("failed", "status"), [("verdict_fail", 2), ("verdict_inconclusive", 3), ("tune", 1)])
def test_a_failed_run_is_not_green(server, failed, status):
    server.script = [*OK, ({failed: "FAILED"}, "FAILED")]
    done = submit(WAIT="1")
    assert done.returncode == status
    assert f"run r1 failed in {failed}" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "said"),
    [("refuse", "unknown template format"), ("wrong", "parameter(s) provided are not required by pipeline: nope")],
)
def test_a_refusal_is_one_paragraph(server, kind, said):
    setattr(server, kind, said)
    done = submit()
    assert done.returncode == 1
    assert f"refused: 400 {said}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_another_pipeline_with_arguments_of_its_own(server):
    given = ("--argument", "model=models:/demo@champion", "--argument", "require_pass=true")
    done = submit("--pipeline", "evaluate_only", *given)
    assert done.returncode == 0, done.stderr
    assert server.pipelines[0]["display_name"] == "vistune-evaluate-only"
    parameters = server.runs[0]["runtime_config"]["parameters"]
    assert (parameters["model"], parameters["require_pass"]) == ("models:/demo@champion", True)
    lacking = submit("--pipeline", "evaluate_only")
    assert (lacking.returncode, len(server.runs)) == (1, 1)
    assert "this pipeline needs --argument model=..." in lacking.stderr


@pytest.mark.slow
def test_a_recurring_run_is_of_one_version_and_one_at_a_time(server):
    done = submit("--pipeline", "data_only", "--schedule", "0 0 2 * * 1")
    assert done.returncode == 0, done.stderr
    (repeated,) = server.recurring
    assert repeated["trigger"] == {"cron_schedule": {"cron": "0 0 2 * * 1"}}
    assert repeated["max_concurrency"] == 1 and repeated["no_catchup"] is True
    assert repeated["pipeline_version_reference"]["pipeline_version_id"] == "v1"
    assert "/#/recurringrun/details/rr1" in done.stdout and not server.runs


@pytest.mark.slow
def test_each_turn_of_a_loop_is_shown(server):
    """They share their name; the API tells them apart by id."""
    server.script = [({"tune/0": "RUNNING"}, "RUNNING"), ({"tune/0": "SUCCEEDED", "tune/1": "RUNNING"}, "SUCCEEDED")]
    done = submit(WAIT="1")
    states = [line.split() for line in done.stdout.splitlines() if re.match(r"  tune ", line)]
    assert states == [["tune", "running"], ["tune", "succeeded"], ["tune", "running"]]


@pytest.mark.slow
@pytest.mark.parametrize(("terminate", "there", "asked"), [("1", True, 1), ("1", False, 1), ("0", True, 0)])
def test_ctrl_c_ends_the_run_only_when_asked_to(server, terminate, there, asked):
    server.script, server.terminates = [({"tune": "RUNNING"}, "RUNNING")], there
    environment = {**os.environ, "WAIT": "1", "TERMINATE": terminate}
    process = subprocess.Popen(
        [sys.executable, "-c", SUBMIT], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert any(line.split() == ["tune", "running"] for line in process.stdout)
    process.send_signal(signal.SIGTERM if there and asked else signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, server.terminated) == (130, asked)
    said = {("1", True): "was told to end", ("1", False): "could not be ended (404", ("0", True): "r1 goes on"}
    assert said[terminate, there] in error and "Traceback" not in error


@pytest.mark.slow
def test_a_slow_server_is_waited_for(server):
    server.slow, server.script = 1.5, [({"tune": "SUCCEEDED"}, "SUCCEEDED")]
    assert submit(WAIT="1").returncode == 0


@pytest.mark.slow
def test_the_preflight_comes_before_the_cluster(server):
    done = submit("--set", "promote.name=a/b")
    assert done.returncode == 1
    assert "FAILED   model name" in done.stderr
    assert not server.pipelines and not server.runs


@pytest.mark.slow
def test_nobody_there(fake_stages, monkeypatch):
    monkeypatch.setenv("HOME", str(fake_stages))
    done = submit(KFP_ENDPOINT="http://127.0.0.1:9", KFP_NAMESPACE="team")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("vistune: Kubeflow Pipelines at http://127.0.0.1:9 refused")
