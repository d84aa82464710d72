"""What a language needs besides its templates: forms of a noun, amounts, lists, spaces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from vistune import english

CHINESE_NUMBERS = ("零", "一", "两", "三", "四", "五", "六", "七", "八", "九", "十")


@dataclass(frozen=True)
class Language:
    code: str
    forms: Callable[[str], dict[str, str]]  # name -> the noun slots of a template
    amount: Callable[[str, int], str]  # name, count -> "three mice"
    number: Callable[[int], str]  # 3 -> "three"
    short: Callable[[str], bool]  # whether an answer is a word or short phrase
    enumerate: Callable[[Sequence[str]], str]  # parts of a list -> "a dog, two cats and an owl"
    comma: str
    space: str  # between the sentences of an instruction

    @property
    def noun_slots(self) -> tuple[str, ...]:
        return tuple(self.forms("x"))


def english_forms(name: str) -> dict[str, str]:
    """
    >>> english_forms("owl")
    {'name': 'owl', 'a_name': 'an owl', 'plural': 'owls', 'is': 'is', 'Is': 'Is'}
    """
    be = english.be(name)
    return {
        "name": name,
        "a_name": english.with_article(name),
        "plural": english.plural(name),
        "is": be,
        "Is": english.sentence(be),
    }


def chinese_number(count: int) -> str:
    return CHINESE_NUMBERS[count] if count < len(CHINESE_NUMBERS) else str(count)


def chinese_list(parts: Sequence[str]) -> str:
    """
    >>> chinese_list(["两个猫", "一个狗", "草"])
    '两个猫、一个狗和草'
    """
    return f"{'、'.join(parts[:-1])}和{parts[-1]}" if len(parts) > 1 else "".join(parts)


ENGLISH = Language(
    code="en",
    forms=lru_cache(maxsize=100_000)(english_forms),
    amount=english.amount,
    number=english.number_word,
    short=lambda text: text.count(" ") < 3,
    enumerate=english.join,
    comma=", ",
    space=" ",
)
CHINESE = Language(
    code="zh",
    forms=lru_cache(maxsize=100_000)(lambda name: {"name": name}),
    amount=lambda name, count: f"{chinese_number(count)}个{name}",
    number=chinese_number,
    short=lambda text: len(text) <= 8,
    enumerate=chinese_list,
    comma="、",
    space="",
)

LANGUAGES = {language.code: language for language in (ENGLISH, CHINESE)}
