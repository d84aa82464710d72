"""What a text is written in, and what an answer affirms."""

from __future__ import annotations

import re

from vistune.text import CJK

_CJK = re.compile(f"[{CJK}]")

_YES = re.compile(r"(yes|yeah|yep|correct|true)\b|是|有|对|能|可以", re.IGNORECASE)
_NO = re.compile(r"(no|nope|not|none|neither|incorrect|false)\b|没|不|否|无", re.IGNORECASE)
_DENIAL = re.compile(r"\b(no|not|none|neither|nothing|cannot)\b|n['’]t\b|没有|不是|看不到", re.IGNORECASE)


def cjk_share(text: str) -> float | None:
    """Share of the letters that are CJK characters; None for a text without letters.

    >>> cjk_share("有 cat"), cjk_share("[1, 2]")
    (0.25, None)
    """
    letters = sum(c.isalpha() for c in text)
    return len(_CJK.findall(text)) / letters if letters else None


def affirms(text: str) -> str:
    """Whether an answer says "yes" or "no", or "" when it does not say.

    >>> affirms("Yes, there is."), affirms("没有。"), affirms("There is no cat."), affirms("A cat.")
    ('yes', 'no', 'no', '')
    """
    start = text.strip()
    if _NO.match(start):
        return "no"
    if _YES.match(start):
        return "yes"
    return "no" if _DENIAL.search(start) else ""
