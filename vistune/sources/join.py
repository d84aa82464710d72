"""Reading a sources folder: files joined over the image, images opened and checked, bad rows set aside."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.files import inside
from vistune.hashing import file_digest
from vistune.records import AnnotatedImage, Dialogue, ImageRef, Phrase, Reject, SourceFile
from vistune.sources import vqa
from vistune.sources.boxes import pixel_box
from vistune.sources.formats import FORMATS
from vistune.sources.rows import KINDS, Entry, Listing, Pending, Tally
from vistune.sources.spec import AnnotationFile, Benchmark, BenchmarkItem, Dataset
from vistune.store import describe_image


def read(
    root: Path, dataset: Dataset, rejects: list[Reject], stage: str = "sources", tally: Tally | None = None
) -> Iterator[AnnotatedImage | Dialogue]:
    """The images of a data set in the order of their ids (numbers by value), each with all its annotations; then its
    dialogues in the order of the files.

    A row that cannot be used is appended to `rejects` under the caller's `stage`; `tally` counts what was met and
    what was kept. Raises VistuneError when a file is missing or is not what its format says.
    """
    tally = tally if tally is not None else Tally()
    listing = list_rows(root, dataset, rejects, stage, tally)
    files = tuple(SourceFile(path, file_digest(inside(root, path))) for path in _paths(dataset))
    vocabulary = tuple(listing.vocabulary.values())
    for entry in sorted(listing.images.values(), key=lambda e: (not e.id.isdigit(), e.id.zfill(20))):
        image, reason, detail = _open(root, dataset.images, entry)
        if image is None:
            listing.refuse("image", entry.id, reason, detail)
            for kind, rows in entry.rows.items():
                for row in rows:
                    listing.refuse(kind, row.record.id, reason, f"image {entry.id} was rejected: {detail}")
            continue
        kept = {KINDS[kind]: _placed(kind, rows, image, listing) for kind, rows in entry.rows.items() if rows}
        tally.kept["image"] += 1
        lost = _lost(entry, kept)
        yield AnnotatedImage(
            id=f"{dataset.name}/{entry.id}",
            dataset=dataset.name,
            split=dataset.split,
            image=image,
            licence=entry.licence,
            attribution=entry.attribution,
            vocabulary=tuple(c for c in vocabulary if c.label not in lost) if lost else vocabulary,
            complete=_complete(entry, lost) if entry.complete else (),
            files=files,
            **kept,
        )
    yield from _dialogues(root, dataset, listing, files)


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


def list_rows(root: Path, dataset: Dataset, rejects: list[Reject], stage: str, tally: Tally) -> Listing:
    """Reads all annotation files of a data set, without opening an image."""
    defaults = (dataset.licence, dataset.attribution, dataset.image_pattern, dataset.split)
    listing = Listing(dataset.name, stage, rejects, tally, *defaults)
    for file in sorted(dataset.files, key=lambda f: not FORMATS[f.format].lists_images):
        FORMATS[file.format].read(root, file, listing)
    return listing


def list_questions(root: Path, benchmark: Benchmark, rejects: list[Reject], tally: Tally) -> Listing:
    """Reads the files of a benchmark, without opening an image."""
    listing = Listing(benchmark.name, "evaluate", rejects, tally, image_pattern=benchmark.image_pattern)
    vqa.read_questions(root, AnnotationFile("vqa", benchmark.questions, benchmark.annotations), listing)
    return listing


def _paths(dataset: Dataset) -> list[str]:
    return [path for file in dataset.files for path in (file.path, file.annotations) if path]


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
                row = replace(
                    row, record=replace(row.record, **{"boxes": tuple(boxes)} if several else {"box": boxes[0]})
                )
            kept.append(row.record)
    listing.tally.kept[kind] += len(kept)
    return tuple(kept)


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


def _dialogues(root: Path, dataset: Dataset, listing: Listing, files: tuple[SourceFile, ...]) -> Iterator[Dialogue]:
    """The dialogues of a data set, their images opened; one of whose images cannot be used is refused."""
    for row in listing.dialogues:
        images = []
        for n, file in enumerate(row.files):
            entry = Entry(str(n), file, None, None, row.record.licence, row.record.attribution)
            image, reason, detail = _open(root, dataset.images, entry)
            if image is None:
                listing.refuse("dialogue", row.record.id.removeprefix(f"{dataset.name}/"), reason, detail)
                break
            images.append(image)
        else:
            listing.tally.kept["dialogue"] += 1
            yield replace(row.record, images=tuple(images), files=files)


def _open(root: Path, folder: str, entry: Entry, decode: bool = True) -> tuple[ImageRef | None, str, str]:
    """The image of an entry, or None with reason and detail."""
    relative = f"{folder}/{entry.file}" if folder not in ("", ".") else entry.file
    try:
        path = inside(root / folder, entry.file)
        if not path.is_file():
            return None, "image_missing", f"{relative} does not exist."
    except (VistuneError, ValueError, OSError) as error:  # ValueError: a null byte; OSError: a name too long
        return None, "image_path", f"{entry.file!r:.120} is no path inside {folder}: {error}"
    try:
        image = describe_image(root, relative)
        if decode:
            _decode(path)
    except (VistuneError, OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        return None, "image_unreadable", f"{relative} cannot be decoded ({error})."
    declared = (entry.width or image.width, entry.height or image.height)
    if declared != (image.width, image.height):
        found = f"{image.width}x{image.height} upright"
        return None, "image_size", f"{relative} is declared {declared[0]}x{declared[1]} but is {found}."
    return image, "", ""


def _decode(path: Path) -> None:
    """Reads the pixels, at the smallest scale the format offers: a file cut short shows only then."""
    from PIL import Image

    with Image.open(path) as picture:
        picture.draft("RGB", (1, 1))
        picture.load()
