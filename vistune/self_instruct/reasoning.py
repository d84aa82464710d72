"""The grammar's questions that take a step beyond looking: what things share, which one does not belong, what they are
for, where one meets them, in what order they stand, and what a change would do."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from vistune import english
from vistune.self_instruct import facts
from vistune.self_instruct.speech import Family, Pair, Speaker, family, neutral, phrases, plain_group

MAX_ITEMS = 3


def reasoning(s: Speaker) -> list[Pair]:
    found = [pair for name in s.order(REASONING, "order") if (pair := REASONING[name](s))]
    return found[:MAX_ITEMS]


def members(s: Speaker) -> dict[str, Family | None]:
    """The family of each plain label, largest object first."""
    groups = {o.category.label: o.category.group for o in s.facts.things}
    return {label: family(label, groups[label]) for label in s.facts.tally}


def _common(s: Speaker) -> Pair | None:
    kinds = members(s)
    shared = set(kinds.values())
    if len(kinds) < 2 or len(shared) != 1 or None in shared or s.facts.crowds:
        return None
    (kind,) = shared
    return s.turn("common", many=kind.many, **s.inventory())  # type: ignore[union-attr]


def _odd(s: Speaker) -> Pair | None:
    """All but one object are of one family, and that one is plainly of another."""
    kinds = members(s)
    if s.facts.crowds or not 3 <= len(kinds) <= 6 or None in kinds.values():
        return None
    for label, kind in kinds.items():
        rest = [other for other in kinds if other != label]
        others = {kinds[other] for other in rest}
        if s.facts.counts.get(label) == 1 and len(others) == 1 and kind not in others:
            (common,) = others
            thing = next(o for o in s.facts.singles if o.category.label == label)
            assert kind is not None and common is not None
            slots = {**s.thing(thing), **s.inventory(rest), "one": kind.one, "many": common.many}
            return s.turn("odd", rest=english.sentence(s.definite(rest)), **slots)
    return None


def _meet(s: Speaker) -> Pair | None:
    table = phrases()["habitats"]
    fit = []
    for o in s.facts.singles:
        group = plain_group(o.category.group)
        kind = family(o.category.label, o.category.group)
        outside = kind is None and any(group in row["groups"] for row in phrases()["families"].values())
        if group in table and not outside and english.is_counted(o.category.label):
            fit += [(o, place) for place in table[group] if neutral(s.facts.names, place)]
    if not fit:
        return None
    thing, place = s.one(fit, "meet")
    return s.turn("meet", habitat=place, **s.thing(thing))


def _take_or_add(s: Speaker) -> Pair | None:
    fit = [k for k, n in s.facts.counts.items() if 2 <= n <= 10 and english.is_counted(k)]
    if not fit:
        return None
    label = s.one(fit, "take or add")
    n = s.facts.counts[label]
    fewer, more = (f"{english.number_word(m)} {label if m == 1 else english.plural(label)}" for m in (n - 1, n + 1))
    return s.turn(s.one(("take_away", "add"), "form"), rest_n=fewer, more_n=more, **s.number(label, n))


def _more(s: Speaker) -> Pair | None:
    counted = {k: n for k, n in s.facts.counts.items() if english.is_counted(k) and n <= 12}
    pairs = [(a, b) for a in counted for b in counted if counted[a] > counted[b]]
    if not pairs:
        return None
    a, b = s.one(pairs, "more")
    yes = s.chance("more") < 0.5
    x, y = (a, b) if yes else (b, a)
    slots = {**s.number(x, counted[x]), **s.number(y, counted[y], "y", "m")}
    return s.turn("more_yes" if yes else "more_no", **slots)


def _order(s: Speaker) -> Pair | None:
    """The objects from left to right, when their order is plain."""
    along = sorted(s.facts.singles, key=lambda o: facts.centre(o.box))
    if len(along) != len(s.facts.things) or not 3 <= len(along) <= 5 or s.facts.crowds:
        return None
    apart = facts.MARGIN * s.facts.image.image.width
    if any(facts.centre(b.box)[0] - facts.centre(a.box)[0] < apart for a, b in pairwise(along)):
        return None
    first, *then, last = (o.category.label for o in along)
    return s.turn("order", first=first, then=", then ".join(f"the {label}" for label in then), last=last)


def _mirror(s: Speaker) -> Pair | None:
    """Where something on one side would be in a mirror."""
    fit = [o for o in s.facts.singles if {"left", "right"} & set(s.cell(o).split())]
    if not fit:
        return None
    thing = s.one(fit, "mirror")
    swapped = {"left": "right", "right": "left"}
    cell = " ".join(swapped.get(word, word) for word in s.cell(thing).split())
    return s.turn("mirror", mirrored=s.one(phrases()["places"][cell], "mirrored"), **s.thing(thing))


def _remove(s: Speaker) -> Pair | None:
    """What is left when one object goes."""
    if s.facts.crowds or not s.facts.singles or not 2 <= len(s.facts.tally) <= 6:
        return None
    thing = s.one(s.facts.singles, "remove")
    rest = [label for label in s.facts.tally if label != thing.category.label]
    return s.turn("remove", **s.thing(thing), **s.inventory(rest))


def _need(s: Speaker) -> Pair | None:
    kinds = members(s)
    needs = [(kind, *need) for kind in dict.fromkeys(kinds.values()) if kind for need in kind.needs]
    fit = [(kind, question, use) for kind, question, use in needs if neutral(s.facts.names, question)]
    if not fit:
        return None
    kind, question, use = s.one(fit, "need")
    labels = [label for label, own in kinds.items() if own == kind]
    first = labels[0]
    alone = len(labels) == 1 and english.be(first, s.facts.tally[first]) == "is"
    named = s.definite(labels)
    slots = {"the_list": named, "the_list_upper": english.sentence(named), "it": "it" if alone else "them"}
    return s.turn("need", need=question, use=s.fill(use, slots))


REASONING: dict[str, Callable[[Speaker], Pair | None]] = {
    "common": _common,
    "odd": _odd,
    "meet": _meet,
    "take_or_add": _take_or_add,
    "more": _more,
    "order": _order,
    "mirror": _mirror,
    "remove": _remove,
    "need": _need,
}
