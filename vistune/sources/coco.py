"""COCO object instances and captions (https://cocodataset.org/#format-data) into a `Listing`.

Category ids need not be contiguous. Keys beyond the format that are read when present: a category's `names`
(`{"zh": "苹果"}`) and `isthing` (panoptic format; 0 marks background), an annotation's `attributes` (list of words),
and an image's `attribution`. Segmentations are not read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.files import inside, read_json
from vistune.records import Annotation, Box, Caption, Category
from vistune.sources.rows import Entry, Listing, Malformed, identifier, label, need, section
from vistune.sources.spec import AnnotationFile

TOLERANCE = 1.0
"""Pixels by which a box may leave the image and is clipped; beyond, it belongs to another image or frame."""


def read_instances(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds the images, categories and boxes of an instances file. Boxes are checked when image sizes are known."""
    path = inside(root, file.path)
    tree = read_json(path)
    _add_images(tree, path, file, listing)
    categories = _categories(tree, path)
    for category, thing in categories.values():
        if thing:
            listing.vocabulary.setdefault(category.label, category)
    seen: set[str] = set()
    for position, row in enumerate(section(tree, "annotations", path)):
        listing.tally.entered["object"] += 1
        name = label(row, "id", position)
        try:
            key, image, kind = identifier(row, "id"), identifier(row, "image_id"), identifier(row, "category_id")
            xywh = need(row, "bbox", list)
            crowd = bool(need(row, "iscrowd", (int, bool), 0))
            words = row.get("attributes")
            attributes = tuple(map(str, words)) if isinstance(words, list) else ()  # other tools keep objects there
        except Malformed as problem:
            listing.refuse("object", name, "row_malformed", f"{file.path}: {problem}.")
            continue
        if key in seen:
            listing.refuse("object", name, "duplicate_id", f"{file.path}: the id occurs before.")
        elif image not in listing.images:
            listing.refuse("object", name, "image_unknown", f"{file.path}: image {image} is not listed.")
        elif kind not in categories:
            listing.refuse("object", name, "category_unknown", f"{file.path}: category {kind} is not listed.")
        else:
            seen.add(key)
            category, thing = categories[kind]
            # The box is set when the image's true size is known; until then it is kept as the file has it.
            annotation = Annotation(key, category, (0, 0, 0, 0), crowd, thing, attributes)
            listing.images[image].objects.append((annotation, tuple(xywh)))


def read_captions(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds the images and captions of a captions file."""
    path = inside(root, file.path)
    tree = read_json(path)
    _add_images(tree, path, file, listing)
    seen: set[str] = set()
    for position, row in enumerate(section(tree, "annotations", path)):
        listing.tally.entered["caption"] += 1
        name = label(row, "id", position)
        try:
            key, image = identifier(row, "id"), identifier(row, "image_id")
            text = " ".join(need(row, "caption", str).split())  # captions carry stray spaces and newlines
            language = need(row, "language", str, "en")
        except Malformed as problem:
            listing.refuse("caption", name, "row_malformed", f"{file.path}: {problem}.")
            continue
        if key in seen:
            listing.refuse("caption", name, "duplicate_id", f"{file.path}: the id occurs before.")
        elif image not in listing.images:
            listing.refuse("caption", name, "image_unknown", f"{file.path}: image {image} is not listed.")
        elif not text:
            listing.refuse("caption", name, "caption_empty", f"{file.path}: the caption has no text.")
        else:
            seen.add(key)
            listing.images[image].captions.append(Caption(key, text, language))


def pixel_box(xywh: Sequence[Any], width: int, height: int) -> tuple[Box | None, str, str]:
    """COCO x, y, width, height (pixels) as x1, y1, x2, y2 within an image of `width` x `height`.

    Returns (box, "", "") or (None, reason, detail): `box_degenerate` when it is no box at all (not four finite
    numbers, or no area), `box_outside` when it leaves the image by more than `TOLERANCE`.

    >>> pixel_box([10, 20, 30, 40], 100, 100)
    ((10.0, 20.0, 40.0, 60.0), '', '')
    >>> pixel_box([90.5, 0, 10, 10], 100, 100)[0]
    (90.5, 0.0, 100.0, 10.0)
    >>> pixel_box([95, 0, 10, 10], 100, 100)[1]
    'box_outside'
    """
    shown = f"bbox {list(xywh)!r:.80}"
    numbers = [v for v in xywh if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(xywh) != 4 or len(numbers) != 4 or not all(math.isfinite(v) for v in numbers):
        return None, "box_degenerate", f"{shown} is not four finite numbers."
    x, y, w, h = map(float, numbers)
    if w <= 0 or h <= 0:
        return None, "box_degenerate", f"{shown} has no area."
    if max(-x, -y, x + w - width, y + h - height) > TOLERANCE:
        return None, "box_outside", f"{shown} leaves the {width}x{height} image by more than {TOLERANCE:g} px."
    box = (max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height)))
    if box[0] >= box[2] or box[1] >= box[3]:
        return None, "box_degenerate", f"{shown} has no area inside the {width}x{height} image."
    return box, "", ""


def _add_images(tree: Any, path: Path, file: AnnotationFile, listing: Listing) -> None:
    rows = section(tree, "images", path)
    licences = {str(row["id"]): str(row.get("name") or row.get("url") or "") for row in _table(tree, "licenses", path)}
    seen: set[str] = set()
    for position, row in enumerate(rows):
        name = label(row, "id", position)
        try:
            key, place = identifier(row, "id"), need(row, "file_name", str)
            width, height = need(row, "width", int, None), need(row, "height", int, None)
            licence = str(need(row, "license", (int, str), ""))
            attribution = need(row, "attribution", str, "") or listing.attribution
        except Malformed as problem:
            listing.tally.entered["image"] += 1
            listing.refuse("image", name, "row_malformed", f"{file.path}: {problem}.")
            continue
        if key in seen:
            listing.tally.entered["image"] += 1
            listing.refuse("image", name, "duplicate_id", f"{file.path}: the id occurs before.")
            continue
        seen.add(key)
        before = listing.images.get(key)
        if before is None and key not in listing.refused:
            listing.tally.entered["image"] += 1
            if licence and licence not in licences:
                # Its annotations follow: they find no image and are rejected one by one.
                listing.refuse("image", name, "licence_unknown", f"{file.path}: licence {licence} is not listed.")
                listing.refused.add(key)
                continue
            text = licences.get(licence, "") or listing.licence
            listing.images[key] = Entry(key, place, width, height, text, attribution)
        elif before is not None and before.file != place:
            raise VistuneError(
                f"data set {listing.dataset}: image {key} is {before.file} in one file and {place} in {path}. "
                "Files of one data set must speak about the same images; list them as two data sets."
            )


def _categories(tree: Any, path: Path) -> dict[str, tuple[Category, bool]]:
    """Category id -> (category, is a thing)."""
    found: dict[str, tuple[Category, bool]] = {}
    for row in _table(tree, "categories", path, optional=False):
        name = row.get("name")
        names = row.get("names") or {}
        if not isinstance(name, str) or not name.strip() or not isinstance(names, dict):
            raise VistuneError(f"{path}: category {row['id']} needs a name (text) and, if given, names by language.")
        if str(row["id"]) in found:
            raise VistuneError(f"{path}: category id {row['id']} is used twice.")
        translated = {str(k): str(v) for k, v in names.items()}
        category = Category(name.strip(), str(row.get("supercategory") or ""), translated)
        found[str(row["id"])] = (category, row.get("isthing", 1) != 0)
    return found


def _table(tree: Any, key: str, path: Path, optional: bool = True) -> list[dict[str, Any]]:
    rows = section(tree, key, path, optional)
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("id"), int | str):
            raise VistuneError(f"{path}: every entry of {key!r} needs an id, got {row!r:.80}.")
    return rows
