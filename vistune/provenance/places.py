"""Where the ends of the chain lie: a model version by any of its names, a stage's output by its digest."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from vistune import tracking
from vistune.errors import VistuneError
from vistune.hashing import file_digest
from vistune.stages import EXECUTION, RECEIPT, Receipt, home, receipt

SCORECARD = "scorecard.json"


def version_of(target: str) -> tracking.Version:
    """The version that `models:/NAME@alias`, `models:/NAME/3`, the same without `models:/`, or a scorecard names.
    Raises VistuneError when there is none."""
    if not tracking.enabled():
        raise VistuneError("model versions are in MLflow: unset VISTUNE_TRACKING.")
    if (path := scorecard_file(target)) is not None:
        digest = file_digest(path)
        found = tracking.versions_with("scorecard.sha256", digest)
        if not found:
            raise VistuneError(
                f"no model version was registered with the scorecard {path} (sha256 {digest[:12]}…): it was changed "
                "since, or never promoted. Compare it with the copy among the evidence of the version's run, or run "
                "`vistune promote`."
            )
        return found[0]
    text = target.removeprefix("models:/")
    name, at, alias = text.partition("@")
    if at:
        version = tracking.get_alias(name, alias)
        if version is None:
            there = sorted({a for v in tracking.search_versions(name) for a in v.aliases})
            known = f"it has {', '.join(there)}" if there else "there is no such model, or it has no alias"
            raise VistuneError(f"{name} has no alias {alias!r}; {known}. Check the name, and MLFLOW_TRACKING_URI.")
        return version
    name, slash, number = text.rpartition("/")
    if not slash or not number.isdigit():
        raise VistuneError(
            f"{target!r} names no model version. Expected models:/NAME@champion, models:/NAME/VERSION or the path of a "
            f"{SCORECARD}."
        )
    return tracking.get_version(name, number)


def scorecard_file(target: str) -> Path | None:
    """The scorecard that a path means: the file, or the one in an output of `evaluate`."""
    path = Path(target)
    if path.is_dir():
        path /= SCORECARD
    return path if path.is_file() and path.name == SCORECARD else None


def outputs_of(stage: str, tags: Mapping[str, str], beside: Path) -> Iterator[tuple[Path, Receipt]]:
    """The folders on this machine that say they are the output a version came from: in the store of finished stages,
    and in `beside` (usually ./outputs) where that is not the same files."""
    seen: list[Path] = []
    for folder in (home() / "stages" / stage / tags.get(f"{stage}.key", "-"), beside / stage):
        mark = folder / RECEIPT
        if not mark.is_file() or any(os.path.samefile(mark, other / RECEIPT) for other in seen):
            continue
        found = receipt(folder)
        if found.digest == tags.get(f"{stage}.digest"):
            seen.append(folder)
            yield folder, found


def executed(folder: Path) -> bool:
    """Whether a stage's output was made here, and not brought by DVC: only then does it say what it was made from."""
    return (folder / EXECUTION).is_file()
