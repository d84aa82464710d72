"""`vistune tune --plan`: what a run will read, cost and need, from lengths and numbers of parameters alone.

No picture is opened and no weight is loaded. Times are work over a device's peak at the share of it that is stated;
memory is a sum of named parts, of which activations are the least certain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vistune.models.flops import Meter
from vistune.models.reader import Reader
from vistune.models.vlm import empty
from vistune.records import Sample
from vistune.stages import Settings, home
from vistune.store import read_samples
from vistune.tune import Params, StageParams
from vistune.tune.plan import Plan, Visit, make, select
from vistune.tune.work import base, for_stage

DEVICES = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "B200": 2250e12}
"""Dense bfloat16 operations a second, by their data sheets."""

SHARE = 0.4
"""Of the peak that a good run reaches; the best published of vision-language models on images is 0.3 to 0.4."""

ACTIVATIONS = 34
"""Bytes a token, layer and channel that one layer keeps for the backward pass in 16 bits, attention aside
(Korthikanti et al. 2022, section 4.1)."""


@dataclass(frozen=True)
class Forecast:
    """Of one stage. Operations of the whole stage; bytes on each device, by part, for each ZeRO stage."""

    plan: Plan
    operations: float
    parameters: Mapping[str, tuple[int, int]]  # role -> all, trained
    memory: Mapping[int, Mapping[str, float]]


def forecast(
    params: Params, stage: StageParams, samples: Sequence[Sample], seed: int, cache: Path, processes: int
) -> Forecast:
    start = base(params)
    vlm = empty(start["family"], start["preset"], language=start["language"], home=cache)
    vlm.reader = for_stage(vlm.reader, stage)
    plan = make(select(samples, stage, seed), vlm.reader, stage, seed)
    roles: dict[str, tuple[int, int]] = dict.fromkeys(vlm.family.roles, (0, 0))
    for name, parameter in vlm.model.named_parameters():
        role = vlm.family.role(name)
        every, trained = roles[role]
        moves = stage.learning_rates.get(role, 0.0) > 0 and role not in stage.lora
        roles[role] = (every + parameter.numel(), trained + parameter.numel() * moves)
    meter = Meter(vlm, [role for role, rate in stage.learning_rates.items() if rate > 0])
    operations = sum(_visit(visit, plan, vlm.reader, meter) for step in plan.steps for one in step for visit in one)
    return Forecast(plan, operations, roles, memory(vlm.model, roles, stage, processes))


def _visit(visit: Visit, plan: Plan, reader: Reader, meter: Meter) -> float:
    """The first sample in full, of the others only what is their own."""
    found = 0.0
    for n in visit.samples:
        sample, length = plan.samples[n], plan.lengths[n]
        sizes = [(image.width, image.height) for image in sample.images]
        alone = meter(reader.read(sample.messages, sizes, sample=sample.id))
        found += alone if n == visit.samples[0] else alone * (1 - length.common / length.tokens)
    return found


def memory(model: Any, roles: Mapping[str, tuple[int, int]], stage: StageParams, processes: int) -> dict[int, Any]:
    """Bytes on each of so many devices by part, for each ZeRO stage: weights in 16 bits, gradients in 16, the
    optimiser's float32 weights and two moments, activations of a pack, logits.

    ZeRO 1 shares the optimiser's among the devices, 2 the gradients as well, 3 the weights too.
    """
    every, trained = (sum(counts[n] for counts in roles.values()) for n in (0, 1))
    text = model.config.get_text_config()
    tokens = stage.max_tokens * (stage.together or max(stage.batch // processes, 1))
    found = {}
    for zero in (0, 1, 2, 3):
        found[zero] = {
            "weights": 2 * every / (processes if zero == 3 else 1),
            "gradients": 2 * trained / (processes if zero >= 2 else 1),
            "optimiser": 12 * trained / (processes if zero >= 1 else 1),
            "activations": float(ACTIVATIONS * tokens * text.hidden_size * text.num_hidden_layers),
            "logits": 3.0 * (64 << 20),
        }
    return found


def show(settings: Settings, release: Path) -> None:
    """Prints the plan of every stage that predicts answers."""
    params = settings.sections["tune"]
    samples = list(read_samples(release))
    for stage in params.stages:
        if stage.objective == "embedding":
            print(f"stage {stage.name}\n  matches {stage.batch:,} grid cells to names in {stage.steps:,} steps")
            continue
        processes = params.processes or torch.cuda.device_count() or 1
        found = forecast(params, stage, samples, settings.seed, home(), processes)
        print("\n".join(lines(stage.name, found, processes)))


def lines(name: str, found: Forecast, processes: int) -> Iterator[str]:
    """The plan screen of one stage."""
    plan, shown = found.plan, found.plan.describe()
    alone, tokens = shown["tokens_read_alone"], shown["tokens"]
    yield f"stage {name}"
    yield f"  samples       {shown['samples']:,} of {len(plan.samples):,}; {shown['left_out']:,} left out"
    yield from (f"    {sample}: {reason}" for sample, reason in list(plan.left_out.items())[:5])
    packs = [one for step in plan.steps for one in step if one]
    room = max(sum(visit.tokens for visit in one) for one in packs)
    yield f"  steps         {shown['steps']:,} of {len(plan.steps[0]):,} packs, of up to {room:,} tokens; no padding"
    yield f"  tokens        {tokens:,}, {shown['answer_tokens']:,} learned; read one by one {alone:,}"
    yield f"  longest       {shown['longest_sample']:,} tokens"
    yield "  epochs        " + ", ".join(f"{k} {v:g}" for k, v in shown["epochs_by_dataset"].items())
    yield "  vision tokens " + histogram(plan)
    yield f"  balance       the slowest process has {shown['slowest_process']:.3f} times the mean work"
    yield f"  operations    {found.operations:.3g}"
    times = [f"{device} {span(found.operations / peak / SHARE / processes)}" for device, peak in DEVICES.items()]
    yield f"  time          {', '.join(times)} ({processes} devices at {SHARE:.0%} of their peak)"
    for role, (every, trained) in found.parameters.items():
        state = "trained" if trained else "frozen"
        yield f"  {role:<13} {every:,} parameters, {state if trained in (0, every) else f'{trained:,} trained'}"
    for zero, parts in found.memory.items():
        text = ", ".join(f"{part} {size / 2**30:.2f}" for part, size in parts.items())
        yield f"  ZeRO {zero}        {sum(parts.values()) / 2**30:.2f} GiB a device: {text}"


def histogram(plan: Plan) -> str:
    """Samples by the tokens of their pictures, in powers of two."""
    used = {n for step in plan.steps for one in step for visit in one for n in visit.samples}
    counts = Counter(_bin(plan.lengths[n].visual) for n in used)
    return ", ".join(f"{'none' if not top else f'up to {top:,}'}: {count:,}" for top, count in sorted(counts.items()))


def _bin(tokens: int) -> int:
    return 1 << (tokens - 1).bit_length() if tokens else 0


def span(seconds: float) -> str:
    """
    >>> span(30), span(3000), span(30000)
    ('30 s', '50 min', '8.3 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
