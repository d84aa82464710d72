"""The published form of the records and of evaluation results: JSON Schemas in docs/schema/ and the table of columns in
docs/records.md.

`python -m vistune.schema_docs` writes them anew from the dataclasses of `records` and `evaluate.form` and their
comments.
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from vistune.evaluate.form import FORMS
from vistune.evaluate.scorecard import SCHEMA_VERSION as CARD_VERSION
from vistune.files import write_text
from vistune.records import SCHEMA_VERSION, AnnotatedImage, Dialogue, Reject, Sample
from vistune.reference import comments
from vistune.schema import field_types
from vistune.stages import repository
from vistune.statistics import Estimate

RECORDS: dict[str, type] = {
    "sample": Sample,
    "annotated_image": AnnotatedImage,
    "dialogue": Dialogue,
    "reject": Reject,
}
COLUMNS: dict[str, type] = {"samples": Sample, "rejects": Reject}
UNKNOWN = (Estimate,)
"""What computes with NaN, which is null in JSON."""

SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean"}
ARROW = {str: "string", int: "int32", float: "float64", bool: "bool"}


def json_schema(name: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one record or result as JSON: what `dataclasses.asdict` gives."""
    definitions: dict[str, Any] = {}
    kind = {**RECORDS, **FORMS}[name]
    root = _object(kind, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:vistune:{name}:{SCHEMA_VERSION if name in RECORDS else CARD_VERSION}",
        "title": kind.__name__,
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def _object(record: type, definitions: dict[str, Any]) -> dict[str, Any]:
    said = comments(record)
    properties = {}
    for name, hint in field_types(record).items():
        hint = float | None if hint is float and record in UNKNOWN else hint
        properties[name] = _value(hint, definitions) | ({"description": said[name]} if said.get(name) else {})
    required = [
        f.name
        for f in dataclasses.fields(record)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    described = {"description": text} if (text := _docstring(record)) else {}
    shape = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return described | shape


def _value(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if dataclasses.is_dataclass(hint):
        name = hint.__name__  # type: ignore[union-attr]
        if name not in definitions:
            definitions[name] = _object(hint, definitions)  # type: ignore[arg-type]
        return {"$ref": f"#/$defs/{name}"}
    if get_origin(hint) is Literal:
        return {"enum": list(get_args(hint))}
    if get_origin(hint) in (Union, types.UnionType):
        return {"anyOf": [_value(inner, definitions) for inner in get_args(hint)]}
    if hint is types.NoneType:
        return {"type": "null"}
    if get_origin(hint) is dict:
        return {"type": "object", "additionalProperties": _value(get_args(hint)[1], definitions)}
    if get_origin(hint) is tuple:
        first, *rest = get_args(hint)
        size = {} if rest == [...] else {"minItems": 1 + len(rest), "maxItems": 1 + len(rest)}
        return {"type": "array", "items": _value(first, definitions), **size}
    return {"type": SCALARS[hint]}


def columns(record: type, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Name, Arrow type and meaning of every column; those inside lists and structs are named by their way there."""
    said = comments(record)
    for name, hint in field_types(record).items():
        inner, kind, path = hint, "", prefix + name
        while get_origin(inner) is tuple:
            first, *rest = get_args(inner)
            kind, path = kind + ("list of " if rest == [...] else f"{1 + len(rest)} x "), path + "[]"
            inner = first
        if dataclasses.is_dataclass(inner):
            yield prefix + name, f"{kind}struct", said.get(name) or _docstring(inner)
            yield from columns(inner, f"{path}.")  # type: ignore[arg-type]
        else:
            scalar = "string" if get_origin(inner) is Literal else ARROW[inner]
            one_of = ", ".join(f'"{v}"' for v in get_args(inner)) if get_origin(inner) is Literal else ""
            yield prefix + name, kind + scalar, "; ".join(filter(None, (one_of, said.get(name))))


def _docstring(record: Any) -> str:
    """A dataclass's own docstring on one line; without one it has its signature there."""
    text = record.__doc__ or ""
    return "" if text.startswith(f"{record.__name__}(") else " ".join(text.split())


def page(text: str) -> str:
    """docs/records.md with the tables between its markers written anew."""
    for name, record in COLUMNS.items():
        rows = [f"| `{path}` | {kind} | {what.replace('|', chr(92) + '|')} |" for path, kind, what in columns(record)]
        table = "\n".join(["| column | type | meaning |", "|---|---|---|", *rows])
        begin, end = f"<!-- columns of {name} -->", f"<!-- end of {name} -->"
        text = re.sub(f"{begin}.*?{end}", lambda _, t=table, b=begin, e=end: f"{b}\n{t}\n{e}", text, flags=re.S)  # type: ignore[misc]
    return text


def files(docs: Path) -> dict[Path, str]:
    """Every generated file under docs/ with what it should hold."""
    found = {
        docs / "schema" / f"{n}.schema.json": json.dumps(json_schema(n), indent=2) + "\n" for n in (*RECORDS, *FORMS)
    }
    written = docs / "records.md"
    return {**found, written: page(written.read_text(encoding="utf-8"))}


if __name__ == "__main__":
    for path, text in files(repository() / "docs").items():
        write_text(path, text)
        print(path.relative_to(repository()))
