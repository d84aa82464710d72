"""What goes to a chat model (a teacher, a judge) and what comes back. A reply belongs to its request by id, never by
position."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from vistune.hashing import digest

Status = Literal["ok", "empty", "length", "content_filter", "refusal", "unanswered"]
"""How a request ended: answered; the annotations gave nothing to say; cut off at the token limit; withheld by the
server's filter; refused by the model; no answer after all retries. All but the last are answers, and final."""


@dataclass(frozen=True)
class Request:
    """One question."""

    id: str  # sha256 of what is sent, see `request_id`
    kind: str
    prompt: str  # "conversation@1"
    messages: tuple[Mapping[str, str], ...]  # {"role", "content"}, as a chat endpoint takes them
    sampling: Mapping[str, Any]  # fields of the request body besides model and messages
    attempt: int  # 0, then 1, 2 ... when a reply could not be parsed
    facts: Any  # what it is about, for a teacher that reads no prose
    seed: int  # of the run


@dataclass(frozen=True)
class Reply:
    request: str  # Request.id
    status: Status
    text: str
    prompt_tokens: int | None = None  # as the server counted them; None when it did not say
    completion_tokens: int | None = None
    model: str = ""  # the exact version that answered, as the server names it


@dataclass
class Usage:
    """What asking cost in this run."""

    sent: int = 0  # requests answered by the server now, not by the ledger
    reused: int = 0  # requests the ledger already held an answer to
    retries: int = 0
    unanswered: int = 0
    problems: list[str] = field(default_factory=list)


class Teacher(Protocol):
    """Answers requests in any order. Raises VistuneError when it cannot go on; what was answered until then is kept
    wherever the teacher keeps it, so that the next run asks only for the rest."""

    name: str  # "grammar@1", "openai:<model>"
    model: str  # what requests are addressed to
    usage: Usage

    def ask(self, requests: Iterable[Request]) -> Iterator[Reply]: ...


def request_id(prompt: str, messages: Iterable[Mapping[str, str]], model: str, sampling: Any, attempt: int) -> str:
    """The identity of a request: everything that shapes its answer, and nothing else (no key, no address)."""
    return digest(
        {"prompt": prompt, "messages": list(messages), "model": model, "sampling": sampling, "attempt": attempt}
    )
