"""Keyed hashes: the only source of randomness in the data stages.

Every random choice is a pure function of (run seed, what is being decided, for which record), so the same inputs
give the same bytes whatever the worker count, the order of rows, or a crash in between.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical(value: Any) -> bytes:
    """`value` as JSON bytes with one spelling: sorted keys, no spaces, UTF-8."""
    return _ENCODER.encode(value).encode()


def digest(value: Any) -> str:
    """SHA-256 (hex, 64 characters) of a JSON-able value."""
    return hashlib.sha256(canonical(value)).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (hex, 64 characters) of a file's bytes, read in pieces."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def merkle_root(leaves: Iterable[tuple[str, str]]) -> str:
    """One digest for a set of (name, digest) leaves, independent of their order."""
    return digest(sorted(leaves))


def keyed(seed: int, *key: Any) -> int:
    """A 64-bit integer, uniform over keys.

    >>> keyed(1, "presence", "img7") == keyed(1, "presence", "img7")
    True
    >>> keyed(1, "presence", "img7") == keyed(2, "presence", "img7")
    False
    """
    return int.from_bytes(hashlib.blake2b(canonical([seed, *key]), digest_size=8).digest(), "big")


def uniform(seed: int, *key: Any) -> float:
    """A float in [0, 1) for a key."""
    return (keyed(seed, *key) >> 11) / (1 << 53)


def choose(options: Sequence[T], seed: int, *key: Any) -> T:
    """One of `options` (not empty) for a key."""
    return options[keyed(seed, *key) % len(options)]


def shuffled(items: Iterable[T], seed: int, *key: Any) -> list[T]:
    """A permutation of `items` for a key.

    >>> shuffled("abcd", 0, "order") == shuffled("abcd", 0, "order")
    True
    """
    indexed = list(items)
    if len(indexed) < 2:
        return indexed
    begin = canonical([seed, *key])[:-1]  # the order is that of `keyed(seed, *key, i)`, in a fifth of the time
    order = sorted(range(len(indexed)), key=lambda i: hashlib.blake2b(b"%b,%d]" % (begin, i), digest_size=8).digest())
    return [indexed[i] for i in order]
