"""ChartQA (https://github.com/vis-nlp/ChartQA): questions about charts, and the tables the charts were drawn from.

A split is a folder: questions in `<split>_human.json` and `<split>_augmented.json`, pictures in `png/`, a table for
each in `tables/*.csv`, and what the chart looks like in `annotations/*.json`. The path is that folder, or one of the
two question files with `tables/` as `annotations`. Boxes of chart elements are not read; their authors call them noisy.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path, PurePosixPath

from vistune.errors import VistuneError
from vistune.files import inside, read_json
from vistune.records import Question, Table
from vistune.sources.questions import question_text, rows_at_top
from vistune.sources.rows import Listing, Malformed, Refused, identifier, need
from vistune.sources.spec import AnnotationFile


def read_charts(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds the questions and tables of a split folder, or of one question file. Charts that no question is about are
    added from a folder only: beside a single file they may belong to another."""
    path = inside(root, file.path)
    if not path.is_dir():
        asked = _questions(root, file, listing)
        if file.annotations:
            if not inside(root, file.annotations).is_dir():
                raise VistuneError(f"{root / file.annotations} is no folder. Name the folder of the tables.")
            _tables(root, file, file.annotations, "", asked, listing)
        return
    names = sorted(f"{file.path}/{found.name}" for found in path.glob("*.json"))
    if not names:
        raise VistuneError(f"{path}: expected *_human.json and *_augmented.json in it. Give the folder of one split.")
    charts = {found.stem: f"{found.stem}.png" for found in (path / "tables").glob("*.csv")}
    for name in names:
        charts |= _questions(root, replace(file, path=name), listing)
    _tables(root, file, f"{file.path}/tables", f"{file.path}/annotations", charts, listing)


def _questions(root: Path, file: AnnotationFile, listing: Listing) -> dict[str, str]:
    """Adds the questions of a file. Returns the images they are about, by name without extension."""
    charts: dict[str, str] = {}
    name = PurePosixPath(file.path).stem
    kind = next((kind for kind in ("human", "augmented") if name.endswith(kind)), "")
    for row in listing.each("question", rows_at_top(inside(root, file.path)), file, id=""):
        row.name = name + row.name  # rows have no id: "train_human#0"
        with row:
            text, answer, image = question_text(row, "query"), row.text("label"), row.identifier("imgname")
            if not answer:
                raise Refused("question_unanswered", "it has no answer.")
            listing.image(image, image)
            row.keep(image, Question(row.name, text, answer, (answer,), kind=kind))
            charts[PurePosixPath(image).stem] = image
    return charts


def _tables(
    root: Path, file: AnnotationFile, tables: str, looks: str, charts: dict[str, str], listing: Listing
) -> None:
    """Adds the tables of the charts that have one and whose image has none yet."""
    names = {found.stem for found in inside(root, tables).glob("*.csv")} & charts.keys()
    known = {key for key, entry in listing.images.items() if entry.rows["table"]}
    stems = sorted(name for name in names if charts[name] not in known)
    for stem, row in zip(stems, listing.each("table", stems, file, id=""), strict=True):
        row.name, row.file = stem, replace(file, path=f"{tables}/{stem}.csv")
        with row:
            image = identifier(charts, stem)
            header, *cells = _cells(inside(root, row.file.path))
            title, kind = _look(inside(root, f"{looks}/{stem}.json")) if looks else ("", "")
            listing.image(image, image)
            row.keep(image, Table(stem, header, tuple(cells), title, kind))


def _cells(path: Path) -> list[tuple[str, ...]]:
    """The lines of a table, cells as text on one line; the first names the columns."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            found = [tuple(" ".join(cell.split()) for cell in line) for line in csv.reader(lines, strict=True) if line]
    except (csv.Error, UnicodeDecodeError) as error:
        raise Malformed(f"no table of comma-separated values ({error})") from None
    if len(found) < 2:
        raise Refused("table_empty", "the table has no rows under its header.")
    for number, line in enumerate(found):
        if len(line) != len(found[0]):
            raise Refused("table_ragged", f"row {number} has {len(line)} cells under {len(found[0])} columns.")
    return found


def _look(path: Path) -> tuple[str, str]:
    """Title and type of a chart, from the file that describes its looks; empty where that file says nothing."""
    if not path.is_file():
        return "", ""
    try:
        chart = read_json(path)
    except VistuneError as error:
        raise Malformed(str(error).rstrip(".")) from None
    title = need(need(chart, "general_figure_info", dict, {}), "title", dict, {})
    return " ".join(need(title, "text", str, "").split()), need(chart, "type", str, "")
