"""How fast questions about pictures are answered, beside lm-eval's own multimodal model (hf-multimodal) and lmms-eval.

Prints one JSON line and writes it to bench/results/evaluate.json. All arms run in processes of their own with one
thread, on the same model (a LLaVA with random weights and 576 visual tokens), pictures, questions and task settings:
POPE-like, 18 questions a picture, and GQA-like, 30. Every generated answer has to be the same. Rates are by processor
time of the harness's whole `evaluate`.

Start-up is processor time from the start of the process to the call that is given the first questions
(`generate_until`), the model and the tasks loaded, at one place for all arms; the least of several starts in turns.
Ours imports all that the stage does. Answers that were kept are removed before; `new_model` is a start that has the
weights to read for their digest, which later ones find. hf-multimodal and lmms-eval start as their commands do, with
the index of the tasks that they ship.

lmms-eval is measured if `--lmms PYTHON` (or LMMS_PYTHON) names an interpreter that has it beside the torch and
transformers of this one. What its other tasks need, and torchvision, is left out:

    python -m venv lmmsenv
    echo "$PWD/.venv/lib/python3.11/site-packages" > lmmsenv/lib/python3.11/site-packages/shared.pth
    lmmsenv/bin/pip install --no-deps lmms-eval==0.7.3 loguru tenacity jsonlines ftfy httpx tqdm-multiprocess \
        zstandard numexpr openpyxl latex2sympy2 math-verify opencv-python-headless decord
    python bench/evaluate.py --lmms lmmsenv/bin/python

`contamination` is the search for pictures that training saw at the size of VQAv2 and of a quarter of it
(`parts/evaluate_contamination.py`). `--only` measures one part anew and keeps the others as they were.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from parts.evaluate_job import LONGEST, SETS, prepare

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "evaluate.json"
BATCH = {"ours": 1, "theirs": 8, "lmms": 1}
"""Questions at a time. hf-multimodal has no automatic batches; after each it collects garbage, so small ones cost more.
lmms-eval's LLaVA takes one. Ours are by tokens."""

NAMES = {"ours": "ours", "theirs": "hf_multimodal", "lmms": "lmms_eval"}

STARTS = 5
"""Of each arm, one after the other: other work on the machine slows all."""

Arms = dict[str, str]
"""Arm -> interpreter."""


def run(arm: str, python: str, folder: Path, limit: int = 0, known: bool = False) -> dict[str, Any]:
    """known: the digest of the model's weights is there from the start before."""
    script = ROOT / "bench" / "parts" / "evaluate_arm.py"
    quiet = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [python, str(script), arm, str(folder), str(limit), str(BATCH[arm])]
    if known:
        (folder / "kept" / "answers.jsonl").unlink()
    else:
        shutil.rmtree(folder / "kept", ignore_errors=True)
    done = subprocess.run(command, env=quiet, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{arm} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def start(folder: Path, arms: Arms) -> dict[str, Any]:
    found: dict[str, list[float]] = {name: [] for name in ("new_model", *(NAMES[arm] for arm in arms))}
    for _ in range(STARTS):
        found["new_model"].append(run("ours", arms["ours"], folder, limit=1)["start"])
        for arm, python in arms.items():
            found[NAMES[arm]].append(run(arm, python, folder, limit=1, known=arm == "ours")["start"])
    least = {name: min(seconds) for name, seconds in found.items()}
    shares = {name: round(least[name] / least["hf_multimodal"], 2) for name in ("ours", "new_model")}
    return {
        "starts": STARTS,
        "start_cpu_s": {name: round(seconds, 1) for name, seconds in least.items()},
        "start_share": shares["ours"],
        "start_share_of_new_model": shares["new_model"],
    }


def speed(folder: Path, arms: Arms) -> dict[str, Any]:
    items = sum(pictures * questions for pictures, questions in SETS.values())
    found = {NAMES[arm]: run(arm, python, folder) for arm, python in arms.items()}
    answers = found["ours"]["answers"]
    for name, one in found.items():
        unequal = [item for item, text in answers.items() if one["answers"].get(item) != text]
        assert len(one["answers"]) == items, (name, len(one["answers"]))
        assert not unequal, f"{len(unequal)} of {items} answers of {name} differ, the first of {unequal[0]}"
    rates = {name: items / one["evaluate"] for name, one in found.items()}
    return {
        "items": items,
        "sets": {name: {"pictures": p, "questions_a_picture": q} for name, (p, q) in SETS.items()},
        "tokens_an_answer": LONGEST,
        "different_answers": len(set(answers.values())),
        "items_per_cpu_s": {name: round(rate, 2) for name, rate in rates.items()},
        "times_faster": round(rates["ours"] / rates["hf_multimodal"], 1),
        "times_faster_than": {name: round(rates["ours"] / rate, 1) for name, rate in rates.items() if name != "ours"},
        "batch_size": {name: BATCH[arm] for arm, name in NAMES.items() if arm in arms and arm != "ours"},
        "whole_cpu_s": {name: round(one["all"], 1) for name, one in found.items()},
        "same_answers": True,
        "target": {"times_faster": 5, "start_share": 0.33},
    }


def contamination(*_: Any) -> dict[str, Any]:
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
    parser.add_argument("--lmms", default=os.environ.get("LMMS_PYTHON", ""), metavar="PYTHON")
    given = parser.parse_args()
    arms = {"ours": sys.executable, "theirs": sys.executable} | ({"lmms": given.lmms} if given.lmms else {})
    if not given.lmms and given.only != "contamination":
        print("NOT MEASURED: lmms-eval; `--lmms PYTHON` names an interpreter that has it", file=sys.stderr)
    about = {"bench": "evaluate", "command": "python bench/evaluate.py --lmms PYTHON"}
    found = json.loads(RESULTS.read_text()) | about if given.only else about
    with tempfile.TemporaryDirectory() as made:
        if given.only != "contamination":
            prepare(Path(made))
        for part in [given.only] if given.only else PARTS:
            found |= PARTS[part](Path(made), arms)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
