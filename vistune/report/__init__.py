"""report: everything a run did, as one page that needs nothing else: no server, no network, no other file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vistune.stages import Context


@dataclass(frozen=True)
class Params:
    images: int = 12  # on the sheet of training images
    dialogues: int = 4  # written by the teacher
    questions: int = 8  # with base and tuned answers side by side


def run(params: Params, inputs: Mapping[str, Path], output: Path, context: Context) -> dict[str, Any]:
    """Writes report.html."""
    from vistune.report.page import build

    return build(params, inputs, output, context.seed)
