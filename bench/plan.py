"""How long `vistune tune --plan` takes for a large release, and how far its estimates are from what is exact.

Prints one JSON line; that of the sizes below is kept in bench/results/plan.json. LLaVA-1.5-7B's vision encoder, the
language model and tokenizer of the demo, lengths as in the tune bench; processor time of one thread, from reading the
records to the printed screen. The releases hold no pictures: none is opened. `--folder` keeps them for the next time.

    python bench/plan.py
    python bench/plan.py --samples 20000 --compared 5000 --folder /tmp/releases
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from parts.plan_data import write

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "plan.json"
SAMPLES, EXACT = 1_000_000, 50_000
COMPARED = ("steps", "visits", "tokens", "answer_tokens", "longest_sample", "left_out")


def plan(release: Path, exact: bool) -> dict[str, Any]:
    """One plan in this process: what it says, and what it took."""
    from vistune.stages import home
    from vistune.tune import Params, StageParams
    from vistune.tune import forecast as planner
    from vistune.tune.operations import memory_peak

    rates = {"connector": 2e-5, "language": 2e-5, "head": 2e-5}
    stage = StageParams("instruct", "instruct", rates, epochs=1.0, batch=8, max_tokens=2048)
    params = Params(family="llava", preset="llava-1.5-7b", language="package:smollm2-135m-instruct", stages=(stage,))
    began = time.process_time()
    samples = planner.read(release)
    read = time.process_time()
    found = planner.forecast(params, stage, samples, 0, home(), 8, exact)
    shown = found.plan.describe()
    screen = list(planner.lines("instruct", found, 8))
    done = time.process_time()
    return {
        "samples": len(samples),
        "cpu_s": round(done - began, 1),
        "reading_cpu_s": round(read - began, 1),
        "samples_per_cpu_s": round(len(samples) / (done - began)),
        "peak_gib": round(memory_peak("cpu") / 2**30, 2),
        "estimated": found.lengths.estimated,
        "stated_error": found.lengths.error,
        "screen": screen,
        **{name: shown[name] for name in COMPARED},
        "packs": sum(1 for step in found.plan.steps for one in step if one),
        "operations": found.operations,
    }


def measured(release: Path, exact: bool = False) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--release", str(release), *(["--exact"] if exact else [])]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=alone)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compared(folder: Path, samples: int, few: int) -> dict[str, Any]:
    large = measured(write(folder / str(samples), samples))
    small = write(folder / str(few), few)
    near, exact = measured(small), measured(small, exact=True)
    names = [*COMPARED, "packs", "operations"]
    return {
        **{name: large[name] for name in ("samples", "cpu_s", "reading_cpu_s", "samples_per_cpu_s", "peak_gib")},
        "estimated": large["estimated"],
        "stated_error": round(large["stated_error"], 5),
        "target": {"cpu_s": 60, "peak_gib": 4},
        "against_exact": {
            "samples": few,
            "cpu_s": {"exact": exact["cpu_s"], "estimated": near["cpu_s"]},
            "stated_error": round(near["stated_error"], 5),
            "errors": {name: round(near[name] / exact[name] - 1, 6) if exact[name] else near[name] for name in names},
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--compared", type=int, default=EXACT, help="samples of a release that is planned exactly too")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--release", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--exact", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.release:
        print(json.dumps(plan(given.release, given.exact)))
        return
    with tempfile.TemporaryDirectory() as own:
        found = compared(given.folder or Path(own), given.samples, given.compared)
    row = {"bench": "plan", "command": "python bench/plan.py", **found}
    print(json.dumps(row), flush=True)
    if (given.samples, given.compared) == (SAMPLES, EXACT):
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
