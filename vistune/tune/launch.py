"""Starts the training stages: in this process, in those that torchrun or the deepspeed launcher has started beside it,
or in those of a backend of `vistune.jobs`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune import jobs
from vistune.errors import Interrupted, VistuneError
from vistune.files import read_json, write_json
from vistune.jobs.backend import Work
from vistune.jobs.local import end_with_launcher
from vistune.params import parse
from vistune.tune import Params

if TYPE_CHECKING:
    from vistune.stages import Context


LOGGED = "logged.jsonl"
"""What processes that a backend has started would tell the tracker; it is read when they are done."""


def with_recipe(params: Params) -> Params:
    """Where no stages are named, those that the family's authors published."""
    if params.stages:
        return params
    from vistune.models import family
    from vistune.tune.recipe import published

    found = family(params.family)
    name = params.preset or next(iter(found.presets))
    return dataclasses.replace(params, stages=published(params.family, name, found.preset(name)))


def launch(params: Params, release: Path, output: Path, context: Context) -> dict[str, Any]:
    params = with_recipe(params)
    started = int(os.environ.get("WORLD_SIZE", 1))
    backend = jobs.backend_for(params.job, context.home)
    nodes, each = (1, started) if started > 1 else (params.job.nodes, backend.processes(params.processes))
    processes = nodes * each
    for stage in params.stages:
        if stage.objective != "embedding" and not stage.samples and stage.batch % processes:
            raise VistuneError(
                f"training stage {stage.name}: batch {stage.batch} cannot be dealt evenly to {processes} processes."
            )
    if processes == 1 and params.job.backend == "local":
        from vistune.tune.work import work

        return work(params, release, output, context.seed, context.home, context.root, context.log)
    if started == 1:
        release = backend.place(release)
    paths = {"release": release, "output": output, "home": context.home, "root": context.root}
    job = {"params": dataclasses.asdict(params), "seed": context.seed, **{k: str(v) for k, v in paths.items()}}
    if started > 1:
        _told(job)
        _work(job, context.log)
    else:
        file = output / "job.json"
        write_json(file, job)
        backend.run(Work("vistune.tune.launch", file, output / "summary.json", nodes, each))
        file.unlink()
        _log(output / LOGGED, context)
    summary = read_json(output / "summary.json")
    (output / "summary.json").unlink()
    return summary


def _log(file: Path, context: Context) -> None:
    """What the first process has kept, to the tracker; of steps that were taken again after a kill the last time."""
    steps: dict[tuple[str, int], Mapping[str, float]] = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        with contextlib.suppress(json.JSONDecodeError):  # a line that a kill cut short: its step was taken again
            entry = json.loads(line)
            stage = next(iter(entry["metrics"])).partition("/")[0]
            steps[stage, entry["step"]] = entry["metrics"]
    for (_, step), metrics in steps.items():
        context.log(metrics, step)
    file.unlink(missing_ok=True)


def _keep(file: Path, metrics: Mapping[str, float], step: int) -> None:
    """For `_log`. Each line begins with its end, so that one that was cut short spoils no other."""
    with open(file, "a", encoding="utf-8") as f:
        f.write("\n" + json.dumps({"step": step, "metrics": metrics}))


def follow() -> None:
    """What a process does that a launcher has started beside the first one: its part of what the first one trains."""
    while (job := _told(None)) is not None:
        _work(job, lambda *_: None)


def dismiss() -> None:
    """Tells the others, from the first process, that nothing is left to train."""
    import torch

    _told(None)
    torch.distributed.destroy_process_group()


def _told(job: dict[str, Any] | None) -> dict[str, Any] | None:
    """The first process's job, on all of them."""
    import torch

    if not torch.distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    jobs = [job]
    torch.distributed.broadcast_object_list(jobs, src=0)
    return jobs[0]


def _work(job: dict[str, Any], log: Callable[[Mapping[str, float], int], None]) -> None:
    from vistune.tune.work import work

    params = parse(Params, job["params"], "tune")
    release, output, home, root = (Path(job[k]) for k in ("release", "output", "home", "root"))
    summary = work(params, release, output, job["seed"], home, root, log)
    if summary:  # of the first process alone
        write_json(output / "summary.json", summary)


def main() -> None:
    """One process of several; argv[1] is the job file. torchrun ends its processes itself."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        end_with_launcher()
    try:
        job = read_json(Path(sys.argv[1]))
        _work(job, partial(_keep, Path(job["output"]) / LOGGED))
    except VistuneError as error:
        print(f"tune: process {os.environ['RANK']}: {error}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None
    except Interrupted as stopped:
        if os.environ["RANK"] == "0":
            print(f"tune: {stopped}", file=sys.stderr, flush=True)
        raise SystemExit(stopped.status) from None


if __name__ == "__main__":
    main()
