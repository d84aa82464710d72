"""Benchmarks whose files have a format that `vistune.sources` reads: VQA v2, OK-VQA, GQA, TextVQA, A-OKVQA, DocVQA,
ScienceQA, ChartQA, and COCO for CHAIR. The task file names format, files and split as `params.yaml` does for training
data; texts come on one line each. Reference captions (COCO, NoCaps) are read as they stand.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from vistune.errors import VistuneError
from vistune.evaluate.benchmarks.documents import Home, Item, row
from vistune.evaluate.scorers import chair
from vistune.evaluate.tasks import Docs
from vistune.files import read_json
from vistune.records import Question, Reject
from vistune.sources.join import list_rows
from vistune.sources.rows import Entry, Malformed, Tally, identifier, need, section
from vistune.sources.spec import AnnotationFile, Dataset

PEOPLE = 10
"""VQA v2, OK-VQA, TextVQA and A-OKVQA asked ten people; a blank answer is one of them, which the readers leave out."""


def questions(
    benchmark: str,
    files: Sequence[dict[str, str]],
    images: str,
    split: str,
    image_pattern: str = "",
    people: bool = False,
    **home: Any,
) -> dict[str, Docs]:
    """Questions of annotation files. `people`: blank answers are put back, up to ten."""
    at = Home(benchmark, **home)
    items = []
    for entry in _entries(at, files, images, split, image_pattern):
        words = ", ".join(pending.record.text for pending in entry.rows["line"])
        for pending in entry.rows["question"]:
            items.append(_item(pending.record, f"{images}/{entry.file}", words, people))
    return at.documents(items)


def _item(asked: Question, image: str, words: str, people: bool) -> Item:
    answers = [*asked.answers, *[""] * (PEOPLE - len(asked.answers) if people else 0)]
    more = {"answers": answers, "context": asked.context, "ocr": words}
    gold = asked.choices.index(asked.answer) if asked.choices else -1
    return Item(asked.id, (image,), asked.text, asked.answer, asked.kind, asked.choices, gold, more)


def captions(
    benchmark: str, path: str, images: str, karpathy: str = "", image_pattern: str = "", **home: Any
) -> dict[str, Docs]:
    """Pictures with reference captions: a COCO captions file (NoCaps: the task of an item is its domain), or with
    `karpathy` the items of that split of Karpathy's dataset_coco.json."""
    at = Home(benchmark, **home)
    items = _karpathy(at, path, images, karpathy) if karpathy else _coco_captions(at, path, images)
    return at.documents(items)


def _karpathy(at: Home, path: str, images: str, split: str) -> list[Item]:
    file = at.path(path)
    items = []
    for number, value in enumerate(section(read_json(file), "images", file)):
        with row(file, number):
            if need(value, "split", str) != split:
                continue
            texts = [need(sentence, "raw", str) for sentence in need(value, "sentences", list)]
            place = "/".join([images, need(value, "filepath", str, "."), need(value, "filename", str)])
            items.append(_captioned(identifier(value, "imgid"), place, texts))
    return items


def _coco_captions(at: Home, path: str, images: str) -> list[Item]:
    file = at.path(path)
    tree = read_json(file)
    references: dict[str, list[str]] = defaultdict(list)
    for number, value in enumerate(section(tree, "annotations", file)):
        with row(file, number):
            references[identifier(value, "image_id")].append(need(value, "caption", str))
    items = []
    for number, value in enumerate(section(tree, "images", file)):
        with row(file, number):
            key, place = identifier(value, "id"), f"{images}/{need(value, 'file_name', str)}"
            if not references[key]:
                raise Malformed(f"picture {key} has no caption")
            items.append(_captioned(key, place, references[key], need(value, "domain", str, "")))
    return items


def _captioned(id: str, image: str, references: Sequence[str], task: str = "") -> Item:
    return Item(id, (image,), "", references[0], task, more={"references": list(references)})


def objects(benchmark: str, instances: str, captions: str, images: str, **home: Any) -> dict[str, Docs]:
    """Pictures with the objects that CHAIR takes to be in them: COCO's categories, and what the captions name."""
    at = Home(benchmark, **home)
    files = [{"format": "coco_instances", "path": instances}, {"format": "coco_captions", "path": captions}]
    known = chair.lexicon().category
    items = []
    for entry in _entries(at, files, images, "validation"):
        if not entry.rows["caption"]:  # the instances file lists pictures that nobody has described
            continue
        labels = {p.record.category.label for p in entry.rows["object"]}
        strange = sorted(label for label in labels if label not in known)
        if strange:
            raise VistuneError(f"CHAIR knows the 80 categories of COCO; {at.path(instances)} has {strange[0]!r}.")
        there = {known[label] for label in labels}
        for pending in entry.rows["caption"]:
            there |= set(chair.named(pending.record.text).categories)
        named = ", ".join(sorted(there))
        items.append(Item(entry.id, (f"{images}/{entry.file}",), "", named, more={"objects": sorted(there)}))
    return at.documents(items)


def _entries(
    at: Home, files: Sequence[dict[str, str]], images: str, split: str, image_pattern: str = ""
) -> list[Entry]:
    """The pictures that the files list, with their rows, in the order of the files."""
    for file in files:
        for name in ("path", "annotations"):
            if file.get(name):
                at.path(file[name])
    listed = tuple(AnnotationFile(**file) for file in files)
    dataset: Any = Dataset(at.benchmark, split, images, listed, image_pattern)  # type: ignore[arg-type]
    rejects: list[Reject] = []
    listing = list_rows(at.folder, dataset, rejects, "evaluate", Tally())
    asked = [reject for reject in rejects if reject.reason != "line_empty"]  # a blank OCR word is part of no score
    if asked:
        reasons: dict[str, int] = defaultdict(int)
        for reject in asked:
            reasons[reject.reason] += 1
        raise VistuneError(
            f"benchmark {at.benchmark} has {len(asked)} bad rows ({', '.join(sorted(reasons))}); the first is "
            f"{asked[0].key}: {asked[0].detail} A benchmark is read whole or not at all; take the files as published."
        )
    return list(listing.images.values())
