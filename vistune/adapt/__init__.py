"""Adapt: annotations in, (instruction, input, response) samples out.

Tasks (`tasks/`) turn what a data set says about an image into facts that can be asked for; phrasing
(`templates/`) turns a fact into words. Nothing is guessed: a task refuses what its source cannot support.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vistune.stages import Context


@dataclass(frozen=True)
class PerImage:
    """The largest number of samples of each task from one image, in each language; 0 leaves a task out."""

    caption: int = 1
    caption_detailed: int = 1
    caption_choice: int = 1
    presence: int = 4  # always as many "no" as "yes", so an odd number counts as the even one below
    counting: int = 2
    listing: int = 1
    image_label: int = 2
    name_region: int = 2
    locate: int = 2
    relative_position: int = 2
    extremes: int = 1
    area_share: int = 1
    attribute: int = 2
    relation: int = 2
    triplet_check: int = 2  # as `presence`
    region_caption: int = 2
    phrase_grounding: int = 2
    refer: int = 2
    refer_describe: int = 1
    refer_absent: int = 1
    vqa: int = 6
    vqa_sentence: int = 2
    vqa_choice: int = 1
    question_generation: int = 1
    extractive_qa: int = 4
    science_choice: int = 1
    science_reasoning: int = 1
    transcription: int = 2
    table_to_markdown: int = 1
    value_lookup: int = 2
    comparison: int = 2


@dataclass(frozen=True)
class Params:
    per_image: PerImage = field(default_factory=PerImage)
    # Share of (image, task) that is phrased in each language. Languages come on top of one another: with en 1.0 and
    # zh 0.1 every task is asked in English, and every tenth also in Chinese.
    languages: dict[str, float] = field(default_factory=lambda: {"en": 1.0, "zh": 0.1})
    # How absent objects are drawn that presence questions ask for: from all; from the group of one that is shown; from
    # those the data set shows most often; from those it shows together with one that is shown here. Shares of the sum.
    negatives: dict[str, float] = field(
        default_factory=lambda: {"random": 0.25, "similar": 0.5, "popular": 0.125, "adversarial": 0.125}
    )
    merge_turns: bool = False  # one conversation per image and language instead of one sample per question
    # Images under other licences are rejected. A licence also allows those that ask for no more than it does;
    # `commercial` and `derivatives` ask for what must be permitted; `unknown` takes licences that are not known, and
    # images that state none. Empty: every known licence that permits something.
    allow_licences: tuple[str, ...] = ()
    # Read these (`FORMAT:PATH,images=DIR,...`) instead of the sources stage's data sets. They are gathered in
    # `sources/` of the output, which the samples' image paths are then relative to.
    sources: tuple[str, ...] = ()
    workers: int = 0  # processes; 0: one per core where the data is large enough. The result is the same


def fingerprint(params: Params) -> str:
    """A digest of what the result depends on besides inputs and `params`: the user's own files."""
    from vistune.sources import parse_source
    from vistune.sources.own_data import fingerprint

    return fingerprint([parse_source(text) for text in params.sources], ())


def run(params: Params, inputs: Mapping[str, Path], output: Path, context: Context) -> dict[str, Any]:
    """Writes samples, rejects and `counts.json`. `inputs` holds the folder of the sources stage.

    One row in is one candidate (one fact in one language), or one source row that the reader refused, or one image
    refused for its licence; one row out is one sample; the rest are rejects with their reasons.
    """
    from vistune.adapt.build import build

    return build(params, inputs["sources"], output, context.seed)


def run_part(
    params: Params, inputs: Mapping[str, Path], output: Path, context: Context, part: tuple[int, int]
) -> dict[str, Any]:
    """`run` for part `part[0]` (from 0) of `part[1]`; `merge` makes one output of them all."""
    from vistune.adapt import parts

    return parts.run_part(params, inputs["sources"], output, context.seed, part)


def merge(
    params: Params, inputs: Mapping[str, Path], output: Path, context: Context, parts: Sequence[Path]
) -> dict[str, Any]:
    """What `run` writes, byte for byte, from the outputs of all parts."""
    from vistune.adapt.parts import merge

    return merge(params, output, context.seed, parts)
