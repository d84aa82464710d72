"""Our engine on a job of the tune bench.

python bench/parts/tune_ours.py JOB prints one JSON line: the processor time at the end of every step, its loss and its
real tokens. The steps hold the samples that TRL's have, each in one row without padding; with "planned" the steps are
those that the planner makes of the same samples.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def fixed(samples: list[Any], reader: Any, stage: Any, batch: int) -> Any:
    """A plan whose step n has the samples n * batch and so on, as one pack."""
    from vistune.tune.lengths import Lengths
    from vistune.tune.pack import balance
    from vistune.tune.plan import Plan, visit_of

    lengths = Lengths(samples, reader, stage)
    assert all(lengths.fits(n) for n in range(len(samples))), lengths.left_out
    visits = [visit_of([n], lengths.known, shares=True, logits=0.0) for n in range(len(samples))]
    steps = [[tuple(visits[n : n + batch])] for n in range(0, len(visits), batch)]
    return Plan(tuple(samples), lengths.known, steps, {}, balance([[1.0]] * len(steps)))


def stage(job: dict[str, Any], tokens: int) -> Any:
    from vistune.tune import StageParams

    return StageParams(
        name="bench",
        objective="instruct",
        learning_rates=dict.fromkeys(("connector", "language", "head"), job["rate"]),
        steps=job["steps"],
        batch=1,
        max_tokens=tokens,
        warmup=job["warmup"],
        weighting="token",
        checkpoint_every=0,
    )


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(job["folder"])
    import torch

    from vistune.models.vlm import load
    from vistune.store import read_samples
    from vistune.tune.engine import TorchEngine
    from vistune.tune.loop import train
    from vistune.tune.plan import make
    from vistune.tune.rows import Builder

    torch.set_num_threads(1)
    vlm, samples = load(folder / "model"), list(read_samples(folder / "release"))
    mean = sum(job["lengths"]) / len(samples)
    params = stage(job, round(mean * job["batch"] * 1.05) if job["planned"] else 100_000)
    plan = make(samples, vlm.reader, params, 0) if job["planned"] else fixed(samples, vlm.reader, params, job["batch"])
    times, losses = [], []

    def record(metrics: dict[str, float], *_: Any) -> None:
        times.append(time.process_time())
        losses.append(metrics["loss"])

    builder = Builder(vlm.reader, folder / "release", params)
    with tempfile.TemporaryDirectory() as scratch:
        train(TorchEngine(vlm, params), builder, plan, params, 0, Path(scratch), record, lambda step: None)
    tokens = [sum(visit.tokens for one in step for visit in one) for step in plan.steps]
    print(json.dumps({"times": times, "losses": losses, "tokens": tokens, "places": tokens}))


if __name__ == "__main__":
    main()
