"""Scenes as the files a user would bring: COCO instances and captions, VQA questions and answers, PNG images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.files import write_text
from vistune.hashing import canonical
from vistune.sources.demo.backgrounds import COLOURS
from vistune.sources.demo.drawings import ATTRIBUTION, LICENCE, LICENCE_URL, Concept
from vistune.sources.demo.questions import Asked
from vistune.sources.demo.scenes import Scene

if TYPE_CHECKING:
    import numpy as np

# An image's annotations, captions and questions are numbered from these places on within its hundred ids, so that
# every id in the corpus is unique and none depends on how many scenes there are.
ANNOTATIONS, CAPTIONS, QUESTIONS = 0, 40, 60

INFO = {"description": "vistune demo corpus: OpenMoji drawings composed into scenes", "contributor": "vistune"}


def write_png(path: Path, picture: np.ndarray) -> None:
    """Fast and lossless; `path` is inside a folder that is renamed when complete."""
    from PIL import Image

    Image.fromarray(picture).save(path, format="PNG", compress_level=1)


def image_name(scene: int) -> str:
    return f"{scene:08d}.png"


def write_coco(
    folder: Path, scenes: Sequence[Scene], concepts: Sequence[Concept], size: int, texts: dict[int, list[str]]
) -> None:
    """`instances.json` and `captions.json`. The categories are `concepts` and the background colours, no others."""
    ids = {concept.name: n for n, concept in enumerate(concepts, start=1)}
    colours = {colour.name: n for n, colour in enumerate(COLOURS, start=10_001)}
    categories: list[dict[str, Any]] = [
        {"id": ids[c.name], "name": c.name, "supercategory": c.group, "isthing": 1, "names": {"zh": c.zh}}
        for c in concepts
    ]
    categories += [
        {"id": colours[c.name], "name": c.name, "supercategory": "background", "isthing": 0, "names": {"zh": c.zh}}
        for c in COLOURS
    ]
    annotations = []
    for scene in scenes:
        boxes = [(colours[scene.background.colour.name], (0, 0, size, size))]
        boxes += [(ids[placed.concept.name], placed.box) for placed in scene.objects]
        for n, (category, (x1, y1, x2, y2)) in enumerate(boxes):
            annotations.append(
                {
                    "id": scene.id * 100 + ANNOTATIONS + n,
                    "image_id": scene.id,
                    "category_id": category,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    common = {
        "info": INFO,
        "licenses": [{"id": 1, "name": LICENCE, "url": LICENCE_URL}],
        "images": _images(scenes, size),
    }
    _write(folder / "instances.json", {**common, "annotations": annotations, "categories": categories})
    sentences = [
        {"id": scene.id * 100 + CAPTIONS + n, "image_id": scene.id, "caption": text}
        for scene in scenes
        for n, text in enumerate(texts[scene.id])
    ]
    _write(folder / "captions.json", {**common, "annotations": sentences})


def write_vqa(folder: Path, asked: Iterable[tuple[int, Asked]], licence: str) -> None:
    """`questions.json` and `annotations.json` of (image id, question) pairs."""
    questions, answers = [], []
    numbers: dict[int, int] = {}
    for image, one in asked:
        numbers[image] = numbers.get(image, -1) + 1
        number = image * 100 + QUESTIONS + numbers[image]
        question: dict[str, Any] = {"question_id": number, "image_id": image, "question": one.text}
        if one.choices:
            question["multiple_choices"] = list(one.choices)
        questions.append(question)
        answers.append(
            {
                "question_id": number,
                "image_id": image,
                "question_type": one.kind,
                "answer_type": one.answer_type,
                "multiple_choice_answer": one.answer,
                "answers": [{"answer_id": 1, "answer": one.answer, "answer_confidence": "yes"}],
            }
        )
    common = {"info": INFO, "license": {"name": licence}}
    task = "Multiple-Choice" if any("multiple_choices" in q for q in questions) else "Open-Ended"
    _write(folder / "questions.json", {**common, "task_type": task, "questions": questions})
    _write(folder / "annotations.json", {**common, "annotations": answers})


def _images(scenes: Sequence[Scene], size: int) -> list[dict[str, Any]]:
    return [
        {
            "id": scene.id,
            "file_name": image_name(scene.id),
            "width": size,
            "height": size,
            "license": 1,
            "attribution": ATTRIBUTION,
        }
        for scene in scenes
    ]


def _write(path: Path, value: Any) -> None:
    write_text(path, canonical(value).decode() + "\n")
