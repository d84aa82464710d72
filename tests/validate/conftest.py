"""A tiny world for the validate stage: two annotated data sets, two benchmarks, and clean samples of both methods."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from vistune.hashing import file_digest, keyed
from vistune.records import ImageRef, Lineage, Region, Sample, SourceFile, conversation, sample_id
from vistune.sources import AnnotationFile, Benchmark, Dataset, Manifest, write_manifest
from vistune.stages import Context
from vistune.store import describe_image, write_rejects, write_samples
from vistune.validate import Params, run

SIDE = 96
CATEGORIES = {"cat": "猫", "dog": "狗", "hot dog": "热狗", "apple": "苹果", "bus": "公交车", "owl": "猫头鹰"}
COLOURS = {
    "cat": "orange",
    "dog": "saddlebrown",
    "hot dog": "crimson",
    "apple": "green",
    "bus": "navy",
    "owl": "purple",
}


def picture(seed: str, labels: Iterable[str], size: int = SIDE) -> tuple[Image.Image, list[tuple[str, list[int]]]]:
    """A scene of coloured blobs, one in each quarter; its labels and xywh boxes."""
    image = Image.new("RGB", (size, size), (200 + keyed(1, seed, "r") % 50, 210, 190 + keyed(1, seed, "b") % 60))
    draw, boxes = ImageDraw.Draw(image), []
    for n, label in enumerate(labels):
        quarter = (keyed(1, seed, "turn") + n) % 4
        half = size // 2
        x = (quarter % 2) * half + keyed(1, seed, n, "x") % (half // 4)
        y = (quarter // 2) * half + keyed(1, seed, n, "y") % (half // 4)
        w, h = half // 3 + keyed(1, seed, n, "w") % (half // 3), half // 3 + keyed(1, seed, n, "h") % (half // 3)
        shape = draw.ellipse if len(label) % 2 else draw.rectangle
        shape((x, y, x + w, y + h), fill=COLOURS[label], outline="black")
        boxes.append((label, [x, y, w, h]))
    return image, boxes


@dataclass
class World:
    """`samples` are clean; `run` writes any samples as adapt's and self_instruct's output and validates them."""

    folder: Path
    samples: list[Sample]

    @property
    def sources(self) -> Path:
        return self.folder / "sources"

    @property
    def output(self) -> Path:
        return self.folder / "release"

    def pick(self, task: str, split: str = "train", **fields: Any) -> Sample:
        """The first clean sample of a task, changed; of presence, one whose answer is yes."""
        found = next(
            s for s in self.samples if (s.task, s.split, s.language) == (task, split, "en") and s.polarity != "no"
        )
        return replace(found, **fields)

    def change(self, sample: Sample, **fields: Any) -> list[Sample]:
        """The clean samples with `sample` changed."""
        return [replace(s, **fields) if s.id == sample.id else s for s in self.samples]

    def add_image(self, image: Image.Image, name: str, **save: Any) -> ImageRef:
        path = self.sources / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, **save)
        return describe_image(self.sources, name)

    def run(self, samples: Iterable[Sample], **params: Any) -> dict[str, Any]:
        everything = list(samples)
        inputs = {"sources": self.sources}
        for method in ("adapt", "self_instruct"):
            inputs[method] = self.folder / method
            write_samples(inputs[method], [s for s in everything if s.method == method])
            write_rejects(inputs[method], [])
        return run(Params(**params), inputs, self.output, Context(0, self.folder, self.folder))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The world, made once; tests take `world`, a copy they may change."""
    made = World(tmp_path_factory.mktemp("world"), [])
    datasets, samples = [], []
    for name, split, count in (("toys", "train", 6), ("held", "validation", 2)):
        dataset, rows = _dataset(made, name, split, count)
        datasets.append(dataset)
        samples += rows
    benchmarks = (
        _benchmark(made, "which_of_two_trained", "which_of_two", False),
        _benchmark(made, "presence_trained", "presence", True),
    )
    write_manifest(made.sources, Manifest(tuple(datasets), benchmarks))
    made.samples = sorted(samples, key=lambda s: s.id)
    return made


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    shutil.copytree(made.sources, tmp_path / "sources")
    return World(tmp_path, list(made.samples))


@pytest.fixture
def no_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out Great Expectations, which takes seconds to import, where a test is about something else."""
    monkeypatch.setattr("vistune.validate.release.expect", lambda *_: [])


def _dataset(world: World, name: str, split: str, count: int) -> tuple[Dataset, list[Sample]]:
    labels = list(CATEGORIES)
    tree: dict[str, Any] = {
        "licenses": [{"id": 1, "name": "CC BY 4.0"}],
        "categories": [{"id": n, "name": k, "names": {"zh": v}} for n, (k, v) in enumerate(CATEGORIES.items())],
        "images": [],
        "annotations": [],
    }
    scenes = []
    for number in range(count):
        shown = [labels[(number + step) % len(labels)] for step in (0, 2)]
        image, boxes = picture(f"{name}{number}", shown)
        ref = world.add_image(image, f"{name}/images/{number}.png")
        row = {"id": number, "file_name": f"{number}.png", "width": SIDE, "height": SIDE, "license": 1}
        tree["images"].append({**row, "attribution": "A. Painter"})
        for label, box in boxes:
            id = len(tree["annotations"]) + 100
            tree["annotations"].append({"id": id, "image_id": number, "category_id": labels.index(label), "bbox": box})
        scenes.append((number, ref, [(a["id"], *b) for a, b in zip(tree["annotations"][-2:], boxes, strict=True)]))
    file = world.sources / name / "instances.json"
    file.write_text(json.dumps(tree), encoding="utf-8")
    source = SourceFile(f"{name}/instances.json", file_digest(file))
    absent = [labels[(number + 1) % len(labels)] for number in range(count)]
    samples = [
        s for n, ref, objects in scenes for s in _samples(name, split, f"{name}/{n}", ref, objects, absent[n], source)
    ]
    return Dataset(name, split, f"{name}/images", (AnnotationFile("coco_instances", source.path),)), samples


def _samples(
    dataset: str, split: str, image: str, ref: ImageRef, objects: list[Any], absent: str, source: SourceFile
) -> list[Sample]:
    regions = tuple(
        Region((float(x), float(y), float(x + w), float(y + h)), label, str(id)) for id, label, (x, y, w, h) in objects
    )
    first, second = regions
    ids = tuple(r.annotation_id for r in regions)
    box = [round(v * 999 / SIDE) for v in first.box]
    names = {label: CATEGORIES[label] for label in (first.label, second.label)}
    shown = f"There are exactly two things in this plain picture, a {first.label} and a {second.label}."
    turns = [("What is shown?", shown), (f"Which is named first, and why the {first.label}?", "It was named first.")]
    rows: list[tuple[str, str, str, str, str, tuple[Region, ...]]] = [
        ("presence", "en", f"Is there a {first.label} in the picture?", "Yes", "yes", (first,)),
        ("presence", "en", f"Is there a {absent} in the picture?", "No", "no", ()),
        ("presence", "zh", f"图中有{names[second.label]}吗？", "有。", "yes", (second,)),
        ("presence", "zh", f"图中有{CATEGORIES[absent]}吗？", "没有。", "no", ()),
        ("locate", "en", f"Where is the {first.label}? Give its box.", f"{box}", "", (first,)),
        ("caption", "en", "Describe the picture.", f"A {first.label} and a {second.label} on paper.", "", regions),
    ]
    made = []
    for item, (task, language, question, answer, polarity, spoken) in enumerate(rows):
        lineage = Lineage(image, ids, (source,), template=f"{task}.{language}.01@1", item=item)
        made.append(
            Sample(
                id=sample_id(task, lineage, 0),
                dataset=dataset,
                split=split,
                task=task,
                method="adapt",
                instruction=question,
                input="",
                response=answer,
                messages=conversation([(question, answer)]),
                images=(ref,),
                lineage=lineage,
                licence="CC BY 4.0",
                group=ref.sha256,
                language=language,
                polarity=polarity,
                choices=("Yes", "No") if answer in ("Yes", "No") else (),
                regions=spoken,
            )
        )
    lineage = Lineage(
        image, ids, (source,), prompt="conversation@1", prompt_sha256="ab" * 32, teacher="grammar@1", request="r1"
    )
    dialogue = replace(
        made[-1],
        id=sample_id("conversation", lineage, 0),
        task="conversation",
        method="self_instruct",
        instruction=turns[0][0],
        response=turns[0][1],
        messages=conversation(turns),
        lineage=lineage,
    )
    return [*made, dialogue]


def _benchmark(world: World, name: str, task: Any, trained: bool) -> Benchmark:
    questions, answers = [], []
    for number, (right, wrong) in enumerate((("cat", "bus"), ("owl", "apple"))):
        image, _ = picture(f"{name}{number}", (right, "dog", right))
        world.add_image(image, f"{name}/images/{number}.png")
        if task == "presence":
            question, choices, answer = f"Is there a {right} in the picture?", ["yes", "no"], "yes"
        else:
            question, choices, answer = f"Which is in the picture, a {right} or a {wrong}?", [right, wrong], right
        row = {"question_id": number, "image_id": number}
        questions.append({**row, "question": question, "multiple_choices": choices})
        answers.append({**row, "question_type": task, "multiple_choice_answer": answer, "answers": []})
    for kind, rows in (("questions", questions), ("annotations", answers)):
        (world.sources / name / f"{kind}.json").write_text(json.dumps({kind: rows}), encoding="utf-8")
    paths = (f"{name}/questions.json", f"{name}/annotations.json", f"{name}/images")
    return Benchmark(name, task, "trained", trained, *paths, "{image_id}.png", "CC0 1.0")
