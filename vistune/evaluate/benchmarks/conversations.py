"""MM-Vet, LLaVA-Bench (in the wild) and GAVIE: open questions whose answers a judge reads."""

from __future__ import annotations

from typing import Any

from vistune.errors import VistuneError
from vistune.evaluate.benchmarks.documents import Home, Item, row
from vistune.evaluate.tasks import Docs
from vistune.files import read_json
from vistune.sources.datafiles import rows
from vistune.sources.questions import members
from vistune.sources.rows import Malformed, identifier, need


def mm_vet(benchmark: str, path: str, images: str, **home: Any) -> dict[str, Docs]:
    """mm-vet.json: id -> imagename, question, answer (with <AND> and <OR>), capability."""
    at = Home(benchmark, **home)
    file = at.path(path)
    items = []
    for number, (key, value) in enumerate(members(file)):
        with row(file, number):
            able = [str(name) for name in need(value, "capability", list)]
            place = f"{images}/{need(value, 'imagename', str)}"
            items.append(
                Item(
                    key,
                    (place,),
                    need(value, "question", str),
                    need(value, "answer", str),
                    "_".join(sorted(able)),
                    more={"capabilities": able},
                )
            )
    return at.documents(items)


def llava_bench(benchmark: str, path: str, context: str, reference: str, images: str, **home: Any) -> dict[str, Docs]:
    """questions.jsonl (question_id, image, text, category), context.jsonl (image, caption) and answers_gpt4.jsonl
    (question_id, text): GPT-4's answers, which saw the captions only."""
    at = Home(benchmark, **home)
    file = at.path(path)
    captions = {str(v.get("image")): v.get("caption") for v in rows(at.path(context)) if isinstance(v, dict)}
    answers = {str(v.get("question_id")): v.get("text") for v in rows(at.path(reference)) if isinstance(v, dict)}
    items = []
    for number, value in enumerate(rows(file)):
        with row(file, number):
            key, image = identifier(value, "question_id"), need(value, "image", str)
            told, known = captions.get(image), answers.get(key)
            if told is None or not isinstance(known, str):
                raise Malformed(f"question {key} has no caption in {context}, or no answer in {reference}")
            text = "\n".join(told) if isinstance(told, list) else str(told)
            more = {"captions": text}
            kind = need(value, "category", str)
            items.append(Item(key, (f"{images}/{image}",), need(value, "text", str), known, kind, more=more))
    return at.documents(items)


def gavie(benchmark: str, path: str, boxes: str, images: str, original: bool = False, **home: Any) -> dict[str, Docs]:
    """evaluation_set.json (image_id, question) and vg_annotation.json (image id -> [caption, bbox]). The judge sees the
    picture as these boxes. `original`: as the authors' script writes them, with the width in the place of the
    height."""
    at = Home(benchmark, **home)
    file, drawn = at.path(path), at.path(boxes)
    known = read_json(drawn)
    if not isinstance(known, dict):
        raise VistuneError(f"{drawn}: expected an object of boxes by image id, got a {type(known).__name__}.")
    items = []
    for number, value in enumerate(rows(file)):
        with row(file, number):
            key = identifier(value, "image_id").removesuffix(".jpg")
            asked = need(value, "instruction", str, "") or need(value, "question", str)
            if key not in known:
                raise Malformed(f"picture {key} has no boxes in {boxes}")
            seen = "\n".join(_described(box, original) for box in known[key])
            answer, kind = need(value, "answer", str, ""), need(value, "task", str, "")
            items.append(Item(str(number), (f"{images}/{key}.jpg",), asked, answer, kind, more={"seen": seen}))
    return at.documents(items)


def _described(box: Any, original: bool) -> str:
    numbers = need(box, "bbox", list)
    if len(numbers) != 4:
        raise Malformed(f"bbox is {numbers!r:.80}, expected x, y, width and height")
    x, y, width, height = numbers
    return f"{need(box, 'caption', str)} X:{x} Y:{y} Width:{width} Height:{width if original else height}"
