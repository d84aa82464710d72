"""What a sources folder holds: data sets to learn from and benchmarks to be scored on, listed in `sources.json`.

The same dataclasses describe a user's own data in `params.yaml` (paths absolute, or relative to the working
directory) and the collected folder (paths relative to it).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from vistune.errors import VistuneError
from vistune.files import read_json, write_json
from vistune.params import parse, unknown
from vistune.records import ImageRef

MANIFEST = "sources.json"

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class AnnotationFile:
    """One annotation file, or folder of files, in one of the formats of `formats.FORMATS`."""

    format: str
    path: str
    annotations: str = ""  # the second file of formats that come in two: for `vqa`, the answers

    def __post_init__(self) -> None:
        from vistune.sources.formats import FORMATS

        if self.format not in FORMATS:
            near = unknown(self.format, list(FORMATS)).removeprefix("unknown parameter ")
            raise VistuneError(f"annotation file {self.path}: unknown format {near}")


@dataclass(frozen=True)
class Dataset:
    """Images of one folder with the annotation files that speak about them."""

    name: str
    split: Split
    images: str  # the folder that `file_name`s start from
    files: tuple[AnnotationFile, ...]
    image_pattern: str = ""  # "{image_id:012d}.jpg": file name of an image that only a VQA file mentions
    licence: str = ""  # of images whose file names none
    attribution: str = ""  # of images whose file names none
    annotation_licence: str = ""  # of what the files say about the images, where it is not that of the images
    tasks: tuple[str, ...] = ()  # adapt emits only these kinds; empty: all that the annotations allow
    dialogues: bool = True  # self_instruct may write dialogues about these images


@dataclass(frozen=True)
class Benchmark:
    """Held-out multiple-choice questions: VQA question and annotation files with `multiple_choices`."""

    name: str
    task: Literal["presence", "counting", "naming", "colour", "which_of_two", "vqa"]
    concepts: Literal["trained", "aligned", "unseen", "external"]
    trained_task: bool  # this kind of question also occurs in training
    questions: str
    annotations: str
    images: str
    image_pattern: str
    licence: str = ""


@dataclass(frozen=True)
class BenchmarkItem:
    """One question of a benchmark; `answer` is one of `choices`. Items of one `image` belong together."""

    id: str  # "<benchmark>/<question id>"
    benchmark: str
    question: str
    choices: tuple[str, ...]
    answer: str
    image: ImageRef  # path relative to the sources folder
    task: str
    concepts: str


@dataclass(frozen=True)
class Manifest:
    """The content of `sources.json`."""

    datasets: tuple[Dataset, ...] = ()
    benchmarks: tuple[Benchmark, ...] = ()


def write_manifest(root: Path, manifest: Manifest) -> None:
    check_names(manifest)
    write_json(root / MANIFEST, asdict(manifest))


def read_manifest(root: Path) -> Manifest:
    """Raises VistuneError when the folder was not written by the sources stage, or its list was changed badly."""
    path = root / MANIFEST
    if not path.is_file():
        raise VistuneError(f"{root} is no sources folder (no {MANIFEST}). Run `vistune sources` first.")
    manifest = parse(Manifest, read_json(path), MANIFEST)
    check_names(manifest)
    return manifest


def check_names(manifest: Manifest) -> None:
    """Names become ids and folder names, so they must be plain and unique."""
    from vistune.sources.formats import FORMATS

    names = [d.name for d in manifest.datasets] + [b.name for b in manifest.benchmarks]
    for name in names:
        if not name or not all(c.isalnum() or c in "-_." for c in name) or name.startswith("."):
            raise VistuneError(f"{name!r} cannot name a data set or benchmark: use letters, digits, '-', '_' and '.'.")
        if names.count(name) > 1:
            raise VistuneError(f"two data sets or benchmarks are named {name!r}. Give each its own name.")
    for dataset in manifest.datasets:
        if not dataset.files:
            raise VistuneError(f"data set {dataset.name} names no annotation files.")
        for file in dataset.files:
            if FORMATS[file.format].needs and not file.annotations:
                second = FORMATS[file.format].annotations
                raise VistuneError(f"data set {dataset.name}: {file.path} needs `annotations`: {second}.")


def parse_source(text: str) -> Dataset:
    """A data set from one command-line argument: `FORMAT:PATH,...,key=value,...`.

    Several `FORMAT:PATH` parts are files about the same images. Keys: images, name, split, annotations (of a vqa
    file), image_pattern, licence (of the images), annotation_licence, attribution. Without `name` the first file's stem
    is used, without `images` its folder. Paths cannot hold commas.

    >>> parse_source("coco_instances:a/boxes.json,images=a/jpg,licence=CC0").images
    'a/jpg'
    >>> [f.format for f in parse_source("coco_instances:a/boxes.json,coco_captions:a/text.json").files]
    ['coco_instances', 'coco_captions']
    """
    from vistune.sources.formats import FORMATS

    keys = (
        *("images", "name", "split", "annotations", "image_pattern", "licence", "annotation_licence", "attribution"),
    )
    files: list[tuple[str, str]] = []
    given: dict[str, str] = {}
    for part in text.split(","):
        kind, _, path = (piece.strip() for piece in part.partition(":"))
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if kind in FORMATS and path:
            files.append((kind, path))
        elif key in keys and value:
            given[key] = value
        elif equals and key not in keys:
            raise VistuneError(f"source {text!r}: {unknown(key, keys)}")
        else:
            raise VistuneError(
                f"source {text!r}: {part!r} is neither FORMAT:PATH (formats: {', '.join(FORMATS)}) nor key=value "
                f"(keys: {', '.join(keys)})."
            )
    if not files:
        raise VistuneError(
            f"source {text!r} names no annotation file; expected FORMAT:PATH, e.g. coco_instances:a.json."
        )
    answers, first = given.pop("annotations", ""), Path(files[0][1])
    tree: dict[str, Any] = {
        "name": first.stem,
        "split": "train",
        "images": str(first if first.is_dir() else first.parent),
        "files": [{"format": f, "path": p, "annotations": answers if FORMATS[f].annotations else ""} for f, p in files],
        **given,
    }
    dataset = parse(Dataset, tree, "source")
    check_names(Manifest((dataset,)))
    return dataset
