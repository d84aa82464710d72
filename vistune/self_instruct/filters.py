"""The rules a dialogue turn must pass. Each is a function of the turn that returns why the turn is refused, or "".

The first rule that speaks gives the reason; the turn goes to the rejects under the rule's name and the rest of its
dialogue stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from vistune.self_instruct.facts import Facts
from vistune.self_instruct.grounding import Turn, contradicted, false_premise, ungrounded
from vistune.self_instruct.mentions import words

NEAR_DUPLICATE = 0.7
"""ROUGE-L F from which two questions about one image that name the same things are the same question."""

ANSWER_WORDS = {"conversation": (1, 80), "detail": (8, 300), "reasoning": (4, 150), "negative": (3, 80)}
QUESTION_WORDS = (2, 60)

_NOTES = r"(?:information|descriptions?|text|data|context|details|notes|list)"
_DETERMINE = r"(?:determine|tell|say|know|ascertain|judge)"


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_SPECIAL = _any(
    r"<\|[^|>]*\|>", r"</?(?:image|img|video|audio|pad|unk|bos|eos|s)>", r"\[/?INST\]", r"<</?SYS>>", r"\[IMG\]"
)
_META = _any(
    r"\bcaptions?\b",
    r"\bbounding[ -]?box(?:es)?\b",
    r"\bco-?ordinates?\b",
    r"\bannotat(?:ed|ions?)\b",
    r"\bmetadata\b|\bjson\b",
    rf"\b(?:provided|given|supplied) {_NOTES}\b",
    rf"\b{_NOTES} (?:provided|given|supplied)\b",
    rf"\bbased on the (?:given|provided|{_NOTES})\b",
    rf"\baccording to the {_NOTES}\b",
    rf"\bthe {_NOTES} (?:says?|states?)\b",
    r"\bmention(?:s|ed)?\b",
    r"\bverified absent\b",
    r"\bas an? (?:ai|artificial intelligence)\b",
    r"\blanguage model\b",
)
_REFUSAL = _any(
    r"\bi(?:['’]m| am) (?:very |so |really )?(?:sorry|unable|not able)\b",
    r"\bi apologi[sz]e\b",
    r"\bi (?:cannot|can['’]t|can not|won['’]t) (?:assist|help|answer|provide|view|look|fulfil|comply|discuss)\b",
    rf"\bi (?:cannot|can['’]t|can not) (?:{_DETERMINE}|see (?:the |this |any )?(?:image|picture|photo))\b",
)
_HEDGE = _any(
    rf"\b(?:not possible|impossible|difficult|hard) to {_DETERMINE}\b",
    r"\b(?:cannot|can['’]t|can not|could not|couldn['’]t) be (?:determined|known|ascertained)\b",
    r"\b(?:is|are|it['’]s) (?:unclear|unknown|uncertain|not clear|not known|not certain)\b",
    r"\bwithout (?:more|further) (?:context|information)\b",
    r"\bnot (?:specified|stated|provided|given|described|indicated)\b",
    r"\b(?:no|not enough) information\b",
)
_COORDINATES = _any(
    r"[\[(]\s*-?\d*\.?\d+\s*,\s*-?\d*\.?\d+\s*(?:,[^\])]*)?[\])]",  # [12, 40, ...] or (3, 4)
    r"(?<![\d.])0?\.\d{2,}\b",  # 0.312
    r"\b[xy][12]?\s*[=:]\s*\d",
)
_TWO_OFFERED = _any(r"^\W*or\s+(?:(?:a|an|the|some)\s+)?(?:\w+\s+)?$")
_OF_TWO = _any(r"\bwhich (?:one )?of (?:the|these|those) (?:two|following)\b")
_YES_NO = _any(r"^(?:yes|no)\b")
_POINTS_BACK = _any(r"\b(?:it|its|they|them|their|these|those|that one|this one|he|she|him|her)\b")
_ARTICLES = {"a", "an", "the", "some"}


def special_token(t: Turn) -> str:
    return _shows(_SPECIAL, t.question, t.answer)


def meta_leak(t: Turn) -> str:
    """The turn speaks of the teacher's notes, which the reader of the picture never sees."""
    return _shows(_META, t.question, t.answer)


def refusal(t: Turn) -> str:
    return _shows(_REFUSAL, t.answer)


def hedge(t: Turn) -> str:
    return _shows(_HEDGE, t.answer)


def coordinates(t: Turn) -> str:
    return _shows(_COORDINATES, t.question, t.answer)


def language(t: Turn) -> str:
    """More than a tenth of the letters are not Latin: prompts ask for English."""
    letters = [c for c in t.question + t.answer if c.isalpha()]
    foreign = sum(ord(c) > 0x24F for c in letters)
    return f"{foreign} of {len(letters)} letters are not Latin" if foreign * 10 > len(letters) or not letters else ""


def length(t: Turn) -> str:
    for side, text, (low, high) in (
        ("question", t.question, QUESTION_WORDS),
        ("answer", t.answer, ANSWER_WORDS[t.kind]),
    ):
        count = len(text.split())
        if not low <= count <= high:
            return f"the {side} has {count} words, allowed are {low} to {high}"
    return ""


def truncated(t: Turn) -> str:
    text = t.answer.rstrip()
    if len(text.split()) > 8 and (text[-1] not in ".!?\"')]”’" or text.endswith("...")):
        return f"the answer ends in {text[-12:]!r}"
    for left, right in (("(", ")"), ("“", "”"), ("[", "]")):
        if text.count(left) != text.count(right):
            return f"unbalanced {left}{right}"
    return 'unbalanced "' if text.count('"') % 2 else ""


def repetition(t: Turn) -> str:
    """A share of four-word sequences that occur again, or a sentence said twice."""
    plain = [w for w in words(t.answer) if w[0].isalnum()]
    grams = [tuple(plain[i : i + 4]) for i in range(len(plain) - 3)]
    if len(grams) >= 12 and 1 - len(set(grams)) / len(grams) > 0.3:
        return f"{1 - len(set(grams)) / len(grams):.0%} of four-word sequences repeat"
    said = [words(s) for s in re.split(r"[.!?]+\s+", t.answer.lower().rstrip(".!? ")) if len(s.split()) > 3]
    return "a sentence is said twice" if len(set(said)) < len(said) else ""


def echo(t: Turn) -> str:
    """The question repeated as its answer."""
    q, a = _plain(t.question), _plain(t.answer)
    if _YES_NO.match(t.answer) or len(a) < 4:
        return ""
    return "the answer repeats the question" if rouge_l(q, a) > 0.9 else ""


def leaked(t: Turn) -> str:
    """The answer stands in the question."""
    q = [w for w in _plain(t.question) if w not in _ARTICLES]
    a = [w for w in _plain(t.answer) if w not in _ARTICLES]
    if _YES_NO.match(t.answer) or not a:
        return ""
    there = any(q[i : i + len(a)] == a for i in range(len(q) - len(a) + 1))
    return "the answer stands in the question" if there else ""


def held_out_task(t: Turn) -> str:
    """A choice between two things: the kind of question that evaluation keeps from training."""
    for sentence, found in t.asked:
        for a, b in pairwise(found):
            if _TWO_OFFERED.match(sentence[a.end : b.start] + " "):
                return f"a choice between {a.label} and {b.label}"
    return _shows(_OF_TWO, t.question)


def unproven_negative(t: Turn) -> str:
    return false_premise(t) if t.kind == "negative" else ""


RULES: dict[str, Callable[[Turn], str]] = {
    "special_token": special_token,
    "meta_leak": meta_leak,
    "refusal": refusal,
    "hedge": hedge,
    "coordinates": coordinates,
    "language": language,
    "length": length,
    "truncated": truncated,
    "repetition": repetition,
    "echo": echo,
    "leaked_answer": leaked,
    "held_out_task": held_out_task,
    "ungrounded": ungrounded,
    "contradicted": contradicted,
    "unproven_negative": unproven_negative,
}

SEQUENCE_RULES = ("near_duplicate", "dangling")
"""Rules that look at the turns before: a question asked already about the image; a question that points back ("And
where is it?") to a turn that was refused."""


@dataclass
class Pool:
    """The questions kept so far for one image, over all kinds of dialogue."""

    facts: Facts
    asked: list[tuple[list[str], frozenset[str]]] = field(default_factory=list)

    def filter(self, kind: str, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """For each pair (rule, why), rule "" where the pair is kept. Kept questions join the pool."""
        verdicts: list[tuple[str, str]] = []
        for question, answer in pairs:
            turn = Turn(self.facts, kind, question, answer)
            before_refused = kind == "conversation" and bool(verdicts) and bool(verdicts[-1][0])
            verdict = self._judge(turn, before_refused)
            verdicts.append(verdict)
            if not verdict[0]:
                self.asked.append((_skeleton(turn), turn.labels))
        return verdicts

    def _judge(self, turn: Turn, before_refused: bool) -> tuple[str, str]:
        for name, rule in RULES.items():
            if why := rule(turn):
                return name, why
        skeleton = _skeleton(turn)
        for earlier, labels in self.asked:
            # "How many cats?" and "how many dogs?" are alike word for word and still two questions.
            if labels == turn.labels and rouge_l(skeleton, earlier) > NEAR_DUPLICATE:
                return "near_duplicate", f"asked before as {' '.join(earlier)!r}"
        if before_refused and not turn.labels and _POINTS_BACK.search(turn.question):
            return "dangling", "points back to a turn that was refused"
        return "", ""


def rouge_l(a: Sequence[str], b: Sequence[str]) -> float:
    """ROUGE-L F1 of two word sequences (Lin 2004): longest common subsequence against both lengths.

    >>> rouge_l(["a", "b", "c", "d"], ["a", "c", "d", "e"])
    0.75
    """
    from rapidfuzz.distance import LCSseq

    return 2 * LCSseq.similarity(a, b) / (len(a) + len(b)) if a and b else 0.0


def _plain(text: str) -> list[str]:
    return [w for w in words(text) if w[0].isalnum()]


def _skeleton(turn: Turn) -> list[str]:
    """Words of the question; a name counts as one, however long."""
    plain: list[str] = []
    for sentence, found in turn.asked:
        at = 0
        for mention in found:
            plain += [*_plain(sentence[at : mention.start]), mention.label]
            at = mention.end
        plain += _plain(sentence[at:])
    return plain


def _shows(pattern: re.Pattern[str], *texts: str) -> str:
    for text in texts:
        if match := pattern.search(text):
            return f"{match.group().strip()!r}"
    return ""
