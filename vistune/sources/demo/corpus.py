"""The whole demo corpus: three data sets, the held-out scenes with their benchmarks, and easy-vqa."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.errors import VistuneError
from vistune.progress import Progress
from vistune.sources.demo import benchmarks, easy_vqa
from vistune.sources.demo.captions import captions
from vistune.sources.demo.drawings import LICENCE, Concept, concepts, render, split_concepts, versions
from vistune.sources.demo.questions import questions
from vistune.sources.demo.scenes import OBJECTS, Scene, compose, draw_concepts
from vistune.sources.demo.write import image_name, write_coco, write_png, write_vqa
from vistune.sources.spec import AnnotationFile, Benchmark, Dataset, Manifest

if TYPE_CHECKING:
    import numpy as np

    from vistune.sources import DemoParams

IDS = {"demo-train": 1, "demo-align": 2, "demo-validation": 3, "trained": 4, "aligned": 5, "unseen": 6}
"""Image ids of a part start at this many millions."""


@dataclass
class Corpus:
    manifest: Manifest
    metrics: dict[str, float]
    details: dict[str, Any]


class Drawings(dict[str, "np.ndarray"]):
    """Rendered drawings by concept name, rendered when first used."""

    def __init__(self, all_concepts: Sequence[Concept]) -> None:
        self.concepts = {c.name: c for c in all_concepts}

    def __missing__(self, name: str) -> np.ndarray:
        self[name] = render(self.concepts[name])
        return self[name]


def build(params: DemoParams, output: Path, seed: int) -> Corpus:
    """Writes the corpus under `output`; paths in the manifest are relative to it."""
    _check(params)
    found = versions()
    sets = split_concepts(concepts(), seed)
    drawings = Drawings([*sets.trained, *sets.aligned, *sets.unseen])
    datasets, heldout = [], []
    sizes: dict[str, int] = {}
    objects = 0
    parts = (
        ("demo-train", sets.trained, params.train_scenes),
        ("demo-align", sets.aligned, params.align_scenes),
        ("demo-validation", sets.trained, params.validation_scenes),
        ("trained", sets.trained, params.heldout_trained),
        ("aligned", sets.aligned, params.heldout_aligned),
        ("unseen", sets.unseen, params.heldout_unseen),
    )
    with Progress("compose scenes", sum(number for *_, number in parts)) as progress:
        for part, members, number in parts:
            if not number:
                continue
            folder = part if part.startswith("demo-") else f"heldout-{part}"
            scenes = _compose(part, members, number, params, output / folder / "images", drawings, seed, progress)
            sizes[folder] = len(scenes)
            objects += sum(len(scene.objects) for scene in scenes)
            if folder == part:
                datasets.append(_dataset(part, members, scenes, params.size, output, seed))
            else:
                heldout += _benchmarks(part, members, scenes, params.max_objects, output, seed)
    if params.easy_vqa_images:
        benchmark, sizes[easy_vqa.NAME] = easy_vqa.build(output, params.easy_vqa_images, seed)
        heldout.append(benchmark)
    metrics = {
        "concepts_trained": float(len(sets.trained)),
        "concepts_aligned": float(len(sets.aligned)),
        "concepts_unseen": float(len(sets.unseen)),
        "demo_objects": float(objects),
    }
    details = {
        "images": sizes,
        "packages": found,
        "licences": {name: easy_vqa.LICENCE if name == easy_vqa.NAME else LICENCE for name in sizes},
    }
    return Corpus(Manifest(tuple(datasets), tuple(heldout)), metrics, details)


def _check(params: DemoParams) -> None:
    if not 1 <= params.max_objects <= len(OBJECTS):
        raise VistuneError(f"sources.demo.max_objects is {params.max_objects}; expected 1 to {len(OBJECTS)}.")
    if not 96 <= params.size <= 1024:
        raise VistuneError(f"sources.demo.size is {params.size}; expected 96 to 1024 pixels.")
    numbers = {k: v for k, v in vars(params).items() if k.endswith(("scenes", "images")) or k.startswith("heldout")}
    for name, number in numbers.items():
        if not 0 <= number < 1_000_000:
            raise VistuneError(f"sources.demo.{name} is {number}; expected 0 to 999,999.")
    if not params.train_scenes:
        raise VistuneError(
            "sources.demo.train_scenes is 0: there would be nothing to train on. Set sources.demo to null "
            "to leave the demo corpus out."
        )


def _compose(
    part: str,
    members: Sequence[Concept],
    number: int,
    params: DemoParams,
    folder: Path,
    drawings: Drawings,
    seed: int,
    progress: Progress,
) -> list[Scene]:
    folder.mkdir(parents=True, exist_ok=True)
    scenes = []
    for n, chosen in enumerate(draw_concepts(members, number, params.max_objects, seed, part), start=1):
        picture, scene = compose(IDS[part] * 1_000_000 + n, chosen, drawings, params.size, seed, part)
        write_png(folder / image_name(scene.id), picture)
        scenes.append(scene)
        progress.step()
    return scenes


def _dataset(name: str, members: Sequence[Concept], scenes: list[Scene], size: int, output: Path, seed: int) -> Dataset:
    folder = output / name
    write_coco(folder, scenes, members, size, {scene.id: captions(scene, size, seed) for scene in scenes})
    files = [AnnotationFile("coco_instances", f"{name}/instances.json")]
    files += [AnnotationFile("coco_captions", f"{name}/captions.json")]
    if name == "demo-align":
        return Dataset(name, "train", f"{name}/images", tuple(files), tasks=("caption",), dialogues=False)
    write_vqa(folder, ((scene.id, one) for scene in scenes for one in questions(scene, seed)), LICENCE)
    files += [AnnotationFile("vqa", f"{name}/questions.json", f"{name}/annotations.json")]
    split = "train" if name == "demo-train" else "validation"
    return Dataset(name, split, f"{name}/images", tuple(files))  # type: ignore[arg-type]


def _benchmarks(
    part: str, members: Sequence[Concept], scenes: list[Scene], most: int, output: Path, seed: int
) -> list[Benchmark]:
    written = []
    for task, (trained, ask) in benchmarks.KINDS.items():
        name = f"{task}_{part}"
        write_vqa(output / "benchmarks" / name, sorted(ask(scenes, members, most, seed), key=lambda q: q[0]), LICENCE)
        written.append(
            Benchmark(
                name=name,
                task=task,  # type: ignore[arg-type]
                concepts=part,  # type: ignore[arg-type]
                trained_task=trained,
                questions=f"benchmarks/{name}/questions.json",
                annotations=f"benchmarks/{name}/annotations.json",
                images=f"heldout-{part}/images",
                image_pattern="{image_id:08d}.png",
                licence=LICENCE,
            )
        )
    return written
