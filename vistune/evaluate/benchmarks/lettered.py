"""MMBench, SEED-Bench and MMMU: questions with choices."""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.evaluate.benchmarks.documents import Home, Item, chosen, row
from vistune.evaluate.tasks import Docs
from vistune.files import read_json
from vistune.sources.datafiles import rows
from vistune.sources.rows import Malformed, identifier, need, section

LETTERS = "ABCDEFGHI"
TURN = 1_000_000
"""MMBench numbers the rotations of a question: index, index + 1,000,000, ..."""

IMAGE_TYPES = range(1, 10)
"""SEED-Bench's question types about pictures; 10 to 12 are about videos."""

MOST_IMAGES = 7

LONGEST_FIELD = 1 << 28
"""Characters of a field of MMBench's table: a picture is one field."""


def mmbench(benchmark: str, path: str, circular: bool = True, **home: Any) -> dict[str, Docs]:
    """A TSV with index, question, hint, A to D, answer, category, image (base64, or the index of the row that holds
    it). Where the file has each question once, its rotations are made here."""
    at = Home(benchmark, **home)
    file = at.path(path)
    held: dict[str, str] = {}
    items: list[Item] = []
    found = list(_tsv(file))
    turned = any(int(index) >= TURN for index, _ in found)
    for number, (index, value) in enumerate(found):
        with row(file, number):
            picture = value.get("image", "")
            if picture.isdigit() and len(picture) < 12:
                if picture not in held:
                    raise Malformed(f"its picture is that of row {picture}, which does not come before it")
                place = held[picture]
            else:
                place = at.extract(file.name, picture)
            held[index] = place
            choices, gold = chosen([text for c in LETTERS if (text := value.get(c, ""))], need(value, "answer", str))
            turns = range(len(choices)) if circular and not turned else (0,)
            for turn in turns:
                rotation = turn if not turned else int(index) // TURN
                order = (*choices[-turn:], *choices[:-turn]) if turn else choices
                question = str(int(index) % TURN)
                items.append(
                    Item(
                        f"{question}#{rotation}",
                        (place,),
                        need(value, "question", str),
                        choices[gold],
                        need(value, "category", str, ""),
                        order,
                        (gold + turn) % len(choices),
                        {"group": question, "rotation": rotation, "context": need(value, "hint", str, "")},
                    )
                )
    return at.documents(items)


def _tsv(file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows by index."""
    limit = csv.field_size_limit(LONGEST_FIELD)  # which csv keeps for the whole process
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            for number, value in enumerate(csv.DictReader(lines, delimiter="\t")):
                with row(file, number):
                    index = value.get("index") or ""
                    if not index.isdigit():
                        raise Malformed(f"index is {index!r:.40}, expected a number")
                yield index, {key: text for key, text in value.items() if key and isinstance(text, str)}
    except (csv.Error, UnicodeDecodeError) as error:
        raise VistuneError(f"{file} is no table of tab-separated values ({error}). Take it as published.") from None
    finally:
        csv.field_size_limit(limit)


def seed(benchmark: str, path: str, images: str, **home: Any) -> dict[str, Docs]:
    """SEED-Bench.json: questions with choice_a to choice_d, answer, data_id and question_type_id; those about
    pictures."""
    at = Home(benchmark, **home)
    file = at.path(path)
    tree = read_json(file)
    kinds = {str(v): k for k, v in (tree.get("question_type") or {}).items()} if isinstance(tree, dict) else {}
    items = []
    for number, value in enumerate(section(tree, "questions", file)):
        with row(file, number):
            kind = need(value, "question_type_id", int)
            if kind not in IMAGE_TYPES:
                continue
            texts = [need(value, f"choice_{letter}", str) for letter in "abcd"]
            choices, gold = chosen(texts, need(value, "answer", str))
            place = f"{images}/{identifier(value, 'data_id')}"
            question = need(value, "question", str)
            task = kinds.get(str(kind), str(kind))
            items.append(Item(identifier(value, "question_id"), (place,), question, choices[gold], task, choices, gold))
    return at.documents(items)


def mmmu(benchmark: str, part: str = "validation", **home: Any) -> dict[str, Docs]:
    """MMMU's parquet files, `<Subject>/<part>-*.parquet`: id, question, options (a Python list as text), answer,
    question_type and image_1 to image_7. Pictures are shown in the order in which question and options name them."""
    at = Home(benchmark, **home)
    files = sorted(at.folder.glob(f"*/{part}-*.parquet"))
    if not files:
        raise VistuneError(f"MMMU: {at.folder} holds no <Subject>/{part}-*.parquet. Lay the published folders there.")
    items = []
    for file in files:
        subject = file.parent.name
        for number, value in enumerate(rows(file)):
            with row(file, number):
                items.append(_mmmu_item(at, file, subject, value))
    return at.documents(items)


def _mmmu_item(at: Home, file: Path, subject: str, value: Any) -> Item:
    question, options = need(value, "question", str), _listed(need(value, "options", str, "[]"))
    answer, id = need(value, "answer", str), identifier(value, "id")
    named = list(dict.fromkeys(re.findall(r"<image (\d)>", "\n".join([question, *options]))))
    places = []
    for number in named:
        picture = need(value, f"image_{number}", dict, None)
        if picture is None or not 1 <= int(number) <= MOST_IMAGES:
            raise Malformed(f"question {id} names <image {number}>, which it does not have")
        places.append(at.extract(file.name, need(picture, "bytes", bytes)))
    if need(value, "question_type", str) == "multiple-choice":
        choices, gold = chosen(options, answer)
        more = {"bracketed": "\n".join(f"({LETTERS[n]}) {text}" for n, text in enumerate(choices))}
        return Item(id, tuple(places), question, choices[gold], subject, choices, gold, {**more, "answers": []})
    answers = _listed(answer) if answer.startswith("[") else [answer]
    more_open = {"bracketed": "", "answers": answers}
    return Item(id, tuple(places), question, answers[0], subject, more=more_open)


def _listed(text: str) -> list[str]:
    """A list of texts that is written as Python writes it."""
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        found = None
    if not isinstance(found, list):
        raise Malformed(f"expected a list of texts, got {text!r:.80}")
    return [str(value) for value in found]
