"""A user's own data, gathered under one folder so that every later path is relative to it and nothing else is read.

Annotation files and the images they name are hard-linked (copied where the file system cannot link).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from vistune.errors import VistuneError
from vistune.files import link_file
from vistune.hashing import digest, file_digest
from vistune.progress import track
from vistune.sources.join import list_questions, list_rows
from vistune.sources.rows import Tally
from vistune.sources.spec import AnnotationFile, Benchmark, Dataset, Manifest, check_names

ROOT = Path("/")
"""Where a user's absolute paths start: readers take a root and relative paths."""


def collect(datasets: tuple[Dataset, ...], benchmarks: tuple[Benchmark, ...], output: Path) -> Manifest:
    """Links every file into `output/own/<name>/` and returns the list with paths relative to `output`.

    Only images that an annotation file names are taken. An image that does not exist, or whose name leaves the
    image folder, is left out here and rejected with its reason whenever the data set is read.
    """
    check_names(Manifest(datasets, benchmarks))
    placed_datasets, placed_benchmarks = [], []
    for dataset in datasets:
        given, names = _named_by_dataset(dataset)
        if not names:
            raise VistuneError(f"data set {dataset.name} names no image: {dataset.files[0].path} lists none.")
        folder = _Folder(output, dataset.name)
        files = tuple(AnnotationFile(f.format, folder.place(f.path), folder.place(f.annotations)) for f in given.files)
        images = folder.place_images(given.images, names)
        placed_datasets.append(replace(dataset, images=images, files=files))
    for benchmark in benchmarks:
        asked, names = _named_by_benchmark(benchmark)
        folder = _Folder(output, benchmark.name)
        questions, answers = folder.place(asked.questions), folder.place(asked.annotations)
        images = folder.place_images(asked.images, names)
        placed_benchmarks.append(replace(benchmark, questions=questions, annotations=answers, images=images))
    return Manifest(tuple(placed_datasets), tuple(placed_benchmarks))


def fingerprint(datasets: Iterable[Dataset], benchmarks: Iterable[Benchmark]) -> str:
    """A digest that changes when a user's files change: contents of annotation files, size and time of images."""
    leaves: list[object] = []
    for dataset in datasets:
        given, names = _named_by_dataset(dataset)
        paths = [p for f in given.files for p in (f.path, f.annotations) if p]
        leaves.append([dataset.name, [file_digest(ROOT / p) for p in paths], _stats(given.images, names)])
    for benchmark in benchmarks:
        asked, names = _named_by_benchmark(benchmark)
        paths = [asked.questions, asked.annotations]
        leaves.append([benchmark.name, [file_digest(ROOT / p) for p in paths], _stats(asked.images, names)])
    return digest(leaves)


def _named_by_dataset(dataset: Dataset) -> tuple[Dataset, list[str]]:
    """The data set with paths relative to `ROOT`, and the image file names that its annotation files mention."""
    files = tuple(
        AnnotationFile(f.format, _locate(f.path, dataset.name), _locate(f.annotations, dataset.name))
        for f in dataset.files
    )
    given = replace(dataset, files=files, images=_locate(dataset.images, dataset.name))
    listing = list_rows(ROOT, given, [], "sources", Tally())
    return given, sorted({entry.file for entry in listing.images.values()})


def _named_by_benchmark(benchmark: Benchmark) -> tuple[Benchmark, list[str]]:
    """The same for a benchmark."""
    asked = replace(
        benchmark,
        questions=_locate(benchmark.questions, benchmark.name),
        annotations=_locate(benchmark.annotations, benchmark.name),
        images=_locate(benchmark.images, benchmark.name),
    )
    listing = list_questions(ROOT, asked, [], Tally())
    return asked, sorted({entry.file for entry in listing.images.values()})


def _locate(path: str, name: str) -> str:
    """A user's path relative to `ROOT`; the empty path stays empty."""
    if not path:
        return ""
    found = Path(path).expanduser().resolve()
    if not found.exists():
        raise VistuneError(f"{name}: {path} does not exist (looked for {found}). Check the path in params.yaml.")
    return found.relative_to(ROOT).as_posix()


class _Folder:
    """The place of one data set or benchmark in the output. Its annotation files are numbered, since files from
    different folders may share a name."""

    def __init__(self, output: Path, name: str) -> None:
        self.output, self.name = output, name
        self.files = 0

    def place(self, path: str) -> str:
        """Links one file (relative to `ROOT`) and returns its path relative to the output."""
        if not path:
            return ""
        relative = f"own/{self.name}/annotations/{self.files}/{Path(path).name}"
        self.files += 1
        _link(ROOT / path, self.output / relative)
        return relative

    def place_images(self, folder: str, names: list[str]) -> str:
        """Links the images of these names and returns their folder relative to the output."""
        relative = f"own/{self.name}/images"
        (self.output / relative).mkdir(parents=True, exist_ok=True)
        for name in track(names, f"collect {self.name}"[:14], unit="images"):
            found = _image(ROOT / folder, name)
            if found is not None:
                _link(found, self.output / relative / name)
        return relative


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    link_file(source.resolve(), target)


def _image(folder: Path, name: str) -> Path | None:
    """The image file, or None when it does not exist or its name points out of the folder. A link placed in the
    folder by its owner is followed; only the name, which comes from the annotation file, is not trusted."""
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        return None
    try:
        return folder / name if (folder / name).is_file() else None
    except (ValueError, OSError):  # a null byte, or a name longer than the file system takes
        return None


def _stats(folder: str, names: list[str]) -> list[list[object]]:
    found = ((name, _image(ROOT / folder, name)) for name in names)
    return [[name, path.stat().st_size, path.stat().st_mtime_ns] for name, path in found if path is not None]
