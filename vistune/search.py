"""Which samples something made: an annotation, a template, a prompt, a data set, a licence.

Annotations have an index, and of everything else one column is read at a time, so a million rows take less than a
second.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.annotationindex import indexed_rows
from vistune.errors import VistuneError
from vistune.files import read_json
from vistune.licences import canonical
from vistune.licences import names as licences
from vistune.shards import Shard
from vistune.store import shards
from vistune.workers import cores

if TYPE_CHECKING:
    import pyarrow as pa

SOURCES = "sources.json"
"""The list that the sources stage writes."""

PHRASED = ("lineage.template", "lineage.prompt")
IDS = "lineage.annotation_ids.list.element"

SHOWN = 10
"""Known names that an error lists."""


@dataclass(frozen=True)
class Query:
    """Which samples to list; what is empty does not matter."""

    annotation: str = ""  # id in its source file
    template: str = ""  # id of an instruction, a response format or a prompt, with or without @version
    source: str = ""  # name of a data set
    licence: str = ""  # of the sample, of an image it shows, or of its data set's annotations
    prompt: str = ""  # id of a prompt, with or without @version


def search(folder: Path, query: Query) -> Iterator[tuple[str, str]]:
    """Id and task of the samples that fit a query, in the order of their ids.
    Raises VistuneError when none does, naming what is most like it."""
    for table in _fitted(folder, query):
        yield from zip(table["id"].to_pylist(), table["task"].to_pylist(), strict=True)


def lines(folder: Path, query: Query) -> Iterator[pa.Buffer]:
    """As `search`, as UTF-8 text: id, tab, task, line break. A million of them take less time than their tuples."""
    import pyarrow.compute as pc

    tab, end, none = _text("\t"), _text("\n"), _text("")
    for table in _fitted(folder, query):
        for batch in table.to_batches():
            joined = pc.binary_join_element_wise(batch["id"], batch["task"], tab)
            text = pc.binary_join_element_wise(joined, none, end)  # the data of an array are its values end to end
            yield text.buffers()[2]


def found(folder: Path, query: Query) -> Iterator[pa.Table]:
    """As `search`, as tables of the columns id and task; none when no sample fits."""
    listed, at_once = shards(folder, "samples"), 2 * cores()
    under = _under(folder, query.licence) if query.licence else None
    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(listed), at_once):
            fitting = partial(_fitting, folder, query=query, under=under)
            yield from (t for t in pool.map(fitting, listed[start : start + at_once]) if t.num_rows)


def _fitted(folder: Path, query: Query) -> Iterator[pa.Table]:
    """As `found`. Raises VistuneError when no sample fits."""
    none = True
    for table in found(folder, query):
        none = False
        yield table
    if none:
        raise VistuneError(_nothing(folder, [folder / shard.name for shard in shards(folder, "samples")], query))


def _under(folder: Path, licence: str) -> tuple[list[str], list[str]]:
    """The images and the data sets that state a licence themselves. That of a sample names the most restrictive of its
    sources only."""
    wanted, root = canonical(licence), folder.parent / "sources" / SOURCES
    images = [path for path, credit in attribution(folder).items() if wanted in licences(credit.get("licence", ""))]
    listed = read_json(root).get("datasets", []) if root.is_file() else []
    return images, [d["name"] for d in listed if wanted in licences(d.get("annotation_licence", ""))]


def _fitting(folder: Path, shard: Shard, query: Query, under: tuple[list[str], list[str]] | None) -> pa.Table:
    """Id and task of the rows of a shard that fit. under: images and data sets that state the licence asked for."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    path, annotation = folder / shard.name, _text(query.annotation)
    indexed = indexed_rows(path, shard.sha256, annotation) if query.annotation else None
    with pq.ParquetFile(path) as file:
        if indexed is not None and not len(indexed):
            return file.schema_arrow.empty_table().select(["id", "task"])
        masks: list[pa.Array] = []
        if query.source:
            masks.append(pc.equal(column(file, "dataset"), _text(query.source)))
        if query.template:
            either = [_where(file, name, lambda t: names(t, query.template)) for name in PHRASED]
            masks.append(pc.or_(*either))
        if query.prompt:
            masks.append(_where(file, "lineage.prompt", lambda t: names(t, query.prompt)))
        if under is not None:
            stated = _where(file, "licence", lambda t: canonical(query.licence) in licences(t))
            masks.append(
                pc.or_(pc.or_(stated, _showing(file, under[0])), _where(file, "dataset", under[1].__contains__))
            )
        if query.annotation:
            rows = indexed if indexed is not None else _resting_on(column(file, IDS), annotation)
            rows = reduce(lambda found, mask: found.filter(mask.take(found)), masks, rows)
        else:
            rows = pc.indices_nonzero(reduce(pc.and_, masks))
        listed = file.read(columns=["id", "task"]) if len(rows) else file.schema_arrow.empty_table()
        return listed.select(["id", "task"]).take(rows) if len(rows) < listed.num_rows else listed


def _where(file: Any, name: str, wanted: Callable[[str], bool]) -> pa.Array:
    """Mask of the rows whose value is wanted, which is asked once for each value there is."""
    import pyarrow.compute as pc

    values = column(file, name)
    equal = [pc.equal(values, _text(t)) for t in values.unique().to_pylist() if wanted(t)]
    return reduce(pc.or_, equal) if equal else pc.is_null(values)


def _showing(file: Any, paths: list[str]) -> pa.Array:
    """Mask of the rows that show one of these images."""
    import pyarrow as pa
    import pyarrow.compute as pc

    images = file.read(columns=["images.list.element.path"]).column(0).combine_chunks()
    listed = pc.struct_field(pc.list_flatten(images), [0])
    rows = pc.list_parent_indices(images).filter(pc.is_in(listed, pa.array(paths, pa.string()))).unique()
    return pc.is_in(pa.array(range(len(images)), pa.int64()), rows)


def _resting_on(ids: pa.ListArray, annotation: pa.StringScalar) -> pa.Array:
    """The rows whose ids hold an annotation's, in order, each once."""
    import pyarrow.compute as pc

    return pc.list_parent_indices(ids).filter(pc.equal(pc.list_flatten(ids), annotation)).unique()


def _text(value: str) -> pa.StringScalar:
    """What `pa.scalar` makes of a text. That, and all that takes Python values, imports pandas first if it is
    installed, which takes longer than a search."""
    import pyarrow as pa

    data = value.encode()
    ends = b"".join(end.to_bytes(4, sys.byteorder) for end in (0, len(data)))
    return pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(ends), pa.py_buffer(data)])[0]


def names(template: str, wanted: str) -> bool:
    """Whether one of the parts of a recorded template is the wanted one, of any version unless it states one.

    >>> names("presence.en.03@1+word@2", "word"), names("presence.en.03@1+word@2", "word@1")
    (True, False)
    """
    parts = template.replace(" ", "+").split("+")
    return any(part == wanted or part.startswith(f"{wanted}@") for part in parts)


def column(file: Any, name: str) -> pa.Array:
    """One column, or one field of a struct column, as one array."""
    import pyarrow.compute as pc

    values = file.read(columns=[name]).column(0).combine_chunks()
    return pc.struct_field(values, [0]) if "." in name else values


def _nothing(folder: Path, listed: list[Path], query: Query) -> str:
    """Why a query found nothing: a name that no sample has, with the nearest one, or no sample that fits it all."""
    import pyarrow.parquet as pq

    datasets: set[str] = set()
    parts: set[str] = set()  # of templates
    for path in listed:
        with pq.ParquetFile(path) as file:
            datasets.update(column(file, "dataset").unique().to_pylist())
            for name in PHRASED:
                recorded = " ".join(column(file, name).unique().to_pylist())
                parts.update(recorded.replace("+", " ").split())
    if query.source and query.source not in datasets:
        return f"no sample in {folder} is of data set {query.source!r}{_near(query.source, datasets)}."
    if query.template and not any(names(part, query.template) for part in parts):
        plain = {part.partition("@")[0] for part in parts}
        near = _near(query.template, parts if query.template.partition("@")[0] in plain else plain)
        return f"no sample in {folder} has template {query.template!r}{near}."
    asked = [f"{name} {value}" for name, value in vars(query).items() if value]
    return f"no sample in {folder} rests on {' and '.join(asked)}."


def _near(name: str, known: set[str]) -> str:
    close = get_close_matches(name, sorted(known), 1, cutoff=0.5)
    shown = ", ".join(sorted(known)[:SHOWN])
    return f"; did you mean {close[0]!r}" if close else f"; it has {shown}" if known else ""


def attribution(folder: Path) -> dict[str, dict[str, str]]:
    path = folder / "attribution.json"
    return read_json(path) if path.is_file() else {}
