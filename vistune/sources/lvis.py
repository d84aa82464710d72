"""LVIS v1 (https://www.lvisdataset.org): COCO's layout and pictures, 1,203 categories, annotated as a federation.

Each image is annotated for categories of its own: those of its objects, and those of `neg_category_ids`, which a person
found absent. Any other category may or may not be there, so there is no vocabulary. Of a category in
`not_exhaustive_category_ids` some objects may have no annotation.
Splits mix COCO's: an image of LVIS val may lie in train2017, so file names are the last two parts of `coco_url`, and
the image folder is the one that holds train2017 and val2017; an `image_pattern` says otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.files import inside, read_json
from vistune.records import Category, Label
from vistune.sources.coco import Categories, add_images, add_objects, table, url_tail
from vistune.sources.questions import file_name
from vistune.sources.rows import Listing, Refused, Row, section
from vistune.sources.spec import AnnotationFile


def read_instances(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds images, objects and verified absences, and which categories are annotated completely in which image."""
    path = inside(root, file.path)
    tree = read_json(path)
    categories = _categories(tree, path)
    add_images(tree, path, file, listing, _place)
    add_objects(section(tree, "annotations", path), categories, file, listing)
    images = [row for row in section(tree, "images", path) if isinstance(row, dict)]
    _add_absences(images, categories, file, listing)
    for image in images:
        _complete(image, categories, listing)


def readable(name: str) -> str:
    """A category's name as words; the sense in parentheses that tells it from another stays.

    >>> readable("baseball_bat"), readable("bow_(weapon)")
    ('baseball bat', 'bow (weapon)')
    """
    return " ".join(name.replace("_", " ").split())


def _place(row: Row) -> str:
    if row.listing.image_pattern:
        return file_name(row.listing.image_pattern, row.value["id"])
    stated = row.need("file_name", str, "")  # LVIS v0.5
    return stated or url_tail(row.need("coco_url", str))


def _categories(tree: Any, path: Path) -> Categories:
    """Categories by readable names: where LVIS tells two senses of a word apart, a synonym that needs no parentheses
    and belongs to no other category is preferred ("mouse_(computer_equipment)" is "computer mouse")."""
    rows = table(tree, "categories", path, optional=False)
    used: Counter[str] = Counter()
    for row in rows:
        name, synonyms = row.get("name"), row.setdefault("synonyms", [])
        if not isinstance(name, str) or not readable(name):
            raise VistuneError(f"{path}: category {row['id']} needs a name, got {name!r:.80}.")
        if not isinstance(synonyms, list) or not all(isinstance(s, str) for s in synonyms):
            raise VistuneError(f"{path}: category {row['id']} needs a list of synonyms, got {synonyms!r:.80}.")
        used.update({readable(s) for s in (name, *synonyms)})
    found: dict[str, tuple[Category, bool]] = {}
    for row in rows:
        names = [readable(name) for name in (row["name"], *row["synonyms"])]
        plain = (name for name in names if name and "(" not in name and used[name] == 1)
        chosen = names[0] if "(" not in names[0] else next(plain, names[0])
        if str(row["id"]) in found:
            raise VistuneError(f"{path}: category id {row['id']} is used twice.")
        found[str(row["id"])] = (Category(chosen), True)
    return found


def _add_absences(images: list[Any], categories: Categories, file: AnnotationFile, listing: Listing) -> None:
    for row in listing.each("label", _absences(images), file, id="id"):
        with row:
            row.need("neg_category_ids", list, [])
            image, kind = row.identifier("image_id"), row.identifier("category_id")
            if kind not in categories:
                raise Refused("category_unknown", f"category {kind} is not listed.")
            category, _ = categories[kind]
            entry = listing.images.get(image)
            shown = [pending.record.category.label for pending in entry.rows["object"]] if entry else []
            if entry and (category.label in shown or category.label in entry.partial):  # of these a row was refused
                raise Refused("label_contradicted", f"{category.label} is called absent, but is annotated there.")
            row.keep(image, Label(row.name, category, present=False))


def _absences(images: list[Any]) -> Iterator[Any]:
    """One row per image and absent category. What is no list of categories stays one row, to be rejected."""
    for row in images:
        absent = row.get("neg_category_ids", [])
        if not isinstance(absent, list):
            yield {"id": f"{row.get('id')}-absent", "neg_category_ids": absent}
            continue
        for kind in absent:
            yield {"id": f"{row.get('id')}-{kind}", "image_id": row.get("id"), "category_id": kind}


def _complete(image: dict[str, Any], categories: Categories, listing: Listing) -> None:
    """Marks what is annotated completely. An image that does not say which categories are not, or says it with an
    unknown id, proves no number of anything."""
    entry = listing.images.get(str(image.get("id")))
    partial = image.get("not_exhaustive_category_ids")
    if entry is None or not isinstance(partial, list) or not {str(kind) for kind in partial} <= categories.keys():
        return
    entry.complete = True
    entry.partial |= {categories[str(kind)][0].label for kind in partial}
