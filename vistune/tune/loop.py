"""The training loop for objectives that predict answers: step, log, checkpoint, resume."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vistune.errors import Interrupted
from vistune.hashing import keyed
from vistune.interrupt import Interruption
from vistune.progress import Progress
from vistune.tune import StageParams, checkpoint
from vistune.tune.engine import world
from vistune.tune.loss import total_weight
from vistune.tune.plan import Plan
from vistune.tune.roles import Movement, first_shown
from vistune.tune.rows import Batch, Batches, Builder, stream
from vistune.tune.schedule import cosine
from vistune.tune.speed import Speed

Record = Callable[[dict[str, float], int, Mapping[str, float]], None]


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
    answer: Callable[[str, int], Any] | None = None,
) -> dict[str, float]:
    """Runs the steps of `plan` that the newest checkpoint in `folder` has not. `record(metrics, step,
    measured)` is called on the first process after every step, `answer(stage, steps done)` at checkpoints and the end;
    `forget(step)` once, when a resumed run must drop later records."""
    rank, processes = world()
    start = 0
    found = checkpoint.newest(folder)
    if found is not None:
        path, state = found
        engine.load(path, state)
        start = state["step"]
        if rank == 0:
            print(f"tune {stage.name}: continues after step {start} from {path.name}", flush=True)
    forget(start)
    movement, checked = Movement(engine.module.model, builder.reader.family, stage), first_shown(plan, start)
    batches = Batches(builder, plan, rank, processes, start)
    speed = Speed(str(next(engine.module.parameters()).device), processes, plan.recomputed)
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(Progress(f"tune {stage.name}", len(plan.steps), "steps")) if rank == 0 else None
        if progress:
            progress.step(start)
        interruption = stack.enter_context(Interruption())
        passes = stream(batches, workers)
        taken: list[tuple[Batch, Tensor]] = []
        while (item := speed.waiting(lambda: next(passes, None))) is not None:
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
            speed.read(batch.row.tokens, batch.row.places)
            if not last:
                continue
            factor = cosine(step, len(plan.steps), stage.warmup)
            norms = engine.step(factor)
            if step == checked:
                movement.check(step, engine.ahead)
            tasks = sorted({plan.samples[n].task for one in plan.steps[step] for v in one for n in v.samples})
            losses = by_task(taken, tasks, processes)
            metrics = {"loss": _step_loss(taken, whole, processes), "rate": factor, **norms, **losses}
            taken = []
            speed.step(plan.cost(step))
            end = step + 1 == len(plan.steps)
            save = stage.checkpoint_every and (step + 1) % stage.checkpoint_every == 0 and not end
            if held_out is not None and (save or end):
                metrics["validation_loss"] = validate(engine.module, builder, held_out, stage)
            if rank == 0:
                if answer is not None and (save or end):
                    answer(stage.name, step + 1)
                slowest = plan.slowest(step, processes)
                record(metrics, step, {**speed.measured(), "padding": speed.padding, "slowest_process": slowest})
            asked = 0 if end else interruption.asked(speed.device)
            if save or asked:
                _save(engine, folder, step + 1)
            if asked:
                raise Interrupted(
                    f"training stage {stage.name}: {signal.Signals(asked).name} after step {step + 1} of "
                    f"{len(plan.steps)}; a checkpoint is saved. Run the same command again to go on from it.",
                    asked,
                )
            if progress:
                progress.step(note=f"loss {metrics['loss']:.3f} · {speed.note()}")
    if rank == 0:
        shutil.rmtree(folder, ignore_errors=True)
    return {"padding": speed.padding, **speed.measured()}


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
        checkpoint.commit(partial, {"step": step, "engine": engine.name, "processes": processes})


def by_task(taken: Sequence[tuple[Batch, Tensor]], tasks: Sequence[str], processes: int) -> dict[str, float]:
    """Mean loss per answer token over all processes, by task. tasks: of the whole step, the same on all of them."""
    totals, counts = dict.fromkeys(tasks, 0.0), dict.fromkeys(tasks, 0)
    for batch, each in taken:
        for task, value in zip(batch.tasks, each.tolist(), strict=True):
            totals[task] += value
            counts[task] += 1
    found = list(zip(totals.values(), counts.values(), strict=True))
    if processes > 1:
        shared = torch.tensor(found, dtype=torch.float64, device=taken[0][1].device)
        torch.distributed.all_reduce(shared)
        found = shared.tolist()
    return {f"loss/{task}": total / count for task, (total, count) in zip(tasks, found, strict=True) if count}


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
