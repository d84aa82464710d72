"""How fast and in how much memory the engine trains, beside TRL's SFTTrainer, and how evenly it loads processes.

Prints one JSON line for each measurement and writes all of them to bench/results/tune.json, a table to tune.md and a
plot to tune.png. Each measurement runs in a process of its own, with one thread. Rates are real tokens (padding does
not count) by processor time. `--only NAME` runs one and writes nothing; `--keep NAME` runs one and replaces its kept
result. TRL is measured if `--trl PYTHON` (or TRL_PYTHON) names an interpreter that has it beside the torch and
transformers of this one:

    python -m venv trlenv
    echo "$PWD/.venv/lib/python3.11/site-packages" > trlenv/lib/python3.11/site-packages/shared.pth
    trlenv/bin/pip install --no-deps trl
    python bench/tune.py --trl trlenv/bin/python
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from parts.tune_arms import trl
from parts.tune_batching import attention, batching

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "tune.json"


def loss_memory() -> dict[str, Any]:
    """Peak memory and processor time of the loss of 4,096 tokens over a vocabulary of 32,064 in float32, half of them
    answers: logits of all tokens, of answers, and ours. Each in a process of its own, the least of three."""
    script = ROOT / "bench" / "parts" / "tune_memory.py"
    # glibc would keep freed pieces of logits otherwise, and they would count as memory in use
    quiet = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000", "OMP_NUM_THREADS": "1"}
    arms = {"full": ["full"], "answers": ["answers"], "ours": ["chunked"], "ours_16_mb": ["chunked", "16"]}
    found: dict[str, Any] = {}
    for _ in range(3):
        for arm, arguments in arms.items():
            command = [sys.executable, str(script), *arguments]
            got = json.loads(subprocess.run(command, env=quiet, stdout=subprocess.PIPE, check=True).stdout)
            least = found.setdefault(arm, got)
            least |= {key: min(least[key], got[key]) for key in ("mb", "cpu_s")}
    losses = [one["loss"] for one in found.values()]
    return {
        "mb": {arm: one["mb"] for arm, one in found.items()},
        "cpu_s": {arm: one["cpu_s"] for arm, one in found.items()},
        "less_than_full": {arm: round(found["full"]["mb"] / one["mb"], 1) for arm, one in found.items()},
        "losses_differ": max(losses) / min(losses) - 1,
        "target": {"less_than_full": 12},
    }


def balance() -> dict[str, Any]:
    """The costliest process of a step over the mean (all wait for it), summed over steps, and of the worst step, for 8,
    64 and 1,024 processes: simulated from lengths."""
    from parts.tune_balance import SHAPES, simulate

    return {"models": {name: {str(n): simulate(s, n) for n in (8, 64, 1024)} for name, s in SHAPES.items()}}


ALONE = (loss_memory, batching, attention, balance)
MEASURES = {f.__name__: f for f in (trl, *ALONE)}


def measured(name: str, python: str) -> dict[str, Any]:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, "--only", name, "--trl", python]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    print(done.stdout, end="", flush=True)
    shown = f"python bench/tune.py --only {name}" + (" --trl PYTHON" if name == "trl" else "")
    return {"command": shown, **json.loads(done.stdout.splitlines()[-1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(MEASURES))
    parser.add_argument("--keep", choices=list(MEASURES))
    parser.add_argument("--trl", default=os.environ.get("TRL_PYTHON", ""), metavar="PYTHON")
    given = parser.parse_args()
    if given.only:
        found = MEASURES[given.only](*([given.trl] if given.only == "trl" else []))
        print(json.dumps({"bench": "tune", "measure": given.only, **found}), flush=True)
        return
    kept = {row["measure"]: row for row in json.loads(RESULTS.read_text())} if given.keep and RESULTS.exists() else {}
    for name in [given.keep] if given.keep else MEASURES:
        kept[name] = measured(name, given.trl)
    from parts.tune_draw import draw, table

    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([kept[name] for name in MEASURES if name in kept], indent=1) + "\n")
    RESULTS.with_suffix(".md").write_text(table(kept), encoding="utf-8")
    if kept.keys() == MEASURES.keys():
        draw(kept, RESULTS.with_suffix(".png"))


if __name__ == "__main__":
    main()
