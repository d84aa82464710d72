"""How fast a training process runs, and where its time goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from vistune.tune.operations import memory_peak, peak


class Speed:
    """Of one process since it began: real tokens (without padding), operations of all processes, waiting for data.
    recomputed: operations that run over those that are counted."""

    def __init__(self, device: str, processes: int, recomputed: float = 1.0) -> None:
        self.device, self.peak, self.recomputed = device, peak(device) * processes, recomputed
        self.began = time.monotonic()
        self.waited = self.operations = 0.0
        self.tokens = self.places = 0
        self.steps = 0

    def waiting(self, get: Callable[[], Any]) -> Any:
        """The result of `get`, which waits for data."""
        began = time.monotonic()
        got = get()
        self.waited += time.monotonic() - began
        return got

    def read(self, tokens: int, places: int) -> None:
        """A pass over so many tokens, and places of them and of padding."""
        self.tokens, self.places = self.tokens + tokens, self.places + places

    def step(self, operations: float) -> None:
        """A step of so many operations has ended."""
        self.steps += 1
        self.operations += operations

    def measured(self) -> dict[str, float]:
        """What depends on the machine and its load. MFU and HFU (model operations, and all that run, over the devices'
        peak) where that is known."""
        spent = max(time.monotonic() - self.began, 1e-9)
        found = {
            "tokens_per_second": self.tokens / spent,
            "seconds_per_step": spent / max(self.steps, 1),
            "operations_per_second": self.operations / spent,
            "data_wait_seconds": self.waited,
            "data_wait_share": self.waited / spent,
            "peak_memory_gib": memory_peak(self.device) / 2**30,
        }
        if not self.peak:
            return found
        mfu = self.operations / spent / self.peak
        return {**found, "mfu": mfu, "hfu": mfu * self.recomputed}

    @property
    def padding(self) -> float:
        return round(1 - self.tokens / self.places, 4) if self.places else 0.0

    def note(self) -> str:
        """For the progress line."""
        found = self.measured()
        share = f" · MFU {found['mfu']:.0%}" if self.peak else ""
        wait = f" · {found['data_wait_share']:.0%} waiting for data" if found["data_wait_share"] >= 0.01 else ""
        padding = f" · {self.padding:.0%} padding" if self.padding else ""
        return f"{found['tokens_per_second']:,.0f} tokens/s{share}{padding}{wait}"
