"""Visual Genome (https://homes.cs.washington.edu/~ranjay/visualgenome/api.html), joined over the image id.

Files list images, and in each the rows of one kind. Boxes of regions say width and height, those of objects w and h;
many leave the image, and are cut off and counted. Attributes and relationships describe the objects they speak about
in full, and since version 1.4 merged objects, some of these objects are only there: they are added.
Images lie in two folders, which `url` tells apart. `coco_id` is not kept: that an image is also in COCO is found by its
pixels, as it is for any other pair of data sets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from vistune.files import inside
from vistune.records import Annotation, Category, Phrase, Question, Relation
from vistune.sources.boxes import NO_BOX
from vistune.sources.coco import url_tail
from vistune.sources.questions import file_name, image_of, question_text, rows_at_top, texts
from vistune.sources.rows import Listing, Pending, Refused, Row, identifier, need
from vistune.sources.spec import AnnotationFile


def read_images(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Lists the images of image_data.json."""
    seen: set[str] = set()
    for row in listing.each("image", rows_at_top(inside(root, file.path)), file, id="image_id"):
        with row:
            key, url = row.identifier("image_id"), row.need("url", str)
            width, height = row.need("width", int), row.need("height", int)
            if key in seen:
                raise Refused("duplicate_id", "the id occurs before.")
            seen.add(key)
            place = file_name(listing.image_pattern, row.value["image_id"]) if listing.image_pattern else url_tail(url)
            listing.tally.entered["image"] -= 1  # `image` counts it, unless another file has listed it
            listing.image(key, place, width, height)


def read_regions(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds the descriptions of region_descriptions.json."""
    for row in listing.each("phrase", _grouped(root, file, "regions"), file, id="region_id"):
        with row:
            key, image = row.identifier("region_id"), _image(row)
            box, text = [row.need(side, (int, float)) for side in ("x", "y", "width", "height")], row.text("phrase")
            if not text:
                raise Refused("phrase_empty", "the region has no description.")
            row.keep(image, Phrase(key, text, (), "description"), box, clip=True)


def read_objects(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds the objects of objects.json."""
    _add_objects(_grouped(root, file, "objects"), file, listing)


def read_attributes(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds the attributes of attributes.json, and those of their objects that no other file tells of."""
    _add_objects(_grouped(root, file, "attributes"), file, listing)


def _add_objects(rows: Iterator[Any], file: AnnotationFile, listing: Listing) -> None:
    objects = _Objects(listing)
    seen: set[str] = set()
    for row in listing.each("object", rows, file, id="object_id"):
        with row:
            name, image = row.identifier("object_id"), _image(row)
            attributes = _words(row.need("attributes", list, []), "attributes")
            if name in seen:
                raise Refused("duplicate_id", "the id occurs before.")
            objects.add(image, row.value, attributes)
            seen.add(name)
            listing.tally.entered["object"] -= 1  # `add` has counted it, unless another file had told of it


def read_relations(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds the relations of relationships.json, and those of their objects that no other file tells of."""
    objects = _Objects(listing)
    for row in listing.each("relation", _grouped(root, file, "relationships"), file, id="relationship_id"):
        with row:
            key, image = row.identifier("relationship_id"), _image(row)
            predicate = row.text("predicate").lower()
            if not predicate:
                raise Refused("relation_empty", "the predicate has no text.")
            ends = [objects.add(image, row.need(end, dict)) for end in ("subject", "object")]
            row.keep(image, Relation(key, ends[0], predicate, ends[1]))


def read_questions(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds the questions of question_answers.json. Answers are written as sentences: a final full stop is not part of
    the agreed answer."""
    for row in listing.each("question", _grouped(root, file, "qas"), file, id="qa_id"):
        with row:
            key, image, text = row.identifier("qa_id"), _image(row), question_text(row, "question")
            given = row.text("answer")
            answer = given[:-1].rstrip() if given.endswith(".") and "." not in given[:-1] else given
            if not answer:
                raise Refused("question_unanswered", "it has no answer.")
            row.keep(image, Question(key, text, answer, (given,)))


class _Objects:
    """The objects of images by id, whichever file told of them. Files go image by image, so one image is indexed."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.image = ""
        self.known: dict[str, Pending] = {}

    def add(self, image: str, value: Any, attributes: tuple[str, ...] = ()) -> str:
        """The id of an object, kept and counted unless it is known, and given the attributes."""
        if image != self.image:
            self.image = image
            self.known = {pending.record.id: pending for pending in self.listing.images[image].rows["object"]}
        key = identifier(value, "object_id")
        if key not in self.known:
            names = need(value, "names", list, None) or [need(value, "name", str, "")]
            label = next(iter(_words(names, "names")), "")
            box = [need(value, side, (int, float)) for side in ("x", "y", "w", "h")]
            if not label:
                raise Refused("object_unnamed", f"object {key} has no name.")
            self.known[key] = Pending(Annotation(key, Category(label), NO_BOX), (box,), clip=True)
            self.listing.tally.entered["object"] += 1
            self.listing.keep("object", image, self.known[key])
        pending = self.known[key]
        if attributes:
            merged = dict.fromkeys((*pending.record.attributes, *attributes))
            pending.record = replace(pending.record, attributes=tuple(merged))
        return key


def _words(values: list[Any], what: str) -> tuple[str, ...]:
    """Names as people write them within a sentence: annotators typed "Man", "man" and "man " for one thing."""
    return tuple(dict.fromkeys(text.lower() for text in texts(values, what)))


def _image(row: Row) -> str:
    """The id of the row's image, which must be that of the group it stands in."""
    stated = row.need("image_id", (int, str))
    if "group" in row.value and row.value["group"] != stated:
        raise Refused("image_mismatch", f"it names image {stated}, but stands under image {row.value['group']}.")
    image = image_of(row, row.listing.image_pattern)
    if image not in row.listing.images:
        raise Refused("image_unknown", f"image {image} was rejected.")
    return image


def _grouped(root: Path, file: AnnotationFile, key: str) -> Iterator[Any]:
    """The rows of all images. A row that stands alone is taken as one; a group without rows that can be told apart
    becomes one row, to be rejected."""
    for group in rows_at_top(inside(root, file.path)):
        rows = group.get(key) if isinstance(group, dict) else None
        if not isinstance(rows, list) or not {"image_id", "id"} & group.keys():
            yield group
            continue
        image = group.get("image_id", group.get("id"))
        for row in rows:
            yield {"image_id": image, **row, "group": image} if isinstance(row, dict) else row
