"""Asking a judge: the same client as self_instruct's teacher, the same ledger of what was answered.

A judge is in session while a suite that needs one is scored. Aggregations of lm-eval ask it for all items at once, so
that requests run side by side; each reply is on disk before it is used and is never paid for twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.endpoint import Endpoint, api_key
from vistune.errors import VistuneError
from vistune.exchange import Reply, Request, request_id
from vistune.hashing import keyed
from vistune.ledger import Ledger, ledger_path

if TYPE_CHECKING:
    from vistune.evaluate import Judge

SECTION = "evaluate.judge"


@dataclass(frozen=True)
class Case:
    """One answer that is to be judged."""

    item: str  # id of the document
    protocol: str  # name of the prompt
    messages: tuple[Mapping[str, str], ...]
    sampling: Mapping[str, Any]  # as the benchmark's authors set it
    about: tuple[str, ...] = ()  # what an aggregation needs to know of the document


class Session:
    """The judge at work. Use inside the ledger's `with`."""

    def __init__(self, params: Judge, endpoint: Endpoint, seed: int) -> None:
        self.params, self.endpoint, self.seed = params, endpoint, seed
        self.versions: set[str] = set()  # that answered, as the server names them
        self._known: dict[str, Reply] = {}

    def replies(self, cases: Sequence[Case]) -> list[list[str]]:
        """The text of each vote on each case; "" where the server gave none."""
        asked = [[self._request(case, vote) for vote in range(self.params.votes)] for case in cases]
        missing = [request for one in asked for request in one if request.id not in self._known]
        for reply in self.endpoint.ask(missing):
            self._known[reply.request] = reply
            self.versions |= {reply.model} - {""}
        return [[self._text(self._known[request.id]) for request in one] for one in asked]

    def about(self) -> dict[str, Any]:
        """What a score depends on besides the answers. A judge behind an API changes with its version."""
        return {"model": self.params.model, "versions": sorted(self.versions), "votes": self.params.votes}

    def _request(self, case: Case, vote: int) -> Request:
        own = {"temperature": self.params.temperature, "max_tokens": self.params.max_tokens}
        sampling = {**case.sampling, **{name: value for name, value in own.items() if value is not None}}
        if self.params.votes > 1:
            sampling["seed"] = keyed(self.seed, "judge", case.item, vote) % (1 << 31)
        id = request_id(case.protocol, case.messages, self.params.model, sampling, vote)
        return Request(id, "judge", case.protocol, case.messages, sampling, vote, None, self.seed)

    def _text(self, reply: Reply) -> str:
        return reply.text if reply.status in ("ok", "length") else ""


_session: ContextVar[Session | None] = ContextVar("judge", default=None)


@contextlib.contextmanager
def in_session(params: Judge, home: Path, seed: int) -> Iterator[None]:
    """Inside, `replies` asks this judge; without a model's name, none. Raises VistuneError when the key is missing."""
    if not params.model:
        yield
        return
    key = api_key(params, SECTION)
    if params.votes < 1:
        raise VistuneError(f"{SECTION}.votes is {params.votes}; expected at least 1.")
    with Ledger(ledger_path(home / "judge", params.model)) as ledger:
        session = Session(params, Endpoint(params, key, ledger, SECTION), seed)
        token = _session.set(session)
        try:
            yield
        finally:
            _session.reset(token)


def session(task: str) -> Session:
    """The judge in session. Raises VistuneError, which names the task that needs it, when there is none."""
    found = _session.get()
    if found is None:
        raise VistuneError(
            f"{task} needs a judge: set {SECTION}.model, and base_url unless it is OpenAI's, or leave {task} out."
        )
    return found


def replies(cases: Sequence[Case]) -> list[list[str]]:
    """The votes on each case as text. Raises VistuneError when no judge is in session."""
    return session(cases[0].item.partition("/")[0]).replies(cases)


def about() -> dict[str, Any] | None:
    """The judge in session, if any."""
    found = _session.get()
    return found.about() if found else None
