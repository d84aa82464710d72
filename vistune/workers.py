"""Work spread over processes: `with Workers(4, setup, seed) as workers: for result in workers.map(items): ...`.

`setup(seed)` runs once in every process and returns the function that turns one item into its result. Results come in
the order of the items, so nothing that follows can depend on the number of processes. With one, no process is started.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from vistune.errors import VistuneError

if TYPE_CHECKING:
    from concurrent.futures import Future, ProcessPoolExecutor

X = TypeVar("X")
Y = TypeVar("Y")

AHEAD = 3
"""Items handed out per process before the oldest result is taken: enough to keep all busy, few enough to hold."""


CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
"""A container's share of processor time: microseconds in each period, or "max", and the period (Linux cgroup v2)."""


def cores() -> int:
    """Processor cores that this process may use, in a container those it has a share of."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, period = CPU_MAX.read_text().split() if CPU_MAX.is_file() else ("max", "1")
    return count if quota == "max" else max(1, min(count, int(quota) // int(period)))


class Workers(Generic[X, Y]):
    """Processes come from a fork server, not from this process: a stage has threads (MLflow's, Arrow's), and a forked
    copy of a lock that one of them holds never opens. `setup`, its arguments, items and results must be picklable."""

    def __init__(
        self, count: int, setup: Callable[..., Callable[[X], Y]], *arguments: Any, preload: tuple[str, ...] = ()
    ) -> None:
        """`preload`: modules that the work imports. The fork server imports them once; it leaves out what is not
        installed."""
        self.count, self._setup, self._arguments, self._preload = count, setup, arguments, preload
        self._pool: ProcessPoolExecutor | None = None
        self._here: Callable[[X], Y] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def map(self, items: Iterable[X], apart: bool = True) -> Iterator[Y]:
        """Without `apart`, too little to be worth starting processes, it is done here. Raises what the work raises,
        and VistuneError when a process was killed."""
        if self.count == 1 or not apart:
            self._here = self._here or self._setup(*self._arguments)
            yield from map(self._here, items)
            return
        from concurrent.futures.process import BrokenProcessPool

        pool = self._started()
        waiting: deque[Future[Y]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(_turn, item))
                if len(waiting) > AHEAD * self.count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise VistuneError(
                f"one of {self.count} worker processes was killed, most likely because memory ran out. Run again with "
                "fewer workers."
            ) from None

    def _started(self) -> ProcessPoolExecutor:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        if self._pool is None:
            method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
            context = multiprocessing.get_context(method)
            context.set_forkserver_preload([self._setup.__module__, *self._preload])
            self._pool = ProcessPoolExecutor(self.count, context, _start, (self._setup, *self._arguments))
        return self._pool


_work: Callable[[Any], Any]
"""In a worker process: the function that `setup` returned."""


def _turn(item: Any) -> Any:
    return _work(item)


def _start(setup: Callable[..., Callable[[Any], Any]], *arguments: Any) -> None:
    import multiprocessing

    def leave_with_parent() -> None:
        multiprocessing.parent_process().join()  # type: ignore[union-attr]
        os._exit(1)  # it was killed, so nobody will ever send more work or stop this process

    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends the work
    threading.Thread(target=leave_with_parent, daemon=True).start()
    _work = setup(*arguments)
