"""Rows of large files: whatever is valid is read whole, whatever is damaged is an error and never a shorter file."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vistune.errors import VistuneError
from vistune.sources import AnnotationFile, datafiles
from vistune.sources.datafiles import parts, rows

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(st.dictionaries(TEXT, JSON, max_size=4), max_size=6)
SMALL_READS = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def small_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are longer than what is read at a time."""
    monkeypatch.setattr(datafiles, "READ_CHARACTERS", 7)


@given(ROWS, st.sampled_from([None, 1, "\t"]), st.booleans(), st.sampled_from(["", "\n", " \r\n\t"]))
@SMALL_READS
def test_a_list_is_read_as_json_reads_it(
    small_reads: None, tmp_path: Path, values: list[Any], indent: Any, ascii: bool, space: str
) -> None:
    path = tmp_path / "a.json"
    text = json.dumps(values, indent=indent, ensure_ascii=ascii)
    path.write_text(space + text + space, encoding="utf-8", newline="")
    assert list(rows(path)) == values


@given(ROWS, st.sampled_from(["\n", "\r\n", "\n\n  "]))
@SMALL_READS
def test_lines_are_read_as_json_reads_them(small_reads: None, tmp_path: Path, values: list[Any], end: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(value) + end for value in values), encoding="utf-8", newline="")
    assert list(rows(path)) == values


@given(ROWS, st.data())
@SMALL_READS
def test_a_list_cut_short_anywhere_is_an_error(
    small_reads: None, tmp_path: Path, values: list[Any], data: st.DataObject
) -> None:
    text = json.dumps(values)
    path = tmp_path / "a.json"
    path.write_text(text[: data.draw(st.integers(1, len(text) - 1))], encoding="utf-8")
    with pytest.raises(VistuneError, match=r"a\.json is not valid JSON after row"):
        list(rows(path))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('[{"a": 1}] [{"a": 2}]', r"after row 1 \('\[' follows the end of the list\)"),
        ('[{"a": 1} {"a": 2}]', r"after row 1 \(expected ',' or '\]', found '\{'\)"),
        ('[{"a": 1},]', "after row 1 .Expecting value"),
        ('{"a": 1}\n"b"', "after row 1 .a row starts with"),
        ("id,image\n1,a.jpg", "after row 0 .a row starts with 'i'"),
        ('{"a": tru}', "after row 0 .Expecting value"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_what_is_no_list_of_rows_says_where_and_why(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(VistuneError, match=why):
        list(rows(path))


def test_a_mistake_is_found_without_reading_to_the_end(tmp_path: Path) -> None:
    """A large file in another format must not be taken into memory to say so."""
    path = tmp_path / "a.json"
    path.write_text('[{"a": oops},' + " " * 4_000_000, encoding="utf-8")
    with open(path, encoding="utf-8") as file:
        text = datafiles._Text(file)
        with pytest.raises(ValueError, match="Expecting value"):
            list(datafiles._values(text))
    assert len(text.held) == datafiles.READ_CHARACTERS


def test_a_byte_order_mark_and_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf[{}]")
    assert list(rows(path)) == [{}]
    path.write_bytes('[{"a": "ü"}]'.encode("latin-1"))
    with pytest.raises(VistuneError, match="not valid JSON after row 0"):
        list(rows(path))
    with pytest.raises(VistuneError, match="does not exist"):
        rows(tmp_path / "b.json")


def test_a_table_is_read_in_order_and_only_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"n": list(range(300)), "image": [{"bytes": b"x", "path": None}] * 300, "rating": [5] * 300})
    pq.write_table(table, path, row_group_size=100)
    assert [row["n"] for row in rows(path)] == list(range(300))
    assert next(rows(path, ("n", "image", "absent"))) == {"n": 0, "image": {"bytes": b"x", "path": None}}
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(VistuneError, match=r"a\.parquet cannot be read as a parquet file"):
        list(rows(path))


def test_a_folder_stands_for_its_data_files_in_order(tmp_path: Path) -> None:
    for name in ("b/2.json", "b/10.jsonl", "b/README.md", "c/x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("[]")
    found = parts(tmp_path, AnnotationFile("llava", "b"))
    assert [part.path for part in found] == ["b/10.jsonl", "b/2.json"]
    assert parts(tmp_path, found[0]) == [found[0]]
    with pytest.raises(VistuneError, match=r"holds no file that ends in \.json"):
        parts(tmp_path, AnnotationFile("llava", "c"))
