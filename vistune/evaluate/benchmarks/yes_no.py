"""POPE, MME and HallusionBench: questions answered with yes or no."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.evaluate.benchmarks.documents import Home, Item, row
from vistune.evaluate.scorers.mme import COGNITION, PERCEPTION
from vistune.evaluate.tasks import Docs
from vistune.sources.datafiles import rows
from vistune.sources.rows import Malformed, identifier, need

ANSWERS = ("yes", "no")
ASKED = " Please answer yes or no."
"""How every question of MME ends; the prompts of LLaVA and lmms-eval put their own ending in its place."""

PICTURES = (".jpg", ".png", ".jpeg")


def pope(benchmark: str, path: str, images: str, **home: Any) -> dict[str, Docs]:
    """coco_pope_<setting>.json: one object a line with question_id, image, text and label."""
    at = Home(benchmark, **home)
    file = at.path(path)
    items = []
    for number, value in enumerate(rows(file)):
        with row(file, number):
            label = need(value, "label", str)
            if label not in ANSWERS:
                raise Malformed(f"label is {label!r}, expected yes or no")
            place = f"{images}/{need(value, 'image', str)}"
            items.append(Item(identifier(value, "question_id"), (place,), need(value, "text", str), label))
    return at.documents(items)


def mme(benchmark: str, **home: Any) -> dict[str, Docs]:
    """MME_Benchmark: a folder for each subtask, with pictures and `<picture>.txt` of two lines `question<TAB>answer`;
    in some subtasks they lie in images/ and questions_answers_YN/."""
    at = Home(benchmark, **home)
    items = []
    for subtask in (*PERCEPTION, *COGNITION):
        texts = sorted(at.folder.glob(f"{subtask}/*.txt")) + sorted(
            at.folder.glob(f"{subtask}/questions_answers_YN/*.txt")
        )
        if not texts:
            raise VistuneError(
                f"MME: {at.folder / subtask} holds no questions (*.txt). Lay the published folder there."
            )
        for text in texts:
            place = at.folder / subtask
            folders = [place, place / "images"]
            found = [
                f / f"{text.stem}{end}" for f in folders for end in PICTURES if (f / f"{text.stem}{end}").is_file()
            ]
            with row(text, 0):
                lines = _lines(text)
                if not found:
                    raise Malformed(f"there is no picture {text.stem} beside it")
                if len(lines) != 2 or any(len(line) != 2 for line in lines):
                    raise Malformed("expected two lines `question<TAB>answer`")
            image = found[0].relative_to(at.folder).as_posix()
            for number, (question, answer) in enumerate(lines):
                asked = question.removesuffix(ASKED).strip()
                items.append(Item(f"{subtask}/{text.stem}#{number}", (image,), asked, answer.strip(), subtask))
    return at.documents(items)


def _lines(text: Path) -> list[list[str]]:
    try:
        return [line.split("\t") for line in text.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise Malformed("it is no UTF-8 text") from None


def hallusion(benchmark: str, path: str, images: str, **home: Any) -> dict[str, Docs]:
    """HallusionBench.json: category, subcategory, set_id, figure_id, question_id, visual_input, question, gt_answer and
    gt_answer_details. Questions with visual_input 0 show no figure."""
    at = Home(benchmark, **home)
    file = at.path(path)
    items = []
    for number, value in enumerate(rows(file)):
        with row(file, number):
            parts = [need(value, key, str) for key in ("category", "subcategory")]
            parts += [identifier(value, key) for key in ("set_id", "figure_id", "question_id")]
            shown = identifier(value, "visual_input") != "0"
            place = f"{images}/{parts[0]}/{parts[1]}/{parts[2]}_{parts[3]}.png"
            answer = identifier(value, "gt_answer")
            if answer not in ("0", "1"):
                raise Malformed(f"gt_answer is {answer!r}, expected 0 or 1")
            more = dict(zip(("category", "subcategory", "set", "figure", "question_id"), parts, strict=True))
            details = need(value, "gt_answer_details", str, "")
            more |= {"group": "/".join(parts[:3]), "details": details}
            gold = int(answer)
            items.append(
                Item(
                    "/".join(parts),
                    (place,) if shown else (),
                    need(value, "question", str),
                    ANSWERS[1 - gold],
                    "/".join(parts[:2]),
                    gold=gold,
                    more=more,
                )
            )
    return at.documents(items)
