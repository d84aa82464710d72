"""How fast and in how much memory the engine trains, beside TRL and LLaMA-Factory, and how evenly it loads processes.

Prints one JSON line for each measurement and writes all of them to bench/results/tune.json, a table to tune.md and a
plot to tune.png. Each measurement runs in a process of its own, with one thread. Rates are real tokens (padding does
not count) by processor time. `--only NAME` runs one and writes nothing; `--keep NAME` runs one and replaces its kept
result. TRL is measured if `--trl PYTHON` (or TRL_PYTHON) names an interpreter that has it beside the torch and
transformers of this one:

    python -m venv trlenv
    echo "$PWD/.venv/lib/python3.11/site-packages" > trlenv/lib/python3.11/site-packages/shared.pth
    trlenv/bin/pip install --no-deps trl
    python bench/tune.py --trl trlenv/bin/python

LLaMA-Factory is measured if `--llamafactory PYTHON` (or LLAMAFACTORY_PYTHON) names one that has it. It allows no newer
transformers than 5.6, so it brings its own; torchaudio, which it imports and images do not use, needs CUDA:

    python -m venv lfenv
    echo "$PWD/.venv/lib/python3.11/site-packages" > lfenv/lib/python3.11/site-packages/shared.pth
    lfenv/bin/pip install --no-deps --ignore-installed llamafactory==0.9.5 transformers==5.6.0 tokenizers==0.22.2 \
        huggingface_hub==1.33.0 accelerate==1.11.0 peft==0.18.1 trl==0.24.0 datasets==4.0.0 dill==0.3.8 \
        multiprocess==0.70.16 fsspec==2025.3.0 pillow==11.3.0 av==16.0.0 fire termcolor tiktoken sentencepiece
    touch lfenv/lib/python3.11/site-packages/torchaudio.py
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from parts.tune_arms import llamafactory, trl
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


PEERS = (trl, llamafactory)
ALONE = (loss_memory, batching, attention, balance)
MEASURES = {f.__name__: f for f in (*PEERS, *ALONE)}


def measured(name: str, pythons: dict[str, str]) -> dict[str, Any]:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, "--only", name]
    command += [f"--{name}", pythons[name]] if name in pythons else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    print(done.stdout, end="", flush=True)
    shown = f"python bench/tune.py --only {name}" + (f" --{name} PYTHON" if name in pythons else "")
    return {"command": shown, **json.loads(done.stdout.splitlines()[-1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(MEASURES))
    parser.add_argument("--keep", choices=list(MEASURES))
    for peer in PEERS:
        name = peer.__name__
        parser.add_argument(f"--{name}", default=os.environ.get(f"{name.upper()}_PYTHON", ""), metavar="PYTHON")
    given = parser.parse_args()
    pythons = {peer.__name__: vars(given)[peer.__name__] for peer in PEERS}
    if given.only:
        found = MEASURES[given.only](*([pythons[given.only]] if given.only in pythons else []))
        print(json.dumps({"bench": "tune", "measure": given.only, **found}), flush=True)
        return
    kept = {row["measure"]: row for row in json.loads(RESULTS.read_text())} if given.keep and RESULTS.exists() else {}
    for name in [given.keep] if given.keep else MEASURES:
        kept[name] = measured(name, pythons)
    from parts.tune_draw import draw, table

    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([kept[name] for name in MEASURES if name in kept], indent=1) + "\n")
    RESULTS.with_suffix(".md").write_text(table(kept), encoding="utf-8")
    if kept.keys() == MEASURES.keys():
        draw(kept, RESULTS.with_suffix(".png"))


if __name__ == "__main__":
    main()
