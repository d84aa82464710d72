"""Rows that were instruction data before, as samples."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

from vistune.adapt.turns import ready_made
from vistune.records import Dialogue, ImageRef, Message, SourceFile
from vistune.sources import AnnotationFile, Dataset, read

IMAGES = tuple(ImageRef(digest * 64, 40, 30, "png", f"{digest}.png") for digest in "ba")
TALK = (
    Message("system", "Be brief."),
    Message("user", "First?", (0,)),
    Message("assistant", "Yes."),
    Message("user", "Is  like it?", (1,), (3,)),
    Message("assistant", "No."),
)


def _dialogue(messages: tuple[Message, ...] = TALK, **change: Any) -> Dialogue:
    files = (SourceFile("mix.json", "c" * 64),)
    given = {"id": "d/7", "dataset": "d", "split": "train", "images": IMAGES, "licence": "CC0", "files": files}
    return Dialogue(messages=messages, **given | change)


def test_messages_and_images_stay_as_they_are() -> None:
    sample = ready_made(_dialogue(language="zh"), 3)
    assert (sample.messages, sample.images) == (TALK, IMAGES)
    assert (sample.instruction, sample.input, sample.response) == (
        "Is  like it?",
        "User: First?\nAssistant: Yes.",
        "No.",
    )
    assert (sample.task, sample.method, sample.language, sample.licence) == ("dialogue", "adapt", "zh", "CC0")
    assert sample.group == "a" * 64  # whatever the order of the images


def test_the_lineage_names_the_row() -> None:
    sample = ready_made(_dialogue(), 3)
    made = sample.lineage
    assert (made.annotated_image, made.annotation_ids, made.template) == ("d/7", ("d/7",), "ready_made@1")
    assert made.files == (SourceFile("mix.json", "c" * 64),)
    assert ready_made(_dialogue(id="d/8"), 3).id != sample.id == ready_made(_dialogue(), 3).id


def test_an_instruction_and_an_input_of_its_own_are_kept_apart() -> None:
    talk = (Message("user", "Translate.\nA cat."), Message("assistant", "Un chat."))
    sample = ready_made(_dialogue(talk, instruction="Translate.", input="A cat.", images=()), 0)
    assert (sample.instruction, sample.input, sample.response) == ("Translate.", "A cat.", "Un chat.")
    assert sample.group == "d/7"
    alone = ready_made(_dialogue(talk, instruction="Translate.\nA cat.", images=()), 0)
    assert (alone.instruction, alone.input) == ("Translate.\nA cat.", "")


def test_an_alpaca_row_comes_through_without_loss(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "1.png")
    row = {"instruction": "Name it.", "input": "in French", "output": "un chat", "images": ["1.png"]}
    (tmp_path / "a.json").write_text(json.dumps([row | {"history": [["Hello?", "Hi."]]}]))
    (dialogue,) = read(tmp_path, Dataset("d", "train", ".", (AnnotationFile("alpaca", "a.json"),)), [])
    sample = ready_made(dialogue, 0)  # type: ignore[arg-type]
    assert {"instruction": sample.instruction, "input": sample.input, "output": sample.response} | {
        "images": [i.path for i in sample.images]
    } == row
    assert [m.text for m in sample.messages] == ["Hello?", "Hi.", "Name it.\nin French", "un chat"]
