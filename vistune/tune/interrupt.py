"""SIGTERM and Ctrl-C while a model trains: the step is finished and saved first."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any, Self

import torch

from vistune.tune.engine import world

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """While it is entered the first signal is only remembered; a second one acts as it did before."""

    def __init__(self) -> None:
        self.signal = 0
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
        self.__exit__()
        if world()[0] == 0:  # written past Python's buffers, which a handler may find half way through a line
            name = signal.Signals(number).name
            os.write(2, f"\ntune: {name}: ends after this step; a second one ends at once\n".encode())

    def asked(self, device: str) -> int:
        """The signal that came, or 0: the same on all processes, of which some may have got it a step earlier."""
        if world()[1] == 1:
            return self.signal
        found = torch.tensor(self.signal, device=device)
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        return int(found)


def keep_working(_: int) -> None:
    """In a loader's process: a signal to the whole group must not take the batches of the last step away."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
