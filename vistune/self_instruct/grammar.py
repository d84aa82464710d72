"""The grammar: dialogues composed from annotations by rules. It is no language model and knows nothing of its own; it
says what `facts` proves in the phrases of `grammar.yaml`, so every sentence is true as far as the annotations are.

This file holds the kinds conversation and detail; reasoning and negative have their own.
"""

from __future__ import annotations

from collections.abc import Callable

from vistune import english
from vistune.records import Annotation
from vistune.self_instruct import facts
from vistune.self_instruct.facts import SIDES, Facts
from vistune.self_instruct.falsehoods import negative
from vistune.self_instruct.prompts import absentees
from vistune.self_instruct.reasoning import reasoning
from vistune.self_instruct.speech import MAX_LISTED, Pair, Speaker, families, family, phrases, plain_group

MAX_COUNT = 12
MIN_DESCRIPTION = 8
"""Words; what is shorter describes nothing in detail."""

MAX_DESCRIBED = 6
"""Objects a description places one by one."""


def compose(kind: str, about: Facts, seed: int) -> list[Pair]:
    """The question and answer pairs of one dialogue; none when the annotations give nothing to say."""
    return COMPOSERS[kind](Speaker(about, seed, kind))


def conversation(s: Speaker) -> list[Pair]:
    """An opening and two to four more exchanges, each of another sort."""
    opening = s.order(("listing", "summary", "total"), "opening")
    rest = s.order([name for name in CONVERSATION if name not in opening], "rest")
    length = s.one((3, 4, 5), "length")
    said: list[list[Pair]] = []
    for name in (*opening, *rest):
        if name in opening and said:
            continue
        if pairs := CONVERSATION[name](s):
            said.append(pairs)
        if len(said) == length:
            break
    return [pair for pairs in said for pair in pairs]


def _listing(s: Speaker) -> list[Pair]:
    if not s.facts.tally:
        return []
    if s.facts.background and s.chance("listing") < 0.4:
        return [s.turn("listing_background", **s.inventory(), **s.background())]
    return [s.turn("listing", **s.inventory())]


def _summary(s: Speaker) -> list[Pair]:
    texts = sorted(c.text.strip() for c in s.facts.image.captions if c.language == "en")
    fit = [t for t in texts if 3 <= len(t.split()) <= 40]
    if not fit:
        return []
    text = s.one(fit, "caption")
    return [s.turn("summary", caption=text if text[-1] in ".!?" else f"{text}.")]


def _background(s: Speaker) -> list[Pair]:
    return [s.turn("background", **s.background())] if s.facts.background else []


def _count(s: Speaker) -> list[Pair]:
    counted = {k: n for k, n in s.facts.counts.items() if english.is_counted(k) and n <= MAX_COUNT}
    if not counted:
        return []
    several = [k for k, n in counted.items() if n > 1]
    label = s.one(several if several and s.chance("several") < 0.8 else list(counted), "count")
    slots = s.number(label, counted[label])
    if counted[label] == 2 and s.chance("places") < 0.5:
        one, two = _instances(s, label)
        if s.cell(one) != s.cell(two):
            return [s.turn("count_places", **slots, place=s.place(one), place2=s.place(two))]
    return [s.turn("count", **slots)]


def _total(s: Speaker) -> list[Pair]:
    total = len(s.facts.things)
    if not _countable(s) or not 2 <= total <= MAX_COUNT or len(s.facts.tally) > MAX_LISTED:
        return []
    return [s.turn("total", n=english.number_word(total), **s.inventory())]


def _countable(s: Speaker) -> bool:
    """Whether the list of all things says as many as there are."""
    return not s.facts.crowds and all(n == 1 or english.is_counted(k) for k, n in s.facts.tally.items())


def _superlative(s: Speaker) -> list[Pair]:
    """The leftmost, lowest, largest ... object, and at times where it is."""
    if s.facts.crowds:
        return []
    boxes, size = [o.box for o in s.facts.things], s.facts.image.image
    found = {side: facts.extreme(boxes, side, size.width, size.height) for side in SIDES}
    found |= {"largest": facts.largest(boxes), "smallest": facts.largest(boxes, smallest=True)}
    things = {what: s.facts.things[i] for what, i in found.items() if i is not None}
    fit = [what for what, thing in things.items() if thing in s.facts.singles]
    if not fit:
        return []
    what = s.one(fit, "superlative")
    slots = s.thing(things[what])
    asked = s.turn("extreme", **phrases()["sides"][what], **slots) if what in SIDES else s.turn(what, **slots)
    if english.number(slots["x"]) == "plural" or s.chance("follow up") < 0.5:
        return [asked]
    return [asked, s.turn("follow_up", **slots)]


def _where(s: Speaker) -> list[Pair]:
    return [s.turn("where", **s.thing(s.one(s.facts.singles, "where")))] if s.facts.singles else []


def _relation(s: Speaker) -> list[Pair]:
    # Negatives take the other order of each pair, so that the two never ask the same.
    found = [(a, b, rel) for a, b, rel in s.related() if a.category.label < b.category.label]
    if not found:
        return []
    a, b, rel = s.one(found, "relation")
    name = s.one(("relation", "relation", "relation_yes", "relation_no"), "relation", "form")
    return [s.turn(name, **s.relation(a, b, rel))]


def _presence(s: Speaker) -> list[Pair]:
    gone = absentees(s.facts, s.seed)
    if gone and (s.chance("presence") < 0.5 or not s.facts.singles):
        return [s.turn("absent", **s.absent(s.one(gone, "absent")), **s.inventory())]
    return [s.turn("present", **s.thing(s.one(s.facts.singles, "present")))] if s.facts.singles else []


def _kinds(s: Speaker) -> list[Pair]:
    """Whether there are any animals, vehicles ..."""
    image = s.facts.image
    groups = {plain_group(o.category.group) for o in image.objects}
    present: dict[str, list[str]] = {}
    for o in s.facts.things:
        kind = family(o.category.label, o.category.group)
        if kind and o.category.label in s.facts.tally and o.category.label not in present.get(kind.many, []):
            present.setdefault(kind.many, []).append(o.category.label)
    known = {plain_group(c.group) for c in image.vocabulary}
    closed = {kind.many: kind for group, (kind, _) in families().items() if kind.closed and group in known}
    gone = []
    for many, kind in closed.items():
        members = [c.label for c in image.vocabulary if family(c.label, c.group) == kind]
        own = {group for group, (k, _) in families().items() if k == kind}
        if not (groups & own or any(s.facts.supports(label) for label in members)):
            gone.append(many)
    if present and (s.chance("kinds") < 0.5 or not gone):
        many = s.one(sorted(present), "kind present")
        return [s.turn("kind_present", many=many, **s.inventory(present[many]))]
    return [s.turn("kind_absent", many=s.one(sorted(gone), "kind absent"))] if gone else []


def _missing(s: Speaker) -> list[Pair]:
    gone = absentees(s.facts, s.seed)
    return [s.turn("missing", **s.absent(s.one(gone, "missing")))] if gone else []


def _instances(s: Speaker, label: str) -> list[Annotation]:
    """From left to right."""
    return sorted((o for o in s.facts.things if o.category.label == label), key=lambda o: (facts.centre(o.box), o.id))


CONVERSATION: dict[str, Callable[[Speaker], list[Pair]]] = {
    "listing": _listing,
    "summary": _summary,
    "total": _total,
    "background": _background,
    "count": _count,
    "superlative": _superlative,
    "where": _where,
    "relation": _relation,
    "presence": _presence,
    "kinds": _kinds,
    "missing": _missing,
}


def detail(s: Speaker) -> list[Pair]:
    """One paragraph: the whole, then object by object from left to right, then how two of them lie, then sizes."""
    if not s.facts.tally:
        return []
    inventory = s.inventory()
    total = len(s.facts.things)
    if s.facts.background:
        forms = phrases()["detail"]["overview" if _countable(s) and 1 < total <= MAX_COUNT else "overview_few"]
        slots = {**inventory, **s.background(), "n": english.number_word(total)}
        said = [s.fill(s.one(s.usable(forms), "overview"), slots)]
    else:
        said = [s.say("overview_plain", **inventory)]
    said += _places(s)
    if pairs := s.related():
        a, b, rel = s.one(pairs, "relation")
        said.append(s.say("relation", **s.relation(a, b, rel)))
    boxes = [o.box for o in s.facts.things]
    for name, index in (("largest", facts.largest(boxes)), ("smallest", facts.largest(boxes, smallest=True))):
        if index is not None and not s.facts.crowds and s.facts.things[index] in s.facts.singles:
            said.append(s.say(name, **s.thing(s.facts.things[index])))
    text = " ".join(said)
    if len(text.split()) < MIN_DESCRIPTION:
        return []
    return [(s.one(s.usable(phrases()["detail"]["questions"]), "question"), text)]


def _places(s: Speaker) -> list[str]:
    """A sentence for each object, and one for each few of a kind, that can be placed."""
    forms = s.order(s.usable(phrases()["detail"]["things"]), "things")
    groups = s.order(s.usable(phrases()["detail"]["groups"]), "groups")
    said: list[str] = []
    for thing in sorted(s.facts.things, key=lambda o: (facts.centre(o.box), o.id)):
        label, n = thing.category.label, s.facts.counts.get(thing.category.label, 0)
        if n == 1:
            said.append(s.fill(forms[len(said) % len(forms)], s.thing(thing)))
        elif 2 <= n <= 4 and english.is_counted(label):
            own = _instances(s, label)
            if thing is own[0] and len({s.cell(o) for o in own}) == n:
                places = [f"one {'is ' if o is thing else ''}{s.place(o)}" for o in own]
                slots = {**s.number(label, n), "places": english.join(places)}
                said.append(s.fill(groups[len(said) % len(groups)], slots))
    return said[:MAX_DESCRIBED]


COMPOSERS: dict[str, Callable[[Speaker], list[Pair]]] = {
    "conversation": conversation,
    "detail": detail,
    "reasoning": reasoning,
    "negative": negative,
}
