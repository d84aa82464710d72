"""COCO's instances and captions files in the layout in which they are published, read at once.

Of a million rows that are all good, most of the time would go into finding that out row by row. Here the parser checks
types as it goes, what it cannot check is looked at before anything is kept, and a file with a single other row is left
to be read key by key (`coco.py`), which keeps the good rows, says what is wrong with the others, and takes a few times
as long.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from vistune.records import Annotation, Caption, Category
from vistune.sources.boxes import NO_BOX
from vistune.sources.outlines import outlines
from vistune.sources.rows import Entry, Listing, Malformed, Pending

Categories = Mapping[str, tuple[Category, bool]]
"""Category id -> (category, is a thing)."""


class ImageRow(Struct, gc=False):
    id: int
    file_name: str
    width: int | None = None
    height: int | None = None
    license: int | str = ""
    attribution: str = ""


class CaptionRow(Struct, gc=False):
    id: int
    image_id: int
    caption: str
    language: str = "en"


class ObjectRow(Struct, gc=False):
    id: int
    image_id: int
    category_id: int
    bbox: list[Any]  # the image's size decides about it
    iscrowd: int | bool = 0
    area: float = 0.0
    segmentation: list[list[float]] | dict[str, Any] = []
    attributes: list[str] | dict[str, Any] = []


class Captions(Struct):
    images: list[ImageRow]
    annotations: list[CaptionRow]
    licenses: list[Any] = []

    @property
    def tables(self) -> dict[str, list[Any]]:
        """The small tables that the rows rest on, as the file has them."""
        return {"licenses": self.licenses}


class Instances(Struct):
    images: list[ImageRow]
    annotations: list[ObjectRow]
    categories: list[Any]
    licenses: list[Any] = []

    @property
    def tables(self) -> dict[str, list[Any]]:
        return {"licenses": self.licenses, "categories": self.categories}


def add_usual_captions(file: Captions, licences: Mapping[str, str], listing: Listing) -> bool:
    """Adds images and captions if all of them are good; else nothing, and returns False."""
    listed, rows = _entries(file.images, licences, listing), file.annotations
    if listed is None or len({row.id for row in rows}) < len(rows):
        return False
    if not all(map(str.strip, [row.caption for row in rows])):
        return False
    found: defaultdict[int, list[CaptionRow]] = defaultdict(list, {image.id: [] for image in file.images})
    for row in rows:
        found[row.image_id].append(row)
    known = listing.images | listed if listing.images else listed
    try:
        entries = [known[str(image)] for image in found]
    except KeyError:
        return False
    _list(listed, listing)
    for entry, same in zip(entries, found.values(), strict=True):
        if same:
            entry.rows.put_off("caption", _caption, same)
    listing.tally.entered["caption"] += len(rows)
    return True


def add_usual_objects(file: Instances, licences: Mapping[str, str], categories: Categories, listing: Listing) -> bool:
    """As `add_usual_captions`, for objects."""
    listed, rows = _entries(file.images, licences, listing), file.annotations
    if listed is None or len({row.id for row in rows}) < len(rows):
        return False
    found: dict[int, list[Pending]] = {}
    dropped = 0
    try:
        for row in rows:
            image, area = row.image_id, row.area
            if image not in found:
                if str(image) not in listed and str(image) not in listing.images:
                    return False
                found[image] = []
            drawn, (category, thing) = outlines(row.segmentation), categories[str(row.category_id)]
            if not 0 <= area < math.inf:
                return False
            if len(drawn) < len(row.segmentation) and isinstance(row.segmentation, list):
                dropped += 1
            words = tuple(row.attributes) if row.attributes and isinstance(row.attributes, list) else ()
            record = Annotation(str(row.id), category, NO_BOX, row.iscrowd != 0, thing, words, (), area)
            found[image].append(Pending(record, (row.bbox,), "xywh", False, drawn))
    except (KeyError, Malformed):
        return False
    _list(listed, listing)
    for key, objects in found.items():
        listing.images[str(key)].rows["object"].extend(objects)
    listing.tally.entered["object"] += len(rows)
    listing.tally.mended.update({"outline_dropped": dropped} if dropped else {})
    return True


def _entries(rows: list[ImageRow], licences: Mapping[str, str], listing: Listing) -> dict[str, Entry] | None:
    """All images of a file by id, with those that an earlier file listed; None if one cannot be taken as it stands."""
    known, refused = listing.images, listing.refused
    terms = {stated: licences.get(str(stated)) for stated in {row.license for row in rows}}
    if any(name is None and stated != "" for stated, name in terms.items()):
        return None
    found: dict[str, Entry] = {}
    for row in rows:
        key = str(row.id)
        entry = known.get(key)
        if entry is None:
            if key in refused:
                return None
            licence = terms[row.license] or listing.licence
            credit = row.attribution or listing.attribution
            found[key] = Entry(key, row.file_name, row.width, row.height, licence, credit)
        elif entry.file == row.file_name:
            found[key] = entry
        else:
            return None
    return found if len(found) == len(rows) else None


def _list(entries: Mapping[str, Entry], listing: Listing) -> None:
    before = len(listing.images)
    listing.images.update(entries)
    listing.tally.entered["image"] += len(listing.images) - before


def _caption(row: CaptionRow) -> Pending:
    return Pending(Caption(str(row.id), " ".join(row.caption.split()), row.language))
