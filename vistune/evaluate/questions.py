"""What lm-eval asks, as questions to a model: a conversation, its pictures, and what is wanted of the answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vistune.errors import VistuneError
from vistune.hashing import canonical, digest
from vistune.records import ImageRef, Message

MARK = "<image>"
"""Where a task's text shows a picture. Without marks, pictures stand before the words."""

TURNS = "\ue002"
"""Begins a context that holds several turns, as JSON: lm-eval hands over contexts as text."""

LONGEST = 32
"""Tokens of an answer where the task does not say."""

GREEDY = {"top_p", "top_k"}
"""Arguments that change nothing where the most likely token is taken."""


@dataclass(frozen=True)
class Question:
    turns: tuple[Message, ...]  # the last is a user's
    images: tuple[ImageRef, ...] = ()
    answers: tuple[str, ...] = ()  # to score
    longest: int = 0  # tokens of an answer to find; 0: `answers` are scored
    stops: tuple[str, ...] = ()  # an answer ends before the first of these
    temperature: float = 0.0
    window: tuple[tuple[int, ...], tuple[int, ...]] | None = None  # of running text: ids that are given, ids to score
    task: str = ""
    version: str = ""

    @property
    def identity(self) -> str:
        """All but the answers to score and the task's name."""
        turns = [[turn.role, turn.text, turn.images, turn.places] for turn in self.turns]
        shown = [image.sha256 for image in self.images]
        return digest([turns, shown, self.longest, self.stops, self.temperature, self.window, self.version])

    @property
    def parts(self) -> int:
        """How many values answer it."""
        return len(self.answers) or 1


def asked(
    context: str, images: Sequence[ImageRef | None], task: str, version: str, answers: Sequence[str] = ()
) -> Question:
    """images: what is shown for each of the task's pictures, None for nothing. Raises VistuneError where the context
    has another number of marks than there are pictures."""
    turns: list[Any] = json.loads(context[1:]) if context.startswith(TURNS) else [["user", context]]
    marks = sum(text.count(MARK) for _, text in turns)
    if marks and marks != len(images):
        raise VistuneError(f"task {task} marks {marks} pictures in a question and shows {len(images)}.")
    kept = [image for image in images if image is not None]
    rest, made, number = list(images), [], 0
    for role, text in turns:
        pieces = text.split(MARK) if marks else [text]
        written, places = pieces[0], []
        for piece in pieces[1:]:
            if rest.pop(0) is not None:
                places.append(len(written))
            written += piece
        numbers = tuple(range(number, number + len(places)))
        number += len(places)
        if not written[: max(places, default=0)].strip():  # before all words
            written, places = written[max(places, default=0) :].lstrip() if marks else written, []
        made.append(Message(role, written, numbers, tuple(places)))
    if not marks and kept:
        made[-1] = replace(made[-1], images=tuple(range(len(kept))))
    return Question(tuple(made), tuple(kept), tuple(answers), task=task, version=version)


def wanted(question: Question, arguments: Mapping[str, Any]) -> Question:
    """`question` with lm-eval's generation arguments. Raises VistuneError for one that would be ignored."""
    given = {name: value for name, value in arguments.items() if value is not None}
    stops = given.pop("until", [])
    longest = int(given.pop("max_gen_toks", given.pop("max_new_tokens", LONGEST)))
    temperature = float(given.pop("temperature", 0.0))
    samples = given.pop("do_sample", temperature > 0)
    if samples and not temperature:
        temperature = 1.0
    if given.get("num_beams") == 1:
        given.pop("num_beams")
    if unknown := sorted(given.keys() - GREEDY if not samples else given.keys()):
        raise VistuneError(f"task {question.task} asks for {', '.join(unknown)} in its generation, which is not done.")
    if longest < 1:
        raise VistuneError(f"task {question.task} asks for answers of {longest} tokens.")
    stops = [stops] if isinstance(stops, str) else list(stops)
    heat = temperature if samples else 0.0
    return replace(question, longest=longest, stops=tuple(stop for stop in stops if stop), temperature=heat)


def written(turns: Sequence[Mapping[str, str]], add_generation_prompt: bool) -> str:
    """A chat as a context. Raises VistuneError for one that does not end with a user's turn."""
    roles = [turn["role"] for turn in turns]
    if not roles or roles[-1] != "user" or not add_generation_prompt:
        raise VistuneError(f"a prompt has to end with a question; this one has the turns {', '.join(roles) or 'none'}.")
    if len(turns) == 1:
        return turns[0]["content"]
    return TURNS + canonical([[turn["role"], turn["content"]] for turn in turns]).decode()


def before(text: str, stops: Sequence[str]) -> str:
    """The text before the first stop string, without blanks around it.

    >>> before("a cat. A dog.", [".", "!"])
    'a cat'
    """
    ends = [text.index(stop) for stop in stops if stop in text]
    return text[: min(ends, default=len(text))].strip()
