"""Answers of a model behind an OpenAI-compatible server: vLLM, SGLang, or an API.

The client is that of teachers and judges (`vistune.endpoint`): bounded concurrency, retries, back-off. Pictures go as
data URLs, made when their request is sent. Choices are ranked only where the server says how likely the tokens of a
prompt are (vLLM's `prompt_logprobs`): then an answer, with what ends its turn, is what a prompt with it has more than
the prompt before it.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vistune.endpoint import Endpoint, Passing, api_key
from vistune.errors import VistuneError
from vistune.evaluate.images import Pictures
from vistune.evaluate.questions import Question, before
from vistune.exchange import Reply, Request
from vistune.hashing import digest
from vistune.records import ImageRef, Message

if TYPE_CHECKING:
    from pathlib import Path

    from vistune.evaluate import Server

Part = tuple[int, int]

MOST_STOPS = 4
"""Stop strings that APIs take; all are cut here in any case."""


@dataclass(frozen=True)
class Asked:
    number: int
    question: Question
    wanted: tuple[int, ...]  # its values

    @property
    def parts(self) -> list[Part]:
        return [(self.number, part) for part in self.wanted]

    def only(self, wanted: Set[Part]) -> Asked:
        return replace(self, wanted=tuple(part for part in self.wanted if (self.number, part) in wanted))


class ServerEngine:
    """The engine of `lm.VistuneLM` for one server and model. Raises VistuneError where the key is not set."""

    def __init__(self, params: Server, pictures: Pictures, section: str, seed: int = 0) -> None:
        self.params, self.pictures, self.section, self.seed = params, pictures, section, seed
        self.key = api_key(params, section)
        self.fingerprint = digest(["server", params.base_url, params.model, dict(params.extra)])
        self.tokens, self.note = 0, ""  # which are the server's business
        self.spent = dict.fromkeys(("prompt_tokens", "completion_tokens", "retries"), 0.0)

    def plan(self, questions: Sequence[Question]) -> list[list[Asked]]:
        return [[Asked(n, question, tuple(range(question.parts)))] for n, question in enumerate(questions)]

    def stream(
        self, planned: Sequence[list[Asked]], keep: Callable[[dict[Part, Any]], None]
    ) -> Iterator[tuple[list[Asked], dict[Part, Any]]]:
        """In the order of their arrival. `keep` has each value before it is given, in the thread that received it. A
        question that stays without an answer is left out."""
        asked = [one for batch in planned for one in batch]
        lengths = self._lengths([one for one in asked if one.question.answers])
        where: dict[str, tuple[Asked, int]] = {}
        requests = []
        for one in asked:
            for part in one.wanted:
                request = self._request(one, part)
                where[request.id] = one, part
                requests.append(request)

        def value(reply: Reply) -> dict[Part, Any]:
            one, part = where[reply.request]
            return {(one.number, part): _value(reply, one.question, lengths.get(one.number, 0))}

        for reply in self._ask(requests, lambda reply: keep(value(reply))):
            one, part = where[reply.request]
            yield [one.only({(one.number, part)})], value(reply)

    def windows(self, text: str) -> list[Question]:
        raise VistuneError("running text has no perplexity on a chat server; evaluate such tasks on a model of ours.")

    def _lengths(self, asked: Sequence[Asked]) -> dict[int, int]:
        """Tokens of each prompt, as the server counts them."""
        requests = {f"length:{one.number}": one for one in asked}
        made = [self._made(name, one, one.question.turns, {"max_tokens": 1}) for name, one in requests.items()]
        found: dict[int, int] = {}
        for reply in self._ask(made, lambda reply: None):
            if reply.prompt_tokens is None:
                raise _no_ranking(requests[reply.request].question.task, self.params.model)
            found[requests[reply.request].number] = reply.prompt_tokens
        return found

    def _request(self, one: Asked, part: int) -> Request:
        question, name = one.question, f"{one.number}:{part}"
        if question.answers:
            turns = (*question.turns, Message("assistant", question.answers[part]))
            return self._made(name, one, turns, {"max_tokens": 1, "prompt_logprobs": 0, "add_generation_prompt": False})
        sampling: dict[str, Any] = {"temperature": question.temperature, "max_tokens": question.longest}
        if question.stops:
            sampling["stop"] = list(question.stops[:MOST_STOPS])
        return self._made(name, one, question.turns, sampling)

    def _made(self, name: str, one: Asked, turns: Sequence[Message], sampling: Mapping[str, Any]) -> Request:
        given = {"temperature": 0.0, **sampling, **self.params.extra}
        body = {key: value for key, value in given.items() if value is not None}
        messages: Any = Messages(turns, one.question.images, self.pictures)
        return Request(name, one.question.task, one.question.task, messages, body, 0, None, self.seed)

    def _ask(self, requests: Sequence[Request], keep: Callable[[Reply], None]) -> Iterator[Reply]:
        """The answered ones."""
        ledger: Any = Kept(keep)
        endpoint = Scoring(self.params, self.key, ledger, self.section)
        for reply in endpoint.ask(requests):
            self.spent["prompt_tokens"] += reply.prompt_tokens or 0
            self.spent["completion_tokens"] += reply.completion_tokens or 0
            if reply.status != "unanswered":
                yield reply
        self.spent["retries"] += endpoint.usage.retries


class Messages(Sequence[Mapping[str, Any]]):
    """A chat as the server takes it, made when it is sent: pictures as data URLs are a third larger than their
    files."""

    def __init__(self, turns: Sequence[Message], images: Sequence[ImageRef], pictures: Pictures) -> None:
        self.turns, self.images, self.pictures = turns, images, pictures

    def __len__(self) -> int:
        return len(self.turns)

    def __getitem__(self, n: Any) -> Any:
        from vistune.models.processed import pieces

        turn = self.turns[n]
        if not turn.images:
            return {"role": turn.role, "content": turn.text}
        content: list[dict[str, Any]] = []
        for words, image in pieces(turn):
            url = {"url": data_url(self.pictures, self.images[image])} if not words else {}
            content.append({"type": "text", "text": words} if words else {"type": "image_url", "image_url": url})
        return {"role": turn.role, "content": content}


class Kept:
    """Where `Endpoint` expects a ledger: answers are logged by who asked."""

    path: Path | str = "the response log"

    def __init__(self, keep: Callable[[Reply], None]) -> None:
        self.keep, self.count = keep, 0

    def __len__(self) -> int:
        return self.count

    def get(self, request: str) -> None:
        return None

    def record(self, request: Request, reply: Reply) -> None:
        self.keep(reply)
        self.count += 1


class Scoring(Endpoint):
    """Reads how likely the tokens of a prompt are, where that was asked: the reply's text is then a JSON list of
    [log-probability, rank, text] of each token, null for the first."""

    def _read(self, request: Request, body: bytes) -> Reply:
        reply = super()._read(request, body)
        if "prompt_logprobs" not in request.sampling:
            return reply
        try:
            tree = json.loads(body)
            listed = tree.get("prompt_logprobs") or tree["choices"][0].get("prompt_logprobs")
            if not listed:
                raise _no_ranking(request.kind, self.model)
            tokens = [None if not entry else _token(entry) for entry in listed]
        except (LookupError, TypeError, AttributeError) as error:
            raise Passing(f"prompt_logprobs cannot be read ({error!r:.80})") from None
        return replace(reply, status="ok", text=json.dumps(tokens))


def _token(entry: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    found = next(iter(entry.values()))  # the prompt's own token comes first
    return [float(found["logprob"]), found.get("rank"), found.get("decoded_token") or ""]


def _value(reply: Reply, question: Question, length: int) -> list[Any]:
    if question.answers:
        tokens = json.loads(reply.text)[length:]
        while len(tokens) > 1 and not tokens[-1][2].strip():  # blanks behind the end of the turn
            tokens.pop()
        if not tokens:
            raise VistuneError(f"task {question.task}: the server's chat template does not go on from its prompts.")
        total = math.fsum(logprob for logprob, _, _ in tokens)
        return [total, all(rank == 1 for _, rank, _ in tokens), len(tokens)]
    ended = {"ok": "stop"}.get(reply.status, reply.status)
    return [before(reply.text, question.stops), ended]


def _no_ranking(task: str, model: str) -> VistuneError:
    return VistuneError(
        f"task {task} ranks choices by log-likelihood, and the server of {model} does not say how likely the tokens of "
        "a prompt are (vLLM's prompt_logprobs). Use tasks that are answered in free text for it."
    )


def data_url(pictures: Pictures, image: ImageRef) -> str:
    """The picture upright and without loss."""
    data = io.BytesIO()
    pictures.open(image).save(data, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
