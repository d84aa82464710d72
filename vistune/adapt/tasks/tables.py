"""Tasks about charts and tables, computed from their cells."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal

from vistune.adapt import Params
from vistune.adapt.draws import Draws
from vistune.adapt.language import Language
from vistune.adapt.scene import Scene
from vistune.adapt.tasks.found import Candidate, Found
from vistune.records import Table

MAX_CELLS = 200
"""Cells of a table that is written out."""

_NUMBER = re.compile(r"([^\d\s.,+-]{0,3}?)\s?([+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?)\s?([^\d\s.,+-]{0,12})")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with what stands before and after it in its cell: "$3.5", "12 %"."""

    value: Decimal
    before: str = ""
    after: str = ""


def parse_quantity(text: str) -> Quantity | None:
    """
    >>> parse_quantity("$1,200.50")
    Quantity(value=Decimal('1200.50'), before='$', after='')
    >>> parse_quantity("12 %").after, parse_quantity("n/a")
    ('%', None)
    """
    found = _NUMBER.fullmatch(text.strip().replace("\u2212", "-"))
    if found is None:
        return None
    return Quantity(Decimal(found[2].replace(",", "")), found[1], found[3])


def table_to_markdown(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """The whole table, as Markdown."""
    usable = [t for t in _tables(scene) if len(t.columns) * (len(t.rows) + 1) <= MAX_CELLS]
    for table in draws.pick(usable, params.per_image.table_to_markdown):
        yield Candidate({"table": markdown(table)}, (table.id,))


def markdown(table: Table) -> str:
    """
    >>> print(markdown(Table("t", ("Year", "A|B"), (("2020", "1"),))))
    | Year | A\\|B |
    | --- | --- |
    | 2020 | 1 |
    """
    rows = [table.columns, ("---",) * len(table.columns), *table.rows]
    return "\n".join("| " + " | ".join(_cell(c).replace("|", "\\|") for c in row) + " |" for row in rows)


def value_lookup(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """What stands in this row and column? Asked where the names of both occur once."""
    cells = [
        (table, row, n)
        for table in _tables(scene)
        for row in _named_rows(table)
        for n in _named_columns(table)
        if row[n].strip()
    ]
    for table, row, n in draws.pick(cells, params.per_image.value_lookup):
        slots = {"row": _cell(row[0]), "column": _cell(table.columns[n]), "value": _cell(row[n])}
        slots["json"] = json.dumps(slots["value"], ensure_ascii=False)
        yield Candidate(slots, (table.id,))


def comparison(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """Which row has the highest or lowest value, and by how much do two differ? In columns of numbers of one unit;
    never where two rows share the place."""
    found: list[tuple[str, Table, int, dict[str, str]]] = []
    for table in _tables(scene):
        rows = _named_rows(table)
        for n in _named_columns(table):
            numbers = [parse_quantity(row[n]) for row in table.rows]
            known = [q for q in numbers if q is not None]
            if len(rows) < len(table.rows) or len(known) < len(rows) or len(rows) < 2:
                continue
            if len({(q.before, q.after) for q in known}) > 1:
                continue
            values = [q.value for q in known]
            for kind, best in (("highest", max(values)), ("lowest", min(values))):
                if values.count(best) == 1:
                    at = values.index(best)
                    found.append((kind, table, n, {"answer": _cell(rows[at][0]), "value": _cell(rows[at][n])}))
            if min(values) < max(values):
                a, b = draws.pick(range(len(rows)), 2)
                a, b = (a, b) if values[a] >= values[b] else (b, a)
                difference = f"{known[a].before}{values[a] - values[b]:f}{_after(known[a], rows[a][n])}"
                slots = {"row": _cell(rows[a][0]), "other": _cell(rows[b][0]), "answer": difference}
                if values[a] > values[b]:
                    found.append(("difference", table, n, slots))
    for kind, table, n, slots in draws.pick(found, params.per_image.comparison):
        slots["column"] = _cell(table.columns[n])
        yield Candidate({"row": "", "other": "", "value": "", **slots}, (table.id,), (), kind)


def _after(q: Quantity, cell: str) -> str:
    """The unit, spaced as in the cell."""
    return f" {q.after}" if q.after and f" {q.after}" in cell else q.after


def _tables(scene: Scene) -> list[Table]:
    return sorted((t for t in scene.image.tables if _whole(t)), key=lambda t: t.id)


def _whole(table: Table) -> bool:
    """Whether every row has a cell for each column, and there are both."""
    return len(table.columns) > 1 and bool(table.rows) and all(len(r) == len(table.columns) for r in table.rows)


def _named_rows(table: Table) -> list[tuple[str, ...]]:
    """Rows whose name occurs once."""
    names = Counter(_cell(row[0]).casefold() for row in table.rows)
    return [row for row in table.rows if row[0].strip() and names[_cell(row[0]).casefold()] == 1]


def _named_columns(table: Table) -> list[int]:
    """Columns after the first whose name occurs once."""
    names = Counter(_cell(c).casefold() for c in table.columns)
    return [n for n, c in enumerate(table.columns) if n and c.strip() and names[_cell(c).casefold()] == 1]


def _cell(text: str) -> str:
    """Text on one line."""
    return " ".join(text.split())
