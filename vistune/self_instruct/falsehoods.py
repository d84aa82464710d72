"""The grammar's negatives: questions that rest on a mistake, with answers that put it right (the nonexistent-object and
wrong-attribute kinds of LRV-Instruction, arXiv 2306.14565). A mistake is always one that the annotations disprove."""

from __future__ import annotations

from collections.abc import Callable

from vistune import english
from vistune.self_instruct.prompts import absentees
from vistune.self_instruct.speech import Pair, Speaker, phrases

MIRROR = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}

MAX_ABOUT_PRESENT = 2


def negative(s: Speaker) -> list[Pair]:
    """Up to two questions about things that are not there, and two that are wrong about what is."""
    gone = absentees(s.facts, s.seed)
    found = []
    for form, label in zip(s.order((_nonexistent, _beside), "forms"), gone, strict=False):
        if s.facts.tally:
            found.append(form(s, label))
    about = [pair for name in s.order(FALSEHOODS, "about") if (pair := FALSEHOODS[name](s))]
    return s.order(found + about[:MAX_ABOUT_PRESENT], "order")


def _nonexistent(s: Speaker, label: str) -> Pair:
    form = "nonexistent_count" if english.is_counted(label) and s.chance("count") < 0.4 else "nonexistent"
    return s.turn(form, **s.absent(label), **s.inventory())


def _beside(s: Speaker, label: str) -> Pair:
    if not s.facts.singles:
        return _nonexistent(s, label)
    return s.turn("nonexistent_beside", **s.absent(label), **s.thing(s.one(s.facts.singles, "beside")))


def _wrong_count(s: Speaker) -> Pair | None:
    counted = [k for k, n in s.facts.counts.items() if n <= 8 and english.is_counted(k)]
    if not counted:
        return None
    label = s.one(counted, "wrong count")
    n = s.facts.counts[label]
    single = next((o for o in s.facts.singles if o.category.label == label), None)
    where = f", {s.place(single, 'wrong count')}" if single else ""
    wrong = english.number_word(n + s.one((1, 2), "wrong by"))
    return s.turn("wrong_count", wrong=wrong, place_n=where, **s.number(label, n))


def _wrong_place(s: Speaker) -> Pair | None:
    fit = [o for o in s.facts.singles if s.cell(o) != "centre"]
    if not fit:
        return None
    thing = s.one(fit, "wrong place")
    mirrored = " ".join(MIRROR[word] for word in s.cell(thing).split())
    wrong = s.one(phrases()["places"][mirrored], "wrong place", "words")
    return s.turn(s.one(("wrong_place", "wrong_place_why"), "place form"), wrong_place=wrong, **s.thing(thing))


def _wrong_relation(s: Speaker) -> Pair | None:
    found = [(a, b, rel) for a, b, rel in s.related() if a.category.label > b.category.label]
    if not found:
        return None
    return s.turn("wrong_relation", **s.relation(*s.one(found, "wrong relation")))


def _wrong_background(s: Speaker) -> Pair | None:
    far = phrases()["far_colours"].get(s.facts.background.split(" ")[-1])
    if not far:
        return None
    form = s.one(("wrong_background", "wrong_background_why"), "background form")
    return s.turn(form, wrong=s.one(far, "wrong background"), **s.background())


FALSEHOODS: dict[str, Callable[[Speaker], Pair | None]] = {
    "count": _wrong_count,
    "place": _wrong_place,
    "relation": _wrong_relation,
    "background": _wrong_background,
}
