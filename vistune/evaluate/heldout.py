"""Which benchmarks are zero-shot: task clusters, as FLAN has them (arXiv 2109.01652).

A data set counts as unseen only if nothing of any cluster it belongs to was trained on: a model that learned from GQA
has seen the task of VizWiz although none of its pictures. `eval/clusters.yaml` says which data sets are alike. What is
not in that table is unknown, and unknown is not unseen.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vistune.errors import VistuneError
from vistune.params import parse, read_tree

Status = Literal["unseen", "held_in", "cluster_trained", "unknown"]


@dataclass(frozen=True)
class Table:
    """A file like eval/clusters.yaml."""

    clusters: dict[str, tuple[str, ...]]  # cluster -> data sets; one may be in several


@dataclass(frozen=True)
class Standing:
    """How far a benchmark is from what was trained on."""

    status: Status
    clusters: tuple[str, ...]
    because: str


def load_table(path: Path) -> Table:
    """Raises VistuneError unless the file is a table of clusters with at least one data set each."""
    if not path.is_file():
        raise VistuneError(f"there is no table of task clusters at {path}.")
    table = parse(Table, read_tree(path.read_text(encoding="utf-8"), str(path)), path.stem)
    empty = [cluster for cluster, members in table.clusters.items() if not members]
    if empty:
        raise VistuneError(f"{path}: the cluster {empty[0]!r} has no data sets.")
    return table


def standing(benchmark: str, trained: Collection[str], table: Table) -> Standing:
    """Where a benchmark stands when these data sets were trained on.

    >>> table = Table({"short answers": ("vqav2", "gqa"), "charts": ("chartqa",), "reading": ("chartqa", "docvqa")})
    >>> standing("chartqa_human", ["vqav2-train"], table).status
    'unseen'
    >>> standing("docvqa", ["ChartQA"], table)
    Standing(status='cluster_trained', clusters=('reading',), because='ChartQA is of the cluster reading')
    >>> standing("gqa", ["my-own"], table).status, standing("gqa", ["gqa_train"], table).status
    ('unknown', 'held_in')
    """
    homes = _homes(table)
    own = _entry(benchmark, homes)
    if own is None:
        return Standing("unknown", (), f"{benchmark} is in no cluster of the table")
    clusters = homes[own]
    entries = {name: _entry(name, homes) for name in sorted(trained)}
    for name, entry in entries.items():
        if entry == own:
            return Standing("held_in", clusters, f"{name} was trained on")
    for name, entry in entries.items():
        shared = [c for c in clusters if entry is not None and c in homes[entry]]
        if shared:
            return Standing("cluster_trained", clusters, f"{name} is of the cluster {shared[0]}")
    strange = [name for name, entry in entries.items() if entry is None]
    if strange:
        return Standing("unknown", clusters, f"{strange[0]} was trained on and is in no cluster of the table")
    quoted = " or ".join(f'"{cluster}"' for cluster in clusters)
    return Standing("unseen", clusters, f"no data set of {quoted} was trained on")


def _homes(table: Table) -> Mapping[str, tuple[str, ...]]:
    """Plain name of a data set -> its clusters."""
    homes: dict[str, tuple[str, ...]] = {}
    for cluster, members in table.clusters.items():
        for member in members:
            homes[_plain(member)] = (*homes.get(_plain(member), ()), cluster)
    return homes


def _entry(name: str, homes: Mapping[str, tuple[str, ...]]) -> str | None:
    """The longest name of the table that this one is or begins with: "pope_random" is of "pope", "vqav2-train" of
    "vqav2"."""
    plain = _plain(name)
    return max((entry for entry in homes if plain.startswith(entry)), key=len, default=None)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9+]", "", name.lower().replace("plus", "+"))
