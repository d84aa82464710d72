"""Reading a sources folder: files joined over the image, images opened and checked, bad rows set aside."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

from vistune.collection import no_collection
from vistune.errors import VistuneError
from vistune.files import inside, path_digest
from vistune.imagestore import Slice
from vistune.licences import effective
from vistune.records import AnnotatedImage, Annotation, Category, Dialogue, ImageRef, Phrase, Reject, SourceFile
from vistune.sources import vqa
from vistune.sources.boxes import pixel_box, pixel_polygon
from vistune.sources.formats import FORMATS
from vistune.sources.rows import KINDS, DialogueRow, Entry, Listing, Pending, Tally
from vistune.sources.spec import AnnotationFile, Benchmark, BenchmarkItem, Dataset
from vistune.store import describe_image, image_file, named_image


def read(
    root: Path, dataset: Dataset, rejects: list[Reject], stage: str = "sources", tally: Tally | None = None
) -> Iterator[AnnotatedImage | Dialogue]:
    """The images of a data set in the order of their ids (numbers by value), each with all its annotations; then its
    dialogues in the order of the files.

    A row that cannot be used is appended to `rejects` under the caller's `stage`; `tally` counts what was met and
    what was kept. Raises VistuneError when a file is missing or is not what its format says.
    """
    listing = list_rows(root, dataset, rejects, stage, tally if tally is not None else Tally())
    return annotated(root, dataset, listing, listed(listing), source_files(root, dataset))


def listed(listing: Listing) -> list[Entry | DialogueRow]:
    """What a listing holds, in the order in which `read` gives it."""
    return [*sorted(listing.images.values(), key=lambda e: (not e.id.isdigit(), e.id.zfill(20))), *listing.dialogues]


def source_files(root: Path, dataset: Dataset) -> tuple[SourceFile, ...]:
    return tuple(SourceFile(path, path_digest(inside(root, path))) for path in annotation_paths(dataset))


def annotated(
    root: Path, dataset: Dataset, listing: Listing, rows: Iterable[Entry | DialogueRow], files: tuple[SourceFile, ...]
) -> Iterator[AnnotatedImage | Dialogue]:
    """Opens the images of some of a data set's rows. Of `listing` only the vocabulary is read; it takes the rejects and
    the tally, so that several processes can each have a part of the rows and a listing of their own."""
    vocabulary = tuple(listing.vocabulary.values())
    for row in rows:
        if isinstance(row, DialogueRow):
            found: AnnotatedImage | Dialogue | None = _dialogue(root, dataset, row, listing, files)
        else:
            found = _image(root, dataset, row, listing, files, vocabulary)
        if found is not None:
            yield found


def read_benchmark(root: Path, benchmark: Benchmark) -> list[BenchmarkItem]:
    """The questions of a benchmark, those of one image together, in the order of the file. A benchmark is read whole
    or not at all: leaving out a bad row would change the score, so any defect raises VistuneError."""
    rejects: list[Reject] = []
    listing = list_questions(root, benchmark, rejects, Tally())
    items = []
    for entry in listing.images.values():
        image, reason, detail = _open(root, benchmark.images, entry, decode=False)
        if image is None:
            listing.refuse("image", entry.id, reason, detail)
            continue
        for question in (row.record for row in entry.rows["question"]):
            if not question.choices:
                listing.refuse("question", question.id, "choices_missing", "a benchmark needs multiple_choices.")
                continue
            asked = (
                f"{benchmark.name}/{question.id}",
                benchmark.name,
                question.text,
                question.choices,
                question.answer,
            )
            items.append(BenchmarkItem(*asked, image, benchmark.task, benchmark.concepts))
    if rejects:
        first = rejects[0]
        raise VistuneError(
            f"benchmark {benchmark.name} has {len(rejects)} bad rows; the first is {first.key}: {first.reason}, "
            f"{first.detail} Mend or remove these rows in {benchmark.questions}."
        )
    return items


def list_rows(
    root: Path,
    dataset: Dataset,
    rejects: list[Reject],
    stage: str,
    tally: Tally,
    embed: Callable[[str, bytes], None] | None = None,
) -> Listing:
    """Reads all annotation files of a data set, without opening an image. Images that they hold go to `embed`."""
    defaults = (dataset.licence, dataset.attribution, dataset.image_pattern, dataset.split)
    listing = Listing(dataset.name, stage, rejects, tally, *defaults, embed=embed)
    with no_collection():
        for file in sorted(dataset.files, key=lambda f: not FORMATS[f.format].lists_images):
            FORMATS[file.format].read(root, file, listing)
    return listing


def list_questions(root: Path, benchmark: Benchmark, rejects: list[Reject], tally: Tally) -> Listing:
    """Reads the files of a benchmark, without opening an image."""
    listing = Listing(benchmark.name, "evaluate", rejects, tally, image_pattern=benchmark.image_pattern)
    vqa.read_questions(root, AnnotationFile("vqa", benchmark.questions, benchmark.annotations), listing)
    return listing


def annotation_paths(dataset: Dataset) -> list[str]:
    """The annotation files and folders of a data set, as it lists them."""
    paths = []
    for file in dataset.files:
        paths += [file.path] if FORMATS[file.format].word else [file.path, file.annotations]
    return [path for path in paths if path]


def _image(
    root: Path,
    dataset: Dataset,
    entry: Entry,
    listing: Listing,
    files: tuple[SourceFile, ...],
    vocabulary: tuple[Category, ...],
) -> AnnotatedImage | None:
    """An image with its annotations; refused together with them when it cannot be used."""
    image, reason, detail = _open(root, dataset.images, entry)
    if image is None:
        listing.refuse("image", entry.id, reason, detail)
        for kind, rows in entry.rows.items():
            for row in rows:
                listing.refuse(kind, row.record.id, reason, f"image {entry.id} was rejected: {detail}")
        return None
    kept: dict[str, Any] = {}
    for kind, rows in entry.rows.items():  # objects come first
        usable = _related(rows, kept.get("objects", ()), listing) if kind == "relation" else rows
        if usable:
            kept[KINDS[kind]] = _placed(kind, usable, image, listing)
    listing.tally.kept["image"] += 1
    lost = _lost(entry, kept) | entry.partial
    return AnnotatedImage(
        id=f"{dataset.name}/{entry.id}",
        dataset=dataset.name,
        split=dataset.split,
        image=image,
        licence=_terms(entry.licence, dataset),
        attribution=entry.attribution,
        vocabulary=tuple(c for c in vocabulary if c.label not in lost) if lost else vocabulary,
        complete=_complete(entry, lost) if entry.complete else (),
        files=files,
        **kept,
    )


def _placed(kind: str, rows: list[Pending], image: ImageRef, listing: Listing) -> tuple[Any, ...]:
    """The annotations of one kind, their boxes in pixels of the image. One whose box cannot be used is refused."""
    kept = []
    for row in rows:
        boxes = []
        for numbers in row.boxes:
            box, reason, detail = pixel_box(numbers, image.width, image.height, row.frame, row.clip)
            if box is None:
                listing.refuse(kind, row.record.id, reason, detail)
                break
            listing.tally.mended.update([reason] if reason else [])
            boxes.append(box)
        else:
            if boxes:
                several = isinstance(row.record, Phrase)
                placed: dict[str, Any] = {"boxes": tuple(boxes)} if several else {"box": boxes[0]}
                if row.polygons:
                    placed["polygons"] = tuple(pixel_polygon(p, image.width, image.height) for p in row.polygons)
                kept.append(replace(row.record, **placed))
            else:
                kept.append(row.record)
    listing.tally.kept[kind] += len(kept)
    return tuple(kept)


def _related(rows: list[Pending], objects: tuple[Annotation, ...], listing: Listing) -> list[Pending]:
    """Relations whose ends are both kept; the others are refused."""
    ids = {annotation.id for annotation in objects}
    found = []
    for row in rows:
        missing = [end for end in (row.record.subject, row.record.object) if end not in ids]
        if missing:
            listing.refuse("relation", row.record.id, "object_rejected", f"object {missing[0]} of it was rejected.")
        else:
            found.append(row)
    return found


def _lost(entry: Entry, kept: dict[str, Any]) -> set[str]:
    """Labels of objects that were refused: the objects left no longer prove their absence or number."""
    objects = kept.get("objects", ())
    if len(objects) == len(entry.rows["object"]):
        return set()
    ids = {annotation.id for annotation in objects}
    return {row.record.category.label for row in entry.rows["object"] if row.record.id not in ids}


def _complete(entry: Entry, lost: set[str]) -> tuple[str, ...]:
    labels = {row.record.category.label for row in entry.rows["object"]}
    return tuple(sorted(labels - entry.partial - lost))


def _dialogue(
    root: Path, dataset: Dataset, row: DialogueRow, listing: Listing, files: tuple[SourceFile, ...]
) -> Dialogue | None:
    """A dialogue with its images; refused when one of them cannot be used."""
    images = []
    for n, file in enumerate(row.files):
        entry = Entry(str(n), file, None, None, row.record.licence, row.record.attribution)
        image, reason, detail = _open(root, dataset.images, entry)
        if image is None:
            listing.refuse("dialogue", row.record.id.removeprefix(f"{dataset.name}/"), reason, detail)
            return None
        images.append(image)
    listing.tally.kept["dialogue"] += 1
    licence = _terms(row.record.licence, dataset)
    return replace(row.record, images=tuple(images), files=files, licence=licence)


def _terms(licence: str, dataset: Dataset) -> str:
    """The licence of an image with what is said about it; as it is stated, where one covers both."""
    return effective(licence, dataset.annotation_licence) if dataset.annotation_licence else licence


def _open(root: Path, folder: str, entry: Entry, decode: bool = True) -> tuple[ImageRef | None, str, str]:
    """The image of an entry, or None with reason and detail."""
    relative = f"{folder}/{entry.file}" if folder not in ("", ".") else entry.file
    try:
        path = inside(root / folder, entry.file)
        packed = None if path.is_file() else named_image(root, path.relative_to(root.resolve()).as_posix())
        if packed is None and not path.is_file():
            return None, "image_missing", f"{relative} does not exist."
    except (VistuneError, ValueError, OSError):  # ValueError: a null byte; OSError: a name too long
        return None, "image_path", f"{entry.file!r:.120} is no path inside {folder}."
    held = image_file(root, packed) if packed and decode else path
    content = BytesIO(held.read()) if isinstance(held, Slice) else held  # a damaged shard is no bad row
    try:
        image = replace(packed, path=relative) if packed else describe_image(root, relative)
        if decode:
            _decode(content)
    except (VistuneError, OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        return None, "image_unreadable", f"{relative} cannot be decoded ({error})."
    declared = (entry.width or image.width, entry.height or image.height)
    if declared != (image.width, image.height):
        found = f"{image.width}x{image.height} upright"
        return None, "image_size", f"{relative} is declared {declared[0]}x{declared[1]} but is {found}."
    return image, "", ""


def _decode(source: Path | BytesIO) -> None:
    """Reads the pixels, at the smallest scale the format offers: a file cut short shows only then."""
    from PIL import Image

    with Image.open(source) as picture:
        picture.draft("RGB", (1, 1))
        picture.load()
