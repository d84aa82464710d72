"""Which dialogues are asked for, and the asking: requests, replies joined to them by id, and asking again when a reply
has another form than the prompt wants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vistune.errors import VistuneError
from vistune.exchange import Reply, Request, Teacher, request_id
from vistune.hashing import digest, keyed, uniform
from vistune.params import unknown
from vistune.progress import Progress
from vistune.self_instruct.facts import Facts
from vistune.self_instruct.parse import Pair, Unparsable, parse
from vistune.self_instruct.prompts import KINDS, load, user_message

if TYPE_CHECKING:
    from vistune.self_instruct import Params

STAGE = "self_instruct"


@dataclass(frozen=True)
class Answered:
    """One request and what came of it."""

    request: Request
    reply: Reply
    problem: str  # why the reply could not be parsed, or ""

    @property
    def status(self) -> str:
        return "unparsable" if self.problem else self.reply.status


@dataclass
class Exchange:
    """All that was asked for one kind of dialogue about one image. The last reply counts."""

    request: Request  # the latest
    answered: list[Answered] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)

    @property
    def last(self) -> Answered:
        return self.answered[-1]


def check(params: Params) -> None:
    """Raises VistuneError for a kind of dialogue there is no prompt for, or a share that is none."""
    for kind, share in params.kinds.items():
        if kind not in KINDS:
            raise VistuneError(unknown(f"self_instruct.kinds.{kind}", [f"self_instruct.kinds.{k}" for k in KINDS]))
        if not 0 <= share <= 1:
            raise VistuneError(f"self_instruct.kinds.{kind} is {share}; expected a share of the images, from 0 to 1.")


def kinds_of(image: str, params: Params, seed: int) -> list[str]:
    """The kinds of dialogue the image with this id gets."""
    return [k for k in KINDS if uniform(seed, STAGE, "kind", k, image) < params.kinds.get(k, 0.0)]


def within_budget(planned: int, params: Params) -> None:
    """Raises VistuneError when so many requests are more than may be sent."""
    if planned > params.max_requests:
        raise VistuneError(
            f"the chosen images need {planned:,} requests, but self_instruct.max_requests allows "
            f"{params.max_requests:,}. Lower self_instruct.images or the shares in self_instruct.kinds, or raise "
            "the budget. Nothing was sent."
        )


@dataclass
class Asked:
    """What was asked, and what it took."""

    planned: int = 0  # requests, without those that were asked again
    statuses: Counter[str] = field(default_factory=Counter)  # requests by how they ended
    tokens: Counter[str] = field(default_factory=Counter)
    usage: Counter[str] = field(default_factory=Counter)  # what was sent, reused and tried again
    problems: set[str] = field(default_factory=set)

    def merge(self, other: Asked) -> None:
        self.planned += other.planned
        self.problems |= other.problems
        for name in ("statuses", "tokens", "usage"):
            getattr(self, name).update(getattr(other, name))


class Asker:
    """Asks a teacher within a budget: `planned` requests are certain, what is left goes to asking again."""

    def __init__(self, teacher: Teacher, params: Params, seed: int, planned: int) -> None:
        self.teacher, self.params, self.seed = teacher, params, seed
        self.planned, self.spare = planned, params.max_requests - planned
        self.statuses: Counter[str] = Counter()  # requests by how they ended
        self.tokens: Counter[str] = Counter()

    def asked(self) -> Asked:
        """What was asked so far."""
        usage = self.teacher.usage
        spent = {"requests_sent": usage.sent, "requests_reused": usage.reused, "retries": usage.retries}
        return Asked(self.planned, self.statuses, self.tokens, Counter(spent), set(usage.problems))

    def ask(self, facts: Iterable[Facts], progress: Progress) -> list[Exchange]:
        """One finished exchange for each image and kind, in that order."""
        exchanges = [
            Exchange(self._request(about, kind, 0))
            for about in facts
            for kind in kinds_of(about.image.id, self.params, self.seed)
        ]
        waiting = exchanges
        for attempt in range(self.params.reasks + 1):
            replies = self._replies([e.request for e in waiting], progress if attempt == 0 else None)
            again = []
            for exchange in waiting:
                done = self._parsed(exchange, replies[exchange.request.id])
                if done.problem and attempt < self.params.reasks and self.spare > 0:
                    self.spare -= 1
                    exchange.request = self._request(done.request.facts, done.request.kind, attempt + 1)
                    again.append(exchange)
            if not again:
                break
            waiting = again
        return exchanges

    def _replies(self, requests: list[Request], progress: Progress | None) -> dict[str, Reply]:
        replies: dict[str, Reply] = {}
        for reply in self.teacher.ask(requests):
            replies[reply.request] = reply
            if progress is not None:
                progress.step()
        lost = [r for r in requests if r.id not in replies]
        if lost:
            raise VistuneError(
                f"{self.teacher.name} gave no reply to {len(lost)} of {len(requests)} requests, the first being "
                f"{lost[0].id[:12]}… ({lost[0].kind} of {lost[0].facts.image.id}). This is a defect of the teacher."
            )
        return replies

    def _parsed(self, exchange: Exchange, reply: Reply) -> Answered:
        problem = ""
        if reply.status == "ok":
            try:
                exchange.pairs = parse(reply.text)
            except Unparsable as error:
                problem = str(error)
        done = Answered(exchange.request, reply, problem)
        exchange.answered.append(done)
        self.statuses[done.status] += 1
        self.tokens["prompt"] += reply.prompt_tokens or 0
        self.tokens["completion"] += reply.completion_tokens or 0
        return done

    def _request(self, facts: Facts, kind: str, attempt: int) -> Request:
        prompt, p = load(kind), self.params
        messages = prompt.messages(user_message(kind, facts, self.seed))
        seed = keyed(self.seed, STAGE, "sampling", facts.image.id, prompt.key, attempt) % 2**31
        given = {"temperature": p.temperature, "top_p": p.top_p, "max_tokens": p.max_tokens, "seed": seed, **p.extra}
        sampling = {name: value for name, value in given.items() if value is not None}
        id = request_id(prompt.key, messages, self.teacher.model, sampling, attempt)
        return Request(id, kind, prompt.key, messages, sampling, attempt, facts, self.seed)


def rows(exchange: Exchange, teacher: str) -> Iterator[dict[str, Any]]:
    """The lines of `requests.jsonl` for one exchange."""
    for done in exchange.answered:
        yield {
            "id": done.request.id,
            "image": done.request.facts.image.id,
            "kind": done.request.kind,
            "prompt": done.request.prompt,
            "prompt_sha256": load(done.request.kind).sha256,
            "teacher": teacher,
            "attempt": done.request.attempt,
            "status": done.status,
            "reply": done.reply.text,
            "reply_sha256": digest(done.reply.text),
            "prompt_tokens": done.reply.prompt_tokens,
            "completion_tokens": done.reply.completion_tokens,
        }
