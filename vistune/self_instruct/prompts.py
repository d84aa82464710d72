"""The prompts, one file per kind of dialogue in `prompts/`: id, version, system text, worked examples.

The fixed part (system text and examples) comes first and is the same for every image, so that a server can keep it
in its prompt cache. A change of wording is a new version: it changes the identity of every request made with it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml

from vistune.hashing import digest, keyed
from vistune.self_instruct.facts import Facts
from vistune.self_instruct.render import RENDERER, captions_objects

KINDS = ("conversation", "detail", "reasoning", "negative")

MAX_ABSENT = 8
"""Absent things offered to a teacher for one image."""


@dataclass(frozen=True)
class Prompt:
    id: str
    version: int
    system: str
    examples: tuple[tuple[str, str], ...]  # (user message, reply)

    @property
    def key(self) -> str:
        return f"{self.id}@{self.version}"

    @property
    def sha256(self) -> str:
        """Of everything an answer depends on besides the image."""
        return digest([self.key, self.system, self.examples, RENDERER])

    def messages(self, user: str) -> tuple[dict[str, str], ...]:
        """Chat messages for one rendered image."""
        turns = [("system", self.system)]
        for given, reply in self.examples:
            turns += [("user", given), ("assistant", reply)]
        return tuple({"role": role, "content": text} for role, text in [*turns, ("user", user)])


@cache
def load(kind: str) -> Prompt:
    tree: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "prompts" / f"{kind}.yaml").read_text("utf-8"))
    examples = tuple(
        (example["input"].strip(), json.dumps(example["output"], ensure_ascii=False)) for example in tree["examples"]
    )
    return Prompt(tree["id"], tree["version"], tree["system"].strip(), examples)


def user_message(kind: str, facts: Facts, seed: int) -> str:
    """What a prompt says about one image. Only the negative kind names absent things."""
    return captions_objects(facts.image, tuple(absentees(facts, seed)) if kind == "negative" else ())


def absentees(facts: Facts, seed: int) -> list[str]:
    """Verified-absent names, half of them from the groups that are in the image: those are the hard ones (the
    adversarial and random negatives of POPE, arXiv 2305.10355)."""
    groups = {o.category.group for o in facts.image.objects}
    names = sorted(facts.absent)
    near = _draw([n for n in names if facts.absent[n].group in groups], MAX_ABSENT // 2, seed, "near", facts.image.id)
    rest = [n for n in names if n not in near]
    far = _draw(rest, MAX_ABSENT - len(near), seed, "far", facts.image.id)
    pairs = zip_longest(near, far)
    return [name for pair in pairs for name in pair if name is not None]


def _draw(options: list[str], count: int, seed: int, *key: str) -> list[str]:
    """`count` different options, without hashing all of them as `shuffled` does."""
    left = list(options)
    return [left.pop(keyed(seed, "self_instruct.absent", *key, i) % len(left)) for i in range(min(count, len(left)))]
