"""Starts the training stages: in this process, or in several under torchrun."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.errors import VistuneError
from vistune.files import read_json, write_json
from vistune.params import parse
from vistune.tune import Params

if TYPE_CHECKING:
    from vistune.stages import Context


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
    import torch

    params = with_recipe(params)
    processes = params.processes or torch.cuda.device_count() or 1
    for stage in params.stages:
        if stage.objective != "embedding" and not stage.samples and stage.batch % processes:
            raise VistuneError(
                f"training stage {stage.name}: batch {stage.batch} cannot be dealt evenly to {processes} processes."
            )
    if processes == 1:
        from vistune.tune.work import work

        return work(params, release, output, context.seed, context.home, context.root, context.log)
    job = output / "job.json"
    write_json(
        job,
        {
            "params": dataclasses.asdict(params),
            "seed": context.seed,
            **{
                k: str(v)
                for k, v in {"release": release, "output": output, "home": context.home, "root": context.root}.items()
            },
        },
    )
    command = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={processes}",
        "-m",
        "vistune.tune.launch",
    ]
    done = subprocess.run([sys.executable, *command, str(job)], env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise VistuneError(f"tuning on {processes} processes failed with status {done.returncode}; the cause is above.")
    job.unlink()
    for line in (output / "history.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        stage, step = entry.pop("stage"), entry.pop("step")
        context.log({f"{stage}/{k}": v for k, v in entry.items()}, step)
    summary = read_json(output / "summary.json")
    (output / "summary.json").unlink()
    return summary


def main() -> None:
    """One process of a torchrun launch; argv[1] is the job file."""
    job = read_json(Path(sys.argv[1]))
    params = parse(Params, job["params"], "tune")
    release, output, home, root = (Path(job[k]) for k in ("release", "output", "home", "root"))
    from vistune.tune.work import work

    work(params, release, output, job["seed"], home, root, lambda *_: None)


if __name__ == "__main__":
    main()
