"""VizWiz, InfographicVQA and OCRBench: questions with short answers, in files of their own."""

from __future__ import annotations

from typing import Any

from vistune.evaluate.benchmarks.documents import Home, Item, row
from vistune.evaluate.tasks import Docs
from vistune.files import read_json
from vistune.sources.datafiles import rows
from vistune.sources.questions import majority
from vistune.sources.rows import Malformed, identifier, need, section


def vizwiz(benchmark: str, path: str, images: str, **home: Any) -> dict[str, Docs]:
    """val.json: image, question, answers[answer] of ten people, answer_type. "unanswerable" is an answer like any
    other."""
    at = Home(benchmark, **home)
    file = at.path(path)
    items = []
    for number, value in enumerate(rows(file)):
        with row(file, number):
            given = [need(answer, "answer", str) for answer in need(value, "answers", list)]
            image = need(value, "image", str)
            kind = need(value, "answer_type", str, "")
            question = " ".join(need(value, "question", str).split())
            items.append(
                Item(str(number), (f"{images}/{image}",), question, majority(given), kind, more={"answers": given})
            )
    return at.documents(items)


def infographics(benchmark: str, path: str, images: str, **home: Any) -> dict[str, Docs]:
    """infographicsVQA_<split>_v1.0_withQT.json: data[questionId, question, image_local_name, answers]."""
    at = Home(benchmark, **home)
    file = at.path(path)
    items = []
    for number, value in enumerate(section(read_json(file), "data", file)):
        with row(file, number):
            given = [str(answer) for answer in need(value, "answers", list)]
            kinds = ", ".join(map(str, need(value, "answer_type", list, [])))
            place = f"{images}/{need(value, 'image_local_name', str)}"
            key, question = identifier(value, "questionId"), need(value, "question", str)
            items.append(Item(key, (place,), question, majority(given), kinds, more={"answers": given}))
    return at.documents(items)


def ocrbench(benchmark: str, path: str, images: str, **home: Any) -> dict[str, Docs]:
    """OCRBench.json: dataset_name, type, question, image_path and answers, a text or a list of texts."""
    at = Home(benchmark, **home)
    file = at.path(path)
    items = []
    for number, value in enumerate(rows(file)):
        with row(file, number):
            given = need(value, "answers", (str, list))
            answers = [given] if isinstance(given, str) else [str(answer) for answer in given]
            if not answers:
                raise Malformed("answers is empty")
            place = f"{images}/{need(value, 'image_path', str)}"
            more = {"answers": answers, "dataset": need(value, "dataset_name", str)}
            items.append(
                Item(
                    str(number), (place,), need(value, "question", str), answers[0], need(value, "type", str), more=more
                )
            )
    return at.documents(items)
