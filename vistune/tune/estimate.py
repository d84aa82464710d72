"""Lengths of a release of millions of samples in seconds: pictures exactly, texts by the bytes of a part that is read.

What a template writes around texts is known from one conversation of the same turns. Of each data set, task and
language the first `READ` samples are tokenised, and a line through them (texts and bytes -> tokens) gives the words of
the others. Samples come in the keyed order of the epoch, so the first ones are a random draw. What cannot be read, or
comes within `SURE` times the largest error met of a limit or of the longest, is tokenised as well: so what is left out
and what is longest are not estimated. Training never uses this.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from vistune.errors import VistuneError
from vistune.models.flops import Shape
from vistune.models.reader import Reading
from vistune.models.views import Size, ViewPlan
from vistune.records import Message, Sample
from vistune.tune.lengths import Length, Lengths, length_of

READ = 500
"""Samples of a group that are tokenised."""

SURE = 2.0
"""Times the largest error met in a group: a sample that is so near a limit is tokenised."""

PARTS = attrgetter("role", "text", "images", "places")


class Seen(NamedTuple):
    """What a picture of some size is to the model."""

    shape: int  # pictures of the same number cost the same
    plan: ViewPlan
    visual: int
    patches: int


class Form(NamedTuple):
    """What conversations of the same turns and pictures have in common: their tokens, pictures aside, if every text in
    them were one letter; how many texts there are; and which."""

    tokens: int
    common: int  # up to the last picture
    learned: int
    texts: int
    before: int  # messages before the last picture's
    place: int  # of the last picture among its message's, 0 where it stands before the words
    answers: tuple[int, ...]  # messages

    def words(self, messages: Sequence[Message], sizes: Sequence[int]) -> Words:
        """sizes: bytes of each message."""
        ahead, texts = sum(sizes[: self.before]), sum(map(bool, sizes[: self.before]))
        if self.place:
            message = messages[self.before]
            ahead += len(message.text[: message.places[self.place - 1]].encode())
        told = sum([sizes[n] for n in self.answers])
        return Words(
            self.texts,
            sum(sizes) - self.texts,
            texts,
            max(ahead - texts, 0),
            len(self.answers),
            told - len(self.answers),
        )


class Words(NamedTuple):
    """Texts of a conversation, and the bytes that they have beyond one letter each: of all of it, of what stands before
    the last picture, of answers."""

    texts: int
    more: int
    before: int
    before_more: int
    answers: int
    answers_more: int


class Group:
    """Samples alike but for their length: what their texts take beyond their form, by a line through some of them."""

    def __init__(self) -> None:
        self.count = 0  # of estimates
        self.known: list[Words] = []
        self.found: list[tuple[int, int]] = []  # tokens beyond the form: of all texts, of answers
        self.texts = self.answers = (0.0, 0.0)  # tokens a text, tokens a byte
        self.spread = self.largest = 0.0  # of the errors of a sample's tokens: mean square's root; a byte

    @property
    def fitted(self) -> bool:
        return len(self.found) >= READ

    def add(self, words: Words, texts: int, answers: int) -> None:
        self.known.append(words)
        self.found.append((texts, answers))
        if not self.fitted:
            return
        known, found = np.array(self.known, dtype=float), np.array(self.found, dtype=float)
        self.texts, self.answers = (
            tuple(np.linalg.lstsq(known[:, 4 * n : 4 * n + 2], found[:, n], rcond=None)[0].tolist()) for n in (0, 1)
        )
        errors = np.abs(found[:, 0] - known[:, :2] @ self.texts)
        self.spread = float(np.sqrt((errors**2).mean()))
        self.largest = float((errors / np.maximum(known[:, 1], 1)).max())

    def of_texts(self, texts: int, more: int) -> int:
        return max(round(self.texts[0] * texts + self.texts[1] * more), 0)

    def of_answers(self, texts: int, more: int) -> int:
        return max(round(self.answers[0] * texts + self.answers[1] * more), 0)


class Estimates(Lengths):
    """Lengths that are exact for few samples of each group, and near for the rest."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.groups: dict[tuple[str, str, str], Group] = {}
        self.forms: dict[Any, Form | None] = {}
        self.sizes: dict[tuple[int, int, int], Seen | None] = {}
        self.shapes: dict[Shape, int] = {}
        self.costs: dict[Any, float] = {}
        self.longest = 0

    def measure(self, sample: Sample) -> Length:
        sizes, made = [], []
        for role, text, images, places in map(PARTS, sample.messages):
            size = len(text) if text.isascii() else len(text.encode())
            sizes.append(size)
            made.append((role, images, size > 0 and not text.isspace(), len(places)))
        key = tuple(made), len(sample.images)
        if key not in self.forms:
            self.forms[key] = self._read_form(sample)
        form, seen = self.forms[key], self._pictures(sample)
        if form is None or seen is None:
            return self._exact(sample)
        words = form.words(sample.messages, sizes)
        kind = sample.dataset, sample.task, sample.language
        group = self.groups.get(kind) or self.groups.setdefault(kind, Group())
        if group.fitted:
            length = self._estimated(words, group, form, seen)
            group.count += length is not None
            return length or self._exact(sample)
        length = self._exact(sample)
        group.add(words, length.tokens - length.visual - form.tokens, length.answers - form.learned)
        return length

    def _exact(self, sample: Sample) -> Length:
        length = super().measure(sample)
        if not self.refusal(length):
            self.longest = max(self.longest, length.tokens)
        return length

    def _estimated(self, words: Words, group: Group, form: Form, seen: Sequence[Seen]) -> Length | None:
        """None for a sample that may be over a limit, or the longest."""
        visual = sum(one.visual for one in seen)
        tokens = form.tokens + visual + group.of_texts(words.texts, words.more)
        before = form.common + group.of_texts(words.before, words.before_more) if seen else 0
        common = before + visual
        answers = form.learned + group.of_answers(words.answers, words.answers_more)
        margin = 1 + SURE * group.largest * words.more
        if tokens + margin > min(self.most, self.longest):
            return None
        if self.stage.longest and tokens - common + margin > self.stage.longest:
            return None
        patches = sum(one.patches for one in seen)
        return Length(tokens, common, answers, visual, patches, self._cost(tokens, before, seen))

    def _cost(self, tokens: int, before: int, seen: Sequence[Seen]) -> float:
        key = tokens, *[one.shape for one in seen]
        if key not in self.costs:
            spans, at = [], before
            for one in seen:
                spans.append((at, at + one.visual))
                at += one.visual
            plans = tuple(one.plan for one in seen)
            self.costs[key] = self.cost(Reading((0,) * tokens, (), tuple(range(len(seen))), plans, tuple(spans)))
        return self.costs[key]

    def _read_form(self, sample: Sample) -> Form | None:
        """None for conversations so made up that they cannot be read."""
        turns = [replace(m, text="a" if m.text.strip() else "", places=(0,) * len(m.places)) for m in sample.messages]
        try:
            length = length_of(self.reader.read(turns, [(i.width, i.height) for i in sample.images]), 0.0)
        except VistuneError:
            return None
        last = max((n for n, turn in enumerate(turns) if turn.images), default=0)
        return Form(
            length.tokens - length.visual,
            max(length.common - length.visual, 0),
            length.answers,
            sum(bool(turn.text) for turn in turns),
            last,
            len(turns[last].places),
            tuple(n for n, turn in enumerate(turns) if turn.role == "assistant" and turn.text),
        )

    def _pictures(self, sample: Sample) -> list[Seen] | None:
        """None where they have to be read with their sample: marked ones, and those that cannot be planned."""
        if self.reader.family.overlay is not None and sample.regions:
            return None
        together = len(sample.images) if self.reader.family.several else 1
        found = []
        for image in sample.images:
            key = image.width, image.height, together
            if key not in self.sizes:
                self.sizes[key] = self._seen((image.width, image.height), together)
            if (one := self.sizes[key]) is None:
                return None
            found.append(one)
        return found

    def _seen(self, size: Size, together: int) -> Seen | None:
        shown = tuple(range(together))
        asked = [Message("user", "a", shown), Message("assistant", "a")]
        try:
            reading = self.reader.read(asked, [size] * together)
        except VistuneError:
            return None
        length = length_of(reading, 0.0)
        shape = self.shapes.setdefault(Shape.of(reading.plans[0]), len(self.shapes))
        return Seen(shape, reading.plans[0], length.visual // together, length.patches // together)

    @property
    def estimated(self) -> int:
        """Samples."""
        return sum(group.count for group in self.groups.values())

    @property
    def error(self) -> float:
        """Of the tokens of all samples together, as a share: two standard errors, of the lines and of what they do not
        explain."""
        parts = ((g.count * g.spread) ** 2 / READ + g.count * g.spread**2 for g in self.groups.values())
        return 2 * math.sqrt(sum(parts)) / max(sum(length.tokens for length in self.known.values()), 1)
