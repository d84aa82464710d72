"""`vistune tune --plan`: what a run will read, cost and need, from lengths and numbers of parameters alone.

No picture is opened and no weight is loaded; of a large release a part of the texts is tokenised (`estimate`). Times
are work over a device's peak at the share of it that is stated; memory is a sum of named parts, of which activations
are the least certain.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from sys import intern
from typing import Any

import torch
from msgspec import structs

from vistune.models import lora
from vistune.models.families.base import Family
from vistune.models.reader import Reader
from vistune.models.vlm import Vlm, empty
from vistune.records import Lineage, Sample
from vistune.stages import Settings, home
from vistune.store import read_samples
from vistune.tune import Params, StageParams
from vistune.tune.estimate import Estimates
from vistune.tune.launch import with_recipe
from vistune.tune.lengths import Lengths
from vistune.tune.loss import BUDGET
from vistune.tune.operations import PEAKS, Operations
from vistune.tune.plan import Plan, make, select
from vistune.tune.rows import Batches, Builder
from vistune.tune.work import base

SHARE = 0.4
"""Of the peak that a good run reaches; the best published of vision-language models on images is 0.3 to 0.4."""

NOTHING = Lineage("", (), ())

ACTIVATIONS = 34
"""Bytes a token, layer and channel that one layer keeps for the backward pass in 16 bits, attention aside
(Korthikanti et al. 2022, section 4.1)."""


@dataclass(frozen=True)
class Forecast:
    """Of one stage. Operations of the whole stage; bytes on each device, by part, for each ZeRO stage. lengths: of the
    samples, and how many of them are estimates; padding: share of the places that are read."""

    plan: Plan
    lengths: Lengths
    padding: float
    operations: float
    parameters: Mapping[str, tuple[int, int]]  # role -> all, trained
    memory: Mapping[int, Mapping[str, float]]


def forecast(
    params: Params,
    stage: StageParams,
    samples: Sequence[Sample],
    seed: int,
    cache: Path,
    processes: int,
    exact: bool = False,
) -> Forecast:
    """exact: every text is tokenised, however many there are."""
    start = base(params)
    vlm = empty(start["family"], start["preset"], language=start["language"], home=cache)
    vlm.reader = vlm.reader.at(stage)
    operations = Operations(vlm, stage)
    chosen = select(samples, stage, seed)
    lengths = (Lengths if exact else Estimates)(chosen, vlm.reader, stage, operations)
    gc.disable()  # it would look for cycles among millions of lengths, again and again; there are none
    try:
        plan = make(chosen, vlm.reader, stage, seed, operations, lengths)
    finally:
        gc.enable()
    roles: dict[str, tuple[int, int]] = dict.fromkeys(vlm.family.roles, (0, 0))
    for name, parameter in vlm.model.named_parameters():
        role = vlm.family.role(name)
        every, trained = roles[role]
        moves = stage.learning_rates.get(role, 0.0) > 0 and role not in stage.lora
        roles[role] = (every + parameter.numel(), trained + parameter.numel() * moves)
    for role, rank in stage.lora.items():
        updates = sum(rank * (rows + columns) for rows, columns in lora.sizes(vlm, role))
        roles[role] = (roles[role][0], updates * (stage.learning_rates.get(role, 0.0) > 0))
    parts = memory(vlm, roles, stage, processes, most_patches(plan), params.offload)
    work = sum(plan.cost(n) for n in range(len(plan.steps)))
    return Forecast(plan, lengths, padding(plan, vlm.reader, stage, processes), work, roles, parts)


def padding(plan: Plan, reader: Reader, stage: StageParams, processes: int) -> float:
    """Share of what is read that is padding: none, but for families whose samples cannot share a row."""
    if reader.family.packs:
        return 0.0
    builder = Builder(reader, Path(), stage)
    passes = [packs for rank in range(processes) for _, packs, _ in Batches(builder, plan, rank, processes).passes]
    rows = [[visit.tokens for one in packs for visit in one] for packs in passes]
    places = sum(max(row, default=0) * len(row) for row in rows)
    return 1 - sum(map(sum, rows)) / places if places else 0.0


def memory(
    vlm: Vlm,
    roles: Mapping[str, tuple[int, int]],
    stage: StageParams,
    processes: int,
    patches: int = 0,
    offload: bool = False,
) -> dict[int, Any]:
    """Bytes on each of so many devices by part, for each ZeRO stage: weights in 16 bits (at rest in 4, with LoRA beside
    them), gradients in 16, the optimiser's float32 weights and two moments, activations of a pack (with gradient
    checkpointing every layer's input and one layer's), a piece of logits with its copy in 16 bits, and what the vision
    encoder keeps of so many `patches` of a pack: one layer's if it is frozen, all layers' if it trains.

    roles: role -> parameters without LoRA's, trained ones. ZeRO 1 shares the optimiser's among the devices, 2 the
    gradients as well, 3 the weights too; with `offload` it keeps the optimiser's off them.
    """
    every, trained = (sum(counts[n] for counts in roles.values()) for n in (0, 1))
    weights = 2.0 * (every + sum(roles[role][1] for role in stage.lora))
    for role, kind in stage.quantised.items():
        weights -= sum(rows * columns for rows, columns in lora.sizes(vlm, role)) * (16 - lora.BITS[kind]) / 8
    text, width = vlm.model.config.get_text_config(), vision_width(vlm.model, vlm.family)
    packs = stage.together or max(stage.batch // processes, 1)
    tokens = stage.max_tokens * packs
    seen, learned = roles.get("vision", (0, 0))
    layers = max(seen / (12 * width * width), 1) if learned and width else 1  # a layer has 12 matrices of width x width
    depth = text.num_hidden_layers
    kept = 2 * depth + ACTIVATIONS if stage.gradient_checkpointing else ACTIVATIONS * depth
    found = {}
    for zero in (0, 1, 2, 3):
        found[zero] = {
            "weights": weights / (processes if zero == 3 else 1),
            "gradients": 2 * trained / (processes if zero >= 2 else 1),
            "optimiser": 12 * trained / (processes if zero else 1) * (not (zero and offload)),
            "activations": float(kept * tokens * text.hidden_size),
            "logits": 1.5 * BUDGET,
            "vision features": float(ACTIVATIONS * packs * patches * width * layers),
        }
    return found


def most_patches(plan: Plan) -> int:
    """Of a pack."""
    return max((sum(visit.patches for visit in one) for step in plan.steps for one in step), default=0)


def vision_width(model: Any, family: Family) -> int:
    """Channels of the vision encoder: the commonest smaller side of its matrices; 0 where it has none."""
    own = [p for n, p in model.named_parameters() if ".lora_" not in n and family.role(n) == "vision"]
    shapes = [(lora.at_rest(p) or p).shape for p in own]
    found = [min(shape[0], shape[1:].numel()) for shape in shapes if len(shape) > 1]
    return Counter(found).most_common(1)[0][0] if found else 0


def read(release: Path) -> list[Sample]:
    """The samples with what a plan needs of them: half the memory."""
    return [
        structs.replace(  # type: ignore[type-var]  # a record is a struct too (`records.record`)
            sample,
            dataset=intern(sample.dataset),
            split=intern(sample.split),
            task=intern(sample.task),
            method=intern(sample.method),
            language=intern(sample.language),
            instruction="",
            input="",
            response="",
            lineage=NOTHING,
            licence="",
            group="",
        )
        for sample in read_samples(release)
    ]


def show(settings: Settings, release: Path, exact: bool = False) -> None:
    """Prints the plan of every stage that predicts answers."""
    params = with_recipe(settings.sections["tune"])
    samples = read(release)
    for stage in params.stages:
        if stage.objective == "embedding":
            print(f"stage {stage.name}\n  matches {stage.batch:,} grid cells to names in {stage.steps:,} steps")
            continue
        processes = params.processes or torch.cuda.device_count() or 1
        found = forecast(params, stage, samples, settings.seed, home(), processes, exact)
        print("\n".join(lines(stage.name, found, processes, params.zero)))


def lines(name: str, found: Forecast, processes: int, chosen: int = 0) -> Iterator[str]:
    """The plan screen of one stage. chosen: the ZeRO stage of the run."""
    plan, shown = found.plan, found.plan.describe()
    alone, tokens = shown["tokens_read_alone"], shown["tokens"]
    error = found.lengths.error
    near, about = (f" ± {error:.2%}", "~") if error else ("", "")
    yield f"stage {name}"
    yield f"  samples       {shown['samples']:,} of {len(plan.samples):,}; {shown['left_out']:,} left out"
    yield from (f"    {sample}: {reason}" for sample, reason in list(plan.left_out.items())[:5])
    packs = [one for step in plan.steps for one in step if one]
    room = max(sum(visit.tokens for visit in one) for one in packs)
    if error:
        yield (
            f"  lengths       {len(found.lengths.known) - found.lengths.estimated:,} read, "
            f"{found.lengths.estimated:,} from the bytes of their texts: what is left out, the longest and vision "
            "tokens are exact, what has ~ or ± is near (--exact reads all)"
        )
    yield (
        f"  steps         {about}{shown['steps']:,} of {len(plan.steps[0]):,} packs, {about}{len(packs):,} in all, "
        f"of up to {room:,} tokens; "
        + (f"{found.padding:.1%} padding, as samples cannot share a row" if found.padding else "no padding")
    )
    learned = f"{about}{shown['answer_tokens']:,} learned"
    yield f"  tokens        {tokens:,}{near}, {learned}; read one by one {about}{alone:,}"
    yield f"  longest       {shown['longest_sample']:,} tokens"
    yield "  epochs        " + ", ".join(f"{k} {v:g}" for k, v in shown["epochs_by_dataset"].items())
    yield "  vision tokens " + histogram(plan)
    yield f"  balance       the slowest process has {shown['slowest_process']:.3f} times the mean work"
    yield f"  operations    {about}{found.operations:.3g}"
    times = [f"{device} {span(found.operations / peak / SHARE / processes)}" for device, peak in PEAKS.items()]
    yield f"  time          {', '.join(times)} ({processes} devices at {SHARE:.0%} of their peak)"
    for role, (every, trained) in found.parameters.items():
        state = "trained" if trained else "frozen"
        yield f"  {role:<13} {every:,} parameters, {state if trained in (0, every) else f'{trained:,} trained'}"
    for zero, parts in found.memory.items():
        text = ", ".join(f"{part} {size / 2**30:.2f}" for part, size in parts.items())
        label = f"ZeRO {zero}" + ", chosen" * (zero == chosen)
        yield f"  {label:<14}{sum(parts.values()) / 2**30:.2f} GiB a device: {text}"


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
