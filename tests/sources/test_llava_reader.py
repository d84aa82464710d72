"""LLaVA JSON as it is published: the rows below have the oddities that LLaVA-665K really has."""

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vistune.errors import VistuneError
from vistune.records import Message
from vistune.sources import AnnotationFile

FILE = AnnotationFile("llava", "mix.json")

BUS = {
    "id": "000000033471",
    "image": "coco/train2017/000000033471.jpg",
    "conversations": [
        {"from": "human", "value": "<image>\nWhat are the colors of the bus in the image?"},
        {"from": "gpt", "value": "The bus in the image is white and red."},
        {"from": "human", "value": "What feature can be seen on its back? "},
        {"from": "gpt", "value": "\nAn advertisement."},
    ],
}


def _row(id: Any, *said: str, **more: Any) -> dict[str, Any]:
    turns = [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(said)]
    return {"id": id, **more, "conversations": turns}


def test_published_rows_are_read_with_all_their_oddities(corpus: Any) -> None:
    corpus.images("coco/train2017/000000033471.jpg", "a.png", "b.png")
    rows = [
        BUS,
        _row(7, "Is it red?\n<image>", "Yes.", image="a.png", model=""),  # an id that is a number, the marker last
        _row("wgByO4Y_0", "sentry self hosted api 504", "A timeout."),  # text only
        _row("7", "Compare <image> with <image>.", "Both are dark.", image=["a.png", "b.png"]),  # the id again
        _row(7, "And <|im_start|> here, <s>?", "Text.", image=""),
    ]
    rows[2]["conversations"][1] |= {"text": "another", "markdown": {"type": "answer-markdown", "index": 1}}
    corpus.write("mix.json", rows)
    bus, red, text, both, token = corpus.read(FILE)
    assert not corpus.rejects
    assert [d.id for d in (bus, red, text, both, token)] == ["d/000000033471", "d/7", "d/wgByO4Y_0", "d/7#2", "d/7#3"]
    assert bus.messages == (
        Message("user", "What are the colors of the bus in the image?", (0,)),
        Message("assistant", "The bus in the image is white and red."),
        Message("user", "What feature can be seen on its back?"),
        Message("assistant", "An advertisement."),
    )
    assert [i.path for i in bus.images] == ["images/coco/train2017/000000033471.jpg"]
    assert (bus.licence, bus.split, bus.language, bus.instruction) == ("CC BY 4.0", "train", "en", "")
    assert [f.path for f in bus.files] == ["mix.json"]
    assert red.messages[0] == Message("user", "Is it red?", (0,), (10,))
    assert text.images == () and text.messages[1].text == "A timeout."
    assert both.messages[0] == Message("user", "Compare  with .", (0, 1), (8, 14))
    assert [i.path for i in both.images] == ["images/a.png", "images/b.png"]
    assert token.messages[0].text == "And <|im_start|> here, <s>?"


def test_each_defect_is_one_reject_with_its_reason(corpus: Any) -> None:
    corpus.images("a.png")
    (corpus.root / "images/gif.jpg").write_bytes(b"GIF89a")
    planted = {
        "no marker": ("image_count", _row("no marker", "What?", "A cat.", image="a.png")),
        "no image": ("image_count", _row("no image", "<image>\nWhat?", "A cat.")),
        "null image": ("image_count", _row("null image", "<image>\nWhat?", "A cat.", image=None)),
        "two markers": ("image_count", _row("two markers", "<image>\n<image>\nWhat?", "A cat.", image="a.png")),
        "answer": ("image_in_answer", _row("answer", "What?", "<image> A cat.", image="a.png")),
        "empty": ("text_empty", _row("empty", "<image>\n ", "A cat.", image="a.png")),
        "asks": ("answer_missing", _row("asks", "<image>\nWhat?", "A cat.", "And?", image="a.png")),
        "silent": ("turns_missing", _row("silent", image="a.png")),
        "video": ("media_unsupported", _row("video", "What?", "A cat.", video="a.mp4")),
        "twice": ("roles_not_alternating", _row("twice", "Hi.", "Hi.") | {"conversations": BUS["conversations"][::2]}),
        "system": ("role_unknown", {"id": "system", "conversations": [{"from": "system", "value": "Be brief."}]}),
        "text": ("row_malformed", {"id": "text", "conversations": [{"from": "human", "text": "What?"}]}),
        "none": ("row_malformed", {"id": "none", "image": "a.png"}),
        "#13": ("row_malformed", ["no", "object"]),
        "nothing": ("image_empty", _row("nothing", "<image>\nWhat?", "A cat.", image=[None])),
        "remote": ("image_remote", _row("remote", "<image>\nWhat?", "A cat.", image="https://example.org/a.png")),
        "missing": ("image_missing", _row("missing", "<image>\nWhat?", "A cat.", image="ocr_vqa/images/1.jpg")),
        "gif": ("image_unreadable", _row("gif", "<image>\nWhat?", "A cat.", image="gif.jpg")),
        "outside": ("image_path", _row("outside", "<image>\nWhat?", "A cat.", image="../mix.json")),
    }
    corpus.write("mix.json", [row for _, row in planted.values()])
    assert corpus.read(FILE) == []
    assert corpus.reasons() == {f"dialogue/{name}": reason for name, (reason, _) in planted.items()}
    assert corpus.tally.entered == {"dialogue": len(planted)}


def test_lines_and_parquet_hold_the_same_rows(corpus: Any, gathered: Callable[..., Any], png: Any) -> None:
    """InternVL publishes JSON lines, LLaVA-NeXT and LLaVA-OneVision parquet with the image inside."""
    corpus.images("a.png", "b.png")
    asked = ["<image>\nWhat?", "A cat."]
    rows = [_row("1", *asked, image="a.png"), _row("1", *asked, image="b.png"), _row("3", "Hello?", "Yes.")]
    corpus.write("mix.jsonl", "\n".join(map(json.dumps, rows)) + "\n")
    lines = corpus.read(AnnotationFile("llava", "mix.jsonl"))
    assert [d.id for d in lines] == ["d/1", "d/1#2", "d/3"]
    held = [
        row | {"image": {"bytes": png(n), "path": "x.png"} if "image" in row else None} for n, row in enumerate(rows)
    ]
    pq.write_table(pa.Table.from_pylist(held), corpus.root / "mix.parquet", row_group_size=1)
    tables = gathered(AnnotationFile("llava", "mix.parquet"))
    assert not corpus.rejects
    assert [d.messages for d in tables] == [d.messages for d in lines]
    assert [len(d.images) for d in tables] == [1, 1, 0]
    assert len({i.sha256 for d in tables for i in d.images}) == 2
    assert all(i.path == f"own/d/images/embedded/{i.sha256[:2]}/{i.sha256}" for d in tables for i in d.images)


def test_files_are_gathered_with_the_images_they_name(corpus: Any, gathered: Callable[..., Any]) -> None:
    corpus.images("a.png", "unused.png")
    corpus.write("mix.json", [_row(1, "<image>\nWhat?", "A cat.", image="a.png"), _row(2, "Hello?", "Yes.")])
    found = gathered(FILE, images=str(corpus.root / "images"))
    assert not corpus.rejects and [d.id for d in found] == ["d/1", "d/2"]
    assert [i.path for i in found[0].images] == ["own/d/images/a.png"]
    assert not list(corpus.root.glob("gathered/**/unused.png"))


def test_a_set_without_any_image_can_be_gathered(corpus: Any, gathered: Callable[..., Any]) -> None:
    corpus.write("mix.json", [_row(1, "Hello?", "Yes.")])
    assert len(gathered(FILE)) == 1
    corpus.write("mix.json", [])
    with pytest.raises(VistuneError, match="names no image"):
        gathered(FILE)


def test_files_of_one_data_set_share_no_name(corpus: Any) -> None:
    for name in ("a.json", "b.json"):
        corpus.write(name, [_row(1, "Hello?", "Yes."), {"conversations": _row(0, "Hi?", "Yes.")["conversations"]}])
    found = corpus.read(AnnotationFile("llava", "a.json"), AnnotationFile("llava", "b.json"))
    assert [d.id for d in found] == ["d/1", "d/#1", "d/1#2", "d/#1#2"]
    corpus.write("folder/x.json", [{"conversations": _row(0, "Hi?", "Yes.")["conversations"]}])
    assert [d.id for d in corpus.read(AnnotationFile("llava", "folder"))] == ["d/x#0"]


def test_a_name_that_cannot_be_stored_is_made_one(corpus: Any) -> None:
    corpus.write("mix.json", [_row("\ud83d" * 300, "Hello?", "Yes.")])
    (found,) = corpus.read(FILE)
    assert found.id == "d/" + "?" * 200
