"""Questions answered with the letter of a choice, where the answer must be that letter (SEED-Bench and A-OKVQA as
LLaVA asks them).

LLaVA's convert_seed_for_submission.py compares the whole text with the letter. lmms-eval takes the first character in
either case ("Because" would be B). SEED-Bench's own script asks for no letter: it ranks the texts of the choices by the
model's mean loss, which the task `seed_image_ranked` does; the token that ends the turn is part of the mean here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def right(text: str, gold: int) -> bool:
    """Whether the text is exactly the letter of choice number `gold`.

    >>> right("B", 1), right("B.", 1), right("b", 1)
    (True, False, False)
    """
    return text == chr(ord("A") + gold)


def results(doc: Mapping[str, Any], answers: Sequence[str]) -> dict[str, Any]:
    """accuracy, and whether the answer was no letter at all."""
    said = answers[0]
    known = len(said) == 1 and 0 <= ord(said) - ord("A") < len(doc["choices"])
    return {"accuracy": float(right(said, doc["gold"])), "unparsed": float(not known)}
