"""A quick stage that follows the stage convention; `__name__` says which one it is."""

import json
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import vistune
from vistune.errors import VistuneError

NAME = __name__.rpartition(".")[2]

__path__ = [str(Path(vistune.__file__).parent / NAME)]
"""The stage's other modules are there: what the pipelines show of an output reads them."""


@dataclass(frozen=True)
class Params:
    rows: int = 3  # rows written
    note: str = ""
    fail: str = ""  # raise this as the user's problem
    crash: bool = False  # raise as a defect would
    sleep: float = 0.0
    kill_once: str = ""  # die by SIGKILL half-way, unless this file exists
    name: str = "fake"  # of the registered model (promote)
    verdict: str = "pass"  # (promote, evaluate)
    target: float = 0.1  # estimate of the gate's target (evaluate)
    candidates: int = 1  # (evaluate)
    conditions: dict[str, Any] = field(default_factory=dict)  # (evaluate)


def shown(output, params):
    """The files of the output that the pipelines read."""
    (output / "scorecard.html").write_text("<h1>scores</h1>")
    (output / "report.html").write_text("<h1>report</h1>")
    (output / "model_card.md").write_text("# fake")
    (output / "history.jsonl").write_text('{"stage": "align", "step": 1, "loss": 0.5}\n')
    row = {"model": "tuned", "condition": "image", "kind": "choice", "item": "i1", "gold": "yes", "answer": "yes"}
    row |= {"benchmark": "vqa", "image": "i", "question": "?"}
    (output / "answers.jsonl").write_text(json.dumps(row) + "\n")
    estimate = {"mean": params.target}
    checks = [{"role": "target", "estimate": estimate}]
    (output / "verdict.json").write_text(json.dumps({"verdict": params.verdict, "checks": checks}))


def run_part(params, inputs, output, context, part):
    which, of = part
    done = run(params, inputs, output, context)
    lines = (output / "rows.txt").read_text().splitlines(keepends=True)
    (output / "rows.txt").write_text("".join(lines[which::of]))
    return done


def merge(params, inputs, output, context, parts):
    done = run(params, inputs, output, context)
    lines = sorted(line for folder in parts for line in (folder / "rows.txt").read_text().splitlines(keepends=True))
    (output / "rows.txt").write_text("".join(lines))
    return done


def run(params, inputs, output, context):
    if params.fail:
        raise VistuneError(params.fail)
    if params.crash:
        raise ValueError("a defect in the stage")
    (output / "rows.txt").write_text("half of the r")
    if params.kill_once and not Path(params.kill_once).exists():
        Path(params.kill_once).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(params.sleep)
    given = [folder / "rows.txt" for folder in inputs.values()]  # a fetched model has none
    read = sum(len(path.read_text().splitlines()) for path in given if path.is_file())
    (output / "rows.txt").write_text("".join(f"{NAME} {context.seed} {i}\n" for i in range(params.rows)))
    shown(output, params)
    promotion = {"verdict": params.verdict, "model_uri": f"models:/{params.name}@challenger", "version": "1"}
    (output / "promotion.json").write_text(json.dumps(promotion))
    context.log({"loss": 0.5}, 1)
    counts = {"in": params.rows + 1, "out": params.rows, "rejected": {"spare": 1}}
    measured = {"clock": time.monotonic()}
    return {"counts": counts, "metrics": {"read": float(read)}, "measured": measured, "details": {"note": params.note}}
