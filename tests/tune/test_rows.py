"""What a process reads: the same whoever prepares it; and every process runs the same layers."""

from dataclasses import replace

import pytest
import torch

from vistune.models.vlm import build
from vistune.store import read_samples
from vistune.tune import StageParams
from vistune.tune.loop import by_task
from vistune.tune.objective import Objective
from vistune.tune.plan import make, select
from vistune.tune.rows import Batches, Builder, stream
from vistune.tune.speed import Speed

STAGE = StageParams("s", "instruct", {"connector": 1e-3, "language": 1e-3}, steps=4, batch=4)


@pytest.fixture(scope="module")
def vlm():
    return build("llava", "tiny", seed=0)


def batches(vlm, release, rank=0, processes=1, start=0, touch=False, text=False):
    samples = select(read_samples(release), STAGE, 0)
    if text:
        samples = [replace(s, images=(), messages=tuple(replace(m, images=()) for m in s.messages)) for s in samples]
    plan = make(samples, vlm.reader, STAGE, 0)
    return Batches(Builder(vlm.reader, release, STAGE, touch=touch), plan, rank, processes, start)


def same(a, b) -> bool:
    rows = [
        (one.row.inputs[key], other.row.inputs[key]) for one, other in [(a, b)] for key in ("input_ids", "pixel_values")
    ]
    return all(torch.equal(x, y) for x, y in rows) and torch.equal(a.weights, b.weights) and a.tasks == b.tasks


def test_processes_that_work_ahead_change_nothing(vlm, release):
    alone, ahead = (list(stream(batches(vlm, release), workers)) for workers in (0, 2))
    assert [item[:2] for item in alone] == [item[:2] for item in ahead]
    assert len(alone) == 4 and all(same(a[2], b[2]) for a, b in zip(alone, ahead, strict=True))


def test_a_resumed_run_prepares_no_batch_twice(vlm, release, monkeypatch):
    """It begins with its own step: what came before is not made again."""
    made = []
    real = Builder.batch
    monkeypatch.setattr(Builder, "batch", lambda self, plan, packs: made.append(packs) or real(self, plan, packs))
    resumed = list(stream(batches(vlm, release, start=3), 0))
    assert [step for step, _, _ in resumed] == [3] and len(made) == 1
    assert same(resumed[0][2], list(stream(batches(vlm, release), 0))[3][2])


def test_a_process_without_a_picture_runs_the_tower_with_weight_zero(vlm, release):
    plain, touched = (batches(vlm, release, text=True, touch=touch)[0] for touch in (False, True))
    assert not plain.blank and touched.blank
    objective = Objective(vlm.model)
    found = []
    for batch in (plain, touched):
        vlm.model.requires_grad_(True).zero_grad(set_to_none=True)
        losses = objective(batch.row, batch.blank)
        losses.sum().backward()
        gradients = {vlm.family.role(n): [] for n, _ in vlm.model.named_parameters()}
        for name, parameter in vlm.model.named_parameters():
            gradients[vlm.family.role(name)].append(parameter.grad)
        found.append((losses.detach(), gradients))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-6)
    assert all(g is None for role in ("vision", "connector") for g in found[0][1][role])
    seen = [g for role in ("vision", "connector") for g in found[1][1][role] if g is not None]
    assert len(seen) > 5 and not any(g.any() for g in seen)


def test_loss_by_task_is_a_mean_over_its_tokens(vlm, release):
    batch = batches(vlm, release)[0]
    each = torch.arange(len(batch.tasks), dtype=torch.float32)
    tasks = sorted(set(batch.tasks))
    found = by_task([(batch, each), (batch, each + 1)], [*tasks, "of another process"], 1)
    assert set(found) == {f"loss/{task}" for task in tasks} and len(tasks) > 1
    values = [float(v) for v, task in zip(each, batch.tasks, strict=True) if task == tasks[0]]
    assert found[f"loss/{tasks[0]}"] == pytest.approx(sum(values) / len(values) + 0.5)


def test_speed(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("vistune.tune.speed.time.monotonic", lambda: now[0])
    monkeypatch.setattr("vistune.tune.speed.peak", lambda device: 100.0)
    speed = Speed("cpu", 2, recomputed=1.25)
    assert speed.waiting(lambda: now.__setitem__(0, 1.0) or "batch") == "batch"
    speed.read(30, 40)
    now[0] = 4.0
    speed.step(400.0)
    found = speed.measured()
    assert found["tokens_per_second"] == 7.5 and found["seconds_per_step"] == 4 and speed.padding == 0.25
    assert found["data_wait_seconds"] == 1 and found["data_wait_share"] == 0.25
    assert found["operations_per_second"] == 100 and found["mfu"] == 0.5 and found["hfu"] == 0.625
    assert found["peak_memory_gib"] > 0.05
    assert speed.note() == "8 tokens/s · MFU 50% · 25% padding · 25% waiting for data"
