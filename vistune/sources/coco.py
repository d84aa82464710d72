"""COCO object instances and captions (https://cocodataset.org/#format-data) into a `Listing`.

Category ids need not be contiguous. Keys beyond the format that are read when present: a category's `names`
(`{"zh": "苹果"}`) and `isthing` (panoptic format; 0 marks background), an annotation's `attributes` (list of words),
and an image's `attribution`. Segmentations are not read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.files import inside, read_json
from vistune.records import Annotation, Caption, Category
from vistune.sources.boxes import NO_BOX
from vistune.sources.rows import Entry, Listing, Malformed, Refused, identifier, label, need, section
from vistune.sources.spec import AnnotationFile


def read_instances(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds the images, categories and boxes of an instances file. Boxes are checked when image sizes are known."""
    path = inside(root, file.path)
    tree = read_json(path)
    _add_images(tree, path, file, listing)
    categories = _categories(tree, path)
    for category, thing in categories.values():
        if thing:
            listing.vocabulary.setdefault(category.label, category)
    for row in listing.each("object", section(tree, "annotations", path), file, id="id"):
        with row:
            key, image, kind = row.identifier("id"), row.identifier("image_id"), row.identifier("category_id")
            box = row.need("bbox", list)
            crowd = bool(row.need("iscrowd", (int, bool), 0))
            words = row.value.get("attributes")
            attributes = tuple(map(str, words)) if isinstance(words, list) else ()  # other tools keep objects there
            if kind not in categories:
                raise Refused("category_unknown", f"category {kind} is not listed.")
            category, thing = categories[kind]
            row.keep(image, Annotation(key, category, NO_BOX, crowd, thing, attributes), box)


def read_captions(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds the images and captions of a captions file."""
    path = inside(root, file.path)
    tree = read_json(path)
    _add_images(tree, path, file, listing)
    for row in listing.each("caption", section(tree, "annotations", path), file, id="id"):
        with row:
            image, text = row.identifier("image_id"), row.text("caption")  # captions carry stray spaces and newlines
            if not text:
                raise Refused("caption_empty", "the caption has no text.")
            row.keep(image, Caption(row.identifier("id"), text, row.need("language", str, "en")))


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
