"""Answers of one of our models: questions grouped by picture, their shared prefix computed once, batches by size.

The plan is a pure function of the questions. Where a model lets every token see only what stands before it, all
questions about the same pictures share a prefix; where what stands behind the pictures changes what the model sees in
them (MoAI's mixer), only the answers to one question do; a model known by its processor alone is tried first, and if
its shared prefixes do not give what whole sequences give, it is run on whole sequences (`sequences`).
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, Literal

import torch

from vistune.errors import VistuneError
from vistune.evaluate import decoding, sequences
from vistune.evaluate.decoding import BRANCH_TOKENS
from vistune.evaluate.images import Encoded, Key, Pictures
from vistune.evaluate.packing import Ask, batches, shared, split
from vistune.evaluate.prefixes import Trunk
from vistune.evaluate.questions import Question
from vistune.models.families.base import Composed, Picture
from vistune.models.labels import IGNORE
from vistune.models.reader import Reader, Reading
from vistune.models.vlm import Vlm
from vistune.records import ImageRef, Message

SHORT_PREFIX = 128
"""Tokens of a prefix that is rather computed again for each piece, so that pieces share a batch."""

AGAIN = 16
"""A longer one is computed again after so many times its own tokens, so that several processes have a share of many
questions about one picture."""

AHEAD = 2
"""Batches whose pictures are decoded before the model needs them."""

DECODERS = 4
"""Threads that decode: Pillow and torch let others run meanwhile."""

Sharing = Literal["pictures", "question", "nothing"]

Ids = tuple[int, ...]

Part = tuple[int, int]
"""A question by its number, and which of its values."""


@dataclass(frozen=True)
class Asked:
    """What follows a prefix for one question, or for some of its answers."""

    ask: Ask
    number: int  # of the question
    parts: tuple[int, ...]  # of the answers
    longest: int = 0
    stops: tuple[str, ...] = ()


@dataclass(frozen=True)
class Visit:
    """Questions behind one prefix."""

    images: tuple[ImageRef, ...]
    prefix: Reading
    asked: tuple[Asked, ...]

    @property
    def parts(self) -> list[Part]:
        return [(one.number, part) for one in self.asked for part in one.parts]

    @property
    def keys(self) -> list[Key]:
        """Its pictures in reading order."""
        return [(self.images[n].sha256, plan) for n, plan in zip(self.prefix.images, self.prefix.plans, strict=True)]

    def only(self, wanted: Set[Part]) -> Visit:
        """Without the values that are not wanted."""
        kept = []
        for one in self.asked:
            places = [n for n, part in enumerate(one.parts) if (one.number, part) in wanted]
            answers = tuple(one.ask.answers[n] for n in places) if one.ask.answers else ()
            if places:
                parts = tuple(one.parts[n] for n in places)
                kept.append(replace(one, ask=Ask(one.ask.question, answers), parts=parts))
        return replace(self, asked=tuple(kept))


Batch = list[Visit]


def read_evidence(file: str) -> dict[str, Any]:
    """What other models saw in images, by digest; nothing without a file."""
    from vistune.models.evidence import read_evidence

    return dict(read_evidence(file)) if file else {}


class Engine:
    """fingerprint: names the model's weights and the code that runs them; batch_tokens: of one forward pass, padding
    included; evidence: what other models saw in an image, by its digest, for families that take any."""

    def __init__(
        self,
        vlm: Vlm,
        pictures: Pictures,
        fingerprint: str,
        batch_tokens: int = 2048,
        evidence: Mapping[str, Any] | None = None,
    ) -> None:
        self.vlm, self.reader, self.pictures = vlm, vlm.reader, pictures
        self.fingerprint, self.batch_tokens, self.evidence = fingerprint, batch_tokens, evidence or {}
        self.trunk = Trunk(vlm)
        self.encoded = Encoded(self.trunk.encode)
        self.encodes = self.trunk.composed or self.trunk.native
        self._mutex, self._beside = Lock(), self.reader
        if self.reader.family.evidence is not None:  # a tokenizer is not to be used by two threads at once
            self._beside = Reader(self.reader.family, self.reader.preset, deepcopy(self.reader.tokenizer))
        self.tokens, self.spent = 0, dict[str, float]()
        self.note = ""  # why nothing is shared
        self.sharing: Sharing = self._sharing()

    def plan(self, questions: Sequence[Question]) -> list[Batch]:
        """All questions, each value once. Raises VistuneError for one that asks for sampling."""
        if drawn := next((question for question in questions if question.temperature), None):
            raise VistuneError(f"task {drawn.task} asks for sampling; our models are evaluated greedily only.")
        groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for n, question in enumerate(questions):
            apart = () if self.sharing == "pictures" and not question.window else (str(n),)
            groups[(*apart, *(image.sha256 for image in question.images))].append(n)
        visits: list[Visit] = []
        for _, members in sorted(groups.items()):
            visits += self._visits(members, questions)
        sizes = [(v.prefix.length, min(sum(a.ask.tokens for a in v.asked), BRANCH_TOKENS)) for v in visits]
        self.tokens += sum(v.prefix.length + sum(a.ask.tokens for a in v.asked) for v in visits)
        return [[visits[n] for n in group] for group in batches(sizes, self.batch_tokens)]

    def stream(
        self, planned: Sequence[Batch], keep: Callable[[dict[Part, Any]], None] = lambda found: None
    ) -> Iterator[tuple[Batch, dict[Part, Any]]]:
        """Each batch with its values: [sum of log-probabilities in nats, every token the most likely one, tokens], or
        [text, why it ended]. `keep` has them before they are given. Pictures are decoded ahead of the model."""
        with ThreadPoolExecutor(DECODERS, thread_name_prefix="decode") as pool:
            waiting: deque[tuple[Batch, dict[Key, Future[Picture]]]] = deque()
            try:
                for batch in planned:
                    waiting.append((batch, self._looks(pool, batch)))
                    if len(waiting) > AHEAD:
                        yield self._run(*waiting.popleft(), keep)
                while waiting:
                    yield self._run(*waiting.popleft(), keep)
            finally:
                pool.shutdown(cancel_futures=True)

    def windows(self, text: str) -> list[Question]:
        """Running text as questions whose values add up: windows of the model's length, each token scored once."""
        from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

        ids = self.reader.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        ends = (self.reader.tokenizer.bos_token_id, self.reader.tokenizer.eos_token_id, self.reader.pad_id)
        first = next(token for token in ends if token is not None)
        limit = self.reader.preset.limit
        found = map(make_disjoint_window, get_rolling_token_windows(ids, first, limit - 1, 1))
        return [Question((), window=(tuple(given), tuple(scored))) for given, scored in found]

    def _sharing(self) -> Sharing:
        if isinstance(self.vlm.family, Composed):
            layers = self.vlm.model.language_model.model.layers
            return "question" if any(getattr(layer, "mixer", None) is not None for layer in layers) else "pictures"
        if self.encodes:
            return "pictures"
        self.sharing = "pictures"
        self.note = sequences.differs(self)
        return "nothing" if self.note else "pictures"

    def _visits(self, members: Sequence[int], questions: Sequence[Question]) -> list[Visit]:
        first = questions[members[0]]
        if first.window:
            given, scored = first.window
            ids = (*given, *scored) if self.sharing == "nothing" else given
            prefix = Reading(ids, (IGNORE,) * len(ids))
            return [Visit((), prefix, (Asked(Ask((), (scored,)), members[0], (0,)),))]
        sizes = [(image.width, image.height) for image in first.images]
        prompts = [self._read(questions[n], questions[n].turns, sizes, True) for n in members]
        if self.sharing == "nothing":
            return [v for n, prompt in zip(members, prompts, strict=True) for v in self._whole(n, questions[n], prompt)]
        tails: list[dict[Ids, list[tuple[int, Ids]]]] = []  # of each question: ids -> parts with their answers
        for n, prompt in zip(members, prompts, strict=True):
            tails.append(defaultdict(list))
            for part, answer in enumerate(questions[n].answers or [""]):
                ids, scored = self._answer(questions[n], prompt, answer, sizes)
                tails[-1][ids].append((part, scored))
        every = [ids for one in tails for ids in one]
        common = shared(every, min(map(len, every)))
        needed = max((end for _, end in prompts[0].spans), default=1)
        if common < (max(map(len, every)) if self.sharing == "question" else needed):
            return [
                Visit(first.images, _cut(prompt, ids), (self._asked(questions[n], n, (), found),))
                for n, prompt, one in zip(members, prompts, tails, strict=True)
                for ids, found in one.items()
            ]
        made = [
            self._asked(questions[n], n, ids[common:], found)
            for n, one in zip(members, tails, strict=True)
            for ids, found in one.items()
        ]
        prefix = _cut(prompts[0], every[0][:common])
        most = max(BRANCH_TOKENS, AGAIN * common) if common > SHORT_PREFIX and first.images else BRANCH_TOKENS
        pieces = split([one.ask.tokens for one in made], most)
        return [Visit(first.images, prefix, tuple(made[n] for n in piece)) for piece in pieces]

    def _whole(self, n: int, question: Question, prompt: Reading) -> Iterator[Visit]:
        """Each answer as a sequence of its own: the prompt, and where there is one the answer."""
        sizes = [(image.width, image.height) for image in question.images]
        for part, answer in enumerate(question.answers or [""]):
            reading, scored = prompt, Ids()
            if question.answers:
                ids, scored = self._answer(question, prompt, answer, sizes)
                reading = _cut(prompt, (*ids, *scored))
            yield Visit(question.images, reading, (self._asked(question, n, (), [(part, scored)]),))

    def _asked(self, question: Question, n: int, ids: Ids, found: Sequence[tuple[int, Ids]]) -> Asked:
        answers = tuple(scored for _, scored in found if scored)
        return Asked(Ask(ids, answers), n, tuple(part for part, *_ in found), question.longest, question.stops)

    def _answer(
        self, question: Question, prompt: Reading, answer: str, sizes: Sequence[tuple[int, int]]
    ) -> tuple[Ids, Ids]:
        """The ids before an answer, and those to score: its words and what ends it. Nothing to score for one that is
        to be found."""
        if not question.answers:
            return prompt.ids, ()
        reading = self._read(question, [*question.turns, Message("assistant", answer)], sizes)
        start = shared([prompt.ids, reading.ids], len(prompt.ids))
        end = max(t for t, label in enumerate(reading.labels) if label != IGNORE) + 1
        return reading.ids[:start], reading.ids[start:end]

    def _read(
        self, question: Question, turns: Sequence[Message], sizes: Sequence[tuple[int, int]], prompt: bool = False
    ) -> Reading:
        about = f"{question.task}: {question.turns[-1].text[:40]!r}".lstrip(": ")
        return self.reader.read(turns, sizes, prompt=prompt, sample=about)

    def _looks(self, pool: ThreadPoolExecutor, batch: Batch) -> dict[Key, Future[Picture]]:
        looks: dict[Key, Future[Picture]] = {}
        for visit in batch:
            for number, key in zip(visit.prefix.images, visit.keys, strict=True):
                if key not in looks and key not in self.encoded:
                    looks[key] = pool.submit(self._look, visit.images[number], key)
        return looks

    def _look(self, image: ImageRef, key: Key) -> Picture:
        one, picture = Reading((), (), (0,), (key[1],)), self.pictures.open(image)
        if self.reader.family.evidence is None:
            return self.reader.look(one, [picture])[0]
        with self._mutex:  # its words are tokenised
            return self._beside.look(one, [picture], [self.evidence.get(image.sha256)])[0]

    @torch.inference_mode()
    def _run(
        self, batch: Batch, looks: Mapping[Key, Future[Picture]], keep: Callable[[dict[Part, Any]], None]
    ) -> tuple[Batch, dict[Part, Any]]:
        wanted = [key for visit in batch for key in visit.keys]
        looked = {key: look.result() for key, look in looks.items()}
        run = sequences.run if self.sharing == "nothing" else decoding.run
        if self.encodes:
            for visit in batch:
                for number, key in zip(visit.prefix.images, visit.keys, strict=True):
                    if key not in self.encoded and key not in looked:  # dropped since the batch was looked at
                        looked[key] = self._look(visit.images[number], key)
            pairs = self.encoded(wanted, looked)
            found = run(self.trunk, batch, [picture for picture, _ in pairs], [seen for _, seen in pairs])
        else:
            found = run(self.trunk, batch, [looked[key] for key in wanted], ())
        keep(found)
        return batch, found


def _cut(prompt: Reading, ids: Ids) -> Reading:
    """The beginning of a prompt, all of its pictures in it."""
    return replace(prompt, ids=ids, labels=(IGNORE,) * len(ids))
