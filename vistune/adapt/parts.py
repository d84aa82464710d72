"""The adapt stage in parts, each in a process of its own on any machine, and their merger.

A part takes every so manyth chunk of each data set. What it writes is sorted, and so is what is merged from it: the
result is that of one process, byte for byte.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vistune.adapt import Params
from vistune.adapt.build import Totals, adapt, conclude, datasets_of
from vistune.adapt.chunks import Tables
from vistune.errors import VistuneError
from vistune.files import read_json, write_json
from vistune.store import RecordWriter, copy_records, counts

PART = "part.json"


def run_part(params: Params, sources: Path, output: Path, seed: int, part: tuple[int, int]) -> dict[str, Any]:
    """Writes samples and rejects of part `part[0]` of `part[1]`, and `part.json` with its counts."""
    if params.sources:
        raise VistuneError(
            "adapt.sources is read in one piece, and this pipeline runs adapt in several parts. Name the data sets in "
            "sources.datasets, or compile with VISTUNE_SHARDS=1."
        )
    root, datasets = datasets_of(params, sources, output)
    with RecordWriter(output, "samples") as samples, RecordWriter(output, "rejects") as rejects:
        found = adapt(params, seed, root, datasets, samples, rejects, part)
        samples.finish()
        rejects.finish()
    write_json(output / PART, {name: _plain(own) for name, own in found.items()})
    entered, reasons = sum(t.entered for t in found.values()), sum((t.reasons for t in found.values()), Counter[str]())
    return {"counts": counts(entered, samples.rows, reasons), "metrics": {}, "details": {}}


def merge(params: Params, output: Path, seed: int, parts: Sequence[Path]) -> dict[str, Any]:
    """What `build` would have written, from the outputs of all parts."""
    found: dict[str, Totals] = {}
    with RecordWriter(output, "samples") as samples, RecordWriter(output, "rejects") as rejects:
        for folder in parts:
            copy_records(folder, "samples", samples)
            copy_records(folder, "rejects", rejects)
            for name, plain in read_json(folder / PART).items():
                found.setdefault(name, Totals()).merge(_totals(plain))
        return conclude(params, seed, found, samples, rejects)


def _plain(totals: Totals) -> dict[str, Any]:
    return {
        "images": totals.images,
        "entered": totals.entered,
        "reasons": dict(totals.reasons),
        "tables": totals.tables.plain(),
    }


def _totals(plain: dict[str, Any]) -> Totals:
    return Totals(plain["images"], plain["entered"], Counter(plain["reasons"]), Tables.of(plain["tables"]))
