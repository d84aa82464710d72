"""M3IT: images in base64 inside JSON lines."""

import base64
import json
from collections.abc import Callable
from typing import Any

from vistune.hashing import file_digest
from vistune.records import Message
from vistune.sources import AnnotationFile

FILE = AnnotationFile("m3it", "train.jsonl")


def _write(corpus: Any, *rows: dict[str, Any]) -> None:
    corpus.write("train.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def test_rows_are_gathered_with_their_images(corpus: Any, gathered: Callable[..., Any], png: Any) -> None:
    one, two = base64.b64encode(png(1)).decode(), base64.encodebytes(png(2)).decode()  # the latter in lines
    task = {"instruction": "Answer the question.", "outputs": "A cat."}
    _write(
        corpus,
        task | {"inputs": "What is it?", "image_base64_str": [one]},
        task | {"inputs": "", "image_base64_str": two},
        task | {"inputs": "图中是什么？", "image_base64_str": [one, f"data:image/png;base64,{two}"], "meta": {"id": 3}},
    )
    first, second, third = gathered(FILE)
    assert not corpus.rejects
    assert first.messages == (
        Message("user", "Answer the question.\nWhat is it?", (0,)),
        Message("assistant", "A cat."),
    )
    assert [(d.instruction, d.input) for d in (first, second)] == [
        ("Answer the question.", "What is it?"),
        ("Answer the question.", ""),
    ]
    assert third.messages[0].images == (0, 1) and third.messages[0].places == ()
    assert [i.sha256 for i in third.images] == [first.images[0].sha256, second.images[0].sha256]
    written = corpus.root / "gathered" / first.images[0].path
    assert written.read_bytes() == png(1) and written.name == file_digest(written) == first.images[0].sha256
    assert (first.images[0].format, first.images[0].width, first.images[0].height) == ("png", 40, 30)


def test_each_defect_is_one_reject_with_its_reason(corpus: Any, gathered: Callable[..., Any], png: Any) -> None:
    whole = {"instruction": "Describe it.", "inputs": "", "outputs": "A cat.", "image_base64_str": []}

    def held(data: bytes) -> dict[str, Any]:
        return {"image_base64_str": [base64.b64encode(data).decode()]}

    planted: dict[str, tuple[str, dict[str, Any]]] = {
        "empty": ("image_empty", whole),
        "blank": ("image_empty", whole | {"image_base64_str": [""]}),
        "letters": ("image_encoding", whole | {"image_base64_str": ["not base64!"]}),
        "short": ("image_encoding", whole | {"image_base64_str": ["abc"]}),
        "number": ("row_malformed", whole | {"image_base64_str": [7]}),
        "absent": ("row_malformed", {"instruction": "Describe it.", "outputs": "A cat."}),
        "no image": ("image_unreadable", whole | held(b"no image")),
        "cut": ("image_unreadable", whole | held(png(1)[:60])),
        "outputs": ("row_malformed", whole | held(png(2)) | {"outputs": ["A cat.", "A dog."]}),
        "wordless": ("text_empty", whole | held(png(2)) | {"outputs": " "}),
    }
    _write(corpus, *({"id": name, **row} for name, (_, row) in planted.items()))
    assert gathered(FILE) == []
    assert corpus.reasons() == {f"dialogue/{name}": reason for name, (reason, _) in planted.items()}
    # A row that is refused for its text leaves no image behind.
    assert len([p for p in (corpus.root / "gathered/own/d/images").rglob("*") if p.is_file()]) == 2
