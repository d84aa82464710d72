"""Fast tokenizers from files of ranks, as Qwen (v1) publishes its own: a line a token, with its bytes and its rank."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError


def read_ranks(file: Path) -> dict[bytes, int]:
    """Raises VistuneError for a file that is missing, malformed or leaves out a rank."""
    if not file.is_file():
        raise VistuneError(f"{file} is missing; the tokenizer is read from it.")
    ranks: dict[bytes, int] = {}
    for n, line in enumerate(file.read_text(encoding="ascii").splitlines()):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise VistuneError(
                f"{file}, line {n + 1}: expected a token in base64 and its rank, got {line!r}."
            ) from error
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise VistuneError(f"{file} has {len(ranks)} tokens, but their ranks are not 0 to {len(ranks) - 1}.")
    return ranks


def parts(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """The two tokens that are joined to `token` by its own merge: its bytes, joined in order of rank until two are
    left. One byte stays one.

    >>> parts(b"abc", {b"a": 0, b"b": 1, b"c": 2, b"bc": 3, b"ab": 4, b"abc": 5})
    [b'a', b'bc']
    """
    pieces = [bytes([byte]) for byte in token]
    while len(pieces) > 2:
        pairs = [ranks.get(a + b, len(ranks)) for a, b in pairwise(pieces)]
        least = min(pairs)
        if least >= ranks[token]:
            break
        at = pairs.index(least)
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    return pieces


def ranked_tokenizer(file: Path, pattern: str, controls: Sequence[str]) -> Any:
    """pattern: what a text is parted into first; controls: tokens that no merge makes, in the order of their ids,
    behind the ranks. The first of them ends a text and stands at padding."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    ranks = read_ranks(file)
    letters = bytes_to_unicode()

    def spelled(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    joined = [parts(token, ranks) for token in sorted(ranks, key=lambda token: ranks[token])]
    merges = [(spelled(made[0]), spelled(made[1])) for made in joined if len(made) == 2]
    backend = Tokenizer(models.BPE({spelled(token): rank for token, rank in ranks.items()}, merges))
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=controls[0], pad_token=controls[0])
    tokenizer.add_special_tokens({"additional_special_tokens": list(controls[1:])})
    return tokenizer
