"""Processes that share the batches, and processes that are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from test_evaluate_stage import REPOSITORY, release

from tests import warm
from vistune import evaluate
from vistune.errors import VistuneError
from vistune.evaluate import Params
from vistune.files import tree_digest
from vistune.stages import Context

SCRIPT = """
import json, sys
from pathlib import Path
import os
import torch
from torch import distributed
from lm_eval.api.instance import Instance
from vistune.evaluate.engine import Engine
from vistune.evaluate.images import Pictures
from vistune.evaluate.lm import VistuneLM
from vistune.evaluate.responses import ResponseLog
from vistune.models.vlm import build

torch.set_num_threads(1)
folder, root, log, shown = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4])
rank = int(os.environ.get("RANK", 0))
if "RANK" in os.environ:
    distributed.init_process_group("gloo")
pictures = Pictures(root)
computed = []
with ResponseLog(log) as kept:
    engine = Engine(build("llava", seed=3), pictures, "model", 400)
    stream = engine.stream
    engine.stream = lambda planned, keep: stream(planned, lambda found: computed.extend(found) or keep(found))
    lm = VistuneLM(engine, pictures, kept)
    ranked = [
        Instance("loglikelihood", {}, (f"Is it number {n}?", choice, {"visual": [image]}), 0, ("t", 0, 1))
        for n in range(5) for image in shown for choice in ("yes", "no")
    ]
    free = [
        Instance("generate_until", {}, (f"What is {n}?", {"max_gen_toks": 4}, {"visual": [image]}), 0, ("t", 0, 1))
        for image in shown for n in range(3)
    ]
    found = {"scores": [list(one) for one in lm.loglikelihood(ranked)], "texts": lm.generate_until(free)}
(folder / f"{rank}.json").write_text(json.dumps({**found, "computed": len(computed)}))
if distributed.is_initialized():
    distributed.destroy_process_group()
"""


Asked = tuple[Path, str]
"""The folder of the pictures, and what is to be shown of them."""


@pytest.fixture(scope="module")
def asked(pictures: Any) -> Asked:
    root, images = pictures
    return root, json.dumps([asdict(image) for image in images])


def command(asked: Asked, folder: Path, log: Path) -> list[str]:
    folder.mkdir(exist_ok=True)
    (folder / "script.py").write_text(SCRIPT)
    root, shown = asked
    return [str(folder / "script.py"), str(folder), str(root), str(log), shown]


def answers(folder: Path, rank: int = 0) -> dict[str, Any]:
    return json.loads((folder / f"{rank}.json").read_text())


@pytest.fixture(scope="module")
def one(asked: Asked, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], bytes]:
    """What one process answers that nothing disturbs, and its log."""
    folder = tmp_path_factory.mktemp("one")
    assert warm.Popen([sys.executable, *command(asked, folder, folder / "log.jsonl")]).wait() == 0
    return answers(folder), (folder / "log.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_two_ranks_answer_as_one_does(asked: Asked, one: Any, tmp_path: Path) -> None:
    def ranks(name: str) -> list[dict[str, Any]]:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        subprocess.run([*torchrun, *command(asked, tmp_path / name, tmp_path / "two.jsonl")], check=True)
        return [answers(tmp_path / name, rank) for rank in range(2)]

    alone, _ = one
    two = ranks("two")
    for rank in two:
        assert rank["texts"] == alone["texts"]
        assert rank["scores"] == alone["scores"], "the batches are the same, whoever computes them"
    shares = [rank["computed"] for rank in two]
    assert sum(shares) == alone["computed"] and min(shares) > alone["computed"] // 4
    again = ranks("again")
    assert [rank["computed"] for rank in again] == [0, 0], "both wrote to one log, and both read it"
    assert again[0]["texts"] == alone["texts"]


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_killed_again_and_again_the_answers_are_those_of_an_undisturbed_run(
    asked: Asked, one: Any, tmp_path: Path
) -> None:
    whole, written = one
    log = tmp_path / "killed.jsonl"
    given = [sys.executable, *command(asked, tmp_path / "killed", log)]
    for kill in range(3):
        known = log.stat().st_size if log.exists() else 0
        process = subprocess.Popen(given)
        while process.poll() is None and (log.stat().st_size if log.exists() else 0) <= known:
            time.sleep(0.001)
        time.sleep(0.004 * kill)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it was to be killed in the middle"
    done = len(log.read_bytes().splitlines())
    assert 3 <= done < len(written.splitlines())
    assert subprocess.Popen(given).wait() == 0
    resumed = answers(tmp_path / "killed")
    assert resumed["scores"] == whole["scores"] and resumed["texts"] == whole["texts"], "bit for bit"
    assert 0 < resumed["computed"] < whole["computed"]
    assert log.read_bytes().splitlines()[-1] == written.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_the_stage_on_two_processes_gives_the_files_of_one(
    demo_sources: Path, model_folders: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "release").mkdir()
    release(tmp_path / "release", "ab" * 32)
    inputs = {"sources": demo_sources, "tune": model_folders, "validate": tmp_path / "release"}
    logged: dict[int, list[Any]] = {}

    def stage(processes: int, output: str) -> tuple[dict[str, Any], dict[str, list[bytes]]]:
        home, folder = tmp_path / f"home-{output}", tmp_path / output
        folder.mkdir()
        found = logged[processes] = []
        context = Context(1, home, REPOSITORY, lambda metrics, step: found.append(sorted(metrics)))
        params = Params(
            limit=2, replicates=100, generated_images=2, max_new_tokens=3, batch_tokens=200, processes=processes
        )
        summary = evaluate.run(params, inputs, folder, context)
        logs = sorted((home / "responses").iterdir())
        return summary, {log.name: sorted(log.read_bytes().splitlines()) for log in logs}

    one, two = stage(1, "one"), stage(2, "two")
    assert tree_digest(tmp_path / "one") == tree_digest(tmp_path / "two"), "scorecard, verdict and answers"
    assert one[0] == two[0] and logged[1] == logged[2]
    assert one[1] == two[1] and all(len(lines) > 2 for lines in one[1].values()), "the same batches, in any order"


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_a_process_that_fails_ends_the_stage(demo_sources: Path, model_folders: Path, tmp_path: Path) -> None:
    (tmp_path / "release").mkdir()
    release(tmp_path / "release", "ab" * 32)
    broken = tmp_path / "tune"
    broken.mkdir()
    (broken / "base").symlink_to(model_folders / "base")  # and no tuned model
    inputs = {"sources": demo_sources, "tune": broken, "validate": tmp_path / "release"}
    with pytest.raises(VistuneError, match="evaluate on 2 processes failed with status 1; the cause is above"):
        evaluate.run(
            Params(limit=2, processes=2), inputs, tmp_path, Context(seed=1, home=tmp_path / "home", root=REPOSITORY)
        )
