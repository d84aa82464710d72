"""Scores and greedy answers behind shared prefixes, for all rows of a batch at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vistune.evaluate.packing import PAD, PREFIX, Row, lay_out, split, visible
from vistune.evaluate.questions import before

if TYPE_CHECKING:
    from vistune.evaluate.engine import Asked, Visit
    from vistune.evaluate.prefixes import Prefix, Trunk
    from vistune.models.families.base import Picture

BRANCH_TOKENS = 512
"""Questions behind one prefix are computed in pieces of so many tokens: attention over a row costs its square."""


def run(trunk: Trunk, batch: Sequence[Visit], pictures: Sequence[Picture], seen: Sequence[Any]) -> dict[Any, Any]:
    """The values of all parts of the batch: [sum of log-probabilities in nats, every token the most likely one, number
    of tokens] of an answer, or [text, "stop" or "length"]. pictures, seen: as `Trunk.prefix` takes them."""
    last = any(not one.ask.question for visit in batch for one in visit.asked)
    prefix = trunk.prefix([visit.prefix for visit in batch], pictures, seen, last)
    length = prefix.owner.shape[1]
    pieces = [split([one.ask.tokens for one in visit.asked], BRANCH_TOKENS) for visit in batch]
    rounds = max(map(len, pieces))
    found: dict[Any, Any] = {}
    for n in range(rounds):
        prefix.forget(length)
        rows = [
            [visit.asked[k] for k in piece[n]] if n < len(piece) else []
            for visit, piece in zip(batch, pieces, strict=True)
        ]
        scored = any(one.ask.answers for row in rows for one in row)
        found |= score(trunk, prefix, rows) if scored else decode(trunk, prefix, rows, n + 1 == rounds)
    return found


def score(trunk: Trunk, prefix: Prefix, rows: Sequence[Sequence[Asked]]) -> dict[Any, Any]:
    laid = [lay_out([one.ask for one in row]) for row in rows]
    reads = [(n, token, target) for n, row in enumerate(laid) for token, target in row.reads]
    places = sorted({(n, token) for n, token, _ in reads if token != PREFIX})
    logits = _grown(trunk, prefix, laid, places)
    index = {place: k for k, place in enumerate(places)}
    if any(token == PREFIX for _, token, _ in reads):
        assert prefix.last is not None
        index |= {(n, PREFIX): len(places) + n for n in range(len(rows))}
        logits = prefix.last if logits is None else torch.cat([logits, prefix.last])
    assert logits is not None
    at = torch.tensor([index[n, token] for n, token, _ in reads], device=logits.device)
    wanted = torch.tensor([target for _, _, target in reads], device=logits.device)
    logprobs = (logits[at, wanted] - torch.logsumexp(logits, dim=-1)[at]).tolist()
    greedy = (logits.argmax(-1)[at] == wanted).tolist()
    found: dict[Any, Any] = {}
    start = 0
    parts = ((one.number, part) for row in rows for one in row for part in one.parts)
    for part, length in zip(parts, (length for row in laid for length in row.lengths), strict=True):
        end = start + length
        found[part] = [math.fsum(logprobs[start:end]), all(greedy[start:end]), length]
        start = end
    return found


def decode(trunk: Trunk, prefix: Prefix, rows: Sequence[Sequence[Asked]], final: bool) -> dict[Any, Any]:
    """Each answer ends by itself and then costs nothing more. final: the prefixes are not needed afterwards."""
    laid = [lay_out([one.ask for one in row]) for row in rows]
    asked = [(n, k, one) for n, row in enumerate(rows) for k, one in enumerate(row)]
    places = [(n, laid[n].lasts[k]) for n, k, _ in asked if laid[n].lasts[k] != PREFIX]
    logits = _grown(trunk, prefix, laid, places)
    tokens = iter([] if logits is None else logits.argmax(-1).tolist())
    first = [] if prefix.last is None else prefix.last.argmax(-1).tolist()
    new = [first[n] if laid[n].lasts[k] == PREFIX else next(tokens) for n, k, _ in asked]

    answers: list[list[int]] = [[] for _ in asked]
    ended: dict[int, str] = {}
    alive = list(range(len(asked)))
    row_of = {n: n for n in range(len(rows))}  # row of the batch -> where it is now
    while True:
        for a, token in zip(alive, new, strict=True):
            if token in trunk.ends:
                ended[a] = "stop"
                continue
            answers[a].append(token)
            one = asked[a][2]
            if _stopped(trunk, answers[a], one):
                ended[a] = "stop"
            elif len(answers[a]) == one.longest:
                ended[a] = "length"
        alive = [a for a in alive if a not in ended]
        if not alive:
            break
        left = sorted({asked[a][0] for a in alive})
        if final and 2 * len(left) <= len(row_of):
            prefix.select(torch.tensor([row_of[n] for n in left], device=trunk.device))
            row_of = {n: k for k, n in enumerate(left)}
        given = [(row_of[asked[a][0]], asked[a][1] + 1, _place(asked[a], answers[a])) for a in alive]
        new = _step(trunk, prefix, given, [answers[a][-1] for a in alive], len(row_of))
    return {
        (one.number, one.parts[0]): [_text(trunk, answers[a], one), ended[a]] for a, (_, _, one) in enumerate(asked)
    }


def _grown(trunk: Trunk, prefix: Prefix, laid: Sequence[Row], places: Sequence[tuple[int, int]]) -> Tensor | None:
    """Adds the trees of questions; the logits at `places` (row, token)."""
    width = max(len(row.ids) for row in laid)
    if not width:
        return None

    def padded(name: str, fill: int) -> Tensor:
        lists = [getattr(row, name) for row in laid]
        return torch.tensor([[*x, *[fill] * (width - len(x))] for x in lists], device=trunk.device)

    question, answer = padded("question", PAD), padded("answer", PAD)
    before_them = (prefix.owner == 0)[:, None, :].expand(-1, width, -1)
    mask = torch.cat([before_them, visible(question, answer)], dim=2)
    at = torch.tensor(places, device=trunk.device).reshape(-1, 2).T
    return trunk.go_on(prefix, padded("ids", trunk.reader.pad_id), padded("places", 0), question, mask, at)


def _step(
    trunk: Trunk, prefix: Prefix, given: Sequence[tuple[int, int, int]], last: Sequence[int], rows: int
) -> list[int]:
    """The next token of each answer. given: its row, its question there from 1, the place of its last token."""
    column = [0] * len(given)
    used = [0] * rows
    for a, (row, _, _) in enumerate(given):
        column[a] = used[row]
        used[row] += 1
    index = torch.tensor([[row for row, _, _ in given], column])

    def spread(values: Iterable[int], fill: int) -> Tensor:
        made = torch.full((rows, max(used)), fill)
        made[index[0], index[1]] = torch.tensor(list(values))
        return made.to(trunk.device)

    owner = spread((question for _, question, _ in given), PAD)
    seen = torch.cat([prefix.owner, owner], dim=1)[:, None, :]
    mask = (seen == 0) | (seen == owner[:, :, None])
    ids, places = spread(last, trunk.reader.pad_id), spread((place for _, _, place in given), 0)
    return trunk.go_on(prefix, ids, places, owner, mask, index.to(trunk.device)).argmax(-1).tolist()


def _place(asked: tuple[int, int, Asked], answer: Sequence[int]) -> int:
    """Of an answer's last token, from the end of the prefix."""
    return len(asked[2].ask.question) + len(answer) - 1


def _stopped(trunk: Trunk, ids: Sequence[int], one: Asked) -> bool:
    stops = (*trunk.stop, *one.stops)
    if not stops:
        return False
    text = trunk.reader.tokenizer.decode(ids, skip_special_tokens=True)
    return any(stop in text for stop in stops)


def _text(trunk: Trunk, ids: Sequence[int], one: Asked) -> str:
    return before(trunk.reader.tokenizer.decode(ids, skip_special_tokens=True), (*trunk.stop, *one.stops))
