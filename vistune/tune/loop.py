"""The training loop for objectives that predict answers: step, log, checkpoint, resume."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vistune.hashing import keyed
from vistune.progress import Progress
from vistune.tune import StageParams, checkpoint
from vistune.tune.engine import world
from vistune.tune.loss import total_weight
from vistune.tune.plan import Plan
from vistune.tune.rows import Batch, Batches, Builder, stream
from vistune.tune.schedule import cosine

Record = Callable[[dict[str, float], int], None]


def train(
    engine: Any,
    builder: Builder,
    plan: Plan,
    stage: StageParams,
    seed: int,
    folder: Path,
    record: Record,
    forget: Callable[[int], None],
    held_out: Plan | None = None,
    workers: int = 0,
) -> dict[str, float]:
    """Runs the steps of `plan` that the newest checkpoint in `folder` has not. `record(metrics, step)` is called on
    the first process after every step; `forget(step)` once, when a resumed run must drop later records."""
    rank, processes = world()
    start = 0
    found = checkpoint.newest(folder)
    if found is not None:
        path, state = found
        engine.load(path)
        start = state["step"]
        print(f"tune {stage.name}: continues after step {start} from {path.name}", flush=True)
    forget(start)
    batches = Batches(builder, plan, rank, processes, start)
    clock = Clock()
    tokens = places = 0
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(Progress(f"tune {stage.name}", len(plan.steps), "steps")) if rank == 0 else None
        if progress:
            progress.step(start)
        passes = stream(batches, workers)
        taken: list[tuple[Batch, Tensor]] = []
        while (item := clock.waiting(lambda: next(passes, None))) is not None:
            step, last, batch = item
            if not taken:
                _train_mode(engine.module)
                torch.manual_seed(keyed(seed, stage.name, "dropout", step))
                whole = total_weight(
                    [plan.lengths[n].answers for one in plan.steps[step] for v in one for n in v.samples],
                    stage.weighting,
                )
            each = engine(batch.row, batch.blank)
            loss = (each * batch.weights.to(each.device)).sum() / whole
            engine.backward(loss, last)
            taken.append((batch, each.detach()))
            tokens, places = tokens + batch.row.tokens, places + batch.row.places
            if not last:
                continue
            factor = cosine(step, len(plan.steps), stage.warmup)
            norms = engine.step(factor)
            metrics = {"loss": _step_loss(taken, whole, processes), "rate": factor, **norms, **by_task(taken)}
            taken = []
            end = step + 1 == len(plan.steps)
            save = stage.checkpoint_every and (step + 1) % stage.checkpoint_every == 0 and not end
            if held_out is not None and (save or end):
                metrics["validation_loss"] = validate(engine.module, builder, held_out, stage)
            if rank == 0:
                record(metrics, step)
            if save:
                _save(engine, folder, step + 1)
            if progress:
                progress.step(note=f"loss {metrics['loss']:.3f} · {tokens / clock.spent():,.0f} tokens/s")
    if rank == 0:
        shutil.rmtree(folder, ignore_errors=True)
    steps = len(plan.steps) - start
    spent = clock.spent()
    return {
        "tokens_per_second": tokens / spent if tokens else 0.0,
        "seconds_per_step": spent / max(steps, 1),
        "padding": round(1 - tokens / places, 4) if places else 0.0,
        "data_wait_seconds": clock.waited,
    }


class Clock:
    """Wall time, and how much of it went by waiting for data."""

    def __init__(self) -> None:
        self.began, self.waited = time.monotonic(), 0.0

    def waiting(self, get: Callable[[], Any]) -> Any:
        began = time.monotonic()
        got = get()
        self.waited += time.monotonic() - began
        return got

    def spent(self) -> float:
        return time.monotonic() - self.began


def _train_mode(objective: torch.nn.Module) -> None:
    """Dropout only in the parts that train: a frozen part must give what it will give when the model is used."""
    objective.train()
    for part in objective.model.children():  # type: ignore[union-attr]
        part.train(any(p.requires_grad for p in part.parameters()))


def _step_loss(taken: Sequence[tuple[Batch, Tensor]], whole: float, processes: int) -> float:
    """The step's loss over all passes and processes."""
    shares = [(each * batch.weights.to(each.device)).sum() / whole for batch, each in taken]
    total = torch.stack(shares).sum()
    if processes > 1:
        torch.distributed.all_reduce(total)
    return float(total)


def _save(engine: Any, folder: Path, step: int) -> None:
    """All processes write their part; the first one makes the checkpoint visible."""
    rank, processes = world()
    if rank == 0:
        checkpoint.begin(folder, step)
    if processes > 1:
        torch.distributed.barrier()
    partial = folder / f"step-{step:06d}.partial"
    engine.save(partial)
    if processes > 1:
        torch.distributed.barrier()
    if rank == 0:
        checkpoint.commit(partial, {"step": step})


def by_task(taken: Sequence[tuple[Batch, Tensor]]) -> dict[str, float]:
    """Mean loss per answer token, by task."""
    groups: dict[str, list[float]] = defaultdict(list)
    for batch, each in taken:
        for task, value in zip(batch.tasks, each.tolist(), strict=True):
            groups[task].append(value)
    return {f"loss/{task}": sum(v) / len(v) for task, v in sorted(groups.items())}


@torch.no_grad()
def validate(objective: torch.nn.Module, builder: Builder, plan: Plan, stage: StageParams) -> float:
    """Loss on held-out samples, weighted as in training."""
    objective.eval()
    total = whole = 0.0
    for packs in plan.steps:
        batch = builder.batch(plan, packs)
        each = objective(batch.row, batch.blank)
        total += float((each * batch.weights.to(each.device)).sum())
        whole += float(batch.weights.sum())
    return total / whole
