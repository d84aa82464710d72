"""The published schemas are those of the code, and say what the data on disk is."""

import json
import re
from dataclasses import asdict

import pytest

from vistune.records import (
    AnnotatedImage,
    Annotation,
    Category,
    Dialogue,
    ImageRef,
    Lineage,
    Message,
    Phrase,
    Region,
    Reject,
    Sample,
)
from vistune.schema import arrow_schema
from vistune.schema_docs import COLUMNS, RECORDS, columns, files, json_schema
from vistune.stages import repository

IMAGE = ImageRef("ab" * 32, 640, 480, "jpeg", "images/1.jpg")
EXAMPLES = {
    "sample": Sample(
        *("vt1:a", "toys", "train", "locate", "adapt", "Where is the dog?", "", "[0, 0, 9, 9]"),
        (Message("user", "Where is the dog?", (0,)), Message("assistant", "[0, 0, 9, 9]")),
        (IMAGE,),
        Lineage("toys/1", ("1",), ()),
        "CC0",
        IMAGE.sha256,
        regions=(Region((0, 0, 6.4, 4.8), "dog", "1", polygons=((0, 0, 1, 1, 2, 2),)),),
    ),
    "annotated_image": AnnotatedImage(
        *("toys/1", "toys", "train", IMAGE, "CC0"),
        objects=(Annotation("1", Category("dog", names={"zh": "狗"}), (0, 0, 6.4, 4.8)),),
        phrases=(Phrase("2", "the dog", ((0, 0, 6.4, 4.8),), "referring"),),
    ),
    "dialogue": Dialogue("toys/2", "toys", "train", (IMAGE,), (Message("user", "Hello"),), "CC0"),
    "reject": Reject("adapt", "toys/object/1", "box_outside", "it leaves the image."),
}


@pytest.mark.parametrize("path", files(repository() / "docs"), ids=lambda p: p.name)
def test_the_files_are_current(path):
    written = path.read_text(encoding="utf-8") if path.is_file() else ""
    assert written == files(repository() / "docs")[path], "run `python -m vistune.schema_docs`"


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_fits_its_schema_and_a_damaged_one_does_not(name):
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json_schema(name))
    validator.check_schema(json_schema(name))
    row = json.loads(json.dumps(asdict(EXAMPLES[name])))
    validator.validate(row)
    for key, value in row.items():
        damaged = {**row, key: {"no": "such thing"} if value != {} else 7}
        assert list(validator.iter_errors(damaged)), key
    assert list(validator.iter_errors({**row, "surprise": 1}))
    assert list(validator.iter_errors({k: v for k, v in row.items() if k != next(iter(row))}))


def test_a_box_has_four_numbers_and_a_role_is_one_of_three():
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json_schema("sample"))
    row = json.loads(json.dumps(asdict(EXAMPLES["sample"])))
    row["regions"][0]["box"] = [1, 2, 3]
    assert "[1, 2, 3] is too short" in next(validator.iter_errors(row)).message
    row = json.loads(json.dumps(asdict(EXAMPLES["sample"])))
    row["messages"][0]["role"] = "human"
    assert "'human' is not one of" in next(validator.iter_errors(row)).message


def _paths(fields, prefix=""):
    """Every column of an Arrow schema, as the page names it."""
    for field in fields:
        path, kind = prefix + field.name, field.type
        yield path
        while hasattr(kind, "value_type"):
            path, kind = f"{path}[]", kind.value_type
        if hasattr(kind, "fields"):
            yield from _paths(kind.fields, f"{path}.")


@pytest.mark.parametrize("kind", COLUMNS)
def test_the_page_names_and_explains_every_column(kind):
    text = (repository() / "docs/records.md").read_text(encoding="utf-8")
    section = re.search(f"<!-- columns of {kind} -->(.*?)<!-- end of {kind} -->", text, re.S)[1]
    rows = re.findall(r"^\| `(.+?)` \| (.+?) \| (.*?) \|$", section, re.M)
    assert [name for name, _, _ in rows] == list(_paths(arrow_schema(COLUMNS[kind])))
    assert all(kind and meaning.strip() for _, kind, meaning in rows)


def test_types_are_those_on_disk():
    types = {name: kind for name, kind, _ in columns(Sample)}
    assert types["regions[].box"] == "4 x float64"
    assert types["regions[].polygons"] == "list of list of float64"
    assert types["messages"] == "list of struct"
    assert types["lineage.annotation_ids"] == "list of string"
