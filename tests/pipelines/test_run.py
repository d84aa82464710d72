"""`pipelines/run.py` from end to end through kfp.local, with quick stages."""

import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.test_secrets import PLANTED, found, search
from vistune import runs, tracking
from vistune.stages import STAGES, receipt
from vistune.stages import home as stages_home

DRIVER = Path(__file__).parent.parent.parent / "pipelines" / "run.py"


def pipeline(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(DRIVER), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def latest(root: Path) -> Path:
    return root / "runs" / "latest"


@pytest.mark.slow
def test_runs_everything_then_nothing(fake_stages, mlflow_store, own_home, monkeypatch):
    """A run that MLflow records, with every secret planted that a step is given; then the same again, with nothing to
    do."""
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    first = pipeline("--set", "adapt.note=a note")
    assert first.returncode == 0, first.stdout + first.stderr
    for stage in STAGES:
        assert f"▸ {stage}\n" in first.stdout
    assert "KFP Executor" not in first.stdout
    assert first.stderr == ""
    made = json.loads((latest(fake_stages) / "run.json").read_text())
    assert made["verdict"] == "pass"
    assert set(made["stages"]) == set(STAGES)
    assert (latest(fake_stages) / "report.html").read_text() == "<h1>report</h1>"
    assert (latest(fake_stages) / "pipeline.log").is_file()
    assert "runs/" in first.stdout and "report.html" in first.stdout
    for stage, done in made["stages"].items():
        assert (latest(fake_stages) / stage).samefile(done["folder"]), "each output lies under its stage's name"

    monkeypatch.setenv("VISTUNE_TRACKING", "off")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    second = pipeline("--set", "adapt.note=a note")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 25, "seconds of work, all processes"
    again = json.loads((latest(fake_stages) / "run.json").read_text())
    unchanged = {stage for stage, done in again["stages"].items() if done["unchanged"]}
    assert unchanged == set(STAGES) - {"promote", "report"}
    assert second.stdout.count("unchanged") == 2 * len(unchanged)

    assert b"a note" in mlflow_store.read_bytes(), "parameters reach the store"
    assert found(first.stdout + second.stdout + second.stderr) == []
    assert search(fake_stages, own_home, mlflow_store.parent) == []

    parent = tracking.run_facts(made["mlflow_run"])
    assert (parent.status, parent.tags["vistune.verdict"]) == ("FINISHED", "pass")
    assert parent.tags["vistune.run"] == parent.name
    below = tracking.children(parent.run_id)
    assert sorted(run.name for run in below) == sorted(set(STAGES) - {"report"})
    assert {run.status for run in below} == {"FINISHED"}


@pytest.mark.slow
def test_data_only_ends_with_a_release(fake_stages):
    done = pipeline("--pipeline", "data_only", "--set", "promote.verdict=fail")
    assert done.returncode == 0, done.stdout + done.stderr
    made = json.loads((latest(fake_stages) / "run.json").read_text())
    assert set(made["stages"]) == {"sources", "adapt", "self_instruct", "validate"} and made["verdict"] == ""
    (said,) = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("release  ")]
    assert (fake_stages / said).samefile(made["stages"]["validate"]["folder"])
    assert not (latest(fake_stages) / "report.html").exists()


@pytest.mark.slow
def test_evaluate_only_takes_any_model(fake_stages, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "rows.txt").write_text("weights\n")
    asked = ("--pipeline", "evaluate_only", "--argument", f"model={model}", "--set", "evaluate.verdict=fail")
    done = pipeline(*asked)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verdict  fail" in done.stdout and "scorecard.html" in done.stdout
    made = json.loads((latest(fake_stages) / "run.json").read_text())
    assert set(made["stages"]) == {"sources", "evaluate"}
    assert pipeline(*asked, "--argument", "require_pass=true").returncode == 2


@pytest.mark.slow
def test_promote_only_and_sweep(fake_stages):
    """A sweep chooses by the gate's target; its artefacts can be promoted again, by their addresses."""
    variants = ["seed=1", "seed=2;tune.note=x"]
    done = pipeline("--pipeline", "sweep", "--argument", f"variants={json.dumps(variants)}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("▸ tune\n") == 2 and done.stdout.count("▸ promote\n") == 1
    assert "* seed=1: +0.1000" in done.stdout and "  seed=2;tune.note=x: +0.1000" in done.stdout
    made = json.loads((latest(fake_stages) / "run.json").read_text())["stages"]
    assert "/best/" in made["tune"]["folder"] and "/best/" in made["evaluate"]["folder"]
    places = {"sources": "sources", "release": "validate", "model": "tune", "scorecard": "evaluate"}
    given = [x for name, stage in places.items() for x in ("--argument", f"{name}={made[stage]['folder']}")]
    again = pipeline("--pipeline", "promote_only", *given, "--set", "promote.verdict=inconclusive")
    assert again.returncode == 3, again.stdout + again.stderr
    assert again.stdout.count("▸ ") == 2, "resolve and promote"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pipeline", "nothing"], "there is no pipeline 'nothing'; expected one of instruction_tuning"),
        (["--pipeline", "sweep", "--argument", "variants=seed=1"], "argument variants is 'seed=1'; expected list"),
        (["--argument", "model=x"], "this pipeline has no argument 'model'; expected some of overrides"),
        (["--schedule", "0 0 2 * * 1"], "--schedule needs a cluster"),
    ],
)
def test_wrong_arguments_are_one_sentence(fake_stages, arguments, message):
    done = pipeline(*arguments)
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_users_problem_stops_the_run_with_one_paragraph(fake_stages):
    done = pipeline("--set", "validate.fail=row vt1:abc has no image. Add it.")
    assert done.returncode == 1
    assert done.stdout.endswith("▸ validate\nvistune: row vt1:abc has no image. Add it.\n")
    assert done.stderr.startswith("vistune: stage validate stopped; the reason is above")
    assert "Traceback" not in done.stdout + done.stderr
    assert not (latest(fake_stages) / "run.json").exists()


@pytest.mark.slow
def test_a_defect_shows_its_traceback(fake_stages):
    done = pipeline("--set", "self_instruct.crash=true")
    assert done.returncode == 1
    assert "ValueError: a defect in the stage" in done.stdout
    assert done.stderr.startswith("vistune: stage self_instruct stopped")


def test_wrong_parameters_stop_before_anything_runs(fake_stages):
    done = pipeline("--set", "tune.rwos=1")
    assert done.returncode == 1
    assert done.stderr == "vistune: unknown parameter tune.rwos: did you mean tune.rows?\n"
    assert not (fake_stages / "runs").exists()


@pytest.mark.slow
def test_killed_in_the_middle_then_the_same_command(fake_stages):
    arguments = ("--set", f"adapt.kill_once={fake_stages / 'killed'}")
    assert pipeline(*arguments).returncode == 1
    assert pipeline(*arguments).returncode == 0


@pytest.mark.slow
def test_the_exit_status_is_the_verdict_and_parameters_reach_the_stages_unchanged(fake_stages):
    """kfp.local rewrites "python3" in arguments to the interpreter's path; ours arrive as they were."""
    note = "/usr/lib/python3/dist 中文 'quoted' \"twice\" {{$.x}}\\n"
    tree = {"seed": 9, "tune": {"note": note}, "promote": {"verdict": "inconclusive"}}
    (fake_stages / "params.yaml").write_text(json.dumps(tree))
    done = pipeline()
    assert done.returncode == 3, done.stdout + done.stderr
    assert "verdict  inconclusive" in done.stdout
    assert runs.EXIT == {"pass": 0, "fail": 2, "inconclusive": 3}
    made = json.loads((latest(fake_stages) / "run.json").read_text())
    assert receipt(Path(made["stages"]["tune"]["folder"])).summary["details"]["note"] == note
    assert "sources 9 0" in (Path(made["stages"]["sources"]["folder"]) / "rows.txt").read_text()


@pytest.mark.slow
def test_interrupt_ends_the_run_and_says_how_to_go_on(fake_stages):
    command = [sys.executable, str(DRIVER), "--set", "validate.sleep=30"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("▸ validate"):
            break
    while not list(stages_home().glob("stages/validate/*.partial/rows.txt")):  # the stage itself is at work
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert error.strip().splitlines()[-1].startswith("interrupted; run again")


class Terminal(io.StringIO):
    def __init__(self, tty: bool) -> None:
        super().__init__()
        self.tty = tty

    def isatty(self) -> bool:
        return self.tty


TASK = """\
12:00:00.000 - INFO - Executing task 'adapt'
    [KFP Executor 2026-01-01 INFO]: Got executor_input:
    {
        "a": "▸"
    }
    ▸ adapt
    adapt          ██████·············· 3/10 · 1 s
    adapt          ██████████·········· 5/10 · 2 s
    10 in → 9 out
    [KFP Executor 2026-01-01 INFO]: Wrote executor output file
12:00:00.000 - WARNING - Could not resolve CEL parameter: x
12:00:01.000 - INFO - Task 'adapt' finished
"""


def test_console_shows_the_steps_words_and_logs_everything():
    terminal, log = Terminal(tty=False), io.StringIO()
    console = runs.Console(terminal, log)
    for piece in (TASK[:37], TASK[37:205], TASK[205:]):
        console.write(piece)
    assert log.getvalue() == TASK
    assert terminal.getvalue().splitlines() == [
        "▸ adapt",
        "adapt          ██████·············· 3/10 · 1 s",
        "adapt          ██████████·········· 5/10 · 2 s",
        "10 in → 9 out",
        "12:00:00.000 - WARNING - Could not resolve CEL parameter: x",
    ]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("written", ["more", ""])
def test_an_interrupt_that_python_drops_still_ends_the_run(monkeypatch, written):
    """As it does in destructors, of which there are many while a process starts."""
    monkeypatch.syspath_prepend(DRIVER.parent)
    import run

    class Closing:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    console, before, reached = runs.Console(Terminal(tty=False), io.StringIO()), signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt), run._interrupts(console):
        closing = Closing()
        del closing
        reached.append("after it")
        if written:
            console.write(written)
            reached.append("after the line")
    assert reached == ["after it"]
    assert signal.getsignal(signal.SIGINT) == before


def test_console_keeps_progress_on_one_line_of_a_terminal():
    terminal = Terminal(tty=True)
    runs.Console(terminal, io.StringIO()).write(TASK)
    shown = terminal.getvalue()
    assert shown.count("\n") == 3
    assert "3/10 · 1 s\r\x1b[2Kadapt" in shown
    assert "5/10 · 2 s\r\x1b[2K10 in" in shown
