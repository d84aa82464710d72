"""COCO object instances, panoptic segments and captions (https://cocodataset.org/#format-data) into a `Listing`.

Category ids need not be contiguous. Keys beyond the format that are read when present: a category's `names`
(`{"zh": "苹果"}`) and `isthing` (panoptic format; 0 marks background), an annotation's `attributes` (list of words),
and an image's `attribution`. Of segmentations, polygons are read and run-length masks are checked but not decoded:
their box and area say enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.files import decode, inside, read_json
from vistune.records import Annotation, Caption, Category
from vistune.sources.boxes import NO_BOX
from vistune.sources.coco_usual import Captions, Categories, Instances, add_usual_captions, add_usual_objects
from vistune.sources.outlines import outlines
from vistune.sources.rows import Entry, Listing, Malformed, Refused, Row, section
from vistune.sources.spec import AnnotationFile

MATERIALS = ("brick", "stone", "tile", "wood")
"""Words that stand behind the name of a panoptic category, and in front of it in English."""


def read_instances(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds the images, categories and boxes of an instances file. Boxes are checked when image sizes are known."""
    path = inside(root, file.path)
    usual = decode(path, Instances)
    if usual is not None:
        categories = _categories(usual.tables, path)
        if add_usual_objects(usual, _licences(usual.tables, path), categories, listing):
            _add_vocabulary(categories, listing)
            return
    tree = read_json(path)
    add_images(tree, path, file, listing)
    categories = _categories(tree, path)
    _add_vocabulary(categories, listing)
    add_objects(section(tree, "annotations", path), categories, file, listing)


def read_panoptic(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds the images, categories and segments of a panoptic file. Its PNG masks are not needed: every segment states
    its box and area. Segment ids are colours of the mask, unique only within their image."""
    path = inside(root, file.path)
    tree = read_json(path)
    add_images(tree, path, file, listing)
    categories = _plain_names(_categories(tree, path))
    _add_vocabulary(categories, listing)
    add_objects(_segments(section(tree, "annotations", path)), categories, file, listing)


def read_captions(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds the images and captions of a captions file."""
    path = inside(root, file.path)
    usual = decode(path, Captions)
    if usual is not None and add_usual_captions(usual, _licences(usual.tables, path), listing):
        return
    tree = read_json(path)
    add_images(tree, path, file, listing)
    for row in listing.each("caption", section(tree, "annotations", path), file, id="id"):
        with row:
            words = row.text("caption")  # captions carry stray spaces and newlines
            if not words:
                raise Refused("caption_empty", "the caption has no text.")
            caption = Caption(row.identifier("id"), words, row.need("language", str, "en"))
            row.keep(row.identifier("image_id"), caption)


def add_images(
    tree: Any,
    path: Path,
    file: AnnotationFile,
    listing: Listing,
    place: Callable[[Row], str] = lambda row: row.need("file_name", str),
) -> None:
    """Lists the images of a file with their licences; `place` says where in the image folder a row's image lies."""
    rows = section(tree, "images", path)
    licences = _licences(tree, path)
    seen: set[str] = set()
    for row in listing.each("image", rows, file, id="id"):
        with row:
            key, name = row.identifier("id"), place(row)
            width, height = row.need("width", int, None), row.need("height", int, None)
            licence = str(row.need("license", (int, str), ""))
            attribution = row.need("attribution", str, "") or listing.attribution
            if key in seen:
                raise Refused("duplicate_id", "the id occurs before.")
            seen.add(key)
            if key in listing.images or key in listing.refused:
                listing.tally.entered["image"] -= 1  # an earlier file listed it
                _check_same(key, name, path, listing)
                continue
            if licence and licence not in licences:
                listing.refused.add(key)  # its annotations follow: they find no image and are rejected one by one
                raise Refused("licence_unknown", f"licence {licence} is not listed.")
            text = licences.get(licence, "") or listing.licence
            listing.images[key] = Entry(key, name, width, height, text, attribution)


def add_objects(rows: Iterable[Any], categories: Categories, file: AnnotationFile, listing: Listing) -> None:
    """Adds annotations in the layout of instances files."""
    for row in listing.each("object", rows, file, id="id"):
        refused = len(listing.rejects)
        with row:
            _add_object(row, categories)
        if len(listing.rejects) > refused:
            _doubt(row.value, categories, listing)


def _add_object(row: Row, categories: Categories) -> None:
    row.need("segments_info", list, [])  # what else it may be comes from panoptic files
    key, image, kind = row.identifier("id"), row.identifier("image_id"), row.identifier("category_id")
    box, area = row.need("bbox", list), row.need("area", (int, float), 0)
    crowd, found = row.need("iscrowd", (int, bool), 0), row.need("segmentation", (list, dict), [])
    words = row.value.get("attributes")
    attributes = tuple(map(str, words)) if isinstance(words, list) else ()  # other tools keep objects there
    if not 0 <= area < math.inf:
        raise Malformed(f"area is {area!r:.80}, expected square pixels")
    drawn = outlines(found)
    if kind not in categories:
        raise Refused("category_unknown", f"category {kind} is not listed.")
    category, thing = categories[kind]
    record = Annotation(key, category, NO_BOX, bool(crowd), thing, attributes, (), float(area))
    row.keep(image, record, box, polygons=drawn)
    if isinstance(found, list) and len(drawn) < len(found):
        row.listing.tally.mended["outline_dropped"] += 1  # it was only a point or a line


def _doubt(value: Any, categories: Categories, listing: Listing) -> None:
    """A refused row still says that something is there. Its image no longer proves absence or number of that category;
    of no category, when the row names none that is known. A row that names no image might be about any."""
    row = value if isinstance(value, dict) else {}
    image, known = row.get("image_id"), categories.get(str(row.get("category_id")))
    if isinstance(image, int | str):
        about = [listing.images[str(image)]] if str(image) in listing.images else []
        labels = {known[0].label} if known else {category.label for category, _ in categories.values()}
    else:
        about = list(listing.images.values()) if known else []
        labels = {known[0].label} if known else set()
    for entry in about:
        entry.partial |= labels


def url_tail(url: str) -> str:
    """Folder and file at the end of a URL: several data sets name their images only so. Raises Malformed.

    >>> url_tail("http://images.cocodataset.org/val2017/000000397133.jpg")
    'val2017/000000397133.jpg'
    """
    folders, _, name = url.rpartition("/")
    folder = folders.rpartition("/")[2]
    if not folder or not name:
        raise Malformed(f"{url!r:.80} does not end in a folder and a file")
    return f"{folder}/{name}"


def table(tree: Any, key: str, path: Path, optional: bool = True) -> list[dict[str, Any]]:
    """The rows of a small table that all others rest on: one without an id makes the file useless."""
    rows = section(tree, key, path, optional)
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("id"), int | str):
            raise VistuneError(f"{path}: every entry of {key!r} needs an id, got {row!r:.80}.")
    return rows


def _licences(tree: Any, path: Path) -> dict[str, str]:
    """Names of licences by id."""
    return {str(row["id"]): str(row.get("name") or row.get("url") or "") for row in table(tree, "licenses", path)}


def _categories(tree: Any, path: Path) -> Categories:
    found: dict[str, tuple[Category, bool]] = {}
    for row in table(tree, "categories", path, optional=False):
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


def _plain_names(categories: Categories) -> Categories:
    """Panoptic names of background as words: "wall-brick" is a brick wall, and "sky-other-merged" the sky."""
    found = {}
    for key, (category, thing) in categories.items():
        kind, *rest = [word for word in category.label.split("-") if word not in ("other", "merged", "stuff")] or [""]
        words = [*rest, kind] if rest and rest[0] in MATERIALS else [kind, *rest]
        plain = category if thing or not kind else replace(category, label=" ".join(words))
        found[key] = (plain, thing)
    return found


def _add_vocabulary(categories: Categories, listing: Listing) -> None:
    """COCO annotates its things in every image; of its background, only some of it."""
    for category, thing in categories.values():
        if thing:
            listing.vocabulary.setdefault(category.label, category)


def _check_same(key: str, name: str, path: Path, listing: Listing) -> None:
    before = listing.images.get(key)
    if before is not None and before.file != name:
        raise VistuneError(
            f"data set {listing.dataset}: image {key} is {before.file} in one file and {name} in {path}. "
            "Files of one data set must speak about the same images; list them as two data sets."
        )


def _segments(rows: list[Any]) -> Iterator[Any]:
    """The segments of panoptic rows, one after another, as annotations of their image. A row whose segments cannot be
    told apart stays one row, to be rejected."""
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("segments_info"), list):
            yield {**row, "id": f"{row.get('image_id')}-segments"} if isinstance(row, dict) else row
            continue
        image = row.get("image_id")
        for segment in row["segments_info"]:
            if isinstance(segment, dict) and "id" in segment:
                segment = {**segment, "id": f"{image}-{segment['id']}", "image_id": image}
            yield segment
