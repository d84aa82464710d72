"""Data sets without a defect, tiny and in the layout in which they are published, for tests to plant defects in."""

import json
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # of `plants`

from plants import png

from vistune.adapt import Params, run
from vistune.sources import AnnotationFile, Dataset, Manifest, write_manifest
from vistune.stages import Context
from vistune.store import read_rejects, read_samples

NAMES = ("dog", "cat", "kite", "car")


@dataclass
class Corpus:
    """A data set in memory: files by name, as JSON trees or as bytes, and what reads them."""

    files: dict[str, Any]
    read: tuple[AnnotationFile, ...]
    change: dict[str, Any] = field(default_factory=dict)  # of the data set

    def adapt(self, root: Path) -> tuple[dict[str, Any], list[Any], list[tuple[str, str]]]:
        """The counts, the samples, and key and reason of every reject. In = out + rejected."""
        (root / "images").mkdir(parents=True)
        for name, content in self.files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        dataset = Dataset("d", "train", "images", self.read, licence="CC BY 4.0")
        write_manifest(root, Manifest((replace(dataset, **self.change),)))
        output = root / "out"
        output.mkdir()
        context = Context(3, root / "home", root)
        counts = run(Params(languages={"en": 1.0, "zh": 1.0}), {"sources": root}, output, context)["counts"]
        samples, rejects = list(read_samples(output)), list(read_rejects(output))
        assert counts["in"] == counts["out"] + sum(counts["rejected"].values()) == len(samples) + len(rejects)
        assert all(reject.detail.strip() for reject in rejects)
        return counts, samples, sorted((reject.key.removeprefix("d/"), reject.reason) for reject in rejects)


def coco() -> Corpus:
    """Pictures 1 to 4 with boxes, captions and questions."""
    images = [{"id": n, "file_name": f"{n}.png", "width": 40, "height": 30, "license": 1} for n in range(1, 5)]
    boxes = [(1, 1), (1, 2), (2, 1), (3, 3), (4, 4), (4, 1)]
    rows = [
        {"id": key, "image_id": image, "category_id": kind, "bbox": [2 + 9 * (key % 3), 3, 8, 12], "iscrowd": 0}
        for key, (image, kind) in enumerate(boxes, start=1)
    ]
    asked = [{"question_id": n, "image_id": n, "question": "What is it?"} for n in range(1, 5)]
    answers = [
        {"question_id": n, "image_id": n, "multiple_choice_answer": "it", "answers": [{"answer": "it"}]}
        for n in range(1, 5)
    ]
    licences = [{"id": 1, "name": "CC BY 4.0"}]
    said = [{"id": n, "image_id": n, "caption": f"A picture, number {n}."} for n in range(1, 5)]
    kinds = [{"id": n, "name": name} for n, name in enumerate(NAMES, start=1)]
    return Corpus(
        {
            "boxes.json": {"images": images, "annotations": rows, "categories": kinds, "licenses": licences},
            "captions.json": {"images": images, "annotations": said, "licenses": licences},
            "questions.json": {"questions": asked},
            "answers.json": {"annotations": answers},
            **{f"images/{n}.png": png() for n in range(1, 5)},
        },
        (
            AnnotationFile("coco_instances", "boxes.json"),
            AnnotationFile("coco_captions", "captions.json"),
            AnnotationFile("vqa", "questions.json", "answers.json"),
        ),
    )


def lvis() -> Corpus:
    tree = coco().files["boxes.json"]
    for image in tree["images"]:
        image |= {"neg_category_ids": [3] if image["id"] < 3 else [], "not_exhaustive_category_ids": []}
        image["coco_url"] = f"http://images.cocodataset.org/val2017/{image.pop('file_name')}"
    for kind in tree["categories"]:
        kind |= {"synonyms": [kind["name"]]}
    pictures = {f"images/val2017/{n}.png": png() for n in range(1, 5)}
    return Corpus({"lvis.json": tree, **pictures}, (AnnotationFile("lvis", "lvis.json"),))


def refcoco() -> Corpus:
    found = coco()
    refs = [
        {"ref_id": n, "ann_id": n, "image_id": (1, 1, 2)[n - 1], "category_id": 1, "split": "train", "file_name": "x"}
        | {"sentences": [{"sent_id": n, "sent": f"the thing {n}", "raw": "x", "tokens": []}], "sent_ids": [n]}
        for n in (1, 2, 3)
    ]
    return Corpus(
        {**found.files, "refs.p": pickle.dumps(refs, 2)}, (found.read[0], AnnotationFile("refcoco", "refs.p"))
    )


BOXES = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
)


def open_images() -> Corpus:
    rows = ["a,xclick,/m/1,1,0.1,0.4,0.2,0.8,0,0,0,0,0", "b,xclick,/m/2,1,0.5,0.9,0.2,0.8,0,0,0,0,0"]
    labels = ["a,verification,/m/1,1", "a,verification,/m/2,0", "b,verification,/m/2,1"]
    files = {
        "boxes.csv": (BOXES + "\n".join(rows) + "\n").encode(),
        "labels.csv": ("ImageID,Source,LabelName,Confidence\n" + "\n".join(labels) + "\n").encode(),
        "classes.csv": b"/m/1,Dog\n/m/2,Cat\n",
        **{f"images/{n}.jpg": png() for n in "ab"},
    }
    kinds = (("open_images_boxes", "boxes.csv"), ("open_images_labels", "labels.csv"))
    return Corpus(files, tuple(AnnotationFile(kind, name, "classes.csv") for kind, name in kinds))


def llava() -> Corpus:
    talk = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A dog."}]
    rows = [{"id": n, "image": f"{n}.png", "conversations": [dict(turn) for turn in talk]} for n in range(1, 4)]
    pictures = {f"images/{n}.png": png() for n in range(1, 4)}
    return Corpus({"talk.json": rows, **pictures}, (AnnotationFile("llava", "talk.json"),))


def choices() -> Corpus:
    rows = [
        {"question_id": f"q{n}", "image_id": n, "question": "What?", "choices": ["a", "b", "c", "d"], "split": "train"}
        | {
            "correct_choice_idx": n,
            "direct_answers": ["a"] * 10,
            "rationales": ["so"],
            "difficult_direct_answer": False,
        }
        for n in range(1, 4)
    ]
    pictures = {f"images/{n:012d}.jpg": png() for n in range(1, 4)}
    return Corpus({"aokvqa.json": rows, **pictures}, (AnnotationFile("aokvqa", "aokvqa.json"),))


def chart() -> Corpus:
    files = {
        "train/train_human.json": [{"imgname": "1.png", "query": "Which?", "label": "a"}],
        "train/train_augmented.json": [{"imgname": "2.png", "query": "How many?", "label": "3"}],
        **{f"train/tables/{n}.csv": b"Year,Count\n2001,3\n2002,5\n2003,9\n" for n in (1, 2)},
        **{f"images/{n}.png": png() for n in (1, 2)},
    }
    return Corpus(files, (AnnotationFile("chartqa", "train"),))


def flickr() -> Corpus:
    text = "[/EN#1/people A man] sees [/EN#2/animals a dog] .\nTwo of them .\n"
    xml = "<annotation><size><width>40</width><height>30</height></size>{}</annotation>"
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    objects = "".join(f"<object><name>{n}</name>{box}</object>" for n in (1, 2))
    files = {
        "Sentences/1.txt": text.encode(),
        "Annotations/1.xml": xml.format(objects).encode(),
        "UNRELATED_CAPTIONS": b"# image caption\n",
        "images/1.jpg": png(),
    }
    return Corpus(files, (AnnotationFile("flickr30k", "."),))


CORPORA: dict[str, Callable[[], Corpus]] = {
    made.__name__: made for made in (coco, lvis, refcoco, open_images, llava, choices, chart, flickr)
}


@pytest.fixture(params=CORPORA)
def clean(request: pytest.FixtureRequest) -> Corpus:
    """Each of the data sets in turn."""
    return CORPORA[request.param]()


@pytest.fixture
def corpus() -> Callable[[str], Corpus]:
    """A data set by its name."""
    return lambda name: CORPORA[name]()
