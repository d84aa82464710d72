"""Checkpoints inside a training stage: whole or absent, verified before use, the newest valid one wins."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.files import files_under, read_json, tree_digest, write_json

MANIFEST = "manifest.json"

KEPT = 2
"""Checkpoints that stay: should the newest be damaged, the one before it serves."""


def begin(folder: Path, step: int) -> Path:
    """An empty folder to write the state after `step` steps into."""
    partial = folder / f"step-{step:06d}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def commit(partial: Path, state: dict[str, Any]) -> Path:
    """Makes it visible: manifest with digest, flushed to disk, renamed. Of the older checkpoints one stays."""
    write_json(partial / MANIFEST, {**state, "digest": tree_digest(partial)})
    for path in files_under(partial):
        with open(path, "rb+") as f:
            os.fsync(f.fileno())
    final = partial.with_suffix("")
    shutil.rmtree(final, ignore_errors=True)
    os.replace(partial, final)
    for other in final.parent.glob("step-*.partial"):
        shutil.rmtree(other)
    for other in sorted(final.parent.glob("step-??????"), reverse=True)[KEPT:]:
        shutil.rmtree(other)
    return final


def newest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint whose files match its manifest; a broken one is named on stderr and passed over."""
    for path in sorted(folder.glob("step-??????"), reverse=True):
        with contextlib.suppress(VistuneError, KeyError, TypeError):  # a manifest that is itself broken
            state = read_json(path / MANIFEST)
            if tree_digest(path, (MANIFEST,)) == state["digest"]:
                return path, state
        print(f"tune: checkpoint {path.name} is damaged and is passed over", file=sys.stderr)
    return None
