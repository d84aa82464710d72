"""What runs in every pod of a job: torchrun on the job file, with an exit status that says what happened.

torchrun itself exits with 1 whatever went wrong. Here a pod exits with the status of the process that failed first
(137: killed, mostly for memory), and with 143 when the pod was told to end and its processes have saved a checkpoint.
"""

from __future__ import annotations

import os
import sys

SHUTDOWN = 100
"""Seconds in which the processes may finish their step and save it, once the pod is told to end. It is below the pods'
terminationGracePeriodSeconds of 120."""


def arguments(module: str, file: str, nodes: int, processes: int, environment: dict[str, str]) -> list[str]:
    """torchrun's, from what the operators set: Trainer PET_*, the older one at least MASTER_ADDR, MASTER_PORT, RANK.

    >>> arguments("trainer", "job.json", 2, 8, {"MASTER_ADDR": "a-master-0", "MASTER_PORT": "23456", "RANK": "1"})[:5]
    ['--nnodes=2', '--nproc-per-node=8', '--node-rank=1', '--master-addr=a-master-0', '--master-port=23456']
    """
    rank = environment.get("PET_NODE_RANK") or environment.get("RANK") or "0"
    address = environment.get("PET_MASTER_ADDR") or environment.get("MASTER_ADDR") or "127.0.0.1"
    port = environment.get("PET_MASTER_PORT") or environment.get("MASTER_PORT") or "29500"
    return [
        f"--nnodes={nodes}",
        f"--nproc-per-node={processes}",
        f"--node-rank={rank}",
        f"--master-addr={address}",
        f"--master-port={port}",
        f"--shutdown-timeout={SHUTDOWN}",
        "-m",
        module,
        file,
    ]


def main() -> None:
    """argv: module, job file, nodes, processes of each node."""
    module, file, nodes, processes = sys.argv[1:]
    given = arguments(module, file, int(nodes), int(processes), dict(os.environ))
    for name in [n for n in os.environ if n.startswith("PET_") or n in ("RANK", "WORLD_SIZE")]:
        del os.environ[name]  # torchrun would read the first as its own defaults; the others count nodes
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        run.main(given)
    except ChildFailedError as failed:
        _, first = failed.get_first_failure()
        print(f"tune: process {first.local_rank} of this pod ended with {first.exitcode}", file=sys.stderr, flush=True)
        status = 128 - first.exitcode if first.exitcode < 0 else first.exitcode
        raise SystemExit(status or 1) from None
    except SignalException as stopped:
        raise SystemExit(128 + int(stopped.sigval)) from None


if __name__ == "__main__":
    main()
