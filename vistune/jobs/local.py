"""Processes of this machine: several GPUs of one node, or several CPU processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from vistune.errors import Interrupted, VistuneError
from vistune.interrupt import Interruption
from vistune.jobs import JobParams
from vistune.jobs.backend import Work

GRACE = 10.0
"""Seconds in which the other processes may say what they have to say, once one of them has failed."""


class Local:
    def __init__(self, params: JobParams, home: Path) -> None:
        if params.nodes > 1:
            raise VistuneError(
                f"tune.job.nodes is {params.nodes}, but tune.job.backend local has this machine alone. Set the backend "
                "to trainjob or pytorchjob, or start the stage with torchrun on each machine."
            )

    def processes(self, wanted: int) -> int:
        if wanted:
            return wanted
        import torch

        return torch.cuda.device_count() or 1

    def place(self, release: Path) -> Path:
        return release

    def run(self, work: Work) -> None:
        """Ends all processes when one fails or a signal comes."""
        stage = work.module.split(".")[1]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        size = work.processes
        shared = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        ranks: list[subprocess.Popen] = []

        def pass_on(number: int) -> None:
            for rank in ranks:
                rank.send_signal(number)

        with Interruption(pass_on) as interruption:
            for rank in range(size):
                own = {"OMP_NUM_THREADS": 1, **shared, "RANK": rank, "LOCAL_RANK": rank}
                ranks.append(
                    subprocess.Popen(
                        [sys.executable, "-m", work.module, str(work.file)],
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
                f"{signal.Signals(interruption.signal).name} ended {stage} on {size} processes. Run the same command "
                "again to go on from what is kept.",
                interruption.signal,
            )
        if failed:
            raise VistuneError(f"{stage} on {size} processes failed with status {failed}; the cause is above.")


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


def end_with_launcher() -> None:
    """In a process that `run` has started: it ends when its launcher has, however that ended."""
    threading.Thread(target=_leave, daemon=True).start()


def _leave() -> None:
    os.read(0, 1)  # not through Python's buffers, whose lock an exit would wait for
    os._exit(1)  # the launcher is gone, and with it the lock on the folder that this process writes to
