"""The Cauldron and FineVision: parquet with images inside and turns about them."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vistune.records import Message
from vistune.sources import AnnotationFile

FILE = AnnotationFile("cauldron", "vqav2/train-00000-of-00001.parquet")
TEXT = pa.struct([("user", pa.string()), ("assistant", pa.string()), ("source", pa.string())])
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def _write(corpus: Any, rows: list[dict[str, Any]], name: str = FILE.path, **more: pa.DataType) -> None:
    schema = pa.schema({"images": pa.list_(IMAGE), "texts": pa.list_(TEXT), **more})
    path = corpus.root / name
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=2)


def _turn(user: str | None, assistant: str | None, source: str | None = "VQAv2") -> dict[str, Any]:
    return {"user": user, "assistant": assistant, "source": source}


def test_a_row_is_one_dialogue_about_its_images(corpus: Any, gathered: Callable[..., Any], png: Any) -> None:
    one, two = ({"bytes": png(n), "path": None} for n in (1, 2))
    asked = _turn("What is it?\nAnswer briefly.", "A cat.")
    rows = [
        {"images": [one], "texts": [asked, _turn("Is it red? ", "No.")]},
        {"images": [one, two], "texts": [_turn("Compare.", "Both dark.", "nlvr2")]},
        {"images": [], "texts": [_turn("1 + 1?", "2", None)]},
        {"images": [two], "texts": [_turn("Is <image> red?", "No.", "a"), _turn("Sure?", "Yes.", "b")]},
    ]
    _write(corpus, rows)
    first, pair, text, marked = gathered(FILE)
    assert not corpus.rejects
    assert first.messages == (
        Message("user", "What is it?\nAnswer briefly.", (0,)),
        Message("assistant", "A cat."),
        Message("user", "Is it red?"),
        Message("assistant", "No."),
    )
    assert [d.task for d in (first, pair, text, marked)] == ["VQAv2", "nlvr2", "", "a, b"]
    assert pair.messages[0].images == (0, 1) and len(pair.images) == 2
    assert text.images == ()
    assert marked.messages[0] == Message("user", "Is  red?", (0,), (3,))
    assert len({i.sha256 for d in (first, pair, marked) for i in d.images}) == 2


def test_finevision_rows_have_ratings_and_a_source_of_their_own(corpus: Any, gathered: Callable[..., Any]) -> None:
    corpus.images("a.png")
    ratings = {"relevance_ratings": pa.list_(pa.int64()), "relevance_min": pa.int64(), "source": pa.string()}
    texts = [_turn("What?", "A cat.", None)]
    row = {"images": [{"bytes": None, "path": "a.png"}], "texts": texts, "relevance_ratings": [5], "source": "ai2d"}
    _write(corpus, [row], **ratings)
    (found,) = gathered(FILE, images=str(corpus.root / "images"))
    assert not corpus.rejects and found.task == "ai2d" and found.images[0].path == "own/d/images/a.png"


def test_a_folder_of_shards_names_rows_by_their_shard(corpus: Any, gathered: Callable[..., Any], png: Any) -> None:
    row = {"images": [{"bytes": png(1), "path": None}], "texts": [_turn("What?", "A cat.")]}
    for n in range(2):
        _write(corpus, [row] * (3 - n), f"vqav2/train-0000{n}-of-00002.parquet")
    found = gathered(AnnotationFile("cauldron", "vqav2"))
    shards = [f"d/train-0000{n}-of-00002#{row}" for n in range(2) for row in range(3 - n)]
    assert [d.id for d in found] == shards and not corpus.rejects
    assert [f.path for f in found[0].files] == ["own/d/annotations/0/vqav2"]


def test_each_defect_is_one_reject_with_its_reason(corpus: Any, gathered: Callable[..., Any], png: Any) -> None:
    image, whole = {"bytes": png(1), "path": None}, _turn("What?", "A cat.")
    planted: list[tuple[str, dict[str, Any]]] = [
        ("row_malformed", {"images": [image], "texts": None}),
        ("turns_missing", {"images": [image], "texts": []}),
        ("row_malformed", {"images": [image], "texts": [whole, _turn("What?", None)]}),
        ("row_malformed", {"images": [image], "texts": [None]}),
        ("text_empty", {"images": [image], "texts": [whole, _turn("", "A cat.")]}),
        ("image_count", {"images": [image], "texts": [_turn("<image><image>?", "A cat.")]}),
        ("image_in_answer", {"images": [image], "texts": [_turn("What?", "See <image>.")]}),
        ("image_empty", {"images": [None], "texts": [whole]}),
        ("image_empty", {"images": [{"bytes": None, "path": None}], "texts": [whole]}),
        ("image_unreadable", {"images": [{"bytes": b"PAR1", "path": None}], "texts": [whole]}),
        ("image_missing", {"images": [{"bytes": None, "path": "gone.png"}], "texts": [whole]}),
    ]
    _write(corpus, [row for _, row in planted])
    assert gathered(FILE) == []
    assert corpus.reasons() == {f"dialogue/#{n}": reason for n, (reason, _) in enumerate(planted)}
