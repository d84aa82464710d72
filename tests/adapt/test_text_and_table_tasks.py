"""Text that can be read, and tables: transcription, Markdown, look-ups and comparisons computed from the cells."""

import json
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vistune.adapt.language import CHINESE
from vistune.adapt.tasks.tables import markdown, parse_quantity
from vistune.records import Table, TextLine

LINES = (
    TextLine("t1", "world", (60, 2, 100, 12)),
    TextLine("t2", " hello  ", (0, 0, 50, 10)),
    TextLine("t3", "second line", (0, 30, 90, 40)),
)
TABLE = Table("b1", ("Year", "Sales", "Share"), (("2019", "$1,200", "12 %"), ("2020", "$900.5", "9 %")))


def test_lines_are_read_by_their_box_and_as_a_page_in_reading_order(ask, picture):
    made, refused = ask("transcription", picture(lines=LINES))
    assert not refused
    kinds = {c.evidence: c for c in made}
    assert set(kinds) == {("t2", "t1", "t3"), ("t1",), ("t2",), ("t3",)} or set(kinds) == {("t1",), ("t2",), ("t3",)}
    page = next(
        c for key in range(20) for c in ask("transcription", picture(lines=LINES), key=str(key))[0] if c.kind == "page"
    )
    assert page.slots["text"] == "hello\nworld\nsecond line"
    assert json.loads(page.slots["json"]) == ["hello", "world", "second line"]
    assert (page.boxes, [r.annotation_id for r in page.regions]) == ((), ["t2", "t1", "t3"])
    line = kinds[("t2",)]
    assert (line.slots["text"], line.slots["box"], line.boxes) == ("hello", "[0, 0, 250, 100]", ("[0, 0, 250, 100]",))
    assert line.regions[0].label == "hello"


def test_lines_without_a_place_have_no_order(ask, picture):
    loose = tuple(replace(line, box=(0.0, 0.0, 0.0, 0.0)) for line in LINES)
    assert ask("transcription", picture(lines=loose)) == ([], [])
    assert [c.kind for c in ask("transcription", picture(lines=(LINES[0], *loose[1:])))[0]] == ["line"]
    (single,), _ = ask("transcription", picture(lines=loose[:1]))
    assert (single.kind, single.slots["text"], single.regions) == ("page", "world", ())


def test_a_box_around_two_lines_reads_neither_and_blank_lines_are_refused(ask, picture):
    twice = (LINES[0], replace(LINES[0], id="t9", text="word"), TextLine("t5", " "))
    made, (refused,) = ask("transcription", picture(lines=twice))
    assert [c.kind for c in made] == ["page"]
    assert (refused.reason, "t5" in refused.detail) == ("line_empty", True)


def test_a_wall_of_text_is_read_line_by_line_only(ask, picture):
    many = tuple(TextLine(f"t{n:02}", f"line {n}", (0, n, 50, n + 1)) for n in range(61))
    assert {c.kind for c in ask("transcription", picture(lines=many))[0]} == {"line"}


def test_table_to_markdown(ask, picture):
    (made,), _ = ask("table_to_markdown", picture(tables=(TABLE,)))
    assert made.slots["table"] == (
        "| Year | Sales | Share |\n| --- | --- | --- |\n| 2019 | $1,200 | 12 % |\n| 2020 | $900.5 | 9 % |"
    )
    assert made.evidence == ("b1",)
    large = replace(TABLE, rows=TABLE.rows * 40)
    ragged = replace(TABLE, rows=(("2019", "1"),))
    for table in (large, ragged, replace(TABLE, rows=()), replace(TABLE, columns=("Year",), rows=(("1",),))):
        assert ask("table_to_markdown", picture(tables=(table,))) == ([], [])


cells = st.text(st.characters(exclude_categories=("C", "Z")), max_size=8)


@given(st.integers(2, 4).flatmap(lambda n: st.lists(st.lists(cells, min_size=n, max_size=n), min_size=2, max_size=5)))
def test_markdown_says_every_cell_once(rows):
    lines = markdown(Table("t", tuple(rows[0]), tuple(map(tuple, rows[1:])))).split("\n")
    assert len(lines) == len(rows) + 1
    for line, row in zip([lines[0], *lines[2:]], rows, strict=True):
        read = [cell.strip().replace("\\|", "|") for cell in line.strip("|").replace("\\|", "\0").split("|")]
        assert [cell.replace("\0", "|") for cell in read] == row


def test_value_lookup(ask, picture):
    made, _ = ask("value_lookup", picture(tables=(TABLE,)))
    found = {(c.slots["row"], c.slots["column"]): c.slots["value"] for c in made}
    assert found == {
        ("2019", "Sales"): "$1,200",
        ("2019", "Share"): "12 %",
        ("2020", "Sales"): "$900.5",
        ("2020", "Share"): "9 %",
    }
    assert all(json.loads(c.slots["json"]) == c.slots["value"] for c in made)
    assert len(ask("value_lookup", picture(tables=(TABLE,)), CHINESE)[0]) == 4


def test_names_that_occur_twice_name_no_cell(ask, picture):
    twice = Table(
        "b1",
        ("Year", "Sales", "sales", "Share"),
        (("2019", "1", "2", "3"), (" 2019", "4", "5", " "), ("x", "6", "7", "8")),
    )
    made, _ = ask("value_lookup", picture(tables=(twice,)))
    assert [(c.slots["row"], c.slots["column"], c.slots["value"]) for c in made] == [("x", "Share", "8")]
    assert ask("comparison", picture(tables=(twice,))) == ([], [])


def test_comparison_is_computed_from_the_cells(ask, picture):
    table = Table("b1", ("Toy", "Price"), (("dog", "$1,200.50"), ("cat", "$900"), ("kite", "$3")))
    seen = {}
    for key in range(30):
        for c in ask("comparison", picture(tables=(table,)), key=str(key))[0]:
            seen[c.kind, c.slots["row"], c.slots["other"]] = c.slots["answer"]
            assert c.slots["column"] == "Price"
    assert seen == {
        ("highest", "", ""): "dog",
        ("lowest", "", ""): "kite",
        ("difference", "dog", "cat"): "$300.50",
        ("difference", "dog", "kite"): "$1197.50",
        ("difference", "cat", "kite"): "$897",
    }


def test_a_tie_has_no_winner_and_units_are_not_mixed(ask, picture):
    tie = Table("b1", ("Toy", "Price"), (("dog", "5 kg"), ("cat", "5 kg"), ("kite", "3 kg")))
    kinds = {c.kind: c for key in range(20) for c in ask("comparison", picture(tables=(tie,)), key=str(key))[0]}
    assert set(kinds) == {"lowest", "difference"}
    assert kinds["difference"].slots["answer"] == "2 kg"
    for cells in (("5 kg", "5 g"), ("5", "n/a"), ("5", ""), ("5", "5")):
        table = Table("b1", ("Toy", "Price"), (("dog", cells[0]), ("cat", cells[1])))
        assert ask("comparison", picture(tables=(table,))) == ([], [])


@pytest.mark.parametrize(
    ("text", "value", "before", "after"),
    [
        ("1,234,567", "1234567", "", ""),
        ("-3.5", "-3.5", "", ""),
        ("\u22123.5", "-3.5", "", ""),
        ("€ 20", "20", "€", ""),
        ("12%", "12", "", "%"),
        (" 7 million ", "7", "", "million"),
    ],
)
def test_quantities(text, value, before, after):
    found = parse_quantity(text)
    assert (found.value, found.before, found.after) == (Decimal(value), before, after)


@pytest.mark.parametrize("text", ["", "n/a", "12 34", "1,23", "3-4", "2020-01-01", "1.2.3", "12 kg of it"])
def test_no_quantities(text):
    assert parse_quantity(text) is None
