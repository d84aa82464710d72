"""What readers of question files share, and what all of them must bear."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vistune.errors import VistuneError
from vistune.records import Reject
from vistune.sources import AnnotationFile, Dataset, Tally
from vistune.sources.join import list_rows
from vistune.sources.questions import chosen, expand, file_name, majority, members, texts
from vistune.sources.rows import Malformed, Refused

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=6)  # halves of characters too
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=6,
)
"""Anything that JSON can say."""


@given(st.lists(st.sampled_from("abcd"), min_size=1))
def test_the_majority_is_the_first_of_those_given_most_often(answers: list[str]) -> None:
    most = max(Counter(answers).values())
    assert majority(answers) == next(a for a in answers if answers.count(a) == most)


@given(st.lists(ANY_TEXT))
def test_texts_stand_on_one_line_and_none_is_blank(values: list[str]) -> None:
    try:
        found = texts(values, "answers")
    except Malformed:
        assert any(0xD800 <= ord(c) < 0xE000 for value in values for c in value)
        return
    assert [value.split() for value in values if value.split()] == [text.split() for text in found]
    assert all(text == " ".join(text.split()) for text in found)


@given(st.lists(st.text(max_size=3), max_size=5), st.integers(-9, 9))
def test_the_choice_is_counted_from_0(choices: list[str], index: int) -> None:
    if 0 <= index < len(choices):
        assert chosen(choices, index) is choices[index]
    else:
        with pytest.raises(Refused):
            chosen(choices, index)


@given(st.integers(0, 10**15))
def test_expand_takes_ids_as_numbers_and_as_text(number: int) -> None:
    assert expand("{image_id:012d}.jpg", number) == expand("{image_id:012d}.jpg", str(number)) == f"{number:012d}.jpg"
    assert expand("{image_id}.jpg", f"a{number}") == f"a{number}.jpg"


def test_a_pattern_is_at_fault_only_when_it_suits_no_id() -> None:
    with pytest.raises(Malformed):
        file_name("{image_id:03d}.png", "abc")
    for pattern in (
        "{image_id:03d}{x}.png",
        "{0}.png",
        "{image_id:q}.png",
        "{image_id",
        "{image_id.a}",
        "{image_id[0]}",
    ):
        with pytest.raises(VistuneError, match="image_pattern"):
            file_name(pattern, 7)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.text(max_size=2), st.dictionaries(st.text(max_size=2), st.integers()))))
def test_members_come_as_often_as_the_file_has_them(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, dict[str, int]]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "members.json"
    path.write_text("{" + ", ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in pairs) + "}", encoding="utf-8")
    assert members(path) == pairs


AOKVQA = {"question_id": "q", "image_id": 1, "question": "Why?", "choices": ["a", "b"], "correct_choice_idx": 1}
AOKVQA |= {"direct_answers": ["b"], "rationales": ["c"], "split": "train"}
TEXTVQA = {"question_id": 1, "image_id": "i", "question": "Why?", "answers": ["a"], "set_name": "train"}
TEXTCAPS = {"caption_id": 1, "image_id": "i", "caption_str": "a", "set_name": "train"}
PLACE = {"top_left_x": 0, "top_left_y": 0, "width": 1, "height": 1, "rotation": 0}
OCR = {"image_id": "i", "ocr_info": [{"word": "a", "bounding_box": PLACE}]}
OCRVQA = {"imageURL": "http://a/b.jpg", "questions": ["Why?"], "answers": ["a"], "split": 1}
DOCVQA = {"questionId": 1, "question": "Why?", "question_types": ["form"], "image": "a.png", "answers": ["a"]}
CHARTQA = {"imgname": "a.png", "query": "Why?", "label": "a"}
SCIENCEQA = {"question": "Why?", "choices": ["a", "b"], "answer": 1, "hint": "", "image": None, "task": "closed"}
SCIENCEQA |= {"lecture": "c", "solution": "d", "split": "train"}

FILES: dict[str, tuple[dict[str, Any], Callable[[Any], Any]]] = {
    "aokvqa": (AOKVQA, lambda row: [row]),
    "textvqa": (TEXTVQA, lambda row: {"data": [row]}),
    "textcaps": (TEXTCAPS, lambda row: {"data": [row]}),
    "textvqa_ocr": (OCR, lambda row: {"data": [row]}),
    "ocrvqa": (OCRVQA, lambda row: {"1": row}),
    "docvqa": (DOCVQA | {"data_split": "train"}, lambda row: {"data": [row]}),
    "chartqa": (CHARTQA, lambda row: [row]),
    "scienceqa": (SCIENCEQA, lambda row: {"1": row}),
}
"""A row of each format, and the file around it."""


def _read(root: Path, format: str, tree: Any) -> tuple[Tally, list[Reject], int]:
    """Counts, rejects and number of records of a file, before its images are opened."""
    (root / "rows.json").write_text(json.dumps(tree), encoding="utf-8")
    tally, rejects = Tally(), []  # type: ignore[var-annotated]
    listing = list_rows(
        root, Dataset("d", "train", "", (AnnotationFile(format, "rows.json"),)), rejects, "adapt", tally
    )
    records = [row.record for entry in listing.images.values() for rows in entry.rows.values() for row in rows]
    dialogues = [row.record for row in listing.dialogues]
    said = [asdict(one) for one in [*records, *dialogues, *rejects]]
    json.dumps(said, ensure_ascii=False).encode()  # all of it can be written
    return tally, rejects, len(records) + len(dialogues) + len(listing.images)


@pytest.mark.parametrize("format", FILES)
def test_the_row_is_good_before_it_is_damaged(tmp_path: Path, format: str) -> None:
    row, around = FILES[format]
    tally, rejects, records = _read(tmp_path, format, around(row))
    assert records == tally.entered.total() == (1 if format == "scienceqa" else 2) and not rejects


@pytest.mark.parametrize("format", FILES)
@settings(max_examples=40)
@given(data=st.data())
def test_whatever_a_row_holds_it_is_kept_or_rejected(
    tmp_path_factory: pytest.TempPathFactory, format: str, data: st.DataObject
) -> None:
    row, around = FILES[format]
    row = json.loads(json.dumps(row))
    if format == "textvqa_ocr" and data.draw(st.booleans()):
        part = data.draw(st.sampled_from([row["ocr_info"][0], row["ocr_info"][0]["bounding_box"]]))
    else:
        part = row
    for key in data.draw(st.lists(st.sampled_from(sorted(part)), min_size=1, max_size=2)):
        part[key] = data.draw(ANY)
    damaged = data.draw(st.just(row) | ANY)
    tally, rejects, records = _read(tmp_path_factory.getbasetemp(), format, around(damaged))
    assert tally.entered.total() == records + len(rejects)
    assert {reject.reason for reject in rejects} <= {
        "row_malformed",
        "question_empty",
        "question_unanswered",
        "answer_not_among_choices",
        "answers_unequal",
        "choices_repeated",
        "caption_empty",
        "line_empty",
    }


@settings(max_examples=40)
@given(st.lists(st.lists(st.text(max_size=5), min_size=2, max_size=2), min_size=2, max_size=5))
def test_a_table_is_what_was_written(tmp_path_factory: pytest.TempPathFactory, cells: list[list[str]]) -> None:
    root = tmp_path_factory.getbasetemp()
    text = io.StringIO()
    csv.writer(text).writerows(cells)
    (root / "tables").mkdir(exist_ok=True)
    (root / "tables/a.csv").write_text(text.getvalue(), encoding="utf-8", newline="")
    (root / "rows.json").write_text(json.dumps([CHARTQA]), encoding="utf-8")
    file = AnnotationFile("chartqa", "rows.json", "tables")
    rejects: list[Reject] = []
    listing = list_rows(root, Dataset("d", "train", "", (file,)), rejects, "adapt", Tally())
    (table,) = (row.record for row in listing.images["a.png"].rows["table"])
    found = [list(table.columns), *map(list, table.rows)]
    assert found == [[" ".join(cell.split()) for cell in line] for line in cells] and not rejects
