"""Claims of a dialogue turn held against the annotations: named things, numbers, yes and no, places, the background.

Each check returns a sentence about what is wrong, or "" when nothing is. Only what the annotations settle is judged; a
claim they say nothing about passes. Heuristics on English, strict where strictness costs little: a true turn may be
dropped, and is then kept among the rejects with this sentence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from vistune.records import Annotation
from vistune.self_instruct import facts
from vistune.self_instruct.facts import Facts
from vistune.self_instruct.mentions import Mention, sentences, words

Named = list[tuple[str, list[Mention]]]

COLOURS = (
    "red", "green", "blue", "yellow", "orange", "purple", "violet", "pink", "brown", "white", "black", "gray", "beige",
    "turquoise", "teal", "cyan", "magenta", "gold", "silver", "lavender", "cream", "maroon", "navy",
)  # fmt: skip

_YES_NO = re.compile(r"^(yes|no)\b", re.IGNORECASE)
_DENIAL = re.compile(r"\b(no|not|never|none|nothing|nowhere|cannot|actually|mistaken)\b|n['’]t\b", re.IGNORECASE)
_HYPOTHETICAL = re.compile(r"\b(would|could|might|may|perhaps|if|suppose|imagine|were|likely|usually)\b", re.IGNORECASE)
_TELLS_ALL = re.compile(r"\b(there (is|are)|only|exactly|just|i (can )?(see|count)|shows?|contains?|has)\b", re.I)
_PART = re.compile(r"\bother\b|\banother\b|\bone of\b", re.IGNORECASE)  # "one cat ... and the other"
_HOW_MANY = re.compile(r"\bhow many\b|\bcount\b|\bnumber of\b", re.IGNORECASE)
_PRESENCE = re.compile(
    r"^(?:is|are) there\b|^(?:do|can|could) you (?:see|find|spot)\b"
    r"|^does (?:the|this) (?:picture|image|photo) (?:show|contain|have)\b",
    re.IGNORECASE,
)
_FRAME = r"(?:picture|image|photo|scene)"
_NOTHING_MORE = re.compile(rf"^\s*(?:here|anywhere|in (?:the|this) {_FRAME})?\s*\??$", re.IGNORECASE)
_SIDE = re.compile(
    r"\b(left|right|top|bottom|upper|lower)\b"
    rf"(?!\s+(?:of\s+the\s+(?!{_FRAME})|of\s+it|next|beside|behind|above|below|there|here|away|over|alone|than))",
    re.IGNORECASE,
)
_RELATIVE = re.compile(
    r"\b(?:furthest|farthest|nearest|closest|\w+most|than|seen from|compared|between)\b", re.IGNORECASE
)
_ORDER: dict[str, str] = {  # -> left, right, above, below
    "left of": "left",
    "right of": "right",
    "above": "above",
    "higher up than": "above",
    "higher than": "above",
    "below": "below",
    "beneath": "below",
    "under": "below",
    "underneath": "below",
    "further down than": "below",
    "lower than": "below",
}
_BETWEEN = re.compile(rf"\b(?:{'|'.join(_ORDER)})\b", re.IGNORECASE)
_BEFORE = re.compile(r"((?:\w+\s+){1,2})background\b", re.IGNORECASE)
_AFTER = re.compile(r"\bbackground\s+(?:is\s+|looks\s+)?((?:\w+\s*){1,2})", re.IGNORECASE)


@dataclass(frozen=True)
class Turn:
    """One question and answer of one kind about one image."""

    facts: Facts
    kind: str
    question: str
    answer: str

    @cached_property
    def asked(self) -> Named:
        """Each sentence of the question with the names in it."""
        return [(s, self.facts.names.find(s)) for s in sentences(self.question)]

    @cached_property
    def answered(self) -> Named:
        return [(s, self.facts.names.find(s)) for s in sentences(self.answer)]

    @cached_property
    def labels(self) -> frozenset[str]:
        """What the question names."""
        return frozenset(m.label for _, found in self.asked for m in found)

    @cached_property
    def denies(self) -> bool:
        """Whether the answer says no to the question, or to what the question takes for granted."""
        return any(_DENIAL.search(s) for s in sentences(self.answer)[:2])

    def hypothetical(self, sentence: str) -> bool:
        return self.kind == "reasoning" and bool(_HYPOTHETICAL.search(sentence))

    def single(self, label: str) -> Annotation | None:
        """The one object a label can only mean."""
        return next((o for o in self.facts.singles if o.category.label == label), None)


def ungrounded(turn: Turn) -> str:
    """A thing that is spoken of as present although nothing annotated can be called so."""
    for sentence, found in turn.answered:
        for mention in found:
            if not (mention.denied or turn.facts.supports(mention.label) or turn.hypothetical(sentence)):
                return f"{mention.label} is not annotated in the image"
    for label in sorted(turn.labels):
        if turn.facts.supports(label):
            continue
        if not turn.denies:
            return f"the question takes {label} for granted, which is not annotated in the image"
        if label not in turn.facts.absent:
            return f"the absence of {label} cannot be verified"
    return ""


def contradicted(turn: Turn) -> str:
    """A claim of the answer that the annotations disprove."""
    return _absence(turn) or _presence(turn) or disproved(turn, turn.answered)


def disproved(turn: Turn, said: Named) -> str:
    """A number, place, order or colour in `said` that the annotations disprove."""
    seen: set[str] = set()
    for sentence, found in said:
        if turn.hypothetical(sentence):
            continue
        if why := _numbers(turn, sentence, found, seen) or _background(turn, sentence):
            return why
        affirmed = not any(m.denied for m in found) and not _DENIAL.search(sentence)
        if affirmed and (why := _side(turn, sentence, found) or _order(turn, sentence, found)):
            return why
    return ""


def false_premise(turn: Turn) -> str:
    """For a negative: why its question is not provably mistaken, or its answer does not say so; "" when both hold."""
    if not turn.denies:
        return "the answer does not deny what the question takes for granted"
    if any(label in turn.facts.absent for label in turn.labels) or disproved(turn, turn.asked):
        return ""
    return "the annotations do not disprove what the question takes for granted"


def _absence(turn: Turn) -> str:
    for _, found in turn.answered:
        for mention in found:
            if mention.absent and turn.facts.supports(mention.label):
                return f"{mention.label} is said to be absent but is annotated"
            if mention.absent and mention.label not in turn.facts.absent:
                return f"the absence of {mention.label} cannot be verified"
    return ""


def _presence(turn: Turn) -> str:
    """Yes or no to a plain "is there a ...?"."""
    says = _YES_NO.match(turn.answer)
    found = [m for _, mentions in turn.asked for m in mentions]
    if not says or len(turn.asked) != 1 or len(found) != 1 or not _PRESENCE.match(turn.question):
        return ""
    sentence, mention = turn.asked[0][0], found[0]
    if mention.number or not _NOTHING_MORE.match(sentence[mention.end :]):
        return ""
    yes, there = says.group(1).lower() == "yes", turn.facts.supports(mention.label)
    if yes != there:
        return f"the answer is {'yes' if yes else 'no'}, but {mention.label} is {'' if there else 'not '}annotated"
    return ""


def _numbers(turn: Turn, sentence: str, found: list[Mention], seen: set[str]) -> str:
    for mention in found:
        first = mention.label not in seen
        seen.add(mention.label)
        known = turn.facts.number(mention.label)
        if mention.number is None or mention.denied or known is None:
            continue
        low, high = known
        whole = first and (_TELLS_ALL.search(sentence[: mention.start]) or _HOW_MANY.search(turn.question))
        if mention.number > high or (whole and mention.number < low and not _PART.search(sentence)):
            return f"{mention.number} of {mention.label} claimed, {high} annotated"
    return ""


def _side(turn: Turn, sentence: str, found: list[Mention]) -> str:
    if len(found) != 1 or _RELATIVE.search(sentence):
        return ""
    thing = turn.single(found[0].label)
    if thing is None:
        return ""
    x, y = facts.centre(thing.box)
    across, down = x / turn.facts.image.image.width, y / turn.facts.image.image.height
    wrong = {
        "left": across > 0.6,
        "right": across < 0.4,
        "top": down > 0.6,
        "upper": down > 0.6,
        "bottom": down < 0.4,
        "lower": down < 0.4,
    }
    said = sentence[: found[0].start] + "_" + sentence[found[0].end :]  # a "top hat" is not at the top
    for match in _SIDE.finditer(said):
        if wrong[match.group(1).lower()]:
            return f"{found[0].label} is placed {match.group(1).lower()}, but its centre is at {across:.2f}, {down:.2f}"
    return ""


def _order(turn: Turn, sentence: str, found: list[Mention]) -> str:
    if len(found) != 2:
        return ""
    a, b = turn.single(found[0].label), turn.single(found[1].label)
    between = _BETWEEN.findall(sentence[found[0].end : found[1].start])
    if a is None or b is None or len(between) != 1:
        return ""
    (ax, ay), (bx, by) = facts.centre(a.box), facts.centre(b.box)
    order = _ORDER[between[0].lower()]
    true = {"left": ax < bx, "right": ax > bx, "above": ay < by, "below": ay > by}[order]
    return "" if true else f"{a.category.label} is said to be {between[0]} {b.category.label}, which it is not"


def _background(turn: Turn, sentence: str) -> str:
    known = _colours(turn.facts.background)
    if not known or _DENIAL.search(sentence):
        return ""
    for pattern in (_BEFORE, _AFTER):
        for match in pattern.finditer(sentence):
            colours = _colours(match.group(1))
            if colours and not colours & known:
                return f"the background is called {', '.join(sorted(colours))}, but is {turn.facts.background}"
            if colours:
                return ""
    return ""


def _colours(text: str) -> set[str]:
    return set(words(text.replace("grey", "gray"))) & set(COLOURS)
