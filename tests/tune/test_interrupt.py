"""A signal while a model trains ends the run where it can go on; a rerun gives what an uninterrupted one gives."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from vistune import cli
from vistune.errors import Interrupted
from vistune.files import tree_digest
from vistune.interrupt import Interruption
from vistune.stages import Context
from vistune.tune import Params, StageParams, checkpoint, run

ROOT = Path(__file__).parents[2]


def params(**over) -> Params:
    stage = StageParams(
        name="instruct",
        objective="instruct",
        steps=8,
        batch=2,
        learning_rates={"connector": 2e-3, "language": 5e-3},
        checkpoint_every=3,
    )
    return Params(**{"preset": "tiny", "dtype": "float32", "threads": 1, "stages": (stage,), **over})


def train(release, folder, params, log=lambda metrics, step: None):
    (folder / "out").mkdir(parents=True, exist_ok=True)
    run(params, {"validate": release}, folder / "out", Context(7, folder / "home", ROOT, log))
    return folder / "out"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_step_is_finished_saved_and_gone_on_from(release, tmp_path, number, capfd):
    def stop(metrics, step):
        if step == 4:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=rf"{number.name} after step 5 of 8; a checkpoint is saved") as stopped:
        train(release, tmp_path / "stopped", params(), stop)
    assert stopped.value.status == 128 + number
    assert signal.getsignal(number) is before
    saved = sorted(p.name for p in (tmp_path / "stopped/out/checkpoints/instruct").iterdir())
    assert saved == ["step-000003", "step-000005"]
    again = []
    train(release, tmp_path / "stopped", params(), lambda metrics, step: again.append(step))
    assert again == [5, 6, 7]
    assert "continues after step 5 from step-000005" in capfd.readouterr().out
    train(release, tmp_path / "whole", params())
    assert tree_digest(tmp_path / "stopped/out") == tree_digest(tmp_path / "whole/out")


def test_a_second_signal_acts_as_before():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGTERM)
            assert (interruption.asked("cpu"), heard) == (signal.SIGTERM, [])
            os.kill(os.getpid(), signal.SIGTERM)
            assert heard == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGTERM)
        assert len(heard) == 2
    finally:
        signal.signal(signal.SIGTERM, before)


def test_outside_the_main_thread_nothing_is_handled():
    found = []

    def enter():
        with Interruption() as interruption:
            found.append(interruption.asked("cpu"))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [0]


def test_command_says_so_and_exits_as_a_shell_knows_the_signal(monkeypatch):
    def interrupted(*_):
        raise Interrupted("training stage s: SIGTERM after step 1 of 2; a checkpoint is saved.", signal.SIGTERM)

    monkeypatch.setattr(cli, "execute", interrupted)
    done = CliRunner().invoke(cli.app, ["tune", "--params", str(ROOT / "params.yaml")])
    assert done.exit_code == 143
    assert "vistune: training stage s: SIGTERM after step 1 of 2" in done.stderr


SCRIPT = """
import json, sys
from pathlib import Path
from vistune import cli, stages, tune
params, release = sys.argv[1:]
stages.verified = lambda folder: stages.Receipt("validate", "0" * 64, {})
cli.app(["tune", "--params", params, "--input", f"validate={release}", "--output", "out"])
"""


def start(release, folder, params):
    """`vistune tune` on a release that no stage has made."""
    folder.mkdir()
    (folder / "params.yaml").write_text(yaml.safe_dump({"tune": json.loads(json.dumps(dataclasses.asdict(params)))}))
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder / "params.yaml"), str(release)],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "VISTUNE_HOME": str(folder / "home"), "VISTUNE_TRACKING": "off"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_a_step(process, history):
    while process.poll() is None and not any(p.stat().st_size for p in history.glob("*.partial/history.jsonl")):
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize(("over", "group"), [({}, False), ({"workers": 1}, True), ({"processes": 2, "zero": 2}, True)])
def test_signal_to_the_command(release, tmp_path, over, group):
    """One process, one with a loader's process (the signal reaches both), and two under ZeRO."""
    stage = dataclasses.replace(params().stages[0], steps=400, checkpoint_every=0)
    long = dataclasses.replace(params(**over), stages=(stage,))
    process = start(release, tmp_path / "run", long)
    history = tmp_path / "run/home/stages/tune"
    wait_for_a_step(process, history)
    (os.killpg if group else os.kill)(process.pid, signal.SIGTERM)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 143, out + error
    assert "SIGTERM: ends after this step" in error
    kept = "what is kept" if over.get("processes") else "it"  # the checkpoint, which the line names before
    assert error.splitlines()[-1].endswith(f"Run the same command again to go on from {kept}.")
    (partial,) = history.glob("*.partial")
    _, state = checkpoint.newest(partial / "checkpoints/instruct")
    entries = [json.loads(line) for line in (partial / "history.jsonl").read_text().splitlines()]
    assert state["step"] == len(entries) < 400


@pytest.mark.slow
def test_processes_leave_with_a_killed_command(release, tmp_path):
    stage = dataclasses.replace(params().stages[0], steps=400)
    process = start(release, tmp_path / "run", params(processes=2, zero=1, stages=(stage,)))
    wait_for_a_step(process, tmp_path / "run/home/stages/tune")
    process.kill()
    process.wait()

    def left():
        commands = (p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if p.parent.exists())
        return [c for c in commands if b"vistune.tune.launch" in c and str(tmp_path).encode() in c]

    until = time.monotonic() + 20
    while left() and time.monotonic() < until:
        time.sleep(0.2)
    assert not left()
