"""Open Images V4 to V7 (https://storage.googleapis.com/openimages/web/download_v7.html): boxes, verified image labels
and the class hierarchy.

Images are named only by their id; files are `<ImageID>.jpg` unless an `image_pattern` says otherwise. Coordinates are
fractions of the image, in the columns XMin, XMax, YMin, YMax. Each image is annotated for classes of its own, so
there is no vocabulary: a label with confidence 0 proves absence. The boxes of a class are complete in an image unless
one of them is a group, or a narrower class is boxed there too (a man is not boxed again as a person). Only the
hierarchy tells which classes are narrower, so without it nothing is called complete.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.files import inside, read_json
from vistune.records import Annotation, Category, Label
from vistune.sources.boxes import NO_BOX
from vistune.sources.questions import file_name
from vistune.sources.rows import Listing, Malformed, Refused, Row
from vistune.sources.spec import AnnotationFile

BOX = ("XMin", "YMin", "XMax", "YMax")

ATTRIBUTES = {"IsOccluded": "occluded", "IsTruncated": "truncated", "IsDepiction": "depiction", "IsInside": "inside"}

HUMAN = ("verification", "crowdsource-verification")
"""Sources of image labels that a person has checked; those of `machine` are guesses."""

DEPTH = 50
"""Levels of the hierarchy; the published one has five."""

PROPER = frozenset({"Christmas", "Dutch", "English", "French", "German", "Irish", "Swiss"})
"""First words that keep their capital. All other names start with one only as a headline does."""


def read_boxes(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds the boxes of one file. They have no id, so each is named by its image and its row in the file."""
    classes = _classes(root, file)
    needed = ("ImageID", "LabelName", *BOX)
    every = {category.label for category in classes.values()}
    doubted: list[tuple[str, set[str]]] = []  # image, labels
    for number, row in enumerate(listing.each("object", _rows(root, file, needed), file, id="id"), start=1):
        row.name = f"{row.name}-{number}"
        refused = len(listing.rejects)
        with row:
            image, category = _image(row), _category(row, classes)
            box = [_number(row, column) for column in BOX]
            attributes = tuple(word for column, word in ATTRIBUTES.items() if _flag(row, column))
            group = _flag(row, "IsGroupOf")
            before = listing.images[image].rows["object"] if image in listing.images else []
            if any(pending.record.category is category and pending.boxes == (box,) for pending in before):
                raise Refused("duplicate_box", f"{category.label} has the same box before.")
            _list(image, listing)
            record = Annotation(row.name, category, NO_BOX, bool(group), attributes=attributes)
            row.keep(image, record, box, frame="xyxy_fraction")
            if group or group is None:
                listing.images[image].partial.add(category.label)
        if len(listing.rejects) > refused and isinstance(row.value, dict):
            known = classes.get(row.value["LabelName"])  # it is there all the same, unless it was there before
            if listing.rejects[-1].reason != "duplicate_box":
                doubted.append((row.value["ImageID"], {known.label} if known else every))
    for image, labels in doubted:
        if image in listing.images:
            listing.images[image].partial |= labels


def read_labels(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds the image labels that people have verified: present with confidence 1, absent with 0. Of two verdicts that
    contradict each other, neither counts."""
    classes = _classes(root, file)
    needed = ("ImageID", "Source", "LabelName", "Confidence")
    verdicts: dict[tuple[str, str], tuple[Row, Label]] = {}
    contradicted: set[tuple[str, str]] = set()
    for row in listing.each("label", _rows(root, file, needed), file, id="id"):
        with row:
            image, category = _image(row), _category(row, classes)
            source, confidence = row.need("Source", str), _number(row, "Confidence")
            row.name = f"{image}-{row.value['LabelName']}"
            if source not in HUMAN:
                raise Refused("label_unverified", f"its source is {source!r:.40}; only {' and '.join(HUMAN)} count.")
            if confidence not in (0, 1):
                raise Malformed(f"Confidence is {confidence:g}, expected 0 or 1 of a verified label")
            key = (image, category.label)  # a few names are those of two classes, which no reader could tell apart
            if key in verdicts and verdicts[key][1].present != bool(confidence):
                contradicted.add(key)
                raise Refused("label_contradicted", f"{category.label} is called both present and absent.")
            if key in verdicts:
                raise Refused("duplicate_id", f"{category.label} is judged before.")
            verdicts[key] = (row, Label(row.name, category, present=confidence == 1))
    for key, (row, label) in verdicts.items():
        with row:
            if key in contradicted:
                raise Refused("label_contradicted", f"{label.category.label} is called both present and absent.")
            _list(key[0], listing)
            row.keep(key[0], label)


def read_hierarchy(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds no row: from bbox_labels_600_hierarchy.json it finds of which classes the boxes are complete."""
    classes = _classes(root, file)
    below: dict[str, set[str]] = {}
    path = inside(root, file.path)
    _descend(read_json(path), classes, below, path)
    for entry in listing.images.values():
        boxed = {pending.record.category.label for pending in entry.rows["object"]}
        entry.partial |= {label for label in boxed if label not in below or below[label] & boxed}
        entry.complete = True


def readable(name: str) -> str:
    """A class name as it stands within a sentence.

    >>> readable("Human face"), readable("Christmas tree"), readable("Coca-Cola"), readable("DVD player")
    ('human face', 'Christmas tree', 'Coca-Cola', 'DVD player')
    """
    if name.split(" ")[0] in PROPER or any(c.isupper() for c in name[1:]):
        return name
    return name[:1].lower() + name[1:]


def _rows(root: Path, file: AnnotationFile, needed: tuple[str, ...]) -> Iterator[Any]:
    """The rows of a CSV file with a header, as objects with the image as `id`. One with another number of cells
    stays a list. Raises VistuneError when columns are missing, or when it is no CSV file."""
    path = inside(root, file.path)
    cells = _cells(path)
    header = next(cells, [])
    missing = [column for column in needed if column not in header]
    if missing:
        raise VistuneError(
            f"{path}: expected a header with {', '.join(needed)}; {', '.join(missing)} is not in {header!r:.200}. "
            "Check the format named for it."
        )
    key = header.index("ImageID")
    for row in cells:
        yield {**dict(zip(header, row, strict=True)), "id": row[key]} if len(row) == len(header) else row


def _cells(path: Path) -> Iterator[list[str]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as lines:
            yield from (row for row in csv.reader(lines) if row)
    except OSError as error:
        raise VistuneError(f"{path} cannot be read ({error.strerror}). Name a CSV file.") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise VistuneError(f"{path} is not a CSV file ({error}). Restore it from its origin and run again.") from None


def _classes(root: Path, file: AnnotationFile) -> dict[str, Category]:
    """Class id ("/m/01g317") -> category, from class-descriptions CSV; V7's starts with a header, older ones do not."""
    path = inside(root, file.annotations)
    found: dict[str, Category] = {}
    for row in _cells(path):
        if len(row) != 2 or not row[0] or not row[1].strip():
            raise VistuneError(f"{path}: expected rows of two cells, class id and name, got {row!r:.80}.")
        found[row[0]] = Category(readable(" ".join(row[1].split())))
    found.pop("LabelName", None)
    return found


def _image(row: Row) -> str:
    if not isinstance(row.value, dict):
        raise Malformed(f"it has {len(row.value)} cells, another number than the header")
    return row.identifier("ImageID")


def _list(image: str, listing: Listing) -> None:
    listing.image(image, file_name(listing.image_pattern or "{image_id}.jpg", image))


def _category(row: Row, classes: dict[str, Category]) -> Category:
    name = row.need("LabelName", str)
    if name not in classes:
        raise Refused("category_unknown", f"class {name!r:.40} is not in {row.file.annotations}.")
    return classes[name]


def _number(row: Row, column: str) -> float:
    text = row.need(column, str)
    try:
        return float(text)
    except ValueError:
        raise Malformed(f"{column} is {text!r:.40}, expected a number") from None


def _flag(row: Row, column: str) -> bool | None:
    """Whether it is set; None where nobody knows (-1)."""
    text = row.need(column, str, "0")
    if text not in ("0", "1", "-1"):
        raise Malformed(f"{column} is {text!r:.40}, expected 0, 1 or -1")
    return {"0": False, "1": True, "-1": None}[text]


def _descend(
    node: Any, classes: dict[str, Category], below: dict[str, set[str]], path: Path, depth: int = 0
) -> set[str]:
    """Labels of a class and of all below it; `below` gains those below each."""
    children = node.get("Subcategory", []) if isinstance(node, dict) and depth < DEPTH else None
    if not isinstance(children, list) or not isinstance(node.get("LabelName"), str):
        raise VistuneError(f"{path}: expected nested objects with LabelName and Subcategory, got {node!r:.80}.")
    narrower: set[str] = set()
    for child in children:
        narrower |= _descend(child, classes, below, path, depth + 1)
    if node["LabelName"] not in classes:
        return narrower
    label = classes[node["LabelName"]].label
    below.setdefault(label, set()).update(narrower)
    return narrower | {label}
