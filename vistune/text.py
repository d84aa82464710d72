"""Text as questions are compared: without case, width of letters, or punctuation."""

from __future__ import annotations

import re
import unicodedata

CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"[{CJK}]|[^\W_{CJK}]+")


def tokens(text: str) -> list[str]:
    """Words and single CJK characters, without case, accents of width, or punctuation.

    >>> tokens("A ＲＥＤ apple, 2 pears!"), tokens("图中有苹果。")
    (['a', 'red', 'apple', '2', 'pears'], ['图', '中', '有', '苹', '果'])
    """
    return _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())


def normalise(text: str) -> str:
    """The tokens of a text, joined by one space.

    >>> normalise("  Is there a Cat? ")
    'is there a cat'
    """
    return " ".join(tokens(text))
