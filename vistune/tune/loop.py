"""The training loop for objectives that predict answers: plan, step, log, checkpoint, resume."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vistune.hashing import keyed
from vistune.progress import Progress
from vistune.tune import StageParams, checkpoint
from vistune.tune.batch import collate, losses, total_weight
from vistune.tune.engine import share, world
from vistune.tune.rows import Row
from vistune.tune.schedule import cosine

if TYPE_CHECKING:
    from vistune.models.modeling import VistuneForConditionalGeneration
    from vistune.tune.features import Features
    from vistune.tune.rows import Plan

Record = Callable[[dict[str, float], int], None]


def train(
    engine: Any,
    features: Features,
    plan: Plan,
    stage: StageParams,
    seed: int,
    folder: Path,
    record: Record,
    forget: Callable[[int], None],
    validation: Sequence[Row] = (),
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
    pad = engine.module.chat.end_id
    began, tokens = time.monotonic(), 0
    with contextlib.ExitStack() as stack:
        progress = (
            stack.enter_context(Progress(f"tune {stage.name}", len(plan.batches), "steps")) if rank == 0 else None
        )
        if progress:
            progress.step(start)
        for step in range(start, len(plan.batches)):
            rows = plan.batches[step]
            weight = total_weight(rows, stage.weighting)
            _train_mode(engine.module)
            torch.manual_seed(keyed(seed, stage.name, "dropout", step))
            batch = collate(share(rows), pad, stage.weighting)
            each = losses(engine.module, batch, features([r.image for r in share(rows)]))
            loss = (each * batch.weights.to(each.device)).sum() / weight
            factor = cosine(step, len(plan.batches), stage.warmup)
            norm = engine.step(loss, factor)
            tokens += batch.tokens
            shown = loss.detach().clone()
            if processes > 1:  # each process holds its share of the step's loss
                torch.distributed.all_reduce(shown)
            metrics = {"loss": float(shown), "rate": factor, "grad_norm": norm, **by_task(batch.tasks, each)}
            last = step + 1 == len(plan.batches)
            save = stage.checkpoint_every and (step + 1) % stage.checkpoint_every == 0 and not last
            if validation and (save or last):
                metrics["validation_loss"] = validate(engine.module, features, validation, stage)
            if rank == 0:
                record(metrics, step)
            if save:
                _save(engine, folder, step + 1)
            if progress:
                speed = tokens / (time.monotonic() - began)
                progress.step(note=f"loss {metrics['loss']:.3f} · {speed:,.0f} tokens/s")
    spent = time.monotonic() - began
    if rank == 0:
        shutil.rmtree(folder, ignore_errors=True)
    steps = len(plan.batches) - start
    return {"tokens_per_second": tokens / spent if tokens else 0.0, "seconds_per_step": spent / max(steps, 1)}


def _train_mode(model: torch.nn.Module) -> None:
    """Dropout only in the parts that train: a frozen part must give what it will give when the model is used."""
    model.train()
    for part in model.children():
        part.train(any(p.requires_grad for p in part.parameters()))


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


def by_task(tasks: Sequence[str], each: torch.Tensor) -> dict[str, float]:
    """Mean loss per answer token, by task."""
    groups: dict[str, list[float]] = defaultdict(list)
    for task, value in zip(tasks, each.detach().tolist(), strict=True):
        groups[task].append(value)
    return {f"loss/{task}": sum(v) / len(v) for task, v in sorted(groups.items())}


@torch.no_grad()
def validate(
    model: VistuneForConditionalGeneration, features: Features, rows: Sequence[Row], stage: StageParams
) -> float:
    """Loss on held-out rows, weighted as in training."""
    model.eval()
    total = 0.0
    for start in range(0, len(rows), stage.batch):
        part = rows[start : start + stage.batch]
        batch = collate(part, model.chat.end_id, stage.weighting)
        each = losses(model, batch, features([r.image for r in part]))
        total += float((each * batch.weights.to(each.device)).sum())
    return total / total_weight(rows, stage.weighting)
