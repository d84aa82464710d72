"""How fast questions about pictures are answered, beside lm-eval's own multimodal model (hf-multimodal).

Prints one JSON line and writes it to bench/results/evaluate.json. Both arms run in processes of their own with one
thread, on the same model (a LLaVA with random weights and 576 visual tokens), pictures, questions and task settings:
POPE-like, 18 questions a picture, and GQA-like, 30. Every generated answer has to be the same. Rates are by processor
time of lm-eval's whole `evaluate`; start-up is processor time from the start of the process to the first question, the
least of several starts in turns.
lmms-eval is a third arm where it is installed.

`contamination` is the search for pictures that training saw at the size of VQAv2 and of a quarter of it
(`parts/evaluate_contamination.py`). `--only` measures one part anew and keeps the others as they were.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from parts.evaluate_job import LONGEST, SETS, prepare

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "evaluate.json"
BATCH = 8
"""Of hf-multimodal, which has no automatic one. After every batch it collects garbage, so small ones cost more."""

STARTS = 3
"""Of each arm, one after the other: other work on the machine slows both."""


def run(arm: str, folder: Path, limit: int = 0, batch: int = 1) -> dict[str, Any]:
    script = ROOT / "bench" / "parts" / "evaluate_arm.py"
    quiet = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, str(script), arm, str(folder), str(limit), str(batch)]
    done = subprocess.run(command, env=quiet, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{arm} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def start(folder: Path) -> dict[str, Any]:
    found: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(STARTS):
        for arm, seconds in found.items():
            seconds.append(run(arm, folder, limit=1, batch=BATCH)["start"])
            (folder / "log.jsonl").unlink(missing_ok=True)
    ours, theirs = (min(seconds) for seconds in found.values())
    return {
        "starts": STARTS,
        "start_cpu_s": {"ours": round(ours, 1), "hf_multimodal": round(theirs, 1)},
        "start_share": round(ours / theirs, 2),
    }


def speed(folder: Path) -> dict[str, Any]:
    items = sum(pictures * questions for pictures, questions in SETS.values())
    ours, theirs = run("ours", folder), run("theirs", folder, batch=BATCH)
    unequal = [name for name, text in ours["answers"].items() if theirs["answers"].get(name) != text]
    assert len(ours["answers"]) == len(theirs["answers"]) == items, (len(ours["answers"]), len(theirs["answers"]))
    assert not unequal, f"{len(unequal)} of {items} answers differ, the first of {unequal[0]}"
    rates = {"ours": items / ours["evaluate"], "hf_multimodal": items / theirs["evaluate"]}
    return {
        "items": items,
        "sets": {name: {"pictures": p, "questions_a_picture": q} for name, (p, q) in SETS.items()},
        "tokens_an_answer": LONGEST,
        "different_answers": len(set(ours["answers"].values())),
        "items_per_cpu_s": {arm: round(rate, 2) for arm, rate in rates.items()},
        "times_faster": round(rates["ours"] / rates["hf_multimodal"], 1),
        "hf_multimodal_batch_size": BATCH,
        "whole_cpu_s": {"ours": round(ours["all"], 1), "hf_multimodal": round(theirs["all"], 1)},
        "same_answers": True,
        "target": {"times_faster": 5, "start_share": 0.33},
    }


def contamination(_: Path) -> dict[str, Any]:
    script = ROOT / "bench" / "parts" / "evaluate_contamination.py"
    found = {}
    for name, scale in (("quarter", "0.25"), ("whole", "1")):
        done = subprocess.run([sys.executable, str(script), scale], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"contamination failed:\n{done.stderr[-3000:]}")
        found[name] = json.loads(done.stdout)
    return {"contamination": found}


PARTS = {"start": start, "speed": speed, "contamination": contamination}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS)
    only = parser.parse_args().only
    if importlib.util.find_spec("lmms_eval") is None:
        print("NOT MEASURED: lmms-eval is not installed; two arms only", file=sys.stderr)
    else:
        sys.exit("lmms-eval is installed, but this bench has no arm for it.")
    found = json.loads(RESULTS.read_text()) if only else {"bench": "evaluate", "command": "python bench/evaluate.py"}
    with tempfile.TemporaryDirectory() as made:
        if only != "contamination":
            prepare(Path(made))
        for part in [only] if only else PARTS:
            found |= PARTS[part](Path(made))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
