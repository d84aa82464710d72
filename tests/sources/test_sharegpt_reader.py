"""ShareGPT of LLaMA-Factory, and messages of TRL, transformers and the OpenAI API."""

import base64
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vistune.records import Message
from vistune.sources import AnnotationFile

FILE = AnnotationFile("sharegpt", "data.json")
ASK, SAY = {"from": "human", "value": "<image>Who are they?"}, {"from": "gpt", "value": "Kane and Gretzka."}
USER, ANSWER = {"role": "user", "content": "<image>Who are they?"}, {"role": "assistant", "content": "Kane."}


def test_conversations_with_system_and_images(corpus: Any) -> None:
    corpus.images("1.jpg", "2.jpg")
    corpus.write(
        "data.json",
        [
            {"conversations": [ASK, SAY], "images": ["1.jpg"], "system": "Be brief.", "tools": ""},
            {"conversations": [{"from": "system", "value": "Own."}, ASK, SAY], "images": "2.jpg", "system": "Row's."},
            {"id": "QWJhYvA_0", "conversations": [{**ASK, "value": "Hello."}, SAY], "images": []},
        ],
    )
    first, second, third = corpus.read(FILE)
    assert not corpus.rejects
    expected = (Message("system", "Be brief."), Message("user", "Who are they?", (0,)))
    assert first.messages == (*expected, Message("assistant", "Kane and Gretzka."))
    assert [m.text for m in second.messages] == ["Own.", "Who are they?", "Kane and Gretzka."]
    assert [d.id for d in (first, second, third)] == ["d/#0", "d/#1", "d/QWJhYvA_0"]


def test_messages_with_text_and_with_blocks(corpus: Any) -> None:
    corpus.images("1.jpg", "2.jpg")

    def blocks(*content: Any) -> dict[str, Any]:
        return {"role": "user", "content": list(content)}

    text, gap = {"type": "text", "text": "Is this", "index": None}, {"type": "text", "text": " like that?"}
    mark = {"type": "image"}
    held = "data:image/png;base64," + base64.b64encode((corpus.root / "images/1.jpg").read_bytes()).decode()
    rows = {
        "markers": ({"messages": [USER, ANSWER], "images": ["1.jpg"]}, (), 1),
        "no markers": ({"messages": [{**USER, "content": "Who?"}, ANSWER], "images": ["1.jpg", "2.jpg"]}, (), 2),
        "placeholders": (
            {"messages": [blocks(mark, text, mark, gap), ANSWER], "images": ["1.jpg", "2.jpg"]},
            (0, 7),
            2,
        ),
        "numbered": (
            {
                "messages": [blocks(text, {"type": "image", "index": 1}, gap, {"type": "image", "index": 0}), ANSWER],
                "images": ["1.jpg", "2.jpg"],
            },
            (7, 18),
            2,
        ),
        "own paths": ({"messages": [blocks({"type": "image", "path": "2.jpg"}, text), ANSWER]}, (), 1),
    }
    corpus.write("data.json", [{"id": name, **row} for name, (row, _, _) in rows.items()])
    found = {d.id.removeprefix("d/"): d for d in corpus.read(FILE)}
    assert not corpus.rejects
    assert {n: (d.messages[0].places, len(d.images)) for n, d in found.items()} == {n: r[1:] for n, r in rows.items()}
    assert found["placeholders"].messages[0].text == found["numbered"].messages[0].text == "Is this like that?"
    assert [i.path for i in found["numbered"].images] == ["images/2.jpg", "images/1.jpg"]
    assert found["no markers"].messages[0].images == (0, 1)
    url = {"type": "image_url", "image_url": {"url": held, "detail": "low"}}
    corpus.write("data.json", [{"id": "url", "messages": [blocks(text, url), ANSWER]}])
    assert corpus.read(FILE) == [] and corpus.reasons() == {"dialogue/url": "image_missing"}  # gathering writes it


def test_a_table_with_images_is_gathered(corpus: Any, gathered: Callable[..., Any], png: Any) -> None:
    """What `datasets` writes of TRL's vision data: every block has every key."""
    content = [{"type": "image", "text": None, "index": 0}, {"type": "text", "text": "What?", "index": None}]
    answer = [{"type": "text", "text": "A cat.", "index": None}]
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
    rows = [{"messages": messages, "images": [{"bytes": png(n % 2), "path": None}]} for n in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), corpus.root / "data.parquet")
    found = gathered(AnnotationFile("sharegpt", "data.parquet"))
    assert not corpus.rejects
    assert [d.messages for d in found] == [(Message("user", "What?", (0,)), Message("assistant", "A cat."))] * 3
    assert len(list((corpus.root / "gathered/own/d/images").rglob("*/*/*"))) == 2  # each image once


def test_each_defect_is_one_reject_with_its_reason(corpus: Any) -> None:
    corpus.images("1.jpg")
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]}
    audio = {"role": "user", "content": [{"type": "audio", "audio": "a.wav"}]}
    both = [{"type": "image"}, {"type": "image", "path": "1.jpg"}, {"type": "text", "text": "What?"}]
    beyond = [{"type": "image", "index": 1}, {"type": "text", "text": "What?"}]
    planted: dict[str, tuple[str, dict[str, Any]]] = {
        "tools": ("tools_unsupported", {"conversations": [ASK, SAY], "images": ["1.jpg"], "tools": "[{}]"}),
        "call": ("tools_unsupported", {"conversations": [ASK, {"from": "function_call", "value": "{}"}]}),
        "observed": ("tools_unsupported", {"conversations": [ASK, SAY, {"from": "observation", "value": "{}"}]}),
        "calls": ("tools_unsupported", {"messages": [USER, call]}),
        "count": ("image_count", {"conversations": [{**ASK, "value": "Who?"}, SAY], "images": ["1.jpg"]}),
        "preference": ("answer_missing", {"conversations": [ASK], "images": ["1.jpg"], "chosen": SAY, "rejected": SAY}),
        "role": ("role_unknown", {"messages": [{"role": "critic", "content": "Bad."}]}),
        "audio": ("media_unsupported", {"messages": [audio, ANSWER]}),
        "videos": ("media_unsupported", {"conversations": [ASK, SAY], "videos": ["a.mp4"]}),
        "mixed": ("image_count", {"messages": [{"role": "user", "content": both}, ANSWER], "images": ["1.jpg"]}),
        "beyond": ("image_count", {"messages": [{"role": "user", "content": beyond}, ANSWER], "images": ["1.jpg"]}),
        "null": ("row_malformed", {"messages": [{"role": "user", "content": None}]}),
        "block": ("row_malformed", {"messages": [{"role": "user", "content": ["text"]}]}),
        "no turns": ("row_malformed", {"images": ["1.jpg"]}),
        "images": ("image_empty", {"conversations": [ASK, SAY], "images": [{"bytes": None, "path": None}]}),
        "url": (
            "image_remote",
            {"messages": [{"role": "user", "content": [{"type": "image", "url": "http://a/b.png"}, both[2]]}, ANSWER]},
        ),
    }
    corpus.write("data.json", [{"id": name, **row} for name, (_, row) in planted.items()])
    assert corpus.read(FILE) == []
    assert corpus.reasons() == {f"dialogue/{name}": reason for name, (reason, _) in planted.items()}
