"""A quick stage that follows the stage convention; `__name__` says which one it is."""

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from vistune.errors import VistuneError

NAME = __name__.rpartition(".")[2]


@dataclass(frozen=True)
class Params:
    rows: int = 3  # rows written
    note: str = ""
    fail: str = ""  # raise this as the user's problem
    crash: bool = False  # raise as a defect would
    sleep: float = 0.0
    kill_once: str = ""  # die by SIGKILL half-way, unless this file exists
    name: str = "fake"  # of the registered model (promote)
    verdict: str = "pass"  # (promote)


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
    read = sum(len((folder / "rows.txt").read_text().splitlines()) for folder in inputs.values())
    (output / "rows.txt").write_text("".join(f"{NAME} {context.seed} {i}\n" for i in range(params.rows)))
    (output / "scorecard.html").write_text("<h1>scores</h1>")
    (output / "report.html").write_text("<h1>report</h1>")
    promotion = {"verdict": params.verdict, "model_uri": f"models:/{params.name}@challenger", "version": "1"}
    (output / "promotion.json").write_text(json.dumps(promotion))
    context.log({"loss": 0.5}, 1)
    counts = {"in": params.rows + 1, "out": params.rows, "rejected": {"spare": 1}}
    measured = {"clock": time.monotonic()}
    return {"counts": counts, "metrics": {"read": float(read)}, "measured": measured, "details": {"note": params.note}}
