"""Conversations as the text a model was trained on, and what every character of it is.

A `Template` writes messages as one string; its `Span`s partition the string and say of each piece whose turn it is in
(`role`) and what it is there (`part`). Which spans are learned is the template's `policy`, applied in `labels`, so no
label depends on counting tokens. The templates of all families are a table in `templates_table`.

Words of users and data are never searched for control tokens or image marks: a `Message` says itself where its images
stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from vistune.errors import VistuneError
from vistune.records import Message

IMAGE = "<image>"

Role = Literal["system", "user", "assistant"]
Part = Literal["begin", "header", "lead", "words", "wrap", "image", "end", "tail"]
"""Of a turn, in this order: `header` says who speaks, `lead` stands before the words, `end` stops the speaker, `tail`
separates it from what follows. `image` stands for an image's features, `wrap` is what is written around it; `begin`
opens the conversation."""

Empty = Literal["bare", "whole", "skip"]
"""A turn without words is its header alone (as in a prompt, so nothing is learned), written like any other, or left
out."""


class Span(NamedTuple):
    start: int
    end: int
    role: Role
    part: Part


@dataclass(frozen=True)
class Rendering:
    text: str
    spans: tuple[Span, ...]  # in order, without gaps

    def part(self, start: int, end: int) -> Rendering:
        """The characters from `start` to `end`, as a rendering of its own."""
        inside = ((max(a, start), min(b, end), role, part) for a, b, role, part in self.spans if a < end and start < b)
        spans = tuple(Span(a - start, b - start, role, part) for a, b, role, part in inside)
        return Rendering(self.text[start:end], spans)


@dataclass(frozen=True)
class Policy:
    """What is learned of a rendering: parts of the assistant's turns, parts of other turns, and control tokens wherever
    the template writes them (with `parity` also where the words of a turn spell them)."""

    answers: frozenset[Part] = frozenset({"lead", "words", "end"})
    others: frozenset[Part] = frozenset()
    tokens: tuple[str, ...] = ()


ANSWERS = Policy()


@dataclass(frozen=True)
class Side:
    """How one role's turns are written."""

    header: str = ""
    lead: str = ""
    end: str = ""
    tail: str = ""
    empty: Empty = "bare"


@dataclass(frozen=True)
class Template:
    user: Side
    assistant: Side
    system_side: Side | None = None  # None: there is no place for a system message
    system: str = ""  # the default message; an empty one is not written
    system_inside: bool = False  # written into the first question, after its header (Llama-2)
    begin: str = ""  # where the template itself writes it; else the tokenizer adds it
    between: str = ""  # before every question but the first
    finish: str = ""  # after the last answer
    image: str = "{image}"  # {image}: what stands for its features, {n}: its number in the conversation, {index}: n - 1
    mark: str = IMAGE  # what stands for them where nothing else is given
    gap: str = ""  # after each image that stands before the words
    around: tuple[str, str] = ("", "")  # around each image among the words, where a conversation shows several
    place: Literal["inline", "front", "front if single", "own turn", "after system", "outside"] = "inline"
    order: Literal["pairs", "drop", "free", "caption"] = "pairs"  # see `_ordered`
    trim: bool = False  # blanks around the content of each turn are removed
    empty_history: Empty | None = None  # with `parity`: of answers in a prompt, where it is not the assistant's `empty`
    policy: Policy = ANSWERS
    source: str = ""

    def render(
        self,
        messages: Sequence[Message],
        images: Sequence[str] | None = None,
        *,
        system: str | None = None,
        prompt: bool = False,
        sample: str = "",
        parity: bool = False,
    ) -> Rendering:
        """The conversation as trained on, or with `prompt` what generation starts from: up to a question, and the
        header of its answer. `images` are the texts that stand for each image's features; none are needed where the
        model takes one `mark` an image. `parity` keeps what the authors' code does by oversight: of a turn's images
        that it moves to the front all but the first are lost, and a system message without a place is ignored.
        Raises VistuneError for turns in an order that the template does not take, and when messages show other images
        than are given."""
        where = f" (sample {sample})" if sample else ""
        system, turns = self._ordered(messages, system, where, prompt, parity)
        _check_images(turns, images, where)
        writer = _Writer(self, images, sum(len(turn.images) for turn in turns) > 1, parity)
        writer.add("system", "begin", self.begin)
        if not self.system_inside:
            writer.system(system)
        if self.place == "after system":
            for image in (image for turn in turns for image in turn.images):
                writer.image("system", image)
        for n, turn in enumerate(turns):
            side = self.user if turn.role == "user" else self.assistant
            empty = self.empty_history if prompt and parity and self.empty_history else side.empty
            pieces = writer.pieces(turn)
            if pieces or empty != "skip":
                writer.turn(turn, side, pieces, system if n == 0 else "", bare=not pieces and empty == "bare")
            elif n == 0:
                raise VistuneError(f"the first question has no words{where}.")
        if prompt:
            writer.add("assistant", "header", self.assistant.header)
        elif turns[-1].role == "assistant":
            writer.add("assistant", "end", self.finish)
        return Rendering("".join(writer.texts), tuple(writer.spans))

    def _ordered(
        self, messages: Sequence[Message], system: str | None, where: str, prompt: bool, parity: bool
    ) -> tuple[str, list[Message]]:
        """The system message and the turns that are written. Questions and answers alternate ("pairs"; "drop" takes any
        order), and an answer before the first question, a greeting, is dropped; "free" takes any order and a system
        message among the turns; a "caption" is one question with an image, whose words are dropped, and its answer."""
        turns = list(messages)
        if turns and turns[0].role == "system" and self.order == "free":
            system = turns.pop(0).text
        if system and self.system_side is None and not parity:
            raise VistuneError(f"this chat template has no place for a system message{where}.")
        if turns and turns[0].role == "assistant" and (self.order in ("pairs", "drop") or (prompt and parity)):
            turns.pop(0)
        for n, turn in enumerate(turns):
            expected = ("user", "assistant")[n % 2] if self.order in ("pairs", "caption") else turn.role
            if turn.role != expected or turn.role == "system":
                takes = f"the {expected}'s" if turn.role != expected else "no system message here"
                raise VistuneError(f"turn {n} is the {turn.role}'s; this chat template takes {takes}{where}.")
        if not turns or (prompt and turns[-1].role != "user"):
            raise VistuneError(f"a {'prompt ends with' if prompt else 'conversation needs'} a question{where}.")
        if self.order == "caption" and not (len(turns) == 2 - prompt and turns[0].images):
            raise VistuneError(
                f"a caption is one question with an image and one answer; got {len(turns)} turns, the first with "
                f"{len(turns[0].images)} images{where}."
            )
        return self.system if system is None else system, turns


class _Writer:
    """Collects what is written and where it lies."""

    def __init__(self, template: Template, images: Sequence[str] | None, several: bool, parity: bool) -> None:
        self.template = template
        self.images = images
        self.several = several
        self.parity = parity
        self.texts: list[str] = []
        self.spans: list[Span] = []
        self.shown = 0

    def add(self, role: Role, part: Part, text: str) -> None:
        if text:
            start = self.spans[-1].end if self.spans else 0
            self.texts.append(text)
            self.spans.append(Span(start, start + len(text), role, part))

    def image(self, role: Role, image: int) -> None:
        self.shown += 1
        form = self.template.image.replace("{n}", str(self.shown)).replace("{index}", str(self.shown - 1))
        before, _, after = form.partition("{image}")
        self.add(role, "wrap", before)
        self.add(role, "image", self.template.mark if self.images is None else self.images[image])
        self.add(role, "wrap", after)

    def system(self, text: str) -> None:
        side = self.template.system_side
        if text and side:
            self.add("system", "header", side.header)
            self.add("system", "words", text)
            self.add("system", "end", side.end)
            self.add("system", "tail", side.tail)

    def turn(self, turn: Message, side: Side, pieces: list[tuple[Part, str | int]], system: str, bare: bool) -> None:
        if turn.role == "user" and self.spans and self.spans[-1].role != "system":
            self.add("assistant", "tail", self.template.between)
        if turn.role == "user" and self.template.place == "own turn":
            for image in turn.images:
                self.add("user", "header", side.header)
                self.add("user", "lead", side.lead)
                self.image("user", image)
        self.add(turn.role, "header", side.header)
        if self.template.system_inside:
            self.system(system)
        if not bare:
            self.add(turn.role, "lead", side.lead)
            for part, piece in pieces:
                if isinstance(piece, int):
                    self.image(turn.role, piece)
                else:
                    self.add(turn.role, part, piece)
            self.add(turn.role, "end", side.end)
            self.add(turn.role, "tail", side.tail)

    def pieces(self, turn: Message) -> list[tuple[Part, str | int]]:
        """What stands between a turn's lead and its end: words, and the numbers of images."""
        template, text, shown = self.template, turn.text, turn.images
        if not shown or template.place in ("own turn", "after system", "outside"):
            text = text.strip() if template.trim else text
            return [("words", text)] if text else []
        pieces: list[tuple[Part, str | int]] = []
        single = len(shown) == 1 and any(turn.places)
        if template.place == "front" or (template.place == "front if single" and single) or not turn.places:
            if template.order == "caption":
                text = ""
            elif template.place == "front" or turn.places:
                text = text.strip()
            for image in shown[:1] if self.parity and template.place == "front" else shown:
                pieces += [("image", image), ("wrap", template.gap)]
            pieces = [*pieces, ("words", text)] if text else pieces[:-1]
        else:
            before, after = template.around if self.several else ("", "")
            starts = [0, *turn.places]
            for image, start, end in zip(shown, starts, turn.places, strict=False):
                pieces += [("words", text[start:end]), ("wrap", before), ("image", image), ("wrap", after)]
            pieces.append(("words", text[turn.places[-1] :]))
        pieces = [(part, piece) for part, piece in pieces if piece != ""]
        if template.trim:
            for at, strip in ((0, str.lstrip), (-1, str.rstrip)):
                part, piece = pieces[at]
                pieces[at] = (part, strip(piece)) if isinstance(piece, str) else (part, piece)
        return pieces


def _check_images(turns: Sequence[Message], images: Sequence[str] | None, where: str) -> None:
    shown = [image for turn in turns for image in turn.images]
    if images is not None and sorted(shown) != list(range(len(images))):
        raise VistuneError(f"the messages show {len(shown)} images, {len(images)} are given{where}.")
    for n, turn in enumerate(turns):
        if turn.places and len(turn.places) != len(turn.images):
            raise VistuneError(f"turn {n} shows {len(turn.images)} images at {len(turn.places)} places{where}.")


def marked(role: Role, text: str, first: int = 0, mark: str = IMAGE) -> Message:
    """The message that LLaVA's layout writes with a mark in its text for each image; they are numbered from `first` on.

    >>> marked("user", "Left: <image> right: <image>?")
    Message(role='user', text='Left:  right: ?', images=(0, 1), places=(6, 14))
    """
    pieces = text.split(mark)
    places: list[int] = []
    for piece in pieces[:-1]:
        places.append(len(piece) + (places[-1] if places else 0))
    return Message(role, "".join(pieces), tuple(range(first, first + len(places))), tuple(places))
