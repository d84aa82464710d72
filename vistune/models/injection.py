"""Pictures in a token sequence: sentinels become placeholders, placeholders become visual tokens.

Families differ in what a picture's placeholders are (`layout`), not in how they are filled: each is one ordinary
position whose embedding a visual token replaces, and whose label is never learned. So all lengths, limits and
mismatches are known from ids alone, before a model runs.

`parity=True` does what the authors' code does where we refuse: LLaVA cuts a too-long sequence wherever the limit falls,
within a picture too; InternVL fills placeholders with the first visual tokens when there are too many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from vistune.errors import VistuneError
from vistune.models.labels import IGNORE

SENTINEL = -200
"""Of LLaVA and its descendants: one in the ids for each picture."""


class Sequenced(NamedTuple):
    """One sample, expanded."""

    ids: list[int]
    labels: list[int]  # IGNORE where not learned


class Batch(NamedTuple):
    ids: Tensor  # int64 (B, T), 0 at padding
    labels: Tensor  # int64 (B, T), IGNORE where not learned
    mask: Tensor  # bool (B, T), False at padding
    positions: Tensor  # int64 (B, T), from 0 at each sample's first token; 0 at padding


def expand(
    ids: Sequence[int],
    labels: Sequence[int],
    pictures: Sequence[Sequence[int]],
    sentinel: int = SENTINEL,
    limit: int | None = None,
    sample: str = "",
    parity: bool = False,
) -> Sequenced:
    """Each sentinel gives way to its picture's ids, in order; all of them are labelled IGNORE, text between views too.
    Raises VistuneError where there are more or fewer pictures than sentinels, and for a sample longer than `limit`.
    With `parity` a longer one is cut: only as many of its visual tokens may follow as its ids still have placeholders.

    >>> expand([1, -200, 5], [-100, -100, 5], [[9, 9]])
    Sequenced(ids=[1, 9, 9, 5], labels=[-100, -100, -100, 5])
    """
    where = f" (sample {sample})" if sample else ""
    wanted = list(ids).count(sentinel)
    if wanted != len(pictures):
        raise VistuneError(f"{wanted} image tokens but {len(pictures)} images{where}.")
    long = Sequenced([], [])
    rest = iter(pictures)
    for token, label in zip(ids, labels, strict=True):
        picture = next(rest) if token == sentinel else None
        long.ids.extend([token] if picture is None else picture)
        long.labels.extend([label] if picture is None else [IGNORE] * len(picture))
    if limit is not None and len(long.ids) > limit:
        if not parity:
            raise VistuneError(f"{len(long.ids)} tokens, but at most {limit} fit{where}.")
        long = Sequenced(long.ids[:limit], long.labels[:limit])
    return long


def pad(samples: Sequence[Sequenced], side: Literal["left", "right"] = "right") -> Batch:
    """Samples of different lengths as one batch."""
    length = max(len(sample.ids) for sample in samples)
    batch = Batch(
        torch.zeros(len(samples), length, dtype=torch.long),
        torch.full((len(samples), length), IGNORE),
        torch.zeros(len(samples), length, dtype=torch.bool),
        torch.zeros(len(samples), length, dtype=torch.long),
    )
    for n, sample in enumerate(samples):
        count = len(sample.ids)
        place = slice(length - count, length) if side == "left" else slice(0, count)
        batch.ids[n, place] = torch.tensor(sample.ids, dtype=torch.long)
        batch.labels[n, place] = torch.tensor(sample.labels, dtype=torch.long)
        batch.mask[n, place] = True
        batch.positions[n, place] = torch.arange(count)
    return batch


def embed(
    ids: Tensor,
    visual: Tensor | None,
    placeholder: int,
    table: Callable[[Tensor], Tensor],
    mask: Tensor | None = None,
    parity: bool = False,
) -> Tensor:
    """Embeddings (B, T, D) of ids int64 (B, T): `visual` (N, D) takes the placeholders in reading order, `table` embeds
    the rest, padding (`mask` False) is zero. `placeholder` needs no row in the table. Raises VistuneError with both
    counts where they differ."""
    slots = ids == placeholder
    if mask is not None:
        slots = slots & mask
    wanted, given = int(slots.sum()), 0 if visual is None else len(visual)
    if wanted != given and not (parity and wanted < given):
        raise VistuneError(f"{wanted} image placeholders but {given} visual tokens in one batch.")
    keep = ~slots if mask is None else mask & ~slots
    embeddings = table(ids.masked_fill(~keep, 0)) * keep[..., None]
    if visual is None:
        return embeddings
    return embeddings.masked_scatter(slots[..., None], visual.to(embeddings.dtype))
