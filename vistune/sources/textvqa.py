"""TextVQA questions, TextCaps captions and the Rosetta OCR file that comes with both (https://textvqa.org).

The three speak about the same OpenImages pictures, joined on `image_id`. `image_width` and `image_height` are not held
against the files: OpenImages holds some pictures turned.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vistune.files import inside, read_json
from vistune.records import Caption, Question, TextLine
from vistune.sources.boxes import NO_BOX
from vistune.sources.questions import elsewhere, image_of, majority, question_text, texts
from vistune.sources.rows import Listing, Malformed, Refused, identifier, need, section
from vistune.sources.spec import AnnotationFile

IMAGES = "{image_id}.jpg"

MAX_TILT = 5.0
"""Degrees by which a word may be turned before its upright box no longer frames it; its text is then kept without."""


def read_questions(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds the questions of one file. One whose agreed answer is among the words read from the image is extractive;
    the OCR file of the data set has been read before."""
    path = inside(root, file.path)
    words: dict[str, str] = {}
    for row in listing.each("question", section(read_json(path), "data", path), file, id="question_id"):
        with row:
            if elsewhere(row, "set_name"):
                continue
            key, text = row.identifier("question_id"), question_text(row, "question")
            given = texts(row.need("answers", list, []), "answers")  # the test split has none
            answer, image = majority(given), image_of(row, listing.image_pattern or IMAGES)
            if image not in words:
                words[image] = _words(listing, image)
            extractive = f" {answer.casefold()} " in words[image]
            row.keep(image, Question(key, text, answer, given, extractive=extractive))


def read_captions(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds the captions of one file. Each row is one of the five of its image and repeats all as `reference_strs`."""
    path = inside(root, file.path)
    for row in listing.each("caption", section(read_json(path), "data", path), file, id="caption_id"):
        with row:
            if elsewhere(row, "set_name"):
                continue
            row.name = f"{row.identifier('image_id')}-{row.name}"  # `caption_id` may count anew for each image
            text = row.text("caption_str", "")
            if not text:  # the test split has none
                raise Refused("caption_empty", "the caption has no text.")
            row.keep(image_of(row, listing.image_pattern or IMAGES), Caption(row.name, text))


def read_ocr(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds the words that the Rosetta system read in the images. Its boxes are fractions of width and height. The file
    comes without a description, so only the word must be there; a box that leaves the image is cut off."""
    path = inside(root, file.path)
    for row in listing.each("line", _lines(section(read_json(path), "data", path)), file, id="id"):
        with row:
            if "problem" in row.value:
                raise row.value["problem"]
            text = " ".join(need(row.need("read", dict), "word", str).split())
            if not text:
                raise Refused("line_empty", "the word has no text.")
            box, turned = _box(need(row.value["read"], "bounding_box", dict, None))
            image = image_of(row, listing.image_pattern or IMAGES)
            row.keep(image, TextLine(row.name, text, NO_BOX), *box, frame="xywh_fraction", clip=True)
            listing.tally.mended.update(["box_turned"] if turned else [])


def _lines(images: list[Any]) -> Iterator[dict[str, Any]]:
    """One row per word. An image whose words cannot be told apart is one row with its problem."""
    for value in images:
        try:
            image, words = identifier(value, "image_id"), need(value, "ocr_info", list)
        except Malformed as problem:
            yield {"id": value.get("image_id") if isinstance(value, dict) else None, "problem": problem}
            continue
        for number, read in enumerate(words):
            yield {"id": f"{image}-{number}", "image_id": value["image_id"], "read": read}


def _box(place: dict[str, Any] | None) -> tuple[tuple[list[float], ...], bool]:
    """The box as left, top, width, height if it has one that is upright, and whether it had to be left out."""
    if place is None:
        return (), False
    if abs(need(place, "rotation", (int, float), 0)) > MAX_TILT:
        return (), True
    return ([need(place, key, (int, float)) for key in ("top_left_x", "top_left_y", "width", "height")],), False


def _words(listing: Listing, image: str) -> str:
    """The words read from an image in the order of the file, between spaces."""
    entry = listing.images.get(image)
    lines = [row.record.text for row in entry.rows["line"]] if entry else []
    return f" {' '.join(lines)} ".casefold()
