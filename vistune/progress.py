"""One progress display for every stage: a live bar on a terminal, a line every few seconds in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

LINE_SECONDS = 3.0


class Progress:
    """`with Progress("adapt", total) as p: ... p.step(note="12 rejected")`. Prints to stderr. A total of 0 is one
    that nobody knows; nothing is printed then before the first step."""

    def __init__(self, label: str, total: int, unit: str = "") -> None:
        self.label, self.total, self.unit = label, max(total, 0), unit
        self.done, self.note = 0, ""
        self.start = self.last = time.monotonic()
        self.live = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and (self.total or self.done) and (self.live or self.last > self.start):
            self._print(final=True)

    def step(self, count: int = 1, note: str | None = None) -> None:
        self.done += count
        if note is not None:
            self.note = note
        now = time.monotonic()
        if now - self.last >= (0.1 if self.live else LINE_SECONDS):
            self.last = now
            self._print()

    def _print(self, final: bool = False) -> None:
        spent = time.monotonic() - self.start
        share = self.done / self.total if self.total else 0.0
        bar = ("█" * round(20 * min(share, 1.0))).ljust(20, "·") + " " if self.total else ""
        of = f"/{self.total:,}" if self.total else ""
        left = spent / self.done * max(self.total - self.done, 0) if self.done else 0.0
        rest = "" if final or not self.done or not self.total else f" · {left:.0f} s left"
        unit = f" {self.unit}" if self.unit else ""
        note = f" · {self.note}" if self.note else ""
        text = f"{self.label:<14} {bar}{self.done:,}{of}{unit} · {spent:.0f} s{rest}{note}"
        if self.live:
            print(f"\r\x1b[2K{text}", end="\n" if final else "", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)


def track(items: Iterable[T], label: str, total: int | None = None, unit: str = "") -> Iterator[T]:
    """Yields `items` with a progress display."""
    size = total if total is not None else len(items)  # type: ignore[arg-type]
    with Progress(label, size, unit) as progress:
        for item in items:
            yield item
            progress.step()
