"""What a run recorded, step by step: a file that a resumed run continues."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vistune.files import write_text

EMPTY: Mapping[str, float] = MappingProxyType({})


class History:
    """history.jsonl: one line per step of every stage, without timings."""

    def __init__(self, path: Path, stage: str, log: Callable[[dict[str, float], int], None]) -> None:
        self.path, self.stage, self.log = path, stage, log

    def record(self, metrics: dict[str, float], step: int, timed: Mapping[str, float] = EMPTY) -> None:
        """timed: what another run would not repeat; it goes to the tracker, not into the file."""
        with open(self.path, "a", encoding="utf-8") as f:
            f.write(json.dumps({"stage": self.stage, "step": step, **metrics}) + "\n")
        self.log({f"{self.stage}/{k}": v for k, v in {**metrics, **timed}.items()}, step)

    def entries(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]  # a torn last line never counted

    def forget(self, step: int) -> None:
        """Drops what this stage recorded from `step` on: a resumed run will write it again."""
        kept = [e for e in self.entries() if e["stage"] != self.stage or e["step"] < step]
        write_text(self.path, "".join(json.dumps(e) + "\n" for e in kept))

    def last(self) -> dict[str, Any]:
        mine = [e for e in self.entries() if e["stage"] == self.stage]
        return mine[-1] if mine else {}
