"""Starts the stage: in this process, or in several that share the answering, which torchrun or this module starts. The
first of these runs the stage; the others load each model as it does, and compute a share of what it asks."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vistune.collection import no_collection
from vistune.errors import VistuneError
from vistune.evaluate import Params, ranks
from vistune.evaluate.ranks import Team
from vistune.evaluate.starting import import_stage
from vistune.files import read_json, write_json
from vistune.jobs import JobParams
from vistune.jobs.backend import Work
from vistune.jobs.local import Local, end_with_launcher
from vistune.params import parse
from vistune.stages import Context


def launch(params: Params, inputs: Mapping[str, Path], output: Path, context: Context) -> dict[str, Any]:
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:  # the others are there, and `follow`
        return _lead(params, inputs, output, context)
    local = Local(JobParams(), context.home)
    with no_collection():  # torch comes in
        processes = local.processes(params.processes)
    file, result = output / "job.json", output / "summary.json"
    for left in (file, result):  # by a run that was killed
        left.unlink(missing_ok=True)
    if processes == 1:
        return import_stage().run(params, inputs, output, context)
    import torch

    job = _job(params, inputs, context) | {"output": str(output)}
    write_json(file, job | {"threads": max(torch.get_num_threads() // processes, 1)})
    local.run(Work("vistune.evaluate.launch", file, result, 1, processes))
    found = read_json(result)
    file.unlink()
    result.unlink()
    for metrics, step in found["logged"]:
        context.log(metrics, step)
    return found["summary"]


def follow() -> None:
    """What a process does that was started beside the first one: a share of what that one asks, until `dismiss`."""
    team = _team()
    while (job := team.tell()) is not None:
        params, inputs, seed, home, root = _told(job)
        import_stage().follow(params, inputs, Context(seed, home, root), team)


def dismiss() -> None:
    """Tells the others, from the first process, that nothing is left to ask."""
    from torch import distributed

    _team().tell()
    distributed.destroy_process_group()


def _lead(params: Params, inputs: Mapping[str, Path], output: Path, context: Context) -> dict[str, Any]:
    team = _team()
    team.tell(_job(params, inputs, context))
    return import_stage().run(params, inputs, output, context, team)


def _team() -> Team:
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    return ranks.led()


def _job(params: Params, inputs: Mapping[str, Path], context: Context) -> dict[str, Any]:
    found = {"params": asdict(params), "seed": context.seed, "home": str(context.home), "root": str(context.root)}
    return found | {"inputs": {name: str(folder) for name, folder in inputs.items()}}


def _told(job: Mapping[str, Any]) -> tuple[Params, dict[str, Path], int, Path, Path]:
    inputs = {name: Path(folder) for name, folder in job["inputs"].items()}
    return parse(Params, job["params"], "evaluate"), inputs, job["seed"], Path(job["home"]), Path(job["root"])


def _work(job: Mapping[str, Any], file: Path) -> None:
    import torch

    torch.set_num_threads(job["threads"])
    if os.environ["RANK"] != "0":
        follow()
        return
    logged: list[Any] = []
    params, inputs, seed, home, root = _told(job)
    context = Context(seed, home, root, lambda metrics, step: logged.append([dict(metrics), step]))
    summary = _lead(params, inputs, Path(job["output"]), context)
    write_json(file.with_name("summary.json"), {"summary": summary, "logged": logged})
    dismiss()


def main() -> None:
    """One process of several; argv[1] is the job file. A signal ends it at once: what was answered is on disk."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    end_with_launcher()
    file = Path(sys.argv[1])
    try:
        _work(read_json(file), file)
    except VistuneError as error:
        print(f"evaluate: process {os.environ['RANK']}: {error}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
