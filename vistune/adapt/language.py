"""What a language needs besides its templates: forms of a noun, amounts, lists, spaces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from vistune.adapt import english

CHINESE_NUMBERS = ("零", "一", "两", "三", "四", "五", "六", "七", "八", "九", "十")


@dataclass(frozen=True)
class Language:
    code: str
    forms: Callable[[str], dict[str, str]]  # name -> the noun slots of a template
    amount: Callable[[str, int], str]  # name, count -> "three mice"
    number: Callable[[int], str]  # 3 -> "three"
    short: Callable[[str], bool]  # whether an answer is a word or short phrase
    comma: str
    conjunction: str
    space: str  # between the sentences of an instruction

    @property
    def noun_slots(self) -> tuple[str, ...]:
        return tuple(self.forms("x"))

    def enumerate(self, parts: Sequence[str]) -> str:
        """
        >>> ENGLISH.enumerate(["a dog", "two cats", "an owl"])
        'a dog, two cats and an owl'
        """
        if len(parts) < 2:
            return "".join(parts)
        return self.comma.join(parts[:-1]) + self.conjunction + parts[-1]


def chinese_number(count: int) -> str:
    return CHINESE_NUMBERS[count] if count < len(CHINESE_NUMBERS) else str(count)


ENGLISH = Language(
    code="en",
    forms=lru_cache(maxsize=100_000)(english.forms),
    amount=english.amount,
    number=english.number_word,
    short=lambda text: text.count(" ") < 3,
    comma=", ",
    conjunction=" and ",
    space=" ",
)
CHINESE = Language(
    code="zh",
    forms=lru_cache(maxsize=100_000)(lambda name: {"name": name}),
    amount=lambda name, count: f"{chinese_number(count)}个{name}",
    number=chinese_number,
    short=lambda text: len(text) <= 8,
    comma="、",
    conjunction="和",
    space="",
)

LANGUAGES = {language.code: language for language in (ENGLISH, CHINESE)}
