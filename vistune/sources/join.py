"""Reading a sources folder: files joined over the image, images opened and checked, bad rows set aside."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from vistune.errors import VistuneError
from vistune.files import inside
from vistune.hashing import file_digest
from vistune.records import AnnotatedImage, Annotation, Category, ImageRef, Reject, SourceFile
from vistune.sources import coco, vqa
from vistune.sources.rows import Entry, Listing, Tally
from vistune.sources.spec import AnnotationFile, Benchmark, BenchmarkItem, Dataset
from vistune.store import describe_image

FORMATS: dict[str, Callable[[Path, AnnotationFile, Listing], None]] = {
    "coco_instances": coco.read_instances,
    "coco_captions": coco.read_captions,
    "vqa": vqa.read_questions,
}


def read(
    root: Path, dataset: Dataset, rejects: list[Reject], stage: str = "sources", tally: Tally | None = None
) -> Iterator[AnnotatedImage]:
    """The images of a data set in the order of their ids (numbers by value), each with all its annotations.

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
            for kind, rows in _annotations(entry):
                for row in rows:
                    listing.refuse(kind, row, reason, f"image {entry.id} was rejected: {detail}")
            continue
        objects = _boxes(entry, image, listing)
        captions, questions = len(entry.captions), len(entry.questions)
        tally.kept.update(image=1, object=len(objects), caption=captions, question=questions)
        yield AnnotatedImage(
            id=f"{dataset.name}/{entry.id}",
            dataset=dataset.name,
            split=dataset.split,
            image=image,
            licence=entry.licence,
            attribution=entry.attribution,
            captions=tuple(entry.captions),
            objects=objects,
            questions=tuple(entry.questions),
            vocabulary=_proven(vocabulary, entry, objects),
            files=files,
        )


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
        for question in entry.questions:
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
    defaults = (dataset.licence, dataset.attribution, dataset.image_pattern)
    listing = Listing(dataset.name, stage, rejects, tally, *defaults)
    # VQA files name images only by id, so the files that list images are read first.
    for file in sorted(dataset.files, key=lambda f: f.format == "vqa"):
        FORMATS[file.format](root, file, listing)
    return listing


def list_questions(root: Path, benchmark: Benchmark, rejects: list[Reject], tally: Tally) -> Listing:
    """Reads the files of a benchmark, without opening an image."""
    listing = Listing(benchmark.name, "evaluate", rejects, tally, image_pattern=benchmark.image_pattern)
    vqa.read_questions(root, AnnotationFile("vqa", benchmark.questions, benchmark.annotations), listing)
    return listing


def _paths(dataset: Dataset) -> list[str]:
    return [path for file in dataset.files for path in (file.path, file.annotations) if path]


def _annotations(entry: Entry) -> list[tuple[str, list[str]]]:
    return [
        ("object", [annotation.id for annotation, _ in entry.objects]),
        ("caption", [caption.id for caption in entry.captions]),
        ("question", [question.id for question in entry.questions]),
    ]


def _boxes(entry: Entry, image: ImageRef, listing: Listing) -> tuple[Annotation, ...]:
    kept = []
    for annotation, xywh in entry.objects:
        box, reason, detail = coco.pixel_box(xywh, image.width, image.height)
        if box is None:
            listing.refuse("object", annotation.id, reason, detail)
        else:
            kept.append(replace(annotation, box=box))
    return tuple(kept)


def _proven(vocabulary: tuple[Category, ...], entry: Entry, kept: tuple[Annotation, ...]) -> tuple[Category, ...]:
    """The categories whose absence or number the kept objects prove: not those of an object that was refused."""
    if len(kept) == len(entry.objects):
        return vocabulary
    ids = {annotation.id for annotation in kept}
    lost = {annotation.category.label for annotation, _ in entry.objects if annotation.id not in ids}
    return tuple(c for c in vocabulary if c.label not in lost)


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
