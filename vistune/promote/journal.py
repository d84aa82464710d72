"""The promotion log: one JSON line for every move of an alias, written before the move and never changed afterwards.

Each line carries the digest of the line before it, so that an edited or deleted line shows. The registry keeps a copy
of each, so that lines missing at the end show too, and so that other machines can read them.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.hashing import canonical, digest

FILE = "promotions.jsonl"


@dataclass(frozen=True)
class Journal:
    """Events of all registered models of one home: register, hold, promote, rollback."""

    path: Path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One promotion at a time on this machine; other machines are caught by comparing before moving."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """All events, or those of one registered model, oldest first. Raises VistuneError when the log was edited."""
        found: list[dict[str, Any]] = []
        last = ""
        for number, line in enumerate(self._lines(), 1):
            try:
                event = json.loads(line)
                after = event["after"]
            except (ValueError, KeyError, TypeError):
                raise VistuneError(f"{self.path}, line {number} is no event of a promotion log.") from None
            if after != last:
                raise VistuneError(
                    f"{self.path} was edited: line {number} does not follow the line before it. Restore the file from "
                    "a copy; the tags `promotion.*` of the model versions hold the same events."
                )
            last = digest(event)
            found.append(event)
        return [e for e in found if not name or e["name"] == name]

    def check(self, kept: Iterable[Mapping[str, Any]]) -> None:
        """Raises VistuneError when the log lacks an event that the registry has kept (`kept`) and that followed a line
        of this log: its end was cut off. Events that other machines logged follow lines that are not here."""
        here = {digest(event) for event in self.events()}
        for event in kept:
            if event.get("after") in here and digest(dict(event)) not in here:
                raise VistuneError(
                    f"{self.path} was cut: it lacks the {event.get('event')} of {event.get('name')} version "
                    f"{event.get('version')} at {event.get('when')}, which the registry has in the version's tags "
                    "`promotion.*`. Restore the file from a copy."
                )

    def append(self, event: dict[str, Any]) -> dict[str, Any]:
        """Adds who, when and the digest of the last line to `event`, writes it durably, and returns it."""
        events = self.events()
        after = digest(events[-1]) if events else ""
        event = {**event, "who": who(), "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "after": after}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab") as f:
            f.truncate(sum(map(len, self._lines())))  # half a line, left by a killed process
            f.write(canonical(event) + b"\n")
            f.flush()
            os.fsync(f.fileno())
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the name of a new file
        finally:
            os.close(folder)
        return event

    def _lines(self) -> list[bytes]:
        if not self.path.is_file():
            return []
        return [line + b"\n" for line in self.path.read_bytes().split(b"\n")[:-1]]


def who() -> str:
    """Who acts: $VISTUNE_USER, else the login name, else the number of the user (containers have no names)."""
    try:
        return os.environ.get("VISTUNE_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
