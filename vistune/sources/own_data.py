"""A user's own data, gathered under one folder so that every later path is relative to it and nothing else is read.

Annotation files (or folders of them) and the images they name are hard-linked, or copied where the file system cannot
link. Images that annotation files hold in themselves are written out. Many images are then moved into shards.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from vistune.errors import VistuneError
from vistune.files import files_under, is_picture, link_file
from vistune.hashing import digest, file_digest
from vistune.pins import tracked
from vistune.progress import Progress, track
from vistune.sources.datafiles import tree
from vistune.sources.formats import FORMATS
from vistune.sources.join import list_questions, list_rows
from vistune.sources.rows import Listing, Tally
from vistune.sources.spec import AnnotationFile, Benchmark, Dataset, Manifest, check_names
from vistune.store import pack_images

ROOT = Path("/")
"""Where a user's absolute paths start: readers take a root and relative paths."""

SMALL = 1 << 20
"""Bytes up to which a file of an annotation folder is known by its contents; beyond, as a picture always, by its size
and time."""


def collect(datasets: tuple[Dataset, ...], benchmarks: tuple[Benchmark, ...], output: Path) -> Manifest:
    """Links every file into `output/own/<name>/` and returns the list with paths relative to `output`.

    Only images that an annotation file names are taken. An image that does not exist, or whose name leaves the
    image folder, is left out here and rejected with its reason whenever the data set is read.
    """
    check_names(Manifest(datasets, benchmarks))
    placed_datasets, placed_benchmarks = [], []
    for dataset in datasets:
        folder = _Folder(output, dataset.name)
        given = _located(dataset)
        with Progress(f"collect {dataset.name}"[:14], 0, "images held by files") as bar:
            listing = list_rows(ROOT, given, [], "sources", Tally(), folder.embedder(bar))
        names = _images_of(listing)
        if not names and not listing.dialogues:
            raise VistuneError(f"data set {dataset.name} names no image: {dataset.files[0].path} lists none.")
        files = tuple(_moved(f, folder.place) for f in given.files)
        images = folder.place_images(given.images, names)
        placed_datasets.append(replace(dataset, images=images, files=files))
    for benchmark in benchmarks:
        asked, names = _named_by_benchmark(benchmark)
        folder = _Folder(output, benchmark.name)
        questions, answers = folder.place(asked.questions), folder.place(asked.annotations)
        images = folder.place_images(asked.images, names)
        placed_benchmarks.append(replace(benchmark, questions=questions, annotations=answers, images=images))
    return Manifest(tuple(placed_datasets), tuple(placed_benchmarks))


def pack(root: Path, manifest: Manifest) -> None:
    """Moves the images of a gathered folder into shards, if they are many: DVC, an object store and a copy pay for each
    file. They are read by the same paths as before (`store.named_image`)."""
    folders = sorted({root / d.images for d in manifest.datasets} | {root / b.images for b in manifest.benchmarks})
    if pack_images(root, (p.relative_to(root).as_posix() for folder in folders for p in files_under(folder))):
        for folder in folders:
            if not files_under(folder):
                shutil.rmtree(folder, ignore_errors=True)  # one may lie in another


def fingerprint(datasets: Iterable[Dataset], benchmarks: Iterable[Benchmark]) -> str:
    """A digest that changes when a user's files change: contents of annotation files, size and time of images."""
    leaves: list[object] = []
    for dataset in datasets:
        if _under_dvc(dataset):  # its parameters hold commit and md5
            continue
        given = _located(dataset)
        names = _images_of(list_rows(ROOT, given, [], "sources", Tally()))
        files = [(f.path, f.annotations, FORMATS[f.format].word) for f in given.files]
        changed = [[_print(path), second if word else _print(second)] for path, second, word in files]
        leaves.append([dataset.name, changed, _stats(given.images, names)])
    for benchmark in benchmarks:
        if _under_dvc(benchmark):
            continue
        asked, names = _named_by_benchmark(benchmark)
        paths = [asked.questions, asked.annotations]
        leaves.append([benchmark.name, [_print(p) for p in paths], _stats(asked.images, names)])
    return digest(leaves)


def _under_dvc(given: Dataset | Benchmark) -> bool:
    """Whether DVC tracks the files of a data set. Raises VistuneError where it tracks some of them and not others."""
    files = [file.path for file in given.files] if isinstance(given, Dataset) else [given.questions, given.annotations]
    paths = [path for path in (given.images, *files) if path]
    if tracked(paths) and not all(map(tracked, paths)):
        other = next(path for path in paths if not tracked(path))
        raise VistuneError(
            f"{given.name}: some of its files are under DVC and {other} is not. Name all of them by `dvc:`, or none."
        )
    return tracked(paths)


def _located(dataset: Dataset) -> Dataset:
    """The data set with paths relative to `ROOT`."""
    files = tuple(_moved(f, lambda path: _locate(path, dataset.name)) for f in dataset.files)
    return replace(dataset, files=files, images=_locate(dataset.images, dataset.name))


def _moved(file: AnnotationFile, move: Callable[[str], str]) -> AnnotationFile:
    """The annotation file with its paths put through `move`."""
    second = file.annotations if FORMATS[file.format].word else move(file.annotations)
    return AnnotationFile(file.format, move(file.path), second)


def _images_of(listing: Listing) -> list[str]:
    """The image file names that the annotation files of a data set mention."""
    dialogues = (file for row in listing.dialogues for file in row.files)
    return sorted({*(entry.file for entry in listing.images.values()), *dialogues})


def _named_by_benchmark(benchmark: Benchmark) -> tuple[Benchmark, list[str]]:
    """The benchmark with paths relative to `ROOT`, and the image file names that its files mention."""
    asked = replace(
        benchmark,
        questions=_locate(benchmark.questions, benchmark.name),
        annotations=_locate(benchmark.annotations, benchmark.name),
        images=_locate(benchmark.images, benchmark.name),
    )
    return asked, _images_of(list_questions(ROOT, asked, [], Tally()))


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
        self.images = f"own/{name}/images"
        self.files = 0
        self.embedded: set[str] = set()

    def place(self, path: str) -> str:
        """Links one file or folder (relative to `ROOT`) and returns its path relative to the output."""
        if not path:
            return ""
        relative = f"own/{self.name}/annotations/{self.files}/{Path(path).name}"
        self.files += 1
        source, target = ROOT / path, self.output / relative
        if source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            for name in track(tree(source), f"collect {self.name}"[:14], unit="files"):
                _link(source / name, target / name)
        else:
            _link(source, target)
        return relative

    def embedder(self, bar: Progress) -> Callable[[str, bytes], None]:
        """`embed`, told on a progress display: a large parquet file takes minutes."""

        def embed(name: str, data: bytes) -> None:
            self.embed(name, data)
            bar.step()

        return embed

    def embed(self, name: str, data: bytes) -> None:
        """Writes an image that an annotation file holds, once; `name` says what is in it. Whether it can be decoded,
        and is not too large, is seen whenever it is read."""
        self.embedded.add(name)
        target = self.output / self.images / name
        if target.is_file() and target.stat().st_size == len(data):
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_bytes(data)

    def place_images(self, folder: str, names: list[str]) -> str:
        """Links the images of these names and returns their folder relative to the output."""
        (self.output / self.images).mkdir(parents=True, exist_ok=True)
        outside = [name for name in names if name not in self.embedded]
        for name in track(outside, f"collect {self.name}"[:14], unit="images"):
            found = _image(ROOT / folder, name)
            if found is not None:
                _link(found, self.output / self.images / name)
        return self.images


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


def _print(path: str) -> object:
    """What tells whether an annotation file or folder changed."""
    found = ROOT / path
    if not path or not found.is_dir():
        return file_digest(found) if path else ""
    leaves: list[object] = []
    for name in tree(found):
        stat = (found / name).stat()
        small = stat.st_size <= SMALL and not is_picture(found / name)
        leaves.append([name, file_digest(found / name) if small else [stat.st_size, stat.st_mtime_ns]])
    return leaves


def _stats(folder: str, names: list[str]) -> list[list[object]]:
    found = ((name, _image(ROOT / folder, name)) for name in names)
    return [[name, path.stat().st_size, path.stat().st_mtime_ns] for name, path in found if path is not None]
