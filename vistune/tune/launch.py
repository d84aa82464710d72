"""Starts the training stages: in this process, in several of this machine, or in those that torchrun or the deepspeed
launcher has started on one or many machines."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.errors import Interrupted, VistuneError
from vistune.files import read_json, write_json
from vistune.interrupt import Interruption
from vistune.params import parse
from vistune.tune import Params

if TYPE_CHECKING:
    from vistune.stages import Context


GRACE = 10.0
"""Seconds in which the other processes may say what they have to say, once one of them has failed."""


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
    started = int(os.environ.get("WORLD_SIZE", 1))
    processes = started if started > 1 else params.processes or torch.cuda.device_count() or 1
    for stage in params.stages:
        if stage.objective != "embedding" and not stage.samples and stage.batch % processes:
            raise VistuneError(
                f"training stage {stage.name}: batch {stage.batch} cannot be dealt evenly to {processes} processes."
            )
    if processes == 1:
        from vistune.tune.work import work

        return work(params, release, output, context.seed, context.home, context.root, context.log)
    paths = {"release": release, "output": output, "home": context.home, "root": context.root}
    job = {"params": dataclasses.asdict(params), "seed": context.seed, **{k: str(v) for k, v in paths.items()}}
    if started > 1:
        _told(job)
        _work(job, context.log)
    else:
        write_json(output / "job.json", job)
        _together(output / "job.json", processes)
        (output / "job.json").unlink()
        _log(output / "history.jsonl", context)
    summary = read_json(output / "summary.json")
    (output / "summary.json").unlink()
    return summary


def _log(history: Path, context: Context) -> None:
    for line in history.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        stage, step = entry.pop("stage"), entry.pop("step")
        context.log({f"{stage}/{k}": v for k, v in entry.items()}, step)


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
    work(params, release, output, job["seed"], home, root, log)


def _together(job: Path, processes: int) -> None:
    """Runs the job on so many processes of this machine, and ends them all when one fails or a signal comes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks: list[subprocess.Popen] = []

    def pass_on(number: int) -> None:
        for rank in ranks:
            rank.send_signal(number)

    with Interruption(pass_on) as interruption:
        for rank in range(processes):
            own = {"OMP_NUM_THREADS": 1, **shared, "RANK": rank, "LOCAL_RANK": rank}
            ranks.append(
                subprocess.Popen(
                    [sys.executable, "-m", "vistune.tune.launch", str(job)],
                    env=os.environ | {name: str(value) for name, value in own.items()},
                    stdin=subprocess.PIPE,  # it closes when this process ends, however it ends
                    start_new_session=True,  # Ctrl-C reaches them from here alone, once
                )
            )
        while (ends := [rank.poll() for rank in ranks]).count(None) and not any(ends):
            time.sleep(0.1)
        failed = next((status for status in ends if status), 0)
        _end(ranks, GRACE if failed and failed != 128 + interruption.signal else None)
    if failed and interruption.signal:
        raise Interrupted(
            f"{signal.Signals(interruption.signal).name} ended the training on {processes} processes. Run the same "
            "command again to go on from the last checkpoint.",
            interruption.signal,
        )
    if failed:
        raise VistuneError(f"tuning on {processes} processes failed with status {failed}; the cause is above.")


def _end(ranks: list[subprocess.Popen], grace: float | None) -> None:
    """The others of a failed process wait for it in vain, so they are ended after `grace` seconds; None: they are not
    in vain, one may still be writing the checkpoint."""
    until = time.monotonic() + (grace or 0.0)
    for rank in ranks:
        try:
            rank.wait(None if grace is None else max(until - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            rank.kill()
            rank.wait()
        if rank.stdin:
            rank.stdin.close()


def _leave_with_launcher() -> None:
    os.read(0, 1)  # not through Python's buffers, whose lock an exit would wait for
    os._exit(1)  # the launcher is gone, and with it the lock on the folder that this process writes to


def main() -> None:
    """One process of several; argv[1] is the job file."""
    threading.Thread(target=_leave_with_launcher, daemon=True).start()
    try:
        _work(read_json(Path(sys.argv[1])), lambda *_: None)
    except VistuneError as error:
        print(f"tune: process {os.environ['RANK']}: {error}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None
    except Interrupted as stopped:
        if os.environ["RANK"] == "0":
            print(f"tune: {stopped}", file=sys.stderr, flush=True)
        raise SystemExit(stopped.status) from None


if __name__ == "__main__":
    main()
