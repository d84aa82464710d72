"""The annotation formats that are read, as a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vistune.sources import coco, vqa
from vistune.sources.rows import Listing
from vistune.sources.spec import AnnotationFile


@dataclass(frozen=True)
class Format:
    """How annotation files of one format are read, and what `vistune sources --formats` says about it."""

    read: Callable[[Path, AnnotationFile, Listing], None]
    what: str
    fields: str
    annotations: str = ""  # what the second file (`annotations=`) is, for formats that come in two
    needs: bool = False  # ... and whether it must be given
    lists_images: bool = True  # False: it speaks about images that another file lists, so it is read after that


FORMATS: dict[str, Format] = {
    "coco_instances": Format(coco.read_instances, "COCO objects", "images, annotations[bbox], categories, licenses"),
    "coco_captions": Format(coco.read_captions, "COCO captions", "images, annotations[caption]"),
    "vqa": Format(
        vqa.read_questions,
        "VQA v2, OK-VQA",
        "questions[question, image_id, question_id]",
        annotations="annotations[answers, multiple_choice_answer]",
        needs=True,
        lists_images=False,
    ),
}
