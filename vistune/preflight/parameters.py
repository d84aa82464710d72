"""Parameters that are of the right type and still cannot be meant."""

from __future__ import annotations

import math
from typing import Any

from vistune.errors import VistuneError
from vistune.params import unknown
from vistune.preflight import Plan
from vistune.stages import STAGES, repository

INFINITE = math.inf

RANGES: dict[str, tuple[float, float]] = {  # parameter: smallest and largest value
    "adapt.workers": (0, 1024),
    "self_instruct.images": (0, INFINITE),
    "self_instruct.max_requests": (0, INFINITE),
    "self_instruct.reasks": (0, 100),
    "self_instruct.temperature": (0, 2),
    "self_instruct.top_p": (0, 1),
    "self_instruct.concurrency": (1, 1000),
    "self_instruct.timeout": (1, 86400),
    "self_instruct.max_retries": (0, 100),
    "validate.min_samples": (1, INFINITE),
    "validate.max_quarantined_share": (0, 1),
    "validate.max_warning_share": (0, 1),
    "validate.yes_share_low": (0, 1),
    "validate.yes_share_high": (0, 1),
    "validate.near_duplicate_hamming": (0, 64),
    "validate.near_duplicate_rouge": (0, 1),
    "tune.threads": (0, 4096),
    "tune.processes": (0, 100_000),
    "tune.workers": (0, 1024),
    "tune.job.nodes": (1, 10_000),
    "tune.job.queue_deadline": (0, INFINITE),
    "tune.job.start_deadline": (0, INFINITE),
    "tune.job.run_deadline": (0, INFINITE),
    "tune.job.restarts": (0, 10_000),
    "evaluate.limit": (1, INFINITE),
    "evaluate.batch_tokens": (1, INFINITE),
    "evaluate.generated_images": (1, INFINITE),
    "evaluate.max_new_tokens": (1, INFINITE),
    "evaluate.replicates": (1, INFINITE),
    "evaluate.confidence": (0.5, 0.999999),
    "evaluate.candidates": (1, 1000),
    "report.images": (0, 1000),
}


def ranges(plan: Plan) -> str:
    """Raises VistuneError with every parameter that is out of its range, not only the first."""
    problems, looked = [text.rstrip(".") for text in plan.wrong], 0
    for name, (low, high) in RANGES.items():
        stage, *keys = name.split(".")
        if not plan.runs(stage):
            continue
        value: Any = plan.section(stage)
        for key in keys:
            value = getattr(value, key, None)
        if value is None:  # not set, or of another version of the stage
            continue
        looked += 1
        if not low <= value <= high:
            problems.append(f"{name} is {value}; expected {_range(low, high)}")
    problems += _shares(plan) + _processes(plan)
    if problems:
        raise VistuneError(". ".join(problems) + ".")
    return f"{len(STAGES)} sections, {looked} numbers in range"


def _range(low: float, high: float) -> str:
    """
    >>> _range(1, math.inf), _range(0, 1)
    ('at least 1', '0 to 1')
    """
    return f"at least {low:g}" if high == INFINITE else f"{low:g} to {high:g}"


def _shares(plan: Plan) -> list[str]:
    kinds = getattr(plan.section("self_instruct"), "kinds", {}) if plan.runs("self_instruct") else {}
    wrong = [
        f"self_instruct.kinds.{k} is {v}; expected a share from 0 to 1" for k, v in kinds.items() if not 0 <= v <= 1
    ]
    low, high = (getattr(plan.section("validate"), f"yes_share_{end}", None) for end in ("low", "high"))
    if plan.runs("validate") and low is not None and high is not None and low > high:
        wrong.append(f"validate.yes_share_low is {low}, above yes_share_high {high}")
    return wrong


def _processes(plan: Plan) -> list[str]:
    """Processes that the GPUs of the pipeline cannot hold."""
    if not plan.runs("tune"):
        return []
    tune, needs = plan.section("tune"), plan.needs
    wanted, job = getattr(tune, "processes", 0), getattr(tune, "job", None)
    nodes = job.nodes if job else 1
    if job and nodes > 1 and needs.on_cluster and not needs.in_job:
        return [
            f"tune.job.nodes is {nodes}, and this pipeline trains in one pod. Compile it with VISTUNE_TRAIN_ON=trainjob"
        ]
    if wanted and wanted % nodes:
        return [f"tune.processes is {wanted}: not the same number on each of {nodes} nodes"]
    if needs.on_cluster and needs.gpus and wanted > nodes * needs.gpus:
        return [
            f"tune.processes is {wanted}, and {nodes} nodes with {needs.gpus} GPUs have {nodes * needs.gpus}. Set it "
            "to 0 for one per GPU, or compile with more VISTUNE_GPUS"
        ]
    return []


def suite(plan: Plan) -> str:
    """The files of eval/ that `evaluate` will read."""
    wanted = plan.section("evaluate")
    found = []
    for kind in ("suite", "gate"):
        name = getattr(wanted, kind, None)
        folder = repository() / "eval" / f"{kind}s"
        if name is None or not folder.is_dir():
            continue
        known = sorted(p.stem for p in folder.glob("*.yaml"))
        if name not in known:
            raise VistuneError(unknown(f"evaluate.{kind}={name}", [f"evaluate.{kind}={k}" for k in known]))
        found.append(f"{kind} {name}")
    return ", ".join(found) or "none is named"


def name(plan: Plan) -> str:
    """The name in the model registry."""
    wanted = plan.section("promote").name
    if not wanted or wanted != wanted.strip() or any(c in "/:@%\"'\\" or not c.isprintable() for c in wanted):
        raise VistuneError(
            f"promote.name {wanted!r} cannot name a model: use letters, digits, '-', '_', '.' and spaces."
        )
    return wanted
