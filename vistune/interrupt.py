"""SIGTERM and Ctrl-C while a model trains: the step is finished and saved first."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """While it is entered signals are passed on to `tell`. Without it the first one is only remembered, and a second
    one acts as it did before."""

    def __init__(self, tell: Callable[[int], None] | None = None) -> None:
        self.signal = 0
        self._tell = tell
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # others cannot have handlers, and get no signals
            self._before = {number: signal.signal(number, self._remember) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        if self._tell:
            self._tell(number)
            return
        self.__exit__()
        if os.environ.get("RANK", "0") == "0":
            name = signal.Signals(number).name  # written past Python's buffers, which may be half way through a line
            os.write(2, f"\ntune: {name}: ends after this step; a second one ends at once\n".encode())

    def asked(self, device: str) -> int:
        """The signal that came, or 0: the same on all processes, of which some may have got it a step earlier."""
        if int(os.environ.get("WORLD_SIZE", 1)) == 1:
            return self.signal
        import torch

        found = torch.tensor(self.signal, device=device)
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        return int(found)


def keep_working(_: int) -> None:
    """In a loader's process: a signal to the whole group must not take the batches of the last step away."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
