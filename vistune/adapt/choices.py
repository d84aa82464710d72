"""Multiple choice: options in a keyed order, lettered in one of several styles."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from vistune.adapt.draws import Draws
from vistune.records import record

LETTERED, NUMBERED = ("A.", "(A)", "A)", "A:"), ("1.", "(1)", "1)")
STYLES = LETTERED + NUMBERED
"""How options are lettered, shown on the first one."""

MOST = 10
"""Options of one question, so that a number is one digit."""


@record
class Choices:
    """Options as they are shown. Option n is the source's option `permutation[n]`."""

    options: tuple[str, ...]
    permutation: tuple[int, ...]
    style: str
    answer: int

    @property
    def slots(self) -> dict[str, str]:
        """The options, one a line, and the right one in every form that a response may take."""
        lines = [f"{mark(self.style, n)} {option}" for n, option in enumerate(self.options)]
        return {
            "options": "\n".join(lines),
            "letter": letter(self.style, self.answer),
            "option": self.options[self.answer],
            "marked": lines[self.answer],
        }

    @property
    def lettered(self) -> bool:
        return "A" in self.style


def shuffle(options: Sequence[str], answer: int, draws: Draws) -> Choices:
    """`options` in a random order and style; `answer` is the index of the right one before that. Options that are
    numbers are lettered and letters are numbered: "3" must not name one and be another."""
    permutation = tuple(draws.pick(range(len(options)), len(options)))
    styles: Sequence[str] = STYLES
    if any(map(str.isdigit, options)):
        styles = LETTERED
    elif 1 in map(len, options):
        styles = NUMBERED
    style = styles[draws.below(len(styles))]
    return Choices(tuple(options[n] for n in permutation), permutation, style, permutation.index(answer))


def letter(style: str, n: int) -> str:
    """
    >>> letter("(A)", 1), letter("1.", 1)
    ('B', '2')
    """
    return chr(ord("A") + n) if "A" in style else str(n + 1)


@cache
def mark(style: str, n: int) -> str:
    """
    >>> mark("(A)", 1), mark("1.", 1)
    ('(B)', '2.')
    """
    return style.replace("A", letter(style, n)).replace("1", letter(style, n))
