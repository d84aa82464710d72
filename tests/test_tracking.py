"""MLflow: the tree of runs in each mode, what is recorded, and what never is."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vistune import tracking
from vistune.errors import VistuneError
from vistune.stages import Receipt, Settings, execute
from vistune.tracking import runs
from vistune.tracking.text import redact, redact_text

KEY = "sk-planted-0123456789"


@dataclass(frozen=True)
class Inner:
    endpoint: str = f"http://user:{KEY}@teacher.example/v1"
    max_tokens: int = 512


@dataclass(frozen=True)
class Params:
    steps: int = 3
    inner: Inner = field(default_factory=Inner)
    languages: tuple[str, ...] = ("en", "zh")
    note: str = f"mentions {KEY}"
    hub_token: str = "abc"


@pytest.fixture
def client(mlflow_store, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return runs.connect()


@pytest.mark.slow
def test_the_first_use_prints_no_migrations_and_is_quick_to_leave(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'new.db'}")
    code = "import gc; from vistune.tracking import runs; runs.connect(); print(gc.isenabled(), gc.get_freeze_count())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "" and (tmp_path / "new.db").is_file()
    collects, frozen = done.stdout.split()
    assert collects == "True" and int(frozen) > 100_000, "no collection is to look through MLflow, nor the last one"


def test_back_to_an_earlier_store(client, tmp_path, empty_store, monkeypatch):
    """A process that used another store in between logs to the one it is told to, not to the last."""
    import mlflow

    shutil.copy(empty_store, tmp_path / "other.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    assert runs.connect() is not client
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert runs.connect() is client
    assert mlflow.get_tracking_uri() == mlflow.get_registry_uri() == f"sqlite:///{tmp_path / 'mlflow.db'}"


def stage(name: str = "tune", fail: BaseException | None = None) -> str:
    with tracking.stage_run(name, Params(), 7, {"validate": "d" * 64}, {"validate": "a" * 32 + ".dir"}) as tracker:
        for step in range(250):
            tracker.log({"loss": 1 / (step + 1)}, step)
        if fail:
            raise fail
        summary = {
            "counts": {"in": 3, "out": 2, "rejected": {"box outside": 1}},
            "metrics": {"accuracy@1": 0.5},
            "details": {},
        }
        tracker.finish(Receipt(name, "f" * 64, summary, key="k" * 32, seconds=1.5, dvc_md5="b" * 32 + ".dir"))
    return tracker.run_id


def test_stand_alone_run_records_parameters_metrics_inputs_and_ids(client, monkeypatch):
    monkeypatch.setenv("VISTUNE_GIT_SHA", "c" * 40)
    from vistune import lineage

    lineage.git.cache_clear()
    run = client.get_run(stage())
    lineage.git.cache_clear()
    assert run.info.status == "FINISHED"
    assert run.data.params["steps"] == "3"
    assert run.data.params["inner.max_tokens"] == "512"
    assert run.data.params["languages"] == '["en", "zh"]'
    assert run.data.params["seed"] == "7"
    assert run.data.metrics["accuracy_1"] == 0.5
    assert run.data.metrics["counts.rejected.box outside"] == 1
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 250
    (given,) = run.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("validate", "a" * 32 + ".dir")
    assert given.dataset.source_type == "dvc"
    tags = run.data.tags
    assert tags["git.sha"] == tags["mlflow.source.git.commit"] == "c" * 40
    assert (tags["vistune.key"], tags["vistune.digest"]) == ("k" * 32, "f" * 64)
    assert (tags["dvc.validate.md5"], tags["dvc.tune.md5"]) == ("a" * 32 + ".dir", "b" * 32 + ".dir")
    assert "mlflow.parentRunId" not in tags


def test_nested_under_the_local_parent(client, monkeypatch):
    with tracking.parent_run("run-1", {"vistune.run": "run-1"}) as parent:
        monkeypatch.setenv("VISTUNE_PARENT_RUN", parent.run_id)
        child = client.get_run(stage())
        assert client.get_run(parent.run_id).info.status == "RUNNING"
    assert child.data.tags["mlflow.parentRunId"] == parent.run_id
    assert child.info.experiment_id == client.get_run(parent.run_id).info.experiment_id
    assert client.get_run(parent.run_id).info.status == "FINISHED"


def test_adopts_the_run_a_platform_opened_and_leaves_it_open(client, monkeypatch):
    experiment = client.create_experiment("platform")
    given = client.create_run(experiment, run_name="task")
    monkeypatch.setenv("MLFLOW_RUN_ID", given.info.run_id)
    assert stage() == given.info.run_id
    assert stage() == given.info.run_id  # the container was restarted
    run = client.get_run(given.info.run_id)
    assert run.info.status == "RUNNING"
    assert run.info.run_name == "task"
    assert run.data.params["steps"] == "3"
    assert len(client.search_runs([e.experiment_id for e in client.search_experiments()])) == 1


def test_nested_under_the_parent_that_the_platform_names(client, monkeypatch):
    given = client.create_run(client.create_experiment("platform"), run_name="kfp run")
    monkeypatch.setenv("KFP_MLFLOW_CONFIG", f'{{"parentRunId": "{given.info.run_id}"}}')
    run = client.get_run(stage())
    assert run.data.tags["mlflow.parentRunId"] == given.info.run_id
    assert run.info.experiment_id == given.info.experiment_id


def whole_pipeline(root: Path, per_task) -> dict[str, Receipt]:
    """Three stages, each as a task of its own: `per_task(stage)` sets its environment."""
    done = {}
    for name, inputs in (("sources", ()), ("adapt", ("sources",)), ("self_instruct", ("sources",))):
        per_task(name)
        folders = {given: root / given for given in inputs}
        done[name] = execute(name, Settings.parse({"seed": 3}), folders, root / name)
    return done


def tree(client) -> dict[str, list[str]]:
    """Every run there is: parent (or "") -> names of the runs below it."""
    found: dict[str, list[str]] = {}
    for run in client.search_runs([e.experiment_id for e in client.search_experiments()], max_results=1000):
        found.setdefault(run.data.tags.get("mlflow.parentRunId", ""), []).append(run.info.run_name)
    return {parent: sorted(names) for parent, names in found.items()}


NAMES = ["adapt", "self_instruct", "sources"]


def test_under_kubeflows_plugin_there_is_one_tree_the_plugins(client, fake_stages, tmp_path, monkeypatch):
    """The API server has made a run for the pipeline's, and its driver one for each task, which the step is given as
    MLFLOW_RUN_ID. A retried step and a reused result add none."""
    where = client.create_experiment("kubeflow")
    parent = client.create_run(where, run_name="instruction tuning").info.run_id
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", where)
    config = {"endpoint": os.environ["MLFLOW_TRACKING_URI"], "parentRunId": parent, "experimentId": where}
    monkeypatch.setenv("KFP_MLFLOW_CONFIG", json.dumps(config | {"authType": "kubernetes", "timeout": "10s"}))
    nested = {
        name: client.create_run(where, tags={"mlflow.parentRunId": parent}, run_name=name).info.run_id for name in NAMES
    }
    client.log_param(nested["adapt"], "seed", "given by the platform")

    def task(name: str) -> None:
        monkeypatch.setenv("MLFLOW_RUN_ID", nested[name])

    done = whole_pipeline(tmp_path, task)
    assert {name: receipt.run_id for name, receipt in done.items()} == nested
    whole_pipeline(tmp_path, task)
    assert tree(client) == {"": ["instruction tuning"], parent: NAMES}
    for name, run in nested.items():
        found = client.get_run(run)
        assert (found.info.status, found.data.tags["vistune.stage"]) == ("RUNNING", name)
        assert found.data.tags["vistune.digest"] == done[name].digest
    assert client.get_run(nested["adapt"]).data.params["seed"] == "given by the platform"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert tracking.uri() == config["endpoint"]


def test_without_the_plugin_there_is_one_tree_our_own(client, fake_stages, tmp_path, monkeypatch):
    with tracking.parent_run("run-1", {}) as parent:
        monkeypatch.setenv("VISTUNE_PARENT_RUN", parent.run_id)
        whole_pipeline(tmp_path, lambda name: None)
        whole_pipeline(tmp_path, lambda name: None)
    assert tree(client) == {"": ["run-1"], parent.run_id: NAMES}


def test_a_whole_pipeline_inside_one_given_run_keeps_its_stages_apart(client, fake_stages, tmp_path, monkeypatch):
    """`make pipeline-run` in a task that was given a run: that one is the parent, not the run of every stage."""
    given = client.create_run(client.create_experiment("ci"), run_name="nightly").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    with tracking.parent_run("run-1", {"vistune.run": "run-1"}) as parent:
        assert parent.run_id == given
        monkeypatch.setenv("VISTUNE_PARENT_RUN", given)
        whole_pipeline(tmp_path, lambda name: None)
    assert tree(client) == {"": ["nightly"], given: NAMES}
    assert client.get_run(given).info.status == "RUNNING"


@pytest.mark.parametrize(
    ("error", "status"), [(VistuneError(f"teacher said no to {KEY}"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_status_says_how_a_stage_ended(client, error, status):
    with pytest.raises(type(error)):
        stage(fail=error)
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert run.info.status == status
    if status == "FAILED":
        assert run.data.tags["vistune.error"] == "teacher said no to ***"


def test_no_secret_reaches_the_database(client, tmp_path):
    stage()
    with pytest.raises(VistuneError):
        stage(fail=VistuneError(KEY))
    for file in tmp_path.glob("mlflow.db*"):
        assert KEY.encode() not in file.read_bytes()


def test_a_server_that_stops_answering_does_not_stop_the_stage(client, monkeypatch, capsys):
    from mlflow.exceptions import MlflowException

    def refuse(*arguments, **named):
        raise MlflowException("database is locked")

    with tracking.stage_run("tune", Params(), 7, {}) as tracker:
        with monkeypatch.context() as broken:
            broken.setattr(type(client), "log_batch", refuse)
            tracker.log({"loss": 1.0}, 1)
            tracker.flush()
            tracker.flush()
        tracker.log({"loss": 0.5}, 2)
    assert [m.step for m in client.get_metric_history(tracker.run_id, "loss")] == [1, 2]
    assert capsys.readouterr().err.count("database is locked") == 1


def test_unusable_address_is_a_clear_error(monkeypatch):
    monkeypatch.setenv("VISTUNE_TRACKING", "on")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://me:secret@host")
    expected = r"MLflow at nowhere://\*\*\*@host refused.*VISTUNE_TRACKING=off"
    with pytest.raises(VistuneError, match=expected), tracking.stage_run("tune", Params(), 1, {}):
        pass


def test_the_runner_records_the_run_in_the_receipt(client, fake_stages, tmp_path):
    done = execute("sources", Settings.parse({"seed": 3}), {}, tmp_path / "out")
    run = client.get_run(done.run_id)
    assert run.data.tags["vistune.digest"] == done.digest
    assert run.data.tags["dvc.sources.md5"] == done.dvc_md5
    assert run.data.metrics["loss"] == 0.5
    again = execute("sources", Settings.parse({"seed": 3}), {}, tmp_path / "out")
    assert again.run_id == done.run_id
    assert len(client.search_runs([run.info.experiment_id])) == 1, "a reused result is no run"


def test_models_versions_and_aliases(client, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.txt").write_text("w")
    code = tmp_path / "serving.py"
    code.write_text(
        "from pathlib import Path\nfrom vistune import tracking\n"
        "class Echo:\n"
        "    def load_context(self, context):\n"
        "        self.weights = (Path(context.artifacts['model']) / 'weights.txt').read_text()\n"
        "    def predict(self, context, rows, params=None):\n"
        "        return [f'{self.weights} {i} {q} {params}' for i, q in zip(rows['image'], rows['question'])]\n"
        "tracking.serve(Echo())\n"
    )
    run = stage()
    uri = tracking.log_vlm(tmp_path / "model", code, run, metadata={"digest": "d"})
    assert client.get_run(run).info.status == "FINISHED", "logging a model does not reopen the run"
    first = tracking.register_version(uri, "demo", run, {"gate": "pass"})
    second = tracking.register_version(uri, "demo", run)
    assert (first.version, second.version, first.run_id) == ("1", "2", run)
    assert tracking.get_alias("demo", "champion") is None
    assert tracking.get_alias("absent", "champion") is None
    assert tracking.search_versions("absent") == []
    tracking.set_alias("demo", "champion", "1")
    tracking.set_version_tag("demo", "2", "gate", "fail")
    found = tracking.search_versions("demo")
    assert [(v.version, v.aliases, v.tags) for v in found] == [
        ("2", (), {"gate": "fail"}),
        ("1", ("champion",), {"gate": "pass"}),
    ]
    champion = tracking.get_alias("demo", "champion")
    assert champion is not None and champion.version == "1"
    import pandas as pd

    model = tracking.load_pyfunc("models:/demo@champion")
    rows = pd.DataFrame({"image": ["a.png"], "question": ["what?"]})
    assert model.predict(rows, params={"max_new_tokens": 4}) == ["w a.png what? {'max_new_tokens': 4}"]
    tracking.delete_alias("demo", "champion")
    assert tracking.get_alias("demo", "champion") is None
    assert tracking.run_exists(run)
    assert not tracking.run_exists("0" * 32)


def test_a_model_is_logged_to_the_run_that_tuned_it_also_inside_a_given_run(client, tmp_path, monkeypatch):
    """On Kubeflow `promote` has a run and an experiment of its own; the model may have been tuned in another."""
    tuned = stage()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.txt").write_text("w")
    (tmp_path / "code.py").write_text("from vistune import tracking\ntracking.serve(None)\n")
    where = client.create_experiment("kubeflow")
    given = client.create_run(where, run_name="promote").info.run_id
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", where)
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    uri = tracking.log_vlm(tmp_path / "model", tmp_path / "code.py", tuned)
    assert tracking.register_version(uri, "elsewhere", tuned).run_id == tuned
    assert (client.get_run(tuned).info.status, client.get_run(given).info.status) == ("FINISHED", "RUNNING")
    assert tree(client) == {"": ["promote", "tune"]}


def test_redaction_knows_names_values_and_addresses(monkeypatch):
    monkeypatch.setenv("SOME_SERVICE_TOKEN", "tok-123456789")
    given = {"api_key": "x", "teacher.api_key": "", "token_budget": "9", "text": "tok-123456789", "aws.secret": "y"}
    assert redact(given) == {
        "api_key": "***",
        "teacher.api_key": "",
        "token_budget": "9",
        "text": "***",
        "aws.secret": "***",
    }
    assert redact_text("git+https://u:p@host/x and http://host") == "git+https://***@host/x and http://host"
