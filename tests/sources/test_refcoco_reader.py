import contextlib
import io
import os
import pickle
import struct
import tracemalloc
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vistune.errors import VistuneError
from vistune.sources import AnnotationFile
from vistune.sources.refcoco import load

INSTANCES = AnnotationFile("coco_instances", "instances.json")
REFS = AnnotationFile("refcoco", "refs(unc).p")


class _Python2(pickle._Pickler):
    """Writes text as Python 2 wrote its byte strings."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)

    def save_text(self, text: str) -> None:
        data = text.encode("utf-8", "surrogateescape")
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)

    dispatch[str] = save_text


def _pickled(value: Any) -> bytes:
    held = io.BytesIO()
    _Python2(held, protocol=2).dump(value)
    return held.getvalue()


def _ref(ref: int, annotation: int, image: int, split: str, *sentences: str) -> dict[str, Any]:
    numbers = [10 * ref + n for n in range(len(sentences))]
    return {
        "ref_id": ref,
        "ann_id": annotation,
        "category_id": 1,
        "image_id": image,
        "file_name": f"COCO_train2014_{image:012d}_{annotation}.jpg",  # no image has this name
        "split": split,
        "sent_ids": numbers,
        "sentences": [
            {"sent_id": n, "sent": text, "raw": f"{text.upper()}.", "tokens": text.split()}
            for n, text in zip(numbers, sentences, strict=True)
        ],
    }


def _object(id: int, image: int, box: list[Any]) -> dict[str, Any]:
    return {"id": id, "image_id": image, "category_id": 1, "bbox": box, "iscrowd": 0, "area": 9.0, "segmentation": []}


@pytest.fixture
def files(corpus: Any) -> tuple[dict[str, Any], list[Any]]:
    names = {image: f"COCO_train2014_{image:012d}.jpg" for image in (1, 2, 3, 4)}
    corpus.images(*names.values())
    instances = {
        "images": [{"id": n, "file_name": name, "width": 40, "height": 30} for n, name in names.items()],
        "annotations": [
            _object(11, 1, [2, 3, 10, 12]),
            _object(12, 1, [20, 3, 10, 12]),
            _object(21, 2, [0, 0, 40, 30]),
            _object(31, 3, [1, 1, 5, 5]),
            _object(41, 4, [1, 1, 5, 5]),
        ],
        "categories": [{"id": 1, "name": "person", "supercategory": "person"}],
    }
    refs = [
        _ref(0, 11, 1, "train", "lady with the blue shirt", "the lady"),
        _ref(1, 12, 1, "train", "right  guy\n"),
        _ref(2, 21, 2, "testA", "whole picture"),
        _ref(3, 31, 3, "val", "small one", "smallest"),
    ]
    return instances, refs


def _read(corpus: Any, files: Any, **change: Any) -> list[Any]:
    corpus.write("instances.json", files[0])
    (corpus.root / REFS.path).write_bytes(_pickled(files[1]))
    return corpus.read(REFS, INSTANCES, **change)


def test_expressions_take_the_box_of_their_annotation(corpus: Any, files: Any) -> None:
    first, fourth = _read(corpus, files)
    assert not corpus.rejects
    lady, again, guy = first.phrases
    assert (lady.id, lady.text, lady.boxes) == ("0", "lady with the blue shirt", ((2.0, 3.0, 12.0, 15.0),))
    assert (lady.kind, lady.objects, lady.unique) == ("referring", ("11",), True)
    assert (again.id, again.text, guy.id, guy.text) == ("1", "the lady", "10", "right guy")
    assert guy.boxes == ((20.0, 3.0, 30.0, 15.0),) and [o.id for o in first.objects] == ["11", "12"]
    assert fourth.phrases == ()  # nobody refers to it, so no split claims it


def test_images_of_other_splits_are_passed_over_with_all_that_is_known_of_them(corpus: Any, files: Any) -> None:
    assert [i.id for i in _read(corpus, files)] == ["d/1", "d/4"]
    assert {k: n for k, n in corpus.tally.passed_over.items() if n} == {"phrase": 3, "image": 2, "object": 2}
    assert corpus.tally.entered["object"] == 3
    (second, _) = _read(corpus, files, split="test")
    assert (second.id, second.phrases[0].text) == ("d/2", "whole picture")
    assert [i.id for i in _read(corpus, files, split="validation")] == ["d/3", "d/4"]


def test_an_image_with_refs_of_two_splits_stays_with_those_of_this_one(corpus: Any, files: Any) -> None:
    files[1].append(_ref(4, 12, 1, "val", "the other"))  # as in the Google split of RefCOCOg
    first, _ = _read(corpus, files)
    assert [p.id for p in first.phrases] == ["0", "1", "10"]


def test_an_expression_goes_with_its_box(corpus: Any, files: Any) -> None:
    files[0]["annotations"][0]["bbox"] = [35, 3, 10, 12]
    assert [p.id for p in _read(corpus, files)[0].phrases] == ["10"]
    assert corpus.reasons() == dict.fromkeys(["object/11", "phrase/0", "phrase/1"], "box_outside")


@pytest.mark.parametrize(
    ("damage", "key", "reason"),
    [
        (lambda refs: refs[1].update(ann_id=99), "10", "object_unknown"),
        (lambda refs: refs[1].update(ann_id=21), "10", "image_mismatch"),
        (lambda refs: refs[1].update(ann_id=None), "10", "row_malformed"),
        (lambda refs: refs[1].update(image_id=1.0), "10", "row_malformed"),
        (lambda refs: refs[1].pop("image_id"), "10", "row_malformed"),
        (lambda refs: refs[1].update(split="dev"), "10", "row_malformed"),
        (lambda refs: refs[1]["sentences"][0].update(sent_id=0), "0", "duplicate_id"),
        (lambda refs: refs[1]["sentences"][0].update(sent=" ", raw="\n"), "10", "phrase_empty"),
        (lambda refs: refs[1]["sentences"][0].update(sent=7), "10", "row_malformed"),
        (lambda refs: refs[1]["sentences"][0].update(sent="caf\udce9"), "10", "text_undecodable"),
        (lambda refs: refs[1].update(sentences=None), "#2", "row_malformed"),
        (lambda refs: refs[1]["sentences"].append("oops"), "#3", "row_malformed"),
        (lambda refs: refs.append("oops"), "#6", "row_malformed"),
    ],
)
def test_bad_refs_are_rejected(corpus: Any, files: Any, damage: Any, key: str, reason: str) -> None:
    damage(files[1])
    assert [i.id for i in _read(corpus, files)] == ["d/1", "d/4"]
    assert corpus.reasons() == {f"phrase/{key}": reason}


class _Call:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_would_run_something_is_an_error_and_runs_nothing(tmp_path: Path, protocol: int) -> None:
    path, trace = tmp_path / "refs(unc).p", tmp_path / "trace"
    for call in (_Call(os.mkdir, str(trace)), _Call(eval, f"open({str(trace)!r}, 'w')"), _Call(set, [1])):
        path.write_bytes(pickle.dumps([{"ann_id": call}], protocol=protocol))
        with pytest.raises(VistuneError, match=r"refs\(unc\)\.p is not a usable refs pickle \(it asks for"):
            load(path)
        assert not trace.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        b"\x80\x02]q\x00",
        b"\x80\x02P1\n.",  # an object kept elsewhere
        b"\x80\x02\x82\x01.",  # an extension of copyreg
        b"cos\nsystem\n(S'true'\ntR.",
        b"\x80\x02]}U\x01aK\x01sb.",  # state for a list
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # a text of 2**63 bytes
        b"I" + b"9" * 5000 + b"\n.",
    ],
)
def test_a_damaged_pickle_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "refs.p"
    path.write_bytes(content)
    with pytest.raises(VistuneError, match=r"refs\.p is not a usable refs pickle"):
        load(path)


def test_a_small_pickle_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "refs.p"
    bombs = [
        b"]r\xff\xff\xff\x01.",  # the list is to be remembered as number 33,554,431
        b"\x80\x05\x96\x00\x00\x00\x20\x00\x00\x00\x00.",  # a byte array of 512 MB, not there
        b"\x80\x04\x8d\x00\x00\x00\x20\x00\x00\x00\x00.",  # a text of 512 MB, not there
        b"\x80\x04\x95\x00\x00\x00\x20\x00\x00\x00\x00.",  # a frame of 512 MB, not there
    ]
    for bomb in bombs:
        path.write_bytes(bomb)
        tracemalloc.start()
        with contextlib.suppress(VistuneError):
            load(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20


@given(st.data())
def test_no_damage_to_a_pickle_raises_anything_else(tmp_path_factory: Any, data: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.p"
    content = bytearray(_pickled([_ref(0, 11, 1, "train", "lady", "the lady")]))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    try:
        load(path)
    except VistuneError as error:
        assert "damaged.p is not a usable refs pickle" in str(error)


def test_a_pickle_of_another_shape_or_a_missing_one_is_an_error(corpus: Any, files: Any) -> None:
    with pytest.raises(VistuneError, match="expected a list of refs, got a dict"):
        _read(corpus, (files[0], {"refs": []}))
    (corpus.root / REFS.path).unlink()
    with pytest.raises(VistuneError, match=r"cannot be read \(No such file"):
        corpus.read(INSTANCES, REFS)


def test_refs_can_be_gathered_and_images_of_other_splits_are_not(corpus: Any, files: Any, gathered: Any) -> None:
    _read(corpus, files)
    first, fourth = gathered(INSTANCES, REFS, images=str(corpus.root / "images"))
    assert len(first.phrases) == 3 and fourth.id == "d/4"
    assert len(list(corpus.root.glob("gathered/own/d/images/*"))) == 2
