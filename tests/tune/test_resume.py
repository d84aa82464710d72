"""A killed run that is started again ends as one that was never killed: the same bits, whenever the kill came."""

import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from vistune import stages
from vistune.errors import Interrupted
from vistune.files import files_under, tree_digest
from vistune.hashing import file_digest, uniform
from vistune.stages import Context, Receipt, Settings
from vistune.tune import Params, StageParams, run

POINTS = 20
STAGE = StageParams(
    name="instruct",
    objective="instruct",
    steps=12,
    batch=2,
    learning_rates={"connector": 2e-3, "language": 5e-3},
    checkpoint_every=2,
)
PARAMS = Params(
    preset="tiny",
    dtype="bfloat16",
    threads=1,
    stages=(replace(STAGE, name="caption", objective="caption", steps=4, checkpoint_every=3), STAGE),
)


def tuned(release: str, home: str) -> None:
    """The stage as every door runs it, on a release that no stage has made."""
    os.environ |= {"VISTUNE_HOME": home, "VISTUNE_TRACKING": "off", "OMP_NUM_THREADS": "1"}
    stages.verified = lambda folder: Receipt("validate", "0" * 64, {})
    stages.execute("tune", Settings(7, {"tune": PARAMS}), {"validate": Path(release)}, Path(home) / "out")


@pytest.fixture(scope="module")
def processes():
    """Processes that have torch imported when they start."""
    from tests.warm import context

    return context


def finished(processes, release, home):
    process = processes.Process(target=tuned, args=(str(release), str(home)))
    process.start()
    process.join(600)
    assert process.exitcode == 0


def contents(folder: Path) -> dict[str, str]:
    found = {p.relative_to(folder).as_posix(): file_digest(p) for p in files_under(folder)}
    del found[stages.EXECUTION]  # seconds
    return found


def lines(home: Path) -> int:
    """Steps that are recorded so far."""
    return sum(p.read_bytes().count(b"\n") for p in home.glob("stages/tune/*.partial/history.jsonl"))


@pytest.mark.slow
def test_killed_at_twenty_points(release, tmp_path, processes):
    """Each kill comes a keyed moment after a keyed step, the first one before any step."""
    finished(processes, release, tmp_path / "whole")
    expected = contents(tmp_path / "whole/out")
    assert {"history.jsonl", "model/model.safetensors"} <= set(expected)
    steps = sum(stage.steps for stage in PARAMS.stages)
    killed, held = 0, set()
    for point in range(POINTS):
        home = tmp_path / str(point)
        process = processes.Process(target=tuned, args=(str(release), str(home)))
        process.start()
        while process.is_alive() and lines(home) < point * steps // POINTS:
            time.sleep(0.002)
        process.join(uniform(0, "kill", point) / 10)
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        held |= {p.name for p in home.glob("stages/tune/*.partial/checkpoints/*/step-*")}
        finished(processes, release, home)
        assert contents(home / "out") == expected, f"point {point}"
        shutil.rmtree(home)
    assert killed >= POINTS * 3 // 4
    assert len(held) >= 3, "the kills came between different checkpoints"


def train(release, folder, log=lambda metrics, step: None):
    (folder / "out").mkdir(parents=True, exist_ok=True)
    params = replace(PARAMS, stages=(replace(STAGE, steps=8, checkpoint_every=3),))
    root = Path(__file__).parents[2]
    run(params, {"validate": release}, folder / "out", Context(7, folder / "home", root, log))


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(release, tmp_path, capfd):
    def stop(metrics, step):
        if step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        train(release, tmp_path / "stopped", stop)
    newest = tmp_path / "stopped/out/checkpoints/instruct/step-000005/optimizer.safetensors"
    damaged = bytearray(newest.read_bytes())
    damaged[-1] ^= 1
    newest.write_bytes(damaged)
    again = []
    train(release, tmp_path / "stopped", lambda metrics, step: again.append(step))
    said = capfd.readouterr()
    assert "checkpoint step-000005 is damaged and is passed over" in said.err
    assert "continues after step 3 from step-000003" in said.out
    assert again == [3, 4, 5, 6, 7]
    train(release, tmp_path / "whole")
    assert tree_digest(tmp_path / "stopped/out") == tree_digest(tmp_path / "whole/out")
