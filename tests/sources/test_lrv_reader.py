"""LRV-Instruction: questions about images of Visual Genome, named by its ids."""

from typing import Any

from vistune.records import Message
from vistune.sources import AnnotationFile

LRV = AnnotationFile("lrv", "filter_cap.json")
ROW = {
    "image_id": "2392588",
    "question": "Can you see a blue teapot on the white electric stove in the kitchen?",
    "answer": "There is no mention of a teapot on the white electric stove in the kitchen.",
    "task": "negative",
}


def test_rows_are_dialogues_named_by_their_image(corpus: Any) -> None:
    corpus.images("2392588.jpg", "7.jpg")
    corpus.write("filter_cap.json", [ROW, ROW | {"question": "Is it clean?"}, ROW | {"image_id": 7, "task": None}])
    first, again, other = corpus.read(LRV)
    assert not corpus.rejects
    assert first.messages == (Message("user", ROW["question"], (0,)), Message("assistant", ROW["answer"]))
    assert [d.id for d in (first, again, other)] == ["d/2392588", "d/2392588#2", "d/7"]
    assert [d.task for d in (first, again, other)] == ["negative", "negative", ""]
    assert [i.path for i in other.images] == ["images/7.jpg"]


def test_images_are_found_by_pattern_or_by_another_file_of_the_data_set(corpus: Any) -> None:
    corpus.images("VG_100K_2/2392588.jpg")
    corpus.write("filter_cap.json", [ROW])
    (found,) = corpus.read(LRV, image_pattern="VG_100K_2/{image_id}.jpg")
    assert found.images[0].path == "images/VG_100K_2/2392588.jpg"
    entry = {"id": 2392588, "file_name": "VG_100K_2/2392588.jpg", "width": 40, "height": 30}
    corpus.write("instances.json", {"images": [entry], "annotations": [], "categories": []})
    image, found = corpus.read(LRV, AnnotationFile("coco_instances", "instances.json"))
    assert (image.id, found.images) == ("d/2392588", (image.image,))
    assert not corpus.rejects


def test_each_defect_is_one_reject_with_its_reason(corpus: Any) -> None:
    corpus.images("1.jpg", "3.jpg", "5.jpg")
    (corpus.root / "images/5.jpg").write_bytes(b"")
    planted: list[tuple[str, Any, str]] = [
        ("1", {"image_id": 1, "question": "Identify the type."}, "row_malformed"),  # the evaluation set has no answers
        ("1#2", ROW | {"image_id": 1, "question": " "}, "text_empty"),
        ("1#3", ROW | {"image_id": 1, "answer": 3}, "row_malformed"),
        ("#3", {key: ROW[key] for key in ("question", "answer")}, "row_malformed"),
        ("2", ROW | {"image_id": 2}, "image_missing"),
        ("3", ROW | {"image_id": 3, "question": "<image> <image>?"}, "image_count"),
        ("../1", ROW | {"image_id": "../1"}, "image_path"),
        ("5", ROW | {"image_id": 5}, "image_unreadable"),
    ]
    corpus.write("filter_cap.json", [row for _, row, _ in planted])
    assert corpus.read(LRV) == []
    assert corpus.reasons() == {f"dialogue/{name}": reason for name, _, reason in planted}


def test_an_image_that_another_file_refuses_takes_its_dialogues_along(corpus: Any) -> None:
    corpus.images("2392588.jpg")
    entry = {"id": 2392588, "file_name": "2392588.jpg", "license": 9}
    corpus.write("instances.json", {"images": [entry], "annotations": [], "categories": [], "licenses": []})
    corpus.write("filter_cap.json", [ROW])
    assert corpus.read(LRV, AnnotationFile("coco_instances", "instances.json")) == []
    assert corpus.reasons() == {"image/2392588": "licence_unknown", "dialogue/2392588": "image_unknown"}
