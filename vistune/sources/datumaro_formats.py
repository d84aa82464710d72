"""VOC, YOLO, CVAT, LabelMe, KITTI and other formats of still images, through datumaro: objects, labels and captions.

`path` is the folder of a data set; `annotations` may name its format (`voc`, `yolo`, `cvat`, ...), which is otherwise
detected. Image files are named relative to that folder. Datumaro rounds coordinates to hundredths of a pixel.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.files import inside
from vistune.records import Annotation, Caption, Category, Label
from vistune.sources.boxes import NO_BOX
from vistune.sources.rows import Listing, Refused
from vistune.sources.spec import AnnotationFile
from vistune.sources.turns import unused

EXHAUSTIVE = frozenset(("coco", "coco_instances", "voc", "voc_detection", "yolo"))
"""Formats of which detectors learn that what has no box is not there: every image is annotated for all categories."""

OPTIONS = {name: {"coordinate_mode": "voc-one-based"} for name in ("voc", "voc_detection")}
"""VOC counts pixels from 1, both corners included (development kit of VOC2012); datumaro's own files from 0."""

NO_THING = frozenset(("background", "ignored"))
"""Labels of VOC's masks."""

SPLITS = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation"}
SPLITS |= {"test": "test", "testing": "test"}

Parts = list[Any]
"""Annotations of datumaro that describe one object."""


def read_folder(root: Path, file: AnnotationFile, listing: Listing) -> None:
    folder = inside(root, file.path)
    dataset, name, failed = _load(folder, file)
    taken: set[str] = set()
    for kind, id, problem in failed:
        listing.tally.entered[kind] += 1
        listing.refuse(kind, unused(id, taken), "row_malformed", f"{file.path}: {problem}.")
    shown = _add_images(dataset, folder, file, listing)
    categories, objects = _categories(dataset), list(_objects(shown))
    unknown = any(kind == "object" for kind, _, _ in failed)
    unknown |= any(row["label"] not in categories or row["box"] is None for row in objects)
    if name in EXHAUSTIVE and not unknown:  # else something may be there although it has no box
        labels = {c.label for c in categories.values()}
        things = (c for c in categories.values() if c.label not in NO_THING and c.group not in labels)
        listing.vocabulary.update({c.label: c for c in things if c.label not in listing.vocabulary})
    for row in listing.each("object", objects, file, id="id"):
        with row:
            parts, category = row.value["parts"], _category(categories, row.value["label"])
            if row.value["box"] is None:
                kinds = ", ".join(sorted({part.type.name for part in parts}))
                raise Refused("shape_unsupported", f"it is drawn as {kinds}, which has no area.")
            outlines = [part for part in parts if part.type.name == "polygon"]
            area = math.fsum(part.get_area() for part in outlines)
            record = Annotation(row.name, category, NO_BOX, row.value["crowd"], area=area)
            polygons = tuple(tuple(map(float, part.points)) for part in outlines)
            row.keep(row.value["image"], record, row.value["box"], polygons=polygons)
    for row in listing.each("label", list(_alone(shown, "label")), file, id="id"):
        with row:
            row.keep(row.value["image"], Label(row.name, _category(categories, row.value["part"].label)))
    for row in listing.each("caption", list(_alone(shown, "caption")), file, id="id"):
        with row:
            text = " ".join(str(row.value["part"].caption).split())
            if not text:
                raise Refused("caption_empty", "the caption has no text.")
            row.keep(row.value["image"], Caption(row.name, text))


def _load(folder: Path, file: AnnotationFile) -> tuple[Any, str, list[tuple[str, str, str]]]:
    """The data set, the name of its format, and what could not be read: image or object, its id, why."""
    try:
        from datumaro.components.contexts.importer import ImportErrorPolicy
        from datumaro.components.dataset import Dataset
        from datumaro.components.environment import DEFAULT_ENVIRONMENT
    except ImportError as error:
        raise VistuneError(
            f"{file.path}: the format `datumaro` needs a package that is not installed ({error}). It wants other "
            "versions of pandas and pillow than the rest: run `make formats` and use .venv-formats/bin/vistune, or "
            "pip install 'vistune[formats]' in a fresh environment."
        ) from None

    failed: list[tuple[str, str, str]] = []

    class Note(ImportErrorPolicy):
        """Sets bad rows aside instead of giving up."""

        def _handle_item_error(self, error: Any) -> None:
            failed.append(("image", str(error.item_id[0]), _why(error)))

        def _handle_annotation_error(self, error: Any) -> None:
            failed.append(("object", str(error.item_id[0]), _why(error)))

    names = [file.annotations] if file.annotations else DEFAULT_ENVIRONMENT.detect_dataset(str(folder), depth=2)
    if len(names) != 1:
        found = f"may be {', '.join(sorted(names))}" if names else "is in no format that datumaro knows"
        raise VistuneError(f"{folder} {found}. Name the format: `datumaro:{file.path},annotations=voc`.")
    if names[0] not in DEFAULT_ENVIRONMENT.importers:
        known = ", ".join(sorted(DEFAULT_ENVIRONMENT.importers))
        raise VistuneError(f"{folder}: datumaro has no format {names[0]!r}; it has {known}.")
    try:
        options = OPTIONS.get(names[0], {})
        dataset = Dataset.import_from(str(folder), names[0], error_policy=Note(), **options)
        dataset.init_cache()
    except Exception as error:  # plugins of datumaro raise whatever comes up
        raise VistuneError(
            f"{folder} cannot be read as {names[0]} ({_why(error)}). Check that it is a whole data set of that format."
        ) from None
    return dataset, names[0], failed


def _why(error: BaseException) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}"


def _categories(dataset: Any) -> dict[int, Category]:
    """Category by datumaro's index of a label."""
    labels = next((value for key, value in dataset.categories().items() if key.name == "label"), None)
    return {n: Category(label.name, label.parent) for n, label in enumerate(labels.items)} if labels else {}


def _category(categories: dict[int, Category], label: int | None) -> Category:
    if label is None or label not in categories:
        raise Refused("label_missing", "it has no label, or one that the data set does not list.")
    return categories[label]


def _subsets(items: Iterable[Any], split: str) -> set[str]:
    """The subsets that belong to a split. What is called neither train, val nor test belongs to it if nothing else
    does ("default"); beside others it repeats their images ("trainval")."""
    names = {item.subset for item in items}
    splits = {name: SPLITS.get(name.lower().rstrip("0123456789_-"), "") for name in names}
    return names if len(names) == 1 and not any(splits.values()) else {n for n in names if splits[n] == split}


def _add_images(dataset: Any, folder: Path, file: AnnotationFile, listing: Listing) -> dict[str, Any]:
    """Lists the images of the data set's split; datumaro's items by image id."""
    items = sorted(dataset, key=lambda item: (str(item.subset), str(item.id)))
    subsets = _subsets(items, listing.split)
    shown = {}
    for item in items:
        if item.subset not in subsets:
            listing.tally.passed_over["image"] += 1
            continue
        key = str(item.id) if len(subsets) == 1 else f"{item.subset}/{item.id}"
        shown[key] = item
        path = getattr(item.media, "path", "") or ""
        if not path or item.media.type.name != "IMAGE":
            listing.tally.entered["image"] += 1
            listing.refused.add(key)
            listing.refuse("image", key, "image_missing", f"{file.path}: the item is no image in a file of its own.")
            continue
        at = Path(path).resolve()
        name = at.relative_to(folder).as_posix() if at.is_relative_to(folder) else path  # outside: refused when opened
        height, width = item.media.size if item.media.has_size else (None, None)
        listing.image(key, name, width, height)
    return shown


def _objects(shown: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Everything drawn, one row for each object: a box and the polygons of a group with one label are one object."""
    rows = []
    for key, item in shown.items():
        for parts in _grouped(item.annotations):
            label = next((part.label for part in parts if part.label is not None), None)
            rows.append({"image": key, "own": parts[0].id, "parts": parts, "label": label, **_extent(parts)})
    own = Counter(row["own"] for row in rows)
    numbers: Counter[str] = Counter()
    # Most formats number the annotations of each image from 0; only ids of the whole data set are worth keeping.
    unique = len(own) == len(rows) and 0 not in own
    for row in rows:
        yield {**row, "id": str(row["own"]) if unique else f"{row['image']}/{numbers[row['image']]}"}
        numbers[row["image"]] += 1


def _grouped(annotations: Iterable[Any]) -> Iterator[Parts]:
    groups: dict[tuple[int, Any], Parts] = defaultdict(list)
    for n, part in enumerate(annotations):
        if part.type.name not in ("label", "caption"):
            groups[(part.group, part.label) if part.group else (-1 - n, None)].append(part)
    for parts in groups.values():
        # People also group things that belong together: then several boxes are several objects.
        together = sum(part.type.name == "bbox" for part in parts) <= 1
        yield from [parts] if together else [[part] for part in parts]


def _extent(parts: Parts) -> dict[str, Any]:
    """The box of an object as x, y, width, height (None: nothing has an area), and whether it is an uncounted group."""
    drawn = {part.type.name: part for part in parts}
    areas = [p for p in parts if p.type.name in ("bbox", "polygon", "mask", "rotated_bbox", "ellipse")]
    crowd = any(part.attributes.get(key) is True for part in parts for key in ("is_crowd", "is_group_of"))
    if set(drawn) == {"mask"} and not parts[0].group:
        crowd = True  # the mask of a class, not of one thing
    if "bbox" in drawn:
        return {"box": list(drawn["bbox"].get_bbox()), "crowd": crowd}
    boxes = [part.get_bbox() for part in areas]
    if not boxes:
        return {"box": None, "crowd": crowd}
    x, y = min(float(b[0]) for b in boxes), min(float(b[1]) for b in boxes)
    right, bottom = max(float(b[0] + b[2]) for b in boxes), max(float(b[1] + b[3]) for b in boxes)
    return {"box": [x, y, right - x, bottom - y], "crowd": crowd}


def _alone(shown: dict[str, Any], kind: str) -> Iterator[dict[str, Any]]:
    """The labels or captions of whole images."""
    for key, item in shown.items():
        found = [part for part in item.annotations if part.type.name == kind]
        yield from ({"image": key, "part": part, "id": f"{key}/{kind}/{n}"} for n, part in enumerate(found))
