"""From a rendered conversation to token ids and labels: what is learned, by spans of characters.

`learned` picks the character spans that a policy trains; `label` maps them onto the tokens of any tokenizer by their
offsets; `encode` does both for a fast tokenizer of transformers. No token is counted, so nothing depends on how a
tokenizer splits. Labels are not shifted: position t holds what position t - 1 has to predict.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from vistune.errors import VistuneError
from vistune.models.templates import Policy, Rendering, Span

IGNORE = -100

Spans = list[tuple[int, int]]
"""Half-open ranges, in order, apart from each other."""


@dataclass(frozen=True)
class Encoded:
    """One conversation as a model reads it. `images` are the token ranges of each image's features."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]  # IGNORE where not learned
    images: tuple[tuple[int, int], ...] = ()


def learned(rendering: Rendering, policy: Policy, parity: bool = False) -> Spans:
    """The characters that are trained. `parity`: the policy's control tokens count also where the words of a turn
    spell them, as in code that looks for their ids (LLaVA-NeXT un-masks the newlines of questions)."""
    found: Spans = []
    for span in rendering.spans:
        parts = policy.answers if span.role == "assistant" else policy.others
        if span.part in parts:
            found.append((span.start, span.end))
    for start, end in _spelled(rendering.text, policy.tokens):
        if parity or not any(s.part == "words" for s in _under(rendering, start, end)):
            found.append((start, end))
    return joined(found)


def label(ids: Sequence[int], offsets: Sequence[tuple[int, int]], spans: Spans) -> list[int]:
    """Labels of tokens that cover the characters `offsets`: a token is learned when it covers a learned character.

    >>> label([7, 8, 9], [(0, 5), (5, 9), (9, 12)], [(6, 9)])
    [-100, 8, -100]
    """
    labels, n = [], 0
    for token, (start, end) in zip(ids, offsets, strict=True):
        while n < len(spans) and spans[n][1] <= start:
            n += 1
        covers = n < len(spans) and start < end and spans[n][0] < end
        labels.append(token if covers else IGNORE)
    return labels


def joined(spans: Sequence[tuple[int, int]]) -> Spans:
    """The union of ranges.

    >>> joined([(5, 7), (0, 2), (2, 4), (3, 4)])
    [(0, 4), (5, 7)]
    """
    union: Spans = []
    for start, end in sorted(spans):
        if union and start <= union[-1][1]:
            union[-1] = (union[-1][0], max(end, union[-1][1]))
        elif start < end:
            union.append((start, end))
    return union


def encode(
    tokenizer: Any,
    rendering: Rendering,
    spans: Spans,
    images: Sequence[Sequence[int]] = (),
    begin: Sequence[int] = (),
    finish: Sequence[int] = (),
    sample: str = "",
    spoken: Collection[str] = (),
) -> Encoded:
    """Ids and labels by a fast tokenizer. `images` are the ids that stand for each image's features, in reading order;
    `begin` and `finish` what the tokenizer would put around a text (BOS, EOS), never learned. Text is tokenised in as
    few pieces as images allow; words that spell a control token are a piece of their own and stay words, but for tokens
    that are `spoken`, as those around boxes.
    Raises VistuneError for another number of images than the conversation shows."""
    shown = sum(span.part == "image" for span in rendering.spans)
    if shown != len(images):
        where = f" (sample {sample})" if sample else ""
        raise VistuneError(f"the conversation shows {shown} images, features of {len(images)} are given{where}.")
    backend = tokenizer.backend_tokenizer  # without the wrapper, which costs as much again
    ids, labels = [*begin], [IGNORE] * len(begin)
    ranges: Spans = []
    for start, end, kind in _runs(tokenizer, rendering, spoken):
        if kind == "image":
            features = images[len(ranges)]
            ranges.append((len(ids), len(ids) + len(features)))
            ids += features
            labels += [IGNORE] * len(features)
            continue
        backend.encode_special_tokens = kind == "words"
        piece = backend.encode(rendering.text[start:end], add_special_tokens=False)
        ids += piece.ids
        labels += label(piece.ids, piece.offsets, [(a - start, b - start) for a, b in spans if b > start and a < end])
    return Encoded((*ids, *finish), (*labels, *[IGNORE] * len(finish)), tuple(ranges))


def fit(encoded: Encoded, limit: int, sample: str = "", cut: bool = False, keep: Sequence[int] = ()) -> Encoded:
    """The conversation in at most `limit` tokens. Raises VistuneError for a longer one, with both numbers; with `cut`
    it is cut on the right instead, `keep` (the end of an answer) is put back and learned, and the error is only for a
    cut inside an image. Raises VistuneError also when nothing is left to learn."""
    where = f" (sample {sample})" if sample else ""
    if len(encoded.ids) > limit:
        if not cut:
            raise VistuneError(f"the conversation has {len(encoded.ids)} tokens, the limit is {limit}{where}.")
        room = limit - len(keep)
        for n, (start, end) in enumerate(encoded.images):
            if room < end:
                raise VistuneError(
                    f"the limit of {limit} tokens cuts image {n}, tokens {start} to {end} of {len(encoded.ids)}{where}."
                )
        encoded = replace(encoded, ids=(*encoded.ids[:room], *keep), labels=(*encoded.labels[:room], *keep))
    if all(label == IGNORE for label in encoded.labels):
        raise VistuneError(f"none of {len(encoded.ids)} tokens are to be learned{where}.")
    return encoded


def _spelled(text: str, tokens: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where `text` spells one of `tokens`. Two newlines are one token of their own, as in the vocabularies of GPT."""
    if tokens:
        for found in re.finditer("|".join(map(re.escape, ("\n\n", *tokens))), text):
            if found.group() in tokens:
                yield found.span()


def _under(rendering: Rendering, start: int, end: int) -> Iterator[Span]:
    return (span for span in rendering.spans if span.start < end and start < span.end)


def _runs(tokenizer: Any, rendering: Rendering, spoken: Collection[str] = ()) -> Iterator[tuple[int, int, str]]:
    """Ranges of text to tokenise in one go: "image", "words" that spell a control token, or "text"."""
    controls = _controls(frozenset(tokenizer.get_added_vocab()) - frozenset(spoken))
    start = 0
    for span in rendering.spans:
        spells = span.part == "words" and controls and controls.search(rendering.text, span.start, span.end)
        if span.part == "image" or spells:
            if start < span.start:
                yield start, span.start, "text"
            yield span.start, span.end, "image" if span.part == "image" else "words"
            start = span.end
    if start < len(rendering.text):
        yield start, len(rendering.text), "text"


@lru_cache(maxsize=64)
def _controls(tokens: frozenset[str]) -> re.Pattern[str] | None:
    """Finds any of the tokens, the longest first."""
    spelled = "|".join(map(re.escape, sorted(tokens, key=len, reverse=True)))
    return re.compile(spelled) if spelled else None
