"""Alpaca rows with images: instruction and input stay apart."""

from typing import Any

from vistune.records import Message
from vistune.sources import AnnotationFile

FILE = AnnotationFile("alpaca", "data.json")


def test_rows_keep_instruction_and_input_apart(corpus: Any) -> None:
    corpus.images("1.jpg", "2.jpg")
    corpus.write(
        "data.json",
        [
            {"instruction": "Give three tips.", "input": "", "output": "Eat well."},
            {"instruction": "<image>\nName it. ", "input": "in French", "output": "un chat", "images": ["1.jpg"]},
            {"instruction": "Describe it.", "output": "A cat.", "images": ["1.jpg"], "system": "Be brief."},
            {
                "instruction": "Compare <image>",
                "input": "and <image> please",
                "output": "Both dark.",
                "images": ["1.jpg", "2.jpg"],
                "history": [["Hello?", "Hi."], ["Ready?", "Yes."]],
            },
            {"instruction": "<image>", "input": "What is it?", "output": "A cat.", "images": ["1.jpg"]},
        ],
    )
    tips, name, brief, compare, bare = corpus.read(FILE)
    assert not corpus.rejects
    assert [(d.instruction, d.input) for d in (tips, name, brief, compare, bare)] == [
        ("Give three tips.", ""),
        ("Name it.", "in French"),
        ("Describe it.", ""),
        ("Compare", "and  please"),
        ("What is it?", ""),
    ]
    assert name.messages == (Message("user", "Name it.\nin French", (0,)), Message("assistant", "un chat"))
    assert [m.images for m in brief.messages] == [(), (0,), ()]
    assert [m.role for m in compare.messages] == ["user", "assistant"] * 3
    assert compare.messages[4] == Message("user", "Compare\nand  please", (0, 1), (7, 12))
    assert bare.messages[0] == Message("user", "What is it?", (0,))


def test_without_markers_images_come_before_the_first_question(corpus: Any) -> None:
    corpus.images("1.jpg")
    row = {"instruction": "And now?", "output": "Dark.", "images": ["1.jpg"], "history": [["What is it?", "A cat."]]}
    corpus.write("data.json", [row])
    assert [m.images for m in corpus.read(FILE)[0].messages] == [(0,), (), (), ()]


def test_each_defect_is_one_reject_with_its_reason(corpus: Any) -> None:
    corpus.images("1.jpg")
    whole = {"instruction": "What?", "input": "", "output": "A cat."}
    planted: dict[str, tuple[str, dict[str, Any]]] = {
        "no output": ("row_malformed", {"instruction": "What?", "chosen": "a", "rejected": "b"}),
        "no instruction": ("row_malformed", {"input": "What?", "output": "A cat."}),
        "history": ("row_malformed", whole | {"history": [["What?"]]}),
        "number": ("row_malformed", whole | {"output": 3}),
        "blank": ("text_empty", whole | {"instruction": " "}),
        "blank output": ("text_empty", whole | {"output": "\n"}),
        "count": ("image_count", whole | {"instruction": "<image><image>?", "images": ["1.jpg"]}),
        "answer": ("image_in_answer", whole | {"output": "<image>", "images": ["1.jpg"]} | {"output": "See <image>"}),
        "tools": ("tools_unsupported", whole | {"tools": "[{}]"}),
        "audio": ("media_unsupported", whole | {"audios": ["a.wav"]}),
        "missing": ("image_missing", whole | {"images": ["2.jpg"]}),
    }
    corpus.write("data.json", [{"id": name, **row} for name, (_, row) in planted.items()])
    assert corpus.read(FILE) == []
    assert corpus.reasons() == {f"dialogue/{name}": reason for name, (reason, _) in planted.items()}
