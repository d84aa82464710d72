"""Starts the stage: in this process, or in several that share the answering. The first of these runs the stage; the
others load each model as it does, and compute a share of what it asks."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.errors import VistuneError
from vistune.evaluate import Params
from vistune.files import read_json, write_json
from vistune.jobs import JobParams
from vistune.jobs.backend import Work
from vistune.jobs.local import Local, end_with_launcher
from vistune.params import parse

if TYPE_CHECKING:
    from vistune.stages import Context


def launch(params: Params, inputs: Mapping[str, Path], output: Path, context: Context) -> dict[str, Any]:
    local = Local(JobParams(), context.home)
    processes = local.processes(params.processes)
    file, result = output / "job.json", output / "summary.json"
    for left in (file, result):  # by a run that was killed
        left.unlink(missing_ok=True)
    if processes == 1:
        from vistune.evaluate.stage import run

        return run(params, inputs, output, context)
    import torch

    folders = {"output": output, "home": context.home, "root": context.root}
    job = {"params": asdict(params), "seed": context.seed, "inputs": {k: str(v) for k, v in inputs.items()}}
    job |= {name: str(folder) for name, folder in folders.items()}
    write_json(file, job | {"threads": max(torch.get_num_threads() // processes, 1)})
    local.run(Work("vistune.evaluate.launch", file, result, 1, processes))
    found = read_json(result)
    file.unlink()
    result.unlink()
    for metrics, step in found["logged"]:
        context.log(metrics, step)
    return found["summary"]


def _work(job: dict[str, Any], file: Path) -> None:
    import torch

    from vistune.evaluate import ranks, stage
    from vistune.sources.join import no_collection
    from vistune.stages import Context

    torch.set_num_threads(job["threads"])
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    team = ranks.led()
    logged: list[Any] = []
    params = parse(Params, job["params"], "evaluate")
    inputs = {name: Path(folder) for name, folder in job["inputs"].items()}
    context = Context(job["seed"], Path(job["home"]), Path(job["root"]), lambda m, step: logged.append([dict(m), step]))
    with no_collection():
        if team.rank:
            stage.follow(params, inputs, context, team)
            return
        summary = stage.run(params, inputs, Path(job["output"]), context, team)
    write_json(file.with_name("summary.json"), {"summary": summary, "logged": logged})


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
