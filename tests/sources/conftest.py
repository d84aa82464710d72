"""A tiny, correct COCO + VQA data set on disk, for tests to damage in one place."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from PIL import Image

from vistune.files import tree_digest
from vistune.records import AnnotatedImage, Reject
from vistune.sources import AnnotationFile, Dataset, Tally, collect, read
from vistune.sources.rows import KINDS

SIZE = (40, 30)

settings.register_profile("no deadline", deadline=None)  # a busy machine is not a failure
settings.load_profile("no deadline")


@dataclass
class Source:
    """Three images of 40x30 with boxes, captions and questions. Change `instances`, `captions`, `questions`,
    `answers` or the files in `images`, then `read()`."""

    root: Path
    instances: dict[str, Any] = field(default_factory=dict)
    captions: dict[str, Any] = field(default_factory=dict)
    questions: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        images = []
        for n in (1, 2, 10):
            path = self.root / "images" / f"{n:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", SIZE, (n, 80, 160)).save(path)
            images.append({"id": n, "file_name": path.name, "width": SIZE[0], "height": SIZE[1], "license": 3})
        licences = [{"id": 3, "name": "CC BY 4.0"}]
        self.instances = {
            "images": images,
            "licenses": licences,
            "categories": [
                {"id": 44, "name": "cat", "supercategory": "animal", "names": {"zh": "猫"}},
                {"id": 90, "name": "sky", "supercategory": "background", "isthing": 0},
            ],
            "annotations": [
                {"id": 5, "image_id": 1, "category_id": 44, "bbox": [2, 3, 10, 12], "iscrowd": 0},
                {"id": 6, "image_id": 1, "category_id": 90, "bbox": [0, 0, 40, 30]},
                {"id": 7, "image_id": 10, "category_id": 44, "bbox": [0, 0, 5, 5], "iscrowd": 1},
            ],
        }
        captions = [{"id": 5, "image_id": 1, "caption": "A cat under  the sky.\n"}]
        captions += [{"id": 8, "image_id": 2, "caption": "Nothing."}]
        self.captions = {"images": images, "licenses": licences, "annotations": captions}
        self.questions = {
            "questions": [
                {"question_id": 100, "image_id": 1, "question": "What is it?"},
                {
                    "question_id": 101,
                    "image_id": 2,
                    "question": "Is it a cat?",
                    "multiple_choices": ["yes", "no"],
                },
            ]
        }
        self.answers = {"annotations": [self.answer(100, 1, "cat"), self.answer(101, 2, "no")]}

    @staticmethod
    def answer(question: int, image: int, text: str) -> dict[str, Any]:
        given = [{"answer": text, "answer_id": 1, "answer_confidence": "yes"}]
        return {
            "question_id": question,
            "image_id": image,
            "question_type": "what is",
            "multiple_choice_answer": text,
            "answers": given,
        }

    def dataset(self, *formats: str, **change: Any) -> Dataset:
        known = {
            "coco_instances": AnnotationFile("coco_instances", "instances.json"),
            "coco_captions": AnnotationFile("coco_captions", "captions.json"),
            "vqa": AnnotationFile("vqa", "questions.json", "answers.json"),
        }
        files = tuple(known[f] for f in formats or known)
        return Dataset(**{"name": "pets", "split": "train", "images": "images", "files": files} | change)

    def write(self) -> None:
        for name in ("instances", "captions", "questions", "answers"):
            (self.root / f"{name}.json").write_text(json.dumps(getattr(self, name)), encoding="utf-8")

    def read(self, *formats: str, **change: Any) -> list[AnnotatedImage]:
        """Reads what is in memory now, and checks that every row is accounted for."""
        self.write()
        self.rejects.clear()
        self.tally = Tally()
        images = list(read(self.root, self.dataset(*formats, **change), self.rejects, "adapt", self.tally))
        assert self.tally.entered.total() == self.tally.kept.total() + len(self.rejects)
        assert all(r.stage == "adapt" and r.detail.strip() for r in self.rejects)
        return images

    def reasons(self) -> dict[str, str]:
        """Reason by key of every reject of the last read."""
        return {reject.key: reject.reason for reject in self.rejects}


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path)


@pytest.fixture
def another(tmp_path: Path) -> Callable[[str], Source]:
    return lambda name: Source(tmp_path / name)


@dataclass
class Corpus:
    """A data set in any format: write its files and images under `root`, then `read()` what they say."""

    root: Path
    rejects: list[Reject] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    def images(self, *names: str, size: tuple[int, int] = SIZE) -> None:
        for n, name in enumerate(names):
            path = self.root / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size, (n, 80, 160)).save(path, format="png")

    def write(self, name: str, content: Any) -> None:
        """Text as it is, anything else as JSON."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")

    def read(self, *files: AnnotationFile, **change: Any) -> list[Any]:
        """Images and dialogues. Checks that every row is accounted for, and that the count is the number of records."""
        self.rejects.clear()
        self.tally = Tally()
        given = {"name": "d", "split": "train", "images": "images", "licence": "CC BY 4.0", "files": files} | change
        found = list(read(self.root, Dataset(**given), self.rejects, "adapt", self.tally))
        assert self.tally.entered.total() == self.tally.kept.total() + len(self.rejects)
        assert all(r.stage == "adapt" and r.key.startswith("d/") and r.detail.strip() for r in self.rejects)
        images = [one for one in found if isinstance(one, AnnotatedImage)]
        records = {kind: sum(len(getattr(image, name)) for image in images) for kind, name in KINDS.items()}
        records |= {"image": len(images), "dialogue": len(found) - len(images)}
        assert {k: n for k, n in records.items() if n} == {k: n for k, n in self.tally.kept.items() if n}
        return found

    def reasons(self) -> dict[str, str]:
        """Reason by key of every reject of the last read, without the name of the data set."""
        assert len({reject.key for reject in self.rejects}) == len(self.rejects)
        return {reject.key.removeprefix("d/"): reject.reason for reject in self.rejects}


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(tmp_path)


@pytest.fixture
def gathered(corpus: Corpus, tmp_path: Path) -> Callable[..., list[Any]]:
    """Gathers files as a user's own data, again over what the first time left, and reads what was gathered."""

    def gather(*files: AnnotationFile, **change: Any) -> list[Any]:
        given = {"name": "d", "split": "train", "images": str(corpus.root), "licence": "CC BY 4.0"} | change
        absolute = tuple(replace(f, path=str(corpus.root / f.path)) for f in files)
        output = tmp_path / "gathered"
        manifest = collect((Dataset(**given, files=absolute),), (), output)
        before = tree_digest(output)
        for path in output.rglob("*"):
            if path.is_file() and path.stat().st_nlink == 1:  # written, not linked
                path.write_bytes(path.read_bytes()[:7])  # what a killed attempt may leave
        assert collect((Dataset(**given, files=absolute),), (), output) == manifest
        assert tree_digest(output) == before
        (placed,) = manifest.datasets
        inner = Corpus(output)
        found = inner.read(*placed.files, images=placed.images, **{k: v for k, v in change.items() if k != "images"})
        corpus.rejects, corpus.tally = inner.rejects, inner.tally
        return found

    return gather


@pytest.fixture
def png() -> Callable[[int], bytes]:
    """The bytes of a small picture; each number has a colour of its own."""

    def draw(n: int) -> bytes:
        held = io.BytesIO()
        Image.new("RGB", SIZE, (n, 20, 90)).save(held, format="png")
        return held.getvalue()

    return draw
