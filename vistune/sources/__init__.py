"""Sources: annotation files in, `AnnotatedImage`s and `Dialogue`s out.

The stage gathers data sets and benchmarks in one folder listed by `sources.json`: the demo corpus it composes, or
the user's own files in any of the formats that `vistune sources --formats` lists. Every later stage reads that folder
through `load`, `read` and `read_benchmark`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.sources.formats import FORMATS
from vistune.sources.join import read, read_benchmark
from vistune.sources.rows import Tally
from vistune.sources.spec import (
    AnnotationFile,
    Benchmark,
    BenchmarkItem,
    Dataset,
    Manifest,
    parse_source,
    read_manifest,
    write_manifest,
)

if TYPE_CHECKING:
    from vistune.stages import Context

__all__ = [
    "FORMATS",
    "AnnotationFile",
    "Benchmark",
    "BenchmarkItem",
    "Dataset",
    "DemoParams",
    "Manifest",
    "Params",
    "Tally",
    "collect",
    "fingerprint",
    "load",
    "parse_source",
    "read",
    "read_benchmark",
    "read_manifest",
    "run",
    "write_manifest",
]


@dataclass(frozen=True)
class DemoParams:
    """The demo corpus: how many scenes of each part, and how they look."""

    train_scenes: int = 2000  # trained concepts, fully annotated
    align_scenes: int = 500  # aligned concepts: names and boxes only, never an instruction
    validation_scenes: int = 60  # trained concepts, new layouts
    heldout_trained: int = 160  # benchmark scenes of trained concepts, new layouts
    heldout_aligned: int = 110
    heldout_unseen: int = 60  # concepts that occur in no training file
    easy_vqa_images: int = 400  # test images taken from easy-vqa, an external data set; 0 leaves it out
    size: int = 224  # pixels, width and height
    max_objects: int = 6


@dataclass(frozen=True)
class Params:
    demo: DemoParams | None = field(default_factory=DemoParams)  # null: no demo corpus
    datasets: tuple[Dataset, ...] = ()  # your own; paths absolute or relative to the working directory
    benchmarks: tuple[Benchmark, ...] = ()


def load(root: Path) -> tuple[tuple[Dataset, ...], tuple[Benchmark, ...]]:
    """The data sets and benchmarks of a sources folder. Raises VistuneError when it is none."""
    manifest = read_manifest(root)
    return manifest.datasets, manifest.benchmarks


def collect(datasets: tuple[Dataset, ...], benchmarks: tuple[Benchmark, ...], output: Path) -> Manifest:
    """Gathers a user's own files under `output` and returns their list with paths relative to it. Many images lie in
    shards then."""
    from vistune.sources.own_data import collect, pack

    manifest = collect(datasets, benchmarks, output)
    pack(output, manifest)
    return manifest


def fingerprint(params: Params) -> str:
    """A digest of what the result depends on besides `params`: installed packages and the user's own files."""
    from vistune.hashing import digest
    from vistune.sources.own_data import fingerprint

    packages: dict[str, str] = {}
    if params.demo is not None:
        from vistune.sources.demo.drawings import versions

        packages = versions()
    return digest([packages, fingerprint(params.datasets, params.benchmarks)])


def run(params: Params, inputs: Mapping[str, Path], output: Path, context: Context) -> dict[str, Any]:
    """Writes the sources folder. `inputs` is empty: this is where data enters."""
    from vistune.sources.stage import run

    return run(params, output, context)
