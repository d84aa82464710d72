"""Original checkpoints in our modules: names translated by tables, nothing lost and nothing made up in silence.

A table is a list of rows (pattern, name): a key is renamed by the first row whose pattern matches all of it; a row
whose name is None leaves the key out on purpose. A key that no row knows is an error, as is one that a module lacks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from vistune.errors import VistuneError

Name = str | Callable[[re.Match[str]], str] | None
Table = Sequence[tuple[str, Name]]
State = dict[str, Tensor]
Part = tuple[str, Callable[[State], State]]  # our prefix, and what maps the keys below it


def rename(original: Mapping[str, Tensor], table: Table, what: str) -> State:
    """Raises VistuneError with every key that no row of `table` matches.

    >>> list(rename({"mlp.fc1.weight": 0}, [(r"mlp\\.fc(\\d)\\.(.+)", r"linear_\\1.\\2")], "block"))
    ['linear_1.weight']
    """
    rows = [(re.compile(pattern), name) for pattern, name in table]
    state: State = {}
    unknown = []
    for key, tensor in original.items():
        for pattern, name in rows:
            if match := pattern.fullmatch(key):
                if name is not None:
                    state[match.expand(name) if isinstance(name, str) else name(match)] = tensor
                break
        else:
            unknown.append(key)
    if unknown:
        raise VistuneError(f"the checkpoint does not fit {what}: {_listed('unexpected', unknown)}.")
    return state


def gather(original: Mapping[str, Tensor], parts: Mapping[str, Part], what: str) -> State:
    """The state of a whole from that of its parts. `parts`: original prefix -> (our prefix, map of the keys below it).
    Raises VistuneError with every key below none of the prefixes."""
    taken: dict[str, State] = {prefix: {} for prefix in parts}
    unknown = []
    for key, tensor in original.items():
        prefix = next((p for p in parts if key.startswith(p)), None)
        if prefix is None:
            unknown.append(key)
        else:
            taken[prefix][key.removeprefix(prefix)] = tensor
    if unknown:
        raise VistuneError(f"the checkpoint does not fit {what}: {_listed('unexpected', unknown)}.")
    return {
        f"{ours}{key}": tensor
        for prefix, (ours, convert) in parts.items()
        for key, tensor in convert(taken[prefix]).items()
    }


def load(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """All of `state` into all of `module`. Raises VistuneError with every missing, unexpected or misshapen key."""
    own = module.state_dict()
    misshapen = [
        f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}"
        for key in sorted(own.keys() & state.keys())
        if state[key].shape != own[key].shape
    ]
    faults = [
        _listed("missing", sorted(own.keys() - state.keys())),
        _listed("unexpected", sorted(state.keys() - own.keys())),
        _listed("of another shape", misshapen),
    ]
    if any(faults):
        raise VistuneError(f"the checkpoint does not fit {what}: {'; '.join(f for f in faults if f)}.")
    module.load_state_dict(state)


def constants_out(original: Mapping[str, Tensor]) -> State:
    """Keys as they are, without the constants that old versions of transformers saved: for parts that transformers
    still calls what their authors did."""
    return {k: v for k, v in original.items() if not k.endswith(("rotary_emb.inv_freq", "embeddings.position_ids"))}


QKV = ("q_proj", "k_proj", "v_proj")


def split_rows(state: State, fused: str, names: Sequence[str], groups: int = 1, shares: Sequence[int] = ()) -> None:
    """Replaces each tensor with the part `fused` in its key by one for each of `names`, of which the first has the
    first rows. Where rows come in `groups`, each has some of every group; shares: how much of it, else all the same.
    Raises VistuneError for rows that do not fall into such shares.

    >>> from torch import arange
    >>> state = {"layer.qkv.bias": arange(8)}
    >>> split_rows(state, "qkv", QKV, groups=2, shares=(2, 1, 1))
    >>> {key: rows.tolist() for key, rows in state.items()}
    {'layer.q_proj.bias': [0, 1, 4, 5], 'layer.k_proj.bias': [2, 6], 'layer.v_proj.bias': [3, 7]}
    """
    shares = list(shares or [1] * len(names))
    for key in [k for k in state if fused in k.split(".")]:
        rows = state.pop(key)
        if len(rows) % (groups * sum(shares)):
            parts = " + ".join(map(str, shares))
            raise VistuneError(
                f"the checkpoint's {key} has {len(rows)} rows; they do not fall into {groups} x ({parts})."
            )
        split = rows.unflatten(0, (groups, sum(shares), -1)).split(shares, dim=1)
        for name, share in zip(names, split, strict=True):
            state[".".join(name if part == fused else part for part in key.split("."))] = share.flatten(0, 2)


def _listed(kind: str, keys: Sequence[str], shown: int = 20) -> str:
    """All keys of one kind of fault, the first twenty by name."""
    if not keys:
        return ""
    more = f" and {len(keys) - shown} more" if len(keys) > shown else ""
    return f"{len(keys)} {kind} ({', '.join(keys[:shown])}{more})"
