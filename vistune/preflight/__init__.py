"""Preflight: everything that a run needs is looked at before anything costs money.

All checks are made, whatever the others found; the table says of each that failed what to do. A check that cannot be
made here says why, and is no failure. Nothing of a secret is read but whether it is there.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vistune.errors import VistuneError
from vistune.params import parse
from vistune.stages import STAGES, Settings, module


@dataclass(frozen=True)
class Needs:
    """What a compiled pipeline asks of the cluster. Without an image it is a run on this machine."""

    image: str = ""
    gpus: int = 0
    gpu_type: str = "nvidia.com/gpu"
    train_on: Literal["pod", "trainjob", "pytorchjob"] = "pod"
    claim: str = ""
    cpus: str = ""
    memory: str = ""
    shm: str = ""
    shards: int = 1
    workspace: str = ""
    workspace_class: str = ""
    ttl_days: int = 7
    version: str = ""
    stages: tuple[str, ...] = ()  # that the pipeline runs; none: all

    @classmethod
    def read(cls, text: str) -> Needs:
        """From JSON; raises VistuneError for anything else."""
        try:
            tree = json.loads(text or "{}")
        except ValueError as error:
            raise VistuneError(f"needs is not JSON ({error}); the compiled pipeline sets it.") from None
        return parse(cls, tree, "needs")

    @property
    def on_cluster(self) -> bool:
        return bool(self.image)

    @property
    def in_job(self) -> bool:
        """Whether training is a job of its own."""
        return self.train_on != "pod"


@dataclass(frozen=True)
class Plan:
    """What is to be run, where, and with which parameters."""

    settings: Settings
    needs: Needs
    wrong: tuple[str, ...] = ()  # what was found when the parameters were read

    def section(self, stage: str) -> Any:
        return self.settings.sections[stage]

    def runs(self, stage: str) -> bool:
        """Whether the pipeline has this stage."""
        return not self.needs.stages or stage in self.needs.stages

    @property
    def in_job(self) -> bool:
        """Whether this pipeline trains, in a job of its own."""
        return self.runs("tune") and self.needs.in_job


@dataclass(frozen=True)
class Finding:
    """What a check found: how it is, or what to do."""

    check: str
    state: Literal["ok", "failed", "skipped"]
    said: str


class Skip(Exception):
    """This cannot be checked here, or need not be; its text says why."""


def run(tree: Mapping[str, Any], needs: Needs, parameters_alone: bool = False) -> list[Finding]:
    """One finding for each check, in the order of `checks`; of the first three where `parameters_alone`."""
    from vistune.preflight import cluster, parameters, services, storage

    checks: dict[str, tuple[Callable[[Plan], str], tuple[str, ...]]] = {  # and the stages that need it; none: always
        "parameters": (parameters.ranges, ()),
        "suite and gate": (parameters.suite, ("evaluate",)),
        "model name": (parameters.name, ("promote",)),
        "secrets": (services.secrets, ()),
        "teacher": (services.teacher, ("self_instruct",)),
        "judge": (services.judge, ("evaluate",)),
        "servers": (services.servers, ("evaluate",)),
        "MLflow": (services.mlflow, ()),
        "image": (cluster.image, ()),
        "kind of job": (cluster.kind_of_job, ("tune",)),
        "rights": (cluster.rights, ("tune",)),
        "job accepted": (cluster.job_accepted, ("tune",)),
        "GPU quota": (cluster.quota, ("tune", "evaluate")),
        "volume": (cluster.volume, ("tune",)),
        "workspace": (storage.workspace, ()),
    }
    plan = planned(tree, needs)
    chosen = list(checks)[:3] if parameters_alone else checks
    return [_found(name, *checks[name], plan) for name in chosen]


def planned(tree: Mapping[str, Any], needs: Needs) -> Plan:
    """A section that cannot be parsed is taken as empty, so that the other checks are made all the same."""
    sections, wrong = {}, []
    try:
        seed = Settings.parse({key: value for key, value in tree.items() if key not in STAGES}).seed
    except VistuneError as error:
        seed, wrong = 0, [str(error)]
    for stage in STAGES:
        try:
            sections[stage] = parse(module(stage).Params, tree.get(stage), stage)
        except VistuneError as error:
            sections[stage] = module(stage).Params()
            wrong.append(str(error))
    return Plan(Settings(seed, sections), needs, tuple(wrong))


def _found(name: str, check: Callable[[Plan], str], stages: tuple[str, ...], plan: Plan) -> Finding:
    from vistune.tracking import redact_text

    try:
        if stages and not any(map(plan.runs, stages)):
            raise Skip(f"this pipeline has no step {' or '.join(stages)}")
        return Finding(name, "ok", redact_text(check(plan)))
    except Skip as skip:
        return Finding(name, "skipped", redact_text(str(skip)))
    except VistuneError as error:
        return Finding(name, "failed", redact_text(str(error)))


def table(findings: list[Finding]) -> str:
    """One line for each finding.

    >>> print(table([Finding("rights", "ok", "of 8, all"), Finding("MLflow", "failed", "no answer. Start it.")]))
    ok       rights  of 8, all
    FAILED   MLflow  no answer. Start it.
    """
    marks = {"ok": "ok", "failed": "FAILED", "skipped": "skipped"}
    width = max(len(one.check) for one in findings)
    return "\n".join(f"{marks[one.state]:<8} {one.check:<{width}}  {one.said}" for one in findings)


def require(tree: Mapping[str, Any], needs: Needs, parameters_alone: bool = False) -> None:
    """Raises VistuneError with the failed findings, if there are any. parameters_alone: leaves out what only the
    cluster can see, which holds the keys."""
    found = run(tree, needs, parameters_alone)
    if failed := [one for one in found if one.state == "failed"]:
        raise VistuneError(f"nothing was started:\n{table(failed)}")


def needs_here(stages: tuple[str, ...] = ()) -> Needs:
    """Those of a pipeline with these stages that the environment describes, as `make compile` reads it; see
    pipelines/placing.py."""
    names = [f.name for f in dataclasses.fields(Needs) if f.name != "stages"]
    given = {name: os.environ.get(f"VISTUNE_{name.upper()}") for name in names}
    kinds = {"gpus": int, "shards": int, "ttl_days": int}
    try:
        tree = {name: kinds.get(name, str)(text) for name, text in given.items() if text}
    except ValueError as error:
        raise VistuneError(f"VISTUNE_GPUS, VISTUNE_SHARDS and VISTUNE_TTL_DAYS are whole numbers: {error}.") from None
    if "image" in tree:
        tree = {"claim": "vistune-shared", "gpus": 1, **tree}
    return parse(Needs, {**tree, "stages": list(stages)}, "VISTUNE_*")
