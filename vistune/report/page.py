"""Reads what the stages left, builds the context of each section, and renders the page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vistune
from vistune.files import read_json, read_lines, write_text
from vistune.pages import STYLE, render
from vistune.report import examples, scores, sections
from vistune.stages import STAGES, receipt

if TYPE_CHECKING:
    from vistune.report import Params

TEMPLATE = STYLE / "page.html"

MAX_BYTES = 3_000_000
"""The page is mailed and kept; pictures are left out rather than making it larger."""


def build(params: Params, inputs: Mapping[str, Path], output: Path, seed: int) -> dict[str, Any]:
    """Writes report.html. Raises VistuneError when a stage's output or one of its files is missing; what only some
    runs have (dialogues, answers, a promotion) is left out of the page when absent."""
    folders = {stage: Path(folder) for stage, folder in inputs.items()}
    context = gather(params, folders, seed)
    page = render(TEMPLATE, context)
    for part in ("sheet", "dialogues", "questions"):  # the pictures are what makes a page large
        if len(page.encode()) > MAX_BYTES:
            context[part] = [card | {"source": ""} for card in context[part]]
            page = render(TEMPLATE, context)
    write_text(output / "report.html", page)
    pictures = sum(bool(c["source"]) for part in ("sheet", "dialogues", "questions") for c in context[part])
    return {"counts": {"pictures": pictures}, "metrics": {}, "details": {"bytes": len(page.encode())}}


def gather(params: Params, folders: Mapping[str, Path], seed: int) -> dict[str, Any]:
    """The context of the template, one entry per section."""
    receipts = {stage: receipt(folders[stage]) for stage in STAGES if stage in folders}
    release = folders["validate"]
    promotion = read_json(folders["promote"] / "promotion.json")
    verdict = read_json(folders["evaluate"] / "verdict.json")
    credits = read_json(release / "attribution.json") if (release / "attribution.json").is_file() else {}
    rows = examples.index(release)
    groups = examples.choose_sheet(rows, params.images, seed)
    spoken = examples.choose_dialogues(rows, params.dialogues, seed)
    chosen = {i for group in groups for i in group}
    pictures = {row["image"] for row in rows if row["id"] in chosen}
    about = [row["id"] for row in rows if row["image"] in pictures]  # their boxes are drawn too
    samples = examples.fetch(release, [*about, *spoken])
    return {
        "version": vistune.__version__,
        "header": sections.header(promotion, verdict, receipts, read_json(release / "release.json")),
        "flow": sections.flow(receipts),
        "composition": sections.composition(rows),
        "sheet": examples.sheet(release, groups, samples),
        "dialogues": examples.dialogues(release, spoken, samples),
        "curves": sections.curves(read_lines(folders["tune"] / "history.jsonl")),
        "roles": sections.roles(receipts["tune"]),
        "questions": scores.side_by_side(
            read_lines(folders["evaluate"] / "answers.jsonl"),
            folders["sources"],
            folders["evaluate"] / "pictures",
            params.questions,
            seed,
        ),
        "scores": scores.scorecard(read_json(folders["evaluate"] / "scorecard.json"), verdict),
        "promotion": sections.promotion(promotion),
        "lineage": sections.lineage(promotion, receipts),
        "licences": sections.licences(rows, credits, read_json(folders["sources"] / "sources.json")),
    }
