"""The stage in processes that torchrun has started: as one process, and in its order."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from test_evaluate_stage import REPOSITORY, release

from vistune import cli, evaluate
from vistune.evaluate import Conditions, Params
from vistune.files import tree_digest
from vistune.stages import Context

SCRIPT = """
import json, sys
from pathlib import Path
from vistune import cli, evaluate
from vistune.evaluate import Params
from vistune.params import parse
from vistune.stages import Context

job = json.loads(sys.argv[1])
params, inputs = parse(Params, job["params"], "evaluate"), {name: Path(path) for name, path in job["inputs"].items()}
context = Context(1, Path(job["home"]), Path(job["root"]))
cli.run_stage = lambda *_: evaluate.run(params, inputs, Path(job["output"]), context)
cli._together("evaluate", {}, [], None)
"""


@pytest.mark.slow
def test_under_torchrun_the_stage_gives_the_files_of_one_process(
    demo_sources: Path, model_folders: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    (tmp_path / "release").mkdir()
    release(tmp_path / "release", "ab" * 32)
    inputs = {"sources": demo_sources, "tune": model_folders, "validate": tmp_path / "release"}
    given = {"limit": 2, "replicates": 100, "generated_images": 2, "max_new_tokens": 3, "batch_tokens": 200}
    params = Params(conditions=Conditions(("image",), ("image", "none")), **given)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = (tmp_path / name / "home" for name in ("one home", "two home"))
    evaluate.run(params, inputs, tmp_path / "one", Context(1, one, REPOSITORY))
    torch.set_num_threads(threads)

    job = {"params": asdict(params), "inputs": {key: str(path) for key, path in inputs.items()}}
    job |= {"home": str(two), "root": str(REPOSITORY), "output": str(tmp_path / "two")}
    (tmp_path / "script.py").write_text(SCRIPT)
    together = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([sys.executable, *together, str(tmp_path / "script.py"), json.dumps(job)], check=True)
    assert tree_digest(tmp_path / "one") == tree_digest(tmp_path / "two"), "scorecard, verdict and answers"
    for log in (one / "responses").iterdir():
        again = two / "responses" / log.name
        assert sorted(log.read_bytes().splitlines()) == sorted(again.read_bytes().splitlines()), "each batch once"


def test_only_the_first_process_runs_the_stage(monkeypatch: Any) -> None:
    from vistune.evaluate import launch

    done: list[str] = []
    monkeypatch.setattr(launch, "follow", lambda: done.append("follow"))
    monkeypatch.setattr(launch, "dismiss", lambda: done.append("dismiss"))
    monkeypatch.setattr(cli, "run_stage", lambda stage, *_: done.append(stage))
    for rank, size, expected in (("0", "1", ["evaluate"]), ("0", "2", ["evaluate", "dismiss"]), ("1", "2", ["follow"])):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", size)
        done.clear()
        cli._together("evaluate", {}, [], None)
        assert done == expected
