"""COCO object instances, panoptic segments and captions (https://cocodataset.org/#format-data) into a `Listing`.

Category ids need not be contiguous. Keys beyond the format that are read when present: a category's `names`
(`{"zh": "苹果"}`) and `isthing` (panoptic format; 0 marks background), an annotation's `attributes` (list of words),
and an image's `attribution`. Of segmentations, polygons are read and run-length masks are checked but not decoded:
their box and area say enough.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.files import inside, read_json
from vistune.records import Annotation, Caption, Category
from vistune.sources.boxes import NO_BOX
from vistune.sources.rows import Entry, Listing, Malformed, Pending, Refused, Row, label, section
from vistune.sources.spec import AnnotationFile

Categories = Mapping[str, tuple[Category, bool]]
"""Category id -> (category, is a thing)."""

MATERIALS = ("brick", "stone", "tile", "wood")
"""Words that stand behind the name of a panoptic category, and in front of it in English."""


def read_instances(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds the images, categories and boxes of an instances file. Boxes are checked when image sizes are known."""
    path = inside(root, file.path)
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
    tree = read_json(path)
    add_images(tree, path, file, listing)
    seen: set[str] = set()
    images, entered = listing.images, listing.tally.entered
    for position, value in enumerate(section(tree, "annotations", path)):
        entered["caption"] += 1
        try:  # as in `add_objects`
            key, image, text = value["id"], value["image_id"], value["caption"]
            if type(key) is type(image) is int and type(text) is str and text.isascii() and "language" not in value:
                name, entry, words = str(key), images[str(image)], " ".join(text.split())
                if words and name not in seen:
                    seen.add(name)
                    entry.rows["caption"].append(Pending(Caption(name, words)))
                    continue
        except (TypeError, KeyError):
            pass
        with Row(listing, "caption", value, file, label(value, "id", position), seen) as row:
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
    licences = {str(row["id"]): str(row.get("name") or row.get("url") or "") for row in table(tree, "licenses", path)}
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
    seen: set[str] = set()
    images, entered = listing.images, listing.tally.entered
    for position, value in enumerate(rows):
        entered["object"] += 1
        try:  # a row exactly as COCO publishes it: there are a million, and this takes a third of the time
            key, image, kind, crowd = value["id"], value["image_id"], value["category_id"], value["iscrowd"]
            box, area, found = value["bbox"], value["area"], value["segmentation"]
            usual = type(key) is type(image) is type(kind) is type(crowd) is int and type(box) is type(found) is list
            if usual and type(area) is float and 0 <= area < math.inf and "attributes" not in value:
                name, entry, (category, thing) = str(key), images[str(image)], categories[str(kind)]
                outlines = _outlines(found)
                if name not in seen and len(outlines) == len(found):
                    seen.add(name)
                    record = Annotation(name, category, NO_BOX, crowd != 0, thing, (), (), area)
                    entry.rows["object"].append(Pending(record, (box,), "xywh", False, outlines))
                    continue
        except (TypeError, KeyError, Malformed):
            pass  # any other row is read key by key, which finds what is wrong with it, if anything is
        with Row(listing, "object", value, file, label(value, "id", position), seen) as row:
            _add_object(row, categories)


def _add_object(row: Row, categories: Categories) -> None:
    row.need("segments_info", list, [])  # what else it may be comes from panoptic files
    key, image, kind = row.identifier("id"), row.identifier("image_id"), row.identifier("category_id")
    box, area = row.need("bbox", list), row.need("area", (int, float), 0)
    crowd, found = row.need("iscrowd", (int, bool), 0), row.need("segmentation", (list, dict), [])
    words = row.value.get("attributes")
    attributes = tuple(map(str, words)) if isinstance(words, list) else ()  # other tools keep objects there
    if not 0 <= area < math.inf:
        raise Malformed(f"area is {area!r:.80}, expected square pixels")
    outlines = _outlines(found)
    if kind not in categories:
        raise Refused("category_unknown", f"category {kind} is not listed.")
    category, thing = categories[kind]
    record = Annotation(key, category, NO_BOX, bool(crowd), thing, attributes, (), float(area))
    row.keep(image, record, box, polygons=outlines)
    if isinstance(found, list) and len(outlines) < len(found):
        row.listing.tally.mended["outline_dropped"] += 1  # it was only a point or a line


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


def _outlines(found: list[Any] | dict[str, Any]) -> tuple[bytes, ...]:
    """The polygons of a segmentation, but for those of less than three corners. They stay packed until they are
    needed: COCO's corners as Python floats fill a gigabyte."""
    if isinstance(found, dict):
        _check_mask(found)
        return ()
    outlines = []
    try:
        for outline in found:
            numbers = len(outline)
            if numbers % 2 or not math.isfinite(sum(outline)):
                raise Malformed(f"segmentation holds {outline!r:.80}, expected finite x, y, x, y, ...")
            if numbers >= 6:
                outlines.append(_packer(numbers)(*outline))
    except (TypeError, OverflowError, struct.error):
        raise Malformed(f"segmentation is {found!r:.80}, expected lists of numbers or a mask") from None
    return tuple(outlines)


@cache
def _packer(numbers: int) -> Callable[..., bytes]:
    return struct.Struct(f"{numbers}d").pack


def _check_mask(mask: dict[str, Any]) -> None:
    """Raises Malformed unless it is a run-length mask: runs as a list or as packed text, and height and width."""
    size, runs = mask.get("size"), mask.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(type(n) is int and n > 0 for n in size):
        raise Malformed(f"segmentation has the size {size!r:.80}, expected [height, width]")
    if isinstance(runs, list):
        if not all(type(n) is int and n >= 0 for n in runs) or sum(runs) != size[0] * size[1]:
            raise Malformed(f"segmentation has runs that do not fill {size[0]} x {size[1]} pixels")
    elif not isinstance(runs, str) or not runs:
        raise Malformed(f"segmentation has the counts {runs!r:.80}, expected a list of runs or text")
