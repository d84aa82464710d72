"""Many questions about one image in one sequence, as a tree: prefix -> questions -> answers.

The prefix (with the image) is computed once. Every token sees the prefix, its own question and its own answer, and
its position continues from there, so each answer is scored as if it stood alone. Only tokens that are needed to
predict a next one are laid out: an answer of n tokens adds n - 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

PAD = -1


@dataclass(frozen=True)
class Ask:
    """One question and the answers to score after it, as token ids; an answer ends with the end of turn."""

    question: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]

    @property
    def tokens(self) -> int:
        """What it adds to a row."""
        return len(self.question) + sum(len(a) - 1 for a in self.answers)


@dataclass(frozen=True)
class Row:
    """One sequence. All lists but the last two have one entry per token."""

    ids: list[int]
    places: list[int]  # position ids
    question: list[int]  # 0: prefix, else which question the token belongs to
    answer: list[int]  # 0: shared by the answers, else which answer of the row
    reads: list[tuple[int, int]]  # (token that predicts, token id to be predicted), answers one after the other
    lengths: list[int]  # tokens per answer, in the order of the asks


def lay_out(prefix: Sequence[int], asks: Sequence[Ask]) -> Row:
    """The tree of `asks` over one prefix.

    >>> row = lay_out([1, 2], [Ask((3, 4), ((5, 9), (6, 7, 9)))])
    >>> row.ids, row.places
    ([1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 4, 5])
    >>> row.reads, row.lengths
    ([(3, 5), (4, 9), (3, 6), (5, 7), (6, 9)], [2, 3])
    """
    ids, places = list(prefix), list(range(len(prefix)))
    question, answer = [0] * len(prefix), [0] * len(prefix)
    reads: list[tuple[int, int]] = []
    lengths: list[int] = []
    for number, ask in enumerate(asks, 1):
        ids += ask.question
        places += range(len(prefix), len(prefix) + len(ask.question))
        question += [number] * len(ask.question)
        answer += [0] * len(ask.question)
        last = len(ids) - 1
        after = len(prefix) + len(ask.question)
        for tokens in ask.answers:
            begin, fed = len(ids), len(tokens) - 1
            ids += tokens[:-1]
            places += range(after, after + fed)
            question += [number] * fed
            lengths.append(len(tokens))
            answer += [len(lengths)] * fed
            reads += zip([last, *range(begin, begin + fed)], tokens, strict=True)
    return Row(ids, places, question, answer, reads, lengths)


def visible(question: Tensor, answer: Tensor) -> Tensor:
    """Attention mask bool (B, 1, T, T), True where a token may look, from int64 (B, T) tree coordinates.

    Padding (`PAD` in both) sees the prefix and itself, so that no softmax row is empty; nothing sees padding.
    """
    import torch

    length = question.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool, device=question.device).tril()
    same_question = (question[:, None, :] == 0) | (question[:, None, :] == question[:, :, None])
    same_answer = (answer[:, None, :] == 0) | (answer[:, None, :] == answer[:, :, None])
    return (earlier & same_question & same_answer)[:, None]


def split(prefix_tokens: int, sizes: Sequence[int], most: int) -> list[list[int]]:
    """Deals asks of `sizes` tokens into rows of at most `most` tokens, in order; one that is longer gets its own row.

    >>> split(10, [5, 5, 30, 5], 22)
    [[0, 1], [2], [3]]
    """
    rows: list[list[int]] = []
    used = 0
    for n, size in enumerate(sizes):
        if not rows or used + size > most:
            rows.append([])
            used = prefix_tokens
        rows[-1].append(n)
        used += size
    return rows


def batches(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Groups rows of similar length so that rows x longest stays within `tokens` (a longer row goes alone).

    >>> batches([3, 9, 4, 8], 16)
    [[1], [3, 2], [0]]
    """
    groups: list[list[int]] = []
    longest = 0
    for n in sorted(range(len(lengths)), key=lambda n: (-lengths[n], n)):
        if not groups or longest * (len(groups[-1]) + 1) > tokens:
            groups.append([])
            longest = lengths[n]
        groups[-1].append(n)
    return groups
