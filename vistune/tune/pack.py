"""Lengths -> packs -> steps: pure functions of numbers, so that every process and every resumed run plans the same.

A pack is what one process reads at once: samples, one behind the other, that do not see each other. It has two budgets,
the tokens of the language model and the patches of the vision encoder. Packs of equal predicted cost are then dealt to
the processes of a step, and the steps, not the packs, are shuffled: shuffled packs would make every step wait for its
most expensive process.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from vistune.errors import VistuneError
from vistune.hashing import keyed

T = TypeVar("T")

WINDOW = 4096
"""Samples that are packed together. Larger windows waste less, and mix less: what is near in the order stays near."""


def pack(
    tokens: Sequence[int], patches: Sequence[int], most_tokens: int, most_patches: int = 0, window: int = WINDOW
) -> list[list[int]]:
    """Indices of samples by pack, in the order of the windows. Best fit decreasing: within a window the longest sample
    first, each into the fullest pack that has room for it. most_patches: 0 for no limit. Raises VistuneError for a
    sample that is over a budget by itself: those are to be rejected before.

    >>> pack([5, 3, 6, 2], [0, 0, 0, 0], 8)
    [[2, 3], [0, 1]]
    >>> pack([3, 3, 2], [9, 9, 0], 8, 10)
    [[0, 2], [1]]
    """
    packs: list[list[int]] = []
    for start in range(0, len(tokens), window):
        packs += _window(range(start, min(start + window, len(tokens))), tokens, patches, most_tokens, most_patches)
    return packs


def _window(
    samples: Sequence[int], tokens: Sequence[int], patches: Sequence[int], most_tokens: int, most_patches: int
) -> list[list[int]]:
    packs: list[list[int]] = []
    views: list[int] = []  # patches of each pack
    fewest = min((patches[n] for n in samples if patches[n]), default=0)
    # (tokens left, pack), sorted: the first with enough is the fullest. Packs without patches left only take text.
    mixed: list[tuple[int, int]] = []
    text: list[tuple[int, int]] = []
    for n in sorted(samples, key=lambda n: (-tokens[n], -patches[n], n)):
        if tokens[n] > most_tokens or (most_patches and patches[n] > most_patches):
            raise VistuneError(
                f"sample {n} has {tokens[n]} tokens and {patches[n]} patches; a pack holds {most_tokens} tokens"
                f"{f' and {most_patches} patches' if most_patches else ''}."
            )
        found = _fullest(mixed, tokens[n], patches[n], views, most_patches)
        if not patches[n]:
            other = _fullest(text, tokens[n], 0, views, 0)
            if other and (not found or other[0] < found[0]):
                found = other
        if found:
            left, chosen = found
            for room in (mixed, text):
                at = bisect_left(room, found)
                if room[at : at + 1] == [found]:
                    del room[at]
            packs[chosen].append(n)
            views[chosen] += patches[n]
        else:
            left, chosen = most_tokens, len(packs)
            packs.append([n])
            views.append(patches[n])
        if left > tokens[n]:
            full = most_patches and views[chosen] + fewest > most_patches
            insort(text if full else mixed, (left - tokens[n], chosen))
    return packs


def _fullest(
    room: Sequence[tuple[int, int]], tokens: int, patches: int, views: Sequence[int], most_patches: int
) -> tuple[int, int] | None:
    """The fullest pack with so much room."""
    for at in range(bisect_left(room, (tokens, -1)), len(room)):
        if not patches or not most_patches or views[room[at][1]] + patches <= most_patches:
            return room[at]
    return None


def deal(costs: Sequence[float], processes: int, seed: int, *key: str | int) -> list[list[int]]:
    """Indices of packs by step, one for each process: packs of nearly equal cost share a step, the steps are in an
    order drawn from `seed` and `key`, and within a step the costliest goes to each process in turn. The cheapest packs
    may not fill their step: -1 stands for no pack, and a process without one takes part with nothing.

    >>> deal([9, 1, 8, 2], 2, 0)
    [[0, 2], [1, 3]]
    """
    order = sorted(range(len(costs)), key=lambda n: (-costs[n], n))
    groups = [order[n : n + processes] for n in range(0, len(order), processes)]
    if groups:
        groups[-1] += [-1] * (processes - len(groups[-1]))
    drawn = sorted(range(len(groups)), key=lambda n: (keyed(seed, *key, n), n))
    return [_turned(groups[n], step % processes) for step, n in enumerate(drawn)]


def _turned(group: list[int], by: int) -> list[int]:
    return group[-by:] + group[:-by] if by else group


def schedule(
    windows: Iterable[Sequence[T]],
    arrange: Callable[[Sequence[T]], list[list[T]]],
    cost: Callable[[Sequence[T]], float],
    processes: int,
    seed: int,
    *key: str | int,
) -> Iterator[list[list[T]]]:
    """Steps of one pack for each process: each window's packs (`arrange`), dealt by `cost`. What would leave a step
    partly empty is packed with the next window, so that only the last step may have an empty pack.

    >>> two = lambda window: [window[n : n + 2] for n in range(0, len(window), 2)]
    >>> list(schedule([[5, 5, 1], [1, 1]], two, sum, 2, 0))
    [[[5, 5], [1]], [[1, 1], []]]
    >>> list(schedule([[5, 5], [1, 1]], two, sum, 2, 0))
    [[[5, 5], [1, 1]]]
    """
    rest: list[T] = []
    steps = 0
    ahead = iter(windows)
    window = next(ahead, None)
    while window is not None:
        following = next(ahead, None)
        packs = arrange([*rest, *window])
        rest = []
        for dealt in deal([cost(one) for one in packs], processes, seed, *key, steps):
            if -1 in dealt and following is not None:
                rest = [item for n in sorted(dealt) if n >= 0 for item in packs[n]]
                continue
            yield [packs[n] if n >= 0 else [] for n in dealt]
            steps += 1
        window = following


@dataclass(frozen=True)
class Balance:
    """How evenly the processes of each step are loaded. `slowest`: mean over steps of the costliest process's share
    over the mean's, 1 where all are equal; `worst`: of the worst step. Every process waits for the slowest one."""

    steps: int
    slowest: float
    worst: float


def balance(steps: Sequence[Sequence[float]]) -> Balance:
    """steps: of each, what every process's pack costs; 0 for none.

    >>> balance([[4, 4], [2, 1]])
    Balance(steps=2, slowest=1.0909, worst=1.3333)
    """
    most = total = 0.0
    worst = 1.0
    for each in steps:
        mean = sum(each) / len(each)
        most, total = most + max(each), total + mean
        worst = max(worst, max(each) / mean if mean else 1.0)
    return Balance(len(steps), round(most / total, 4) if total else 1.0, round(worst, 4))


def padding(tokens: Sequence[int], packs: Sequence[Sequence[int]], most_tokens: int) -> float:
    """Share of a pack's tokens that nothing fills.

    >>> padding([5, 3, 6, 2], [[2, 3], [0, 1]], 8)
    0.0
    """
    return 1 - sum(tokens[n] for one in packs for n in one) / (len(packs) * most_tokens) if packs else 0.0


def length_groups(tokens: Sequence[int], most_tokens: int, window: int = WINDOW) -> list[list[int]]:
    """The same for models whose samples cannot share a sequence: batches of similar length, padded to their longest
    within the budget.

    >>> length_groups([5, 1, 4, 2], 8)
    [[0], [2, 3], [1]]
    """
    batches: list[list[int]] = []
    for start in range(0, len(tokens), window):
        longest = 0
        current: list[int] = []
        for n in sorted(range(start, min(start + window, len(tokens))), key=lambda n: (-tokens[n], n)):
            if tokens[n] > most_tokens:
                raise VistuneError(f"sample {n} has {tokens[n]} tokens; a batch holds {most_tokens}.")
            if current and longest * (len(current) + 1) > most_tokens:
                batches.append(current)
                current = []
            if not current:
                longest = tokens[n]
            current.append(n)
        if current:
            batches.append(current)
    return batches
