"""evaluate: base and tuned model -> scorecard with intervals, per-item answers, and the gate's verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from vistune.stages import Context


@dataclass(frozen=True)
class Conditions:
    """What each model is shown: the true image, the image of another item, or none."""

    base: tuple[Literal["image", "shuffled", "none"], ...] = ("image",)
    tuned: tuple[Literal["image", "shuffled", "none"], ...] = ("image", "shuffled", "none")


@dataclass(frozen=True)
class Params:
    suite: str = "demo"  # a file in eval/suites
    gate: str = "demo"  # a file in eval/gates
    limit: int | None = 28  # images per benchmark, chosen by their digests; null: all
    conditions: Conditions = field(default_factory=Conditions)
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"  # auto: bfloat16 where the processor computes in it
    batch_tokens: int = 2048  # tokens of one forward pass, padding included
    generated_images: int = 12  # images per benchmark that is also answered in free text
    max_new_tokens: int = 12
    replicates: int = 2000  # of the bootstrap
    confidence: float = 0.95  # of the intervals on the scorecard; the gate has its own


def run(params: Params, inputs: Mapping[str, Path], output: Path, context: Context) -> dict[str, Any]:
    """Scores `tune/base` and `tune/model` on the benchmarks of `sources`, none of whose images may be in the release
    (`validate`). Answers are logged as they come under the run's home, so a killed run repeats no finished batch."""
    from vistune.evaluate.stage import run

    return run(params, inputs, output, context)
