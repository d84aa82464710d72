"""The user that the steps log in to MLflow as, on a real server with users: what it may do is enough for the pipeline,
and no more."""

import contextlib
import importlib.util
import io
import json
import os
import runpy
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "infra/docker/pipeline_user.py"
SOON = 180  # seconds until a busy machine has started MLflow

_spec = importlib.util.spec_from_file_location("promote_conftest", ROOT / "tests/promote/conftest.py")
_promote = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_promote)
make, go, run_id = _promote.make, _promote.go, _promote.run_id

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not importlib.util.find_spec("flask_wtf"),
        reason="NOT TESTED: the pipeline's user of MLflow. MLflow's app with users needs `pip install Flask-WTF`",
    ),
]


@dataclass
class Server:
    """MLflow as infra/k8s starts it, and the secrets that infra/k8s/secrets.sh makes."""

    uri: str
    secrets: dict[str, dict[str, str]]

    def job(self, **change: str) -> str:
        """What the Job vistune-mlflow-user says, run with the environment that its manifest names. Raises SystemExit
        when it fails."""
        body = yaml.safe_load((ROOT / "infra/k8s/base/mlflow-user.yaml").read_text(encoding="utf-8"))
        (container,) = body["spec"]["template"]["spec"]["containers"]
        assert container["command"] == ["python3", f"/app/{SCRIPT.name}"]
        references = {e["name"]: e["valueFrom"]["secretKeyRef"] for e in container["env"]}
        given = {name: self.secrets[one["name"]][one["key"]] for name, one in references.items()}
        said = io.StringIO()
        with pytest.MonkeyPatch.context() as environment, contextlib.redirect_stdout(said):
            for name, value in {**given, "MLFLOW_TRACKING_URI": self.uri, **change}.items():
                environment.setenv(name, value)
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return said.getvalue()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    command = ["bash", str(ROOT / "infra/k8s/secrets.sh"), "ns"]
    made = subprocess.run(command, env={**os.environ, "DRY_RUN": "1"}, capture_output=True, text=True, check=True)
    secrets = {one["metadata"]["name"]: one["stringData"] for one in json.loads(made.stdout)["items"]}
    own = secrets["vistune-mlflow-server"]
    database = own["MLFLOW_BACKEND_STORE_URI"]
    users = folder / "basic_auth.ini"
    text = secrets["vistune-mlflow-auth"]["basic_auth.ini"]
    users.write_text(text.replace(database, f"sqlite:///{folder / 'users.db'}"), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    documents = yaml.safe_load_all((ROOT / "infra/k8s/base/mlflow.yaml").read_text(encoding="utf-8"))
    (container,) = next(d for d in documents if d["kind"] == "Deployment")["spec"]["template"]["spec"]["containers"]
    arguments = [a for a in container["args"] if not a.startswith(("--host=", "--port=", "--allowed-hosts="))]
    arguments += ["--host=127.0.0.1", f"--port={port}", "--workers=1"]
    environment = {**os.environ, **own, "MLFLOW_AUTH_CONFIG_PATH": str(users), "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment["MLFLOW_BACKEND_STORE_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
    environment["MLFLOW_ARTIFACTS_DESTINATION"] = str(folder / "artifacts")
    with open(folder / "log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *arguments],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait(f"http://127.0.0.1:{port}/health", process, folder / "log")
        yield Server(f"http://127.0.0.1:{port}", secrets)
    finally:
        process.terminate()
        process.wait(60)


def wait(address: str, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + SOON
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                assert answer.status == 200
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(log.read_text(encoding="utf-8")[-4000:])


@pytest.fixture(scope="module")
def user(server) -> Server:
    """The server, once the Job has run."""
    first, again = server.job(), server.job()
    assert first == "user vistune-pipeline made\n" and "was there" in again
    assert not [s for values in server.secrets.values() for s in values.values() if len(s) > 20 and s in first + again]
    return server


@pytest.fixture(autouse=True)
def store(user, monkeypatch, tmp_path):
    """Logged in as a step is; everything below that asks MLflow does so as this user."""
    steps = user.secrets["vistune-mlflow"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", user.uri)
    monkeypatch.setenv("VISTUNE_HOME", str(tmp_path))
    monkeypatch.setenv("VISTUNE_TRACKING", "on")
    monkeypatch.setattr("vistune.lineage.ids", lambda: _promote.CLEAN)
    log_in(monkeypatch, steps["username"], steps["password"])


def log_in(monkeypatch, name: str, password: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)


def refused():
    from mlflow.exceptions import MlflowException

    return pytest.raises(MlflowException, match=r"PERMISSION_DENIED|[Pp]ermission denied|403")


def test_it_can_all_that_a_promotion_needs(make, go):
    """Runs, artefacts through the server, data set inputs, a registered model, its versions, tags and aliases."""
    from mlflow import MlflowClient

    assert go(make("pass"), "own-model")["version"] == "1"
    assert go(make("pass", model="better", score=0.9), "own-model")["version"] == "2"
    aliases = MlflowClient().get_registered_model("own-model").aliases
    assert aliases.keys() >= {"champion", "challenger"} and str(aliases["challenger"]) == "2"


def test_it_reads_what_others_made_and_changes_none_of_it(user, monkeypatch):
    from mlflow import MlflowClient

    own = user.secrets["vistune-mlflow-server"]
    with monkeypatch.context() as administrator:
        log_in(administrator, own["MLFLOW_AUTH_ADMIN_USERNAME"], own["MLFLOW_AUTH_ADMIN_PASSWORD"])
        client = MlflowClient(user.uri)
        experiment = client.create_experiment("of another team")
        client.create_registered_model("of-another-team")
    client = MlflowClient(user.uri)
    assert client.get_experiment(experiment).name == "of another team"
    assert client.get_registered_model("of-another-team").name == "of-another-team"
    for change in (
        lambda: client.create_run(experiment),
        lambda: client.delete_experiment(experiment),
        lambda: client.create_model_version("of-another-team", "s3://elsewhere"),
        lambda: client.set_registered_model_tag("of-another-team", "a", "b"),
        lambda: client.delete_registered_model("of-another-team"),
    ):
        with refused():
            change()


def test_a_person_may_be_let_change_a_model_of_others(user, monkeypatch):
    """As docs/kubeflow.md says it, in its words."""
    page = (ROOT / "docs/kubeflow.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith(">>> ")]
    code = "\n".join(line.removeprefix(">>> ") for line in lines).replace("http://localhost:5000", user.uri)
    from mlflow import MlflowClient

    with monkeypatch.context() as administrator:
        own = user.secrets["vistune-mlflow-server"]
        for name, value in own.items():
            administrator.setenv(name, value)
        MlflowClient(user.uri).create_registered_model("vistune-demo")  # by the pipeline's user
        exec(code, {})
    log_in(monkeypatch, "ada", "a long password")
    client = MlflowClient(user.uri)
    client.set_registered_model_tag("vistune-demo", "looked-at", "yes")
    with refused():
        client.delete_registered_model("vistune-demo")


def test_it_administers_no_user(user):
    from mlflow.server.auth.client import AuthServiceClient

    users = AuthServiceClient(user.uri)
    steps, administrator = user.secrets["vistune-mlflow"]["username"], "admin"
    for change in (
        lambda: users.create_user("another", "a long password"),
        lambda: users.get_user(administrator),
        lambda: users.update_user_password(administrator, "a long password"),
        lambda: users.update_user_admin(steps, True),
        lambda: users.delete_user(administrator),
    ):
        with refused():
            change()
    assert not users.get_user(steps).is_admin


def test_without_a_password_there_is_no_answer(user, monkeypatch):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    log_in(monkeypatch, "vistune-pipeline", "guessed wrong, again")
    with pytest.raises(MlflowException, match=r"401|[Uu]nauthori|not authenticated"):
        MlflowClient(user.uri).search_experiments()


def test_the_administrator_is_no_user_for_the_pipeline(user):
    own = user.secrets["vistune-mlflow-server"]
    with pytest.raises(SystemExit, match="admin is an administrator of MLflow; the pipeline needs a user of its own"):
        user.job(PIPELINE_USERNAME=own["MLFLOW_AUTH_ADMIN_USERNAME"])
    with pytest.raises(SystemExit, match="does not say whether user vistune-pipeline is there"):
        user.job(MLFLOW_TRACKING_PASSWORD="not the administrator's")


def test_a_new_password_in_the_secret_is_the_users_after_the_job_ran_again(user, monkeypatch):
    from mlflow import MlflowClient

    assert "was there" in user.job(PIPELINE_PASSWORD="another-long-password")
    log_in(monkeypatch, "vistune-pipeline", "another-long-password")
    assert MlflowClient(user.uri).search_experiments()
    assert "was there" in user.job()
