"""Alpaca rows (https://github.com/tatsu-lab/stanford_alpaca#data-release) as LLaMA-Factory extends them: `instruction`,
`input`, `output`, `system`, `history` [[question, answer], ...] and `images`.

Instruction and input stay apart in the dialogue; the question is both, on lines of their own. Images without any
`<image>` marker are shown before the first question.
"""

from __future__ import annotations

from pathlib import Path

from vistune.sources.rows import Listing, Malformed, Refused, Row
from vistune.sources.spec import AnnotationFile
from vistune.sources.turns import Turn, arrange, dialogues, keep, listed, question, refuse_other_media


def read_alpaca(root: Path, file: AnnotationFile, listing: Listing) -> None:
    for row in dialogues(root, file, listing):
        with row:
            asked, instruction, input = question(row.need("instruction", str), row.need("input", str, ""))
            output, system = row.need("output", str), row.need("system", str, "")
            if row.need("tools", (str, list), ""):
                raise Refused("tools_unsupported", "the row describes tools to call.")
            refuse_other_media(row)
            turns: list[Turn] = [("system", system)] if system.strip() else []
            turns += [*_history(row), ("user", asked), ("assistant", output)]
            images = listed(row.value.get("images"))
            messages = arrange(turns, len(images), unmarked_first=True)
            keep(row, messages, images, instruction=instruction, input=input)


def _history(row: Row) -> list[Turn]:
    turns: list[Turn] = []
    for n, pair in enumerate(row.need("history", list, [])):
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise Malformed(f"history {n} is {pair!r:.80}, expected a question and its answer")
        turns += [("user", pair[0]), ("assistant", pair[1])]
    return turns
