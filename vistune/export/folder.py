"""The output folder of an export: seen only when it is complete. And the JSON files in it, written row by row."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from vistune.errors import VistuneError

MANIFEST = "export.json"
"""Marks a folder as an export, which a later export may replace."""


@contextlib.contextmanager
def fresh_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder beside `target`, which takes its place at the end and is removed on failure. What a
    killed attempt left there is removed first. Raises VistuneError rather than replace what is no export."""
    if target.exists() and not (target / MANIFEST).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise VistuneError(f"{target} exists and is no export (it has no {MANIFEST}). Name another --output.")
    target = target.absolute()
    fresh, old = target.with_name(f".{target.name}.new"), target.with_name(f".{target.name}.old")
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        yield fresh
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    if target.exists():
        os.replace(target, old)
    os.replace(fresh, target)
    shutil.rmtree(old, ignore_errors=True)


class JsonFiles:
    """One file of rows for each split: a JSON list with a row on each line, or JSON Lines.

    `with JsonFiles(folder) as files: files.add("train", row)`; `files.rows` counts them.
    """

    def __init__(self, folder: Path, lines: bool = False) -> None:
        self.folder, self.lines = folder, lines
        self.rows: dict[str, int] = {}
        self._open: dict[str, IO[str]] = {}

    def name(self, split: str) -> str:
        return f"{split}.jsonl" if self.lines else f"{split}.json"

    def add(self, split: str, row: dict[str, Any]) -> None:
        if split not in self._open:
            path = self.folder / self.name(split)
            self._open[split] = open(path, "w", encoding="utf-8", newline="\n")  # noqa: SIM115
            self._open[split].write("" if self.lines else "[\n")
            self.rows[split] = 0
        elif not self.lines:
            self._open[split].write(",\n")
        self._open[split].write(json.dumps(row, ensure_ascii=False) + ("\n" if self.lines else ""))
        self.rows[split] += 1

    def __enter__(self) -> JsonFiles:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        for file in self._open.values():
            if kind is None:
                file.write("" if self.lines else "\n]\n")
                file.flush()
                os.fsync(file.fileno())
            file.close()
