"""The teachers: who answers a request.

`grammar` composes dialogues from the annotations by rule. It is deterministic and free, needs no network, and is no
language model: its range is that of `grammar.yaml`. `openai` asks a model behind any endpoint that speaks OpenAI's
chat completions.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from vistune.exchange import Reply, Request, Teacher, Usage
from vistune.ledger import Ledger, ledger_path
from vistune.self_instruct.grammar import compose
from vistune.self_instruct.speech import phrases

if TYPE_CHECKING:
    from vistune.self_instruct import Params
    from vistune.stages import Context


class GrammarTeacher:
    """Writes what a model would reply, from `Request.facts` alone."""

    def __init__(self) -> None:
        self.model = f"grammar@{phrases()['version']}"
        self.name = self.model
        self.usage = Usage()

    def ask(self, requests: Iterable[Request]) -> Iterator[Reply]:
        for request in requests:
            turns = [{"question": q, "answer": a} for q, a in compose(request.kind, request.facts, request.seed)]
            yield Reply(request.id, "ok" if turns else "empty", json.dumps({"turns": turns}, ensure_ascii=False))


@contextlib.contextmanager
def _grammar(params: Params, context: Context) -> Iterator[Teacher]:
    yield GrammarTeacher()


@contextlib.contextmanager
def _openai(params: Params, context: Context) -> Iterator[Teacher]:
    from vistune.endpoint import Endpoint, api_key

    key = api_key(params, "self_instruct", "use self_instruct.teacher=grammar, which needs none")
    with Ledger(ledger_path(context.home, params.model)) as ledger:
        yield Endpoint(params, key, ledger, "self_instruct")


TEACHERS: dict[str, Callable[[Params, Context], contextlib.AbstractContextManager[Teacher]]] = {
    "grammar": _grammar,
    "openai": _openai,
}


def build_teacher(params: Params, context: Context) -> contextlib.AbstractContextManager[Teacher]:
    """The teacher named in the parameters. Raises VistuneError when it lacks its model or key."""
    return TEACHERS[params.teacher](params, context)
