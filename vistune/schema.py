"""Records as Arrow columns, and back. The schema on disk is read off the dataclasses of `records`, so there is one
truth: a new field there is a new column here.

    str, Literal -> string      int -> int32      float -> float64      bool -> bool
    tuple[X, ...] -> list       tuple of n equal types -> fixed-size list      dataclass -> struct

No value is null: a record says "" or () for what it does not have.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from itertools import accumulate, chain, pairwise
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

from vistune.errors import VistuneError
from vistune.records import SCHEMA_VERSION, Sample

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")


@cache
def arrow_schema(record: type) -> pa.Schema:
    """One column for each field of a record type.

    >>> from vistune.records import Reject
    >>> arrow_schema(Reject).names
    ['stage', 'key', 'reason', 'detail']
    """
    import pyarrow as pa

    return pa.schema(list(_arrow_type(record)), metadata={"vistune.schema": str(SCHEMA_VERSION)})


def sample_schema() -> pa.Schema:
    """The Arrow schema of samples on disk (parquet, zstd, no pixels)."""
    return arrow_schema(Sample)


def to_batch(records: Sequence[Any], record: type) -> pa.RecordBatch:
    """Records of one type as columns: each column at once, instead of a dict for each row.
    Raises VistuneError for text that UTF-8 cannot spell."""
    import pyarrow as pa

    schema = arrow_schema(record)
    try:
        batch = pa.RecordBatch.from_struct_array(_column(records, pa.struct(list(schema))))
    except UnicodeEncodeError as error:
        raise VistuneError(
            f"the text {error.object!r:.80} of a {record.__name__} holds half a character (a lone surrogate), which no "
            "file can hold. Mend or remove it where it comes from."
        ) from None
    return batch.replace_schema_metadata(schema.metadata)


def from_batch(batch: pa.RecordBatch, record: type[T]) -> list[T]:
    """The records of a batch with the columns of `arrow_schema(record)`."""
    return _records(batch.columns, record)


def from_table(table: pa.Table, record: type[T]) -> list[T]:
    return [row for batch in table.to_batches() for row in from_batch(batch, record)]


@cache
def field_types(record: Any) -> dict[str, Any]:
    """Field name -> type, in the order of declaration."""
    known = typing.get_type_hints(record)
    return {f.name: known[f.name] for f in fields(record)}


def _arrow_type(hint: Any) -> pa.DataType:
    import pyarrow as pa

    if is_dataclass(hint):
        inside: dict[str, Any] = field_types(hint)  # type: ignore[arg-type]
        return pa.struct([pa.field(name, _arrow_type(inner)) for name, inner in inside.items()])
    if get_origin(hint) is tuple:
        first, *rest = get_args(hint)
        return pa.list_(_arrow_type(first), -1 if rest == [...] else 1 + len(rest))
    scalars = {str: pa.string(), int: pa.int32(), float: pa.float64(), bool: pa.bool_()}
    return scalars[str if get_origin(hint) is Literal else hint]


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        rows = map(attrgetter(*kind.names), values)
        columns = zip(*rows, strict=True) if values else [()] * kind.num_fields
        parts = [_column(column, field.type) for column, field in zip(columns, kind, strict=True)]
        return pa.StructArray.from_arrays(parts, fields=list(kind))
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(_column(list(chain.from_iterable(values)), kind.value_type), type=kind)
    if pa.types.is_list(kind):
        offsets = pa.array(accumulate(map(len, values), initial=0), pa.int32())
        return pa.ListArray.from_arrays(offsets, _column(list(chain.from_iterable(values)), kind.value_type), type=kind)
    return pa.array(values, kind)


def _records(columns: Iterable[pa.Array], record: Any) -> list[Any]:
    values = [_values(column, hint) for column, hint in zip(columns, field_types(record).values(), strict=True)]
    return [record(*row) for row in zip(*values, strict=True)]


def _values(array: pa.Array, hint: Any) -> list[Any]:
    if is_dataclass(hint):
        return _records(array.flatten(), hint)
    if get_origin(hint) is not tuple:
        return array.to_pylist()  # as fast as by way of numpy, and does not import pandas
    inner, *rest = get_args(hint)
    flat = _values(array.flatten(), inner)
    if rest == [...]:
        ends = array.offsets.to_pylist()
        first = ends[0]  # not 0 in a slice, which keeps the offsets of the whole
        return [tuple(flat[a - first : b - first]) if a < b else () for a, b in pairwise(ends)]
    return list(zip(*[iter(flat)] * (1 + len(rest)), strict=True))
