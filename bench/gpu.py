"""How fast one GPU trains LLaVA-1.5-7B with the engine, in how much memory, and where the time goes.

Weights are random and pictures are noise: neither changes what a step costs. Prints one JSON line for each arm and
writes them to bench/results/gpu.json:

- full: connector and language model train, layers are recomputed in the backward pass.
- full_kept: the same, layers are kept.
- lora: rank 128 in the language model, connector trains.
- qlora: the same over a language model that rests in 4 bits.

MFU counts what the mathematics needs (no padding, no recomputation, logits of answers only) over the device's dense
bfloat16 peak; HFU counts recomputation as well. `where` is the share of the device's time by kind of kernel. Without a
GPU nothing is measured, and that is said; `--smoke` runs everything at tiny sizes on the CPU and writes nothing.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "gpu.json"

ARMS: dict[str, dict[str, Any]] = {
    "full": {"gradient_checkpointing": True},
    "full_kept": {},
    "lora": {"lora": {"language": 128}},
    "qlora": {"lora": {"language": 128}, "quantised": {"language": "nf4"}},
}
STEPS, FIRST = 10, 3
"""Of an arm, and how many of them are not counted: what is compiled and allocated once."""
SAMPLES = 400
TOKENS, PACKS = 4096, 4
KINDS = {
    "matrix products": ("gemm", "matmul", "cutlass", "nvjet", "::mm", "addmm", "bmm"),
    "attention": ("flash", "fmha", "attention", "sdpa"),
    "optimiser and gradients": ("adam", "multi_tensor", "foreach", "norm_kernel", "lpnorm"),
}


def release(folder: Path, side: int) -> Path:
    """Samples with a length mix like LLaVA's and one picture each, `side` pixels wide."""
    from parts.tune_data import noise, sample, texts

    from vistune import store

    pictures = [noise(folder, n, (side, side * 3 // 4)) for n in range(32)]
    asked = enumerate(texts(SAMPLES))
    store.write_samples(folder, [sample(n, q, a, (pictures[n % 32],)) for n, (q, a, _) in asked])
    return folder


def measure(arm: str, smoke: bool) -> dict[str, Any]:
    import torch

    from vistune.models import lora
    from vistune.models.modeling import cast_language
    from vistune.models.vlm import build
    from vistune.store import read_samples
    from vistune.tune import Params, StageParams
    from vistune.tune import engine as engines
    from vistune.tune.loop import train
    from vistune.tune.operations import Operations
    from vistune.tune.operations import peak as peak_of
    from vistune.tune.plan import make
    from vistune.tune.rows import Builder

    device = "cpu" if smoke else "cuda"
    options = ARMS[arm] | ({"lora": {"language": 4}} if smoke and "lora" in ARMS[arm] else {})
    stage = StageParams(
        "bench",
        "instruct",
        dict.fromkeys(("connector", "language") if "lora" in options else ("connector", "language", "head"), 1e-5),
        steps=STEPS,
        batch=PACKS,
        together=1,
        max_tokens=700 if smoke else TOKENS,
        checkpoint_every=0,
        **options,
    )
    with torch.device(device):
        vlm = build("llava", "tiny" if smoke else "llava-1.5-7b")
    cast_language(vlm.model, torch.bfloat16)
    with tempfile.TemporaryDirectory() as name:
        folder = release(Path(name) / "release", 336)
        operations = Operations(vlm, stage)
        plan = make(list(read_samples(folder)), vlm.reader, stage, 0, operations)
        if stage.lora:
            lora.attach(vlm, stage.lora, quantised=stage.quantised, device=device)
        engine = engines.build(vlm, stage, Params(), ROOT)
        moments: list[float] = []

        def record(*_: Any) -> None:
            if not smoke:
                torch.cuda.synchronize()
            moments.append(time.monotonic())
            if len(moments) == STEPS - 2:
                profiler.start()

        profiler: Any = torch.profiler.profile(activities=list(torch.profiler.supported_activities()))
        builder = Builder(vlm.reader, folder, stage)
        measured = train(
            engine, builder, plan, stage, 0, Path(name) / "state", record, lambda _: None, workers=0 if smoke else 4
        )
        profiler.stop()
    counted = range(FIRST, STEPS - 2)
    seconds = moments[STEPS - 3] - moments[FIRST - 1]
    tokens = sum(visit.tokens for step in counted for one in plan.steps[step] for visit in one)
    rate = sum(plan.cost(step) for step in counted) / seconds
    found = {
        "device": torch.cuda.get_device_name() if not smoke else "cpu",
        "tokens_per_second": round(tokens / seconds),
        "seconds_per_step": round(seconds / len(counted), 3),
        "peak_memory_gib": round(measured["peak_memory_gib"], 1),
        "data_wait_share": round(measured["data_wait_seconds"] / (moments[-1] - moments[0]), 3),
        "where": shares(profiler),
    }
    if peak := peak_of(device):
        found |= {"mfu": round(rate / peak, 3), "hfu": round(rate * plan.recomputed / peak, 3)}
    return {**found, "target": {"mfu": 0.5}}


def shares(profiler: Any) -> dict[str, float]:
    """Of the time of the device's kernels, or of operators where there is no device."""
    spent: dict[str, float] = {}
    for event in profiler.key_averages():
        time_of = event.self_device_time_total or event.self_cpu_time_total
        kind = next((k for k, words in KINDS.items() if any(w in event.key.lower() for w in words)), "the rest")
        spent[kind] = spent.get(kind, 0.0) + time_of
    whole = sum(spent.values()) or 1.0
    return {kind: round(spent[kind] / whole, 3) for kind in sorted(spent, key=lambda k: -spent[k])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(ARMS))
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    import torch

    if not (torch.cuda.is_available() or given.smoke):
        print("NOT MEASURED: no GPU here. bench/gpu.py needs one with 140 GB (H200).", file=sys.stderr)
        print(json.dumps({"bench": "gpu", "measure": "none", "gpu": "none"}))
        return
    rows = []
    for arm in [given.only] if given.only else ARMS:
        rows.append({"bench": "gpu", "measure": arm, **measure(arm, given.smoke)})
        print(json.dumps(rows[-1]), flush=True)
    if not (given.only or given.smoke):
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
