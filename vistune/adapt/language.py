"""What a language needs besides its templates: forms of a noun, amounts, lists, clauses, spaces."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from vistune import english
from vistune.adapt.geometry import Extreme
from vistune.adapt.words import CLAUSES, IN_CHINESE, MATERIALS_IN_CHINESE, NO_CLAUSE, STATES

CHINESE_NUMBERS = ("零", "一", "两", "三", "四", "五", "六", "七", "八", "九", "十")
CACHED = 100_000
RECENT = 256
"""Texts whose words are remembered: several tasks look at the captions of an image."""

NEGATED = {
    f"{verb}n{mark}t"
    for verb in ("is", "are", "was", "were", "do", "does", "did", "has", "have", "had", "ca", "wo", "would", "could")
    for mark in "'’"
}
"""Verbs with "not" in them: "isn't"."""

_ENGLISH_WORDS = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_ASCII_WORDS = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*")  # of text in lower case
_APART = "".join(c if c.isalnum() else " " for c in map(chr, range(128)))
"""ASCII with spaces between the words of a text that has no apostrophe and no hyphen."""
_CHINESE_WORDS = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+")


@dataclass(frozen=True)
class Clause:
    """What a relation says, as words: "the man is riding the horse", "What is the man riding?", "riding"."""

    statement: str  # without a capital or full stop
    question: str  # for its object
    predicate: str


@dataclass(frozen=True, eq=False)
class Language:
    code: str
    forms: Callable[[str], dict[str, str]]  # name -> the noun slots of a template
    refer: Callable[[str, str], dict[str, str]]  # name, text of its box or "" -> the reference slots of a template
    amount: Callable[[str, int], str]  # name, count -> "three mice"
    number: Callable[[int], str]  # 3 -> "three"
    short: Callable[[str], bool]  # whether an answer is a word or short phrase
    enumerate: Callable[[Sequence[str]], str]  # parts of a list -> "a dog, two cats and an owl"
    sentence: Callable[[str], str]  # with a capital and a full stop
    clause: Callable[[str, str, str, str], Clause | None]  # subject, reference to it, predicate, reference to object
    attribute: Callable[[str], str | None]  # an English attribute in this language
    material: Callable[[str], str | None]  # what is made of an English material is made of
    quotes: bool  # whether English words of annotations can be said as they stand
    extremes: Mapping[Extreme, str]
    box_of: str  # the box of {thing}
    words: re.Pattern[str]
    negations: frozenset[str]  # words that deny something
    measures: bool  # whether a number or "this" takes a measure word that depends on the thing
    marks: Mapping[bool, str]  # what options are marked with: letters (True) or numbers
    comma: str
    space: str  # between the sentences of an instruction

    def words_of(self, text: str) -> tuple[str, ...]:
        """The words of a text in lower case."""
        return _words_of(self, text)

    def slots(self, group: str) -> tuple[str, ...]:
        """The slots that a group of slots stands for; any other slot stands for itself. A template uses one of a
        group's slots but not only those that agree with it ("is")."""
        return {"noun": tuple(self.forms("x")), "reference": tuple(self.refer("x", ""))}.get(group, (group,))


@lru_cache(RECENT)
def _words_of(language: Language, text: str) -> tuple[str, ...]:
    text = text.lower()
    if language.words is not _ENGLISH_WORDS or not text.isascii():
        return tuple(language.words.findall(text))
    if "'" in text or "-" in text:
        return tuple(_ASCII_WORDS.findall(text))
    return tuple(text.translate(_APART).split())  # a quarter of the time


AGREEING = frozenset(("is", "Is"))
"""Slots that agree with a name instead of saying it."""


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


def english_reference(name: str, box: str) -> dict[str, str]:
    """
    >>> english_reference("owl", "[0, 0, 9, 9]")["Thing"], english_reference("jeans", "")["is"]
    ('The owl in the box [0, 0, 9, 9]', 'are')
    """
    thing = f"{name} in the box {box}" if box else name
    be = english.be(name)
    return {"thing": f"the {thing}", "Thing": f"The {thing}", "is": be, "Is": english.sentence(be)}


def english_clause(name: str, subject: str, predicate: str, other: str) -> Clause | None:
    """None for predicates that make no clause, and for verbs that would have to be inflected.

    >>> english_clause("man", "the man", "riding", "the horse")
    Clause(statement='the man is riding the horse', question='What is the man riding?', predicate='riding')
    >>> english_clause("jeans", "the jeans", "on", "the man").statement, english_clause("wing", "a", "of", "b")
    ('the jeans are on the man', None)
    >>> english_clause("man", "the man", "wears", "the hat").question
    'What does the man wear?'
    """
    first, _, rest = predicate.partition(" ")
    if not first or first in NO_CLAUSE:
        return None
    be = english.be(name)
    if first in STATES or first.endswith(("ing", "ed")):
        return Clause(f"{subject} {be} {predicate} {other}", f"What {be} {subject} {predicate}?", predicate)
    if first in ("has", "have"):
        have, do = ("has", "does") if be == "is" else ("have", "do")
        after = f" {rest}" if rest else ""
        return Clause(f"{subject} {have}{after} {other}", f"What {do} {subject} have{after}?", predicate)
    if be == "is" and first.endswith("s") and not first.endswith(("ss", "es", "is", "us")):
        bare = f"{first[:-1]} {rest}".strip()
        return Clause(f"{subject} {predicate} {other}", f"What does {subject} {bare}?", predicate)
    return None


def chinese_reference(name: str, box: str) -> dict[str, str]:
    """
    >>> chinese_reference("猫", "[0, 0, 9, 9]"), chinese_reference("猫", "")
    ({'thing': '方框[0, 0, 9, 9]里的猫'}, {'thing': '猫'})
    """
    return {"thing": f"方框{box}里的{name}" if box else name}


def chinese_clause(name: str, subject: str, predicate: str, other: str) -> Clause | None:
    """
    >>> chinese_clause("人", "人", "riding", "马")
    Clause(statement='人骑着马', question='人骑着什么？', predicate='人骑着马')
    """
    pattern = CLAUSES.get(predicate)
    if pattern is None:
        return None
    statement = pattern.format(a=subject, b=other)
    return Clause(statement, pattern.format(a=subject, b="什么") + "？", statement)


def chinese_number(count: int) -> str:
    return CHINESE_NUMBERS[count] if count < len(CHINESE_NUMBERS) else str(count)


def chinese_list(parts: Sequence[str]) -> str:
    """
    >>> chinese_list(["两个猫", "一个狗", "草"])
    '两个猫、一个狗和草'
    """
    return f"{'、'.join(parts[:-1])}和{parts[-1]}" if len(parts) > 1 else "".join(parts)


def english_sentence(text: str) -> str:
    """
    >>> english_sentence("two cats"), english_sentence("Who is it?")
    ('Two cats.', 'Who is it?')
    """
    return english.sentence(text if text.endswith((".", "!", "?", '."', ".”")) else f"{text.rstrip(' ,;:')}.")


def chinese_sentence(text: str) -> str:
    return text if text.endswith(("。", "！", "？", "。”")) else f"{text.rstrip(' ，；：.')}。"


ENGLISH = Language(
    code="en",
    forms=lru_cache(CACHED)(english_forms),
    refer=english_reference,
    amount=english.amount,
    number=english.number_word,
    short=lambda text: text.count(" ") < 3,
    enumerate=english.join,
    sentence=english_sentence,
    clause=english_clause,
    attribute=lambda word: word,
    material=lambda word: word,
    quotes=True,
    extremes={
        "left": "furthest to the left",
        "right": "furthest to the right",
        "top": "highest up",
        "bottom": "lowest down",
        "largest": "largest",
        "smallest": "smallest",
    },
    box_of="the box around {thing}",
    words=_ENGLISH_WORDS,
    negations=frozenset({"no", "not", "without", "nothing", "none", "never", "cannot"} | NEGATED),
    measures=False,
    marks={True: "letter", False: "number"},
    comma=", ",
    space=" ",
)
CHINESE = Language(
    code="zh",
    forms=lru_cache(CACHED)(lambda name: {"name": name}),
    refer=chinese_reference,
    amount=lambda name, count: f"{chinese_number(count)}个{name}",
    number=chinese_number,
    short=lambda text: len(text) <= 8,
    enumerate=chinese_list,
    sentence=chinese_sentence,
    clause=chinese_clause,
    attribute=IN_CHINESE.get,
    material=MATERIALS_IN_CHINESE.get,
    quotes=False,
    extremes={
        "left": "最靠左",
        "right": "最靠右",
        "top": "最靠上",
        "bottom": "最靠下",
        "largest": "最大",
        "smallest": "最小",
    },
    box_of="{thing}的外框",
    words=_CHINESE_WORDS,
    negations=frozenset("没不无未"),
    measures=True,
    marks={True: "字母", False: "数字"},
    comma="、",
    space="",
)

LANGUAGES = {language.code: language for language in (ENGLISH, CHINESE)}
