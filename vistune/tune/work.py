"""One process's part of tuning: all stages, each from the last one's weights."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vistune.errors import VistuneError
from vistune.files import read_json, write_json
from vistune.hashing import keyed
from vistune.models import family, lora
from vistune.models.evidence import read_evidence
from vistune.models.modeling import cast_language, precision
from vistune.models.reader import Reader
from vistune.models.vlm import Vlm, build, load
from vistune.records import Sample
from vistune.store import read_samples
from vistune.tune import Params, StageParams
from vistune.tune import engine as engines
from vistune.tune.answers import Answers
from vistune.tune.embedding import align
from vistune.tune.features import Features, cacheable
from vistune.tune.history import History
from vistune.tune.loop import train
from vistune.tune.operations import Operations
from vistune.tune.plan import Plan, about, make, select
from vistune.tune.roles import Movement, lines, table
from vistune.tune.rows import Builder
from vistune.tune.shortage import explained

VALIDATION_IMAGES = 16

STEADY = ("cell_accuracy", "padding")
"""What two runs with one seed share; the rest depends on the machine."""

Log = Callable[[dict[str, float], int], None]


def work(params: Params, release: Path, output: Path, seed: int, home: Path, root: Path, log: Log) -> dict[str, Any]:
    """The first process writes; a stage whose model is already saved is not run again."""
    rank, processes, device, dtype = _start(params)
    samples = list(read_samples(release))
    summaries: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    measured: dict[str, float] = {}
    roles: dict[str, Any] = {}
    source: Path | None = None
    for n, stage in enumerate(params.stages):
        last = n == len(params.stages) - 1
        target = output / ("model" if last else "base" if n == 0 else f"stages/{stage.name}")
        record_file = output / f"stage-{n}.json"
        if not record_file.is_file():
            vlm = _starting(params, source, seed, home)
            cast_language(vlm.model, dtype)
            _adapt(vlm, stage, params, seed, device)
            vlm.model.to(device)
            history = History(output / "history.jsonl", stage.name, log)
            state, record, timed = _run(vlm, params, stage, samples, release, output, seed, home, root, history)
            if rank == 0:
                # what comes after the last stage asks as it did; what comes after another one has its own way
                _save(Vlm(vlm.model, vlm.reader.at(stage)) if last else vlm, target, state)
                write_json(record_file, record)
                measured |= {f"{stage.name}/{k}": v for k, v in timed.items()}
            if processes > 1:
                torch.distributed.barrier()
            del vlm
        done = read_json(record_file)
        summaries[stage.name], roles[stage.name] = done["plan"], done["roles"]
        metrics |= {f"{stage.name}/{k}": v for k, v in done["metrics"].items()}
        source = target
    if rank > 0:
        return {}
    write_json(output / "plan.json", summaries)
    write_json(output / "roles.json", roles)
    shutil.rmtree(output / "checkpoints", ignore_errors=True)
    return {
        "counts": {"in": len(samples), "out": len(samples), "rejected": {}},
        "metrics": metrics,
        "measured": measured,
        "details": {"plan": summaries, "roles": roles, "base": base(params)},
    }


def _start(params: Params) -> tuple[int, int, str, torch.dtype]:
    rank, processes = engines.world()
    torch.set_num_threads(params.threads or (os.cpu_count() or 1) // processes or 1)
    device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    if device != "cpu":
        torch.cuda.set_device(device)
    if processes > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device != "cpu" else "gloo")
    dtype = precision(params.dtype, device)
    if rank == 0:
        name = str(dtype).removeprefix("torch.")
        print(f"tune: {processes} process(es), {torch.get_num_threads()} threads, {device}, {name}", flush=True)
    return rank, processes, device, dtype


def _starting(params: Params, source: Path | None, seed: int, home: Path) -> Vlm:
    """The last stage's model, or before the first one the family's."""
    if source is not None:
        return load(source)
    start = base(params)
    language, vision = start["language"], start["vision"]
    return build(start["family"], start["preset"], seed=seed, home=home, language=language, vision=vision)


def _adapt(vlm: Vlm, stage: StageParams, params: Params, seed: int, device: str) -> None:
    """The stage's LoRA. Weights that rest in 4 bits go to the device as such."""
    if not (stage.lora or stage.quantised):
        return
    if params.zero == 3 or stage.objective == "embedding":
        raise VistuneError(
            f"training stage {stage.name}: LoRA runs with ZeRO 0 to 2 and objectives that predict answers; tune.zero "
            f"is {params.zero}, the objective {stage.objective}."
        )
    lora.attach(vlm, stage.lora, quantised=stage.quantised, seed=keyed(seed, stage.name, "lora"), device=device)


def _run(
    vlm: Vlm,
    params: Params,
    stage: StageParams,
    samples: Sequence[Sample],
    release: Path,
    output: Path,
    seed: int,
    home: Path,
    root: Path,
    history: History,
) -> tuple[dict[str, torch.Tensor], dict[str, Any], dict[str, float]]:
    """One stage: the weights, what is recorded of it, and what depends on the machine."""
    rank, processes = engines.world()
    record, forget = (history.record, history.forget) if rank == 0 else (_ignore, _ignore)
    staged = Vlm(vlm.model, vlm.reader.at(stage))
    chosen = select(samples, stage, seed)
    planned = held_out = None
    if stage.objective != "embedding":
        planned = make(chosen, staged.reader, stage, seed, Operations(staged, stage))
        held_out = validation(samples, staged.reader, stage, seed)
    frozen = stage.learning_rates.get("vision", 0.0) == 0.0
    features = None
    if params.cache_features and frozen and cacheable(staged):
        seen = [*planned.shown(), *(held_out.shown() if held_out else [])] if planned else _first_images(chosen)
        if processes > 1 and rank > 0:
            torch.distributed.barrier()  # the first process fills the cache
        features = Features(staged, release, seen, home / "features")
        if processes > 1 and rank == 0:
            torch.distributed.barrier()
    if planned is None:
        if features is None:
            raise VistuneError(
                f"training stage {stage.name}: the objective embedding reads a frozen vision tower's features from "
                "disk. Set tune.cache_features, give vision no learning rate, and take a family of one feature map "
                "an image."
            )
        engines.groups(vlm, stage)
        roles = _roles(vlm, stage)
        forget(0)
        movement = Movement(vlm.model, vlm.family, stage)
        plan = align(staged, features, chosen, stage, seed, record)
        movement.check(stage.steps - 1)
        state, measured = vlm.model.state_dict(), {"cell_accuracy": plan["cell_accuracy"]}
    else:
        plan = planned.describe()
        engine = engines.build(vlm, stage, params, root)
        roles = _roles(vlm, stage)
        evidence = read_evidence(params.evidence) if params.evidence else None
        builder = Builder(staged.reader, release, stage, features, processes > 1, evidence)
        folder = output / "checkpoints" / stage.name
        answer = None
        if stage.answers and held_out is not None and params.zero < 3:  # ZeRO-3 keeps no process's weights whole
            answer = Answers(staged, held_out.samples, stage.answers, release, output / "answers", seed, evidence)
        with explained(staged, stage, params, planned):
            measured = train(
                engine, builder, planned, stage, seed, folder, record, forget, held_out, params.workers, answer
            )
        if stage.lora:
            if stage.quantised:
                vlm.model.cpu()  # the device that held 4 bits of a weight need not hold all of it
            lora.merge(vlm)
        state = vlm.model.state_dict() if stage.lora else engine.state_dict()
    final = {f"final_{k}": v for k, v in history.last().items() if k in ("loss", "validation_loss")}
    steady = {k: v for k, v in measured.items() if k in STEADY}
    timed = {k: v for k, v in measured.items() if k not in STEADY}
    return state, {"plan": plan, "roles": roles, "metrics": {**steady, **final}}, timed


def _first_images(samples: Sequence[Sample]) -> list[Any]:
    return [sample.images[0] for sample in samples if sample.images]


def _save(vlm: Vlm, target: Path, state: dict[str, torch.Tensor]) -> None:
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    vlm.save(partial, state)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(partial, target)


def base(params: Params) -> dict[str, str]:
    """Family, preset and weights that tuning starts from."""
    name = params.preset or next(iter(family(params.family).presets))
    preset = family(params.family).preset(name)
    return {
        "family": params.family,
        "preset": name,
        "vision": params.vision or preset.vision,
        "language": params.language or preset.language,
    }


def validation(samples: Sequence[Sample], reader: Reader, stage: StageParams, seed: int) -> Plan | None:
    """One pass over samples of a few pictures that are not trained on; None where the release has none."""
    found = select(samples, stage, seed, "validation")
    keys = list(dict.fromkeys(map(about, found)))[:VALIDATION_IMAGES]
    found = [sample for sample in found if about(sample) in keys]
    return make(found, reader, replace(stage, steps=0, epochs=1.0, alpha=1.0, caps={}), seed) if found else None


def _roles(vlm: Vlm, stage: StageParams) -> dict[str, dict[str, Any]]:
    """The table of roles, which the first process prints."""
    found = table(vlm.model, vlm.family, stage)
    if engines.world()[0] == 0:
        print("\n".join(lines(stage.name, found)), flush=True)
    return found


def _ignore(*_: Any) -> None:
    """The other processes record nothing."""
