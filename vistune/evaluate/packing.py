"""Many questions about the same pictures in one sequence, as a tree: prefix -> questions -> answers.

The prefix (with the pictures) is computed once and stays in the cache; what is laid out here follows it. Every token
sees the prefix, its own question and its own answer, and its position continues from there, so each answer is scored
as if it stood alone. Only tokens that are needed to predict a next one are laid out: an answer of n tokens adds n - 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

PAD = -1

PREFIX = -1
"""The last token of the prefix, where it predicts the first of an answer."""


@dataclass(frozen=True)
class Ask:
    """What follows the prefix of one question, as token ids: the rest of the prompt (nothing where the prefix is all
    of it), and answers to score; an answer ends with the end of turn."""

    question: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...] = ()

    @property
    def tokens(self) -> int:
        """What it adds to a row."""
        return len(self.question) + sum(len(a) - 1 for a in self.answers)


@dataclass(frozen=True)
class Row:
    """The continuations of one prefix. The first four lists have one entry per token."""

    ids: list[int]
    places: list[int]  # from the end of the prefix
    question: list[int]  # from 1: which question the token belongs to
    answer: list[int]  # 0: shared by the answers, else which answer of the row
    reads: list[tuple[int, int]]  # (token that predicts, token id to be predicted), answers one after the other
    lengths: list[int]  # tokens per answer, in the order of the asks
    lasts: list[int]  # the last token of each question, or PREFIX


def lay_out(asks: Sequence[Ask]) -> Row:
    """The tree of `asks` behind their prefix.

    >>> row = lay_out([Ask((3, 4), ((5, 9), (6, 7, 9)))])
    >>> row.ids, row.places
    ([3, 4, 5, 6, 7], [0, 1, 2, 2, 3])
    >>> row.reads, row.lengths
    ([(1, 5), (2, 9), (1, 6), (3, 7), (4, 9)], [2, 3])
    >>> lay_out([Ask((), ((5, 9),))]).reads
    [(-1, 5), (0, 9)]
    """
    row = Row([], [], [], [], [], [], [])
    for number, ask in enumerate(asks, 1):
        row.ids.extend(ask.question)
        row.places.extend(range(len(ask.question)))
        row.question.extend([number] * len(ask.question))
        row.answer.extend([0] * len(ask.question))
        last = len(row.ids) - 1 if ask.question else PREFIX
        row.lasts.append(last)
        for tokens in ask.answers:
            begin, fed = len(row.ids), len(tokens) - 1
            row.ids.extend(tokens[:-1])
            row.places.extend(range(len(ask.question), len(ask.question) + fed))
            row.question.extend([number] * fed)
            row.lengths.append(len(tokens))
            row.answer.extend([len(row.lengths)] * fed)
            row.reads.extend(zip([last, *range(begin, begin + fed)], tokens, strict=True))
    return row


def visible(question: Tensor, answer: Tensor) -> Tensor:
    """Attention mask bool (B, T, T), True where a token may look, from int64 (B, T) tree coordinates.

    Padding (`PAD` in both) sees itself, so that no softmax row is empty; nothing else sees padding.
    """
    import torch

    length = question.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool, device=question.device).tril()
    same_question = question[:, None, :] == question[:, :, None]
    same_answer = (answer[:, None, :] == 0) | (answer[:, None, :] == answer[:, :, None])
    return earlier & same_question & same_answer


def shared(prompts: Sequence[tuple[int, ...]], most: int) -> int:
    """How many ids all prompts begin with, at most `most`.

    >>> shared([(1, 2, 3), (1, 2, 4, 5)], 9), shared([(1, 2)], 1)
    (2, 1)
    """
    first, last = min(prompts), max(prompts)  # in the order of their ids, all others lie between them
    same = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return min(same, most)


def split(sizes: Sequence[int], most: int) -> list[list[int]]:
    """Deals asks of `sizes` tokens into rows of at most `most` tokens, in order; one that is longer gets its own row.

    >>> split([5, 5, 30, 5], 12)
    [[0, 1], [2], [3]]
    """
    rows: list[list[int]] = []
    used = 0
    for n, size in enumerate(sizes):
        if not rows or used + size > most:
            rows.append([])
            used = 0
        rows[-1].append(n)
        used += size
    return rows


def batches(sizes: Sequence[tuple[int, int]], tokens: int) -> list[list[int]]:
    """Groups rows of similar size so that rows x (longest prefix + longest rest) stays within `tokens`; a larger row
    goes alone. sizes: (tokens of the prefix with its pictures, of the rest).

    >>> batches([(3, 0), (5, 4), (4, 0), (5, 3)], 18)
    [[1, 3], [2, 0]]
    """
    groups: list[list[int]] = []
    prefix = rest = 0
    for n in sorted(range(len(sizes)), key=lambda n: (-sizes[n][0], -sizes[n][1], n)):
        wider = max(rest, sizes[n][1])
        if not groups or (prefix + wider) * (len(groups[-1]) + 1) > tokens:
            groups.append([])
            prefix, wider = sizes[n]
        groups[-1].append(n)
        rest = wider
    return groups
