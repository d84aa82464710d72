"""CHAIR (arXiv 1809.02156): which objects a caption names, and how many of them are not in the picture.

CHAIRi is the share of object mentions (repeated ones count) that name nothing in the picture, CHAIRs the share of
captions with such a mention, recall the share of the pictures' objects that are named. What is in a picture: its COCO
instance categories, and the objects named in its five reference captions.

`chair.yaml` holds the words as published. Scores depend on how long captions are, so the tasks fix prompt and length,
and `length` (words) is reported beside them. Captions that name no object at all divide by zero in the script; CHAIRi
is then not a number. A caption about a picture that the annotations lack is an error here, all hallucinated there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Lexicon:
    category: dict[str, str]  # every name -> its category
    doubled: dict[str, str]  # two words -> what they are taken for
    prepositions: frozenset[str]
    unchanged: tuple[str, ...]
    ie: tuple[str, ...]
    irregular: dict[str, str]
    rules: tuple[tuple[re.Pattern[str], str], ...]


@dataclass(frozen=True)
class Named:
    """The objects a caption names, in order, as often as it names them."""

    words: tuple[str, ...]  # as in the caption, singular
    categories: tuple[str, ...]
    places: tuple[int, ...]  # which word of the caption


@cache
def lexicon() -> Lexicon:
    tree = yaml.safe_load((Path(__file__).parent / "chair.yaml").read_text(encoding="utf-8"))
    names = [line.strip().split(", ") for line in tree["synonyms"].splitlines()]
    doubled = {pair: pair for pair in tree["double_words"].split(", ")}
    for animal in tree["animals"].split():
        doubled |= {f"baby {animal}": animal, f"adult {animal}": animal}
    doubled |= {f"passenger {vehicle}": vehicle for vehicle in tree["vehicles"].split()}
    singular = tree["singular"]
    irregular = {plural: one for part in singular["irregular"] for plural, one in part.items()}
    return Lexicon(
        {name: line[0] for line in names for name in line},
        doubled | tree["double_word_meanings"],
        frozenset(singular["prepositions"].split()),
        tuple(singular["unchanged"].split()),
        tuple(singular["ie"].split()),
        irregular,
        tuple((re.compile(pattern), form) for pattern, form in singular["rules"]),
    )


def singular(word: str) -> str:
    """The singular of a lower-case word as CHAIR's tool forms it.

    >>> singular("knives"), singular("women"), singular("bus"), singular("scissors")
    ('knife', 'woman', 'bu', 'scissors')
    """
    known = lexicon()
    first, hyphen, rest = word.partition("-")
    if hyphen and rest.split("-")[0] in known.prepositions:
        return f"{singular(first)}-{rest}"
    if word.endswith("'"):
        return singular(word[:-1]) + "'s"
    if any(kept.endswith(word) for kept in known.unchanged) or any(word.endswith(f"{ie}s") for ie in known.ie):
        return word
    for plural, one in known.irregular.items():
        if word.endswith(plural):
            return word.removesuffix(plural) + one
    for pattern, form in known.rules:
        if pattern.search(word):
            return pattern.sub(form, word)
    return word


def named(caption: str) -> Named:
    """The objects that a caption names.

    >>> named("TVs and a laptop computer").categories
    ('tv', 'laptop')
    """
    from nltk.tokenize import word_tokenize

    known = lexicon()
    tokens = [singular(word) for word in word_tokenize(caption.lower(), preserve_line=True)]
    found: list[tuple[str, int]] = []
    place = 0
    while place < len(tokens):
        double = " ".join(tokens[place : place + 2])
        meaning = known.doubled.get(double)
        found.append((meaning or tokens[place], place))
        place += 2 if meaning else 1
    if {"toilet", "seat"} <= {word for word, _ in found}:
        found = _without_seat(found)
    kept = [(word, place) for word, place in found if word in known.category]
    words, places = tuple(w for w, _ in kept), tuple(p for _, p in kept)
    return Named(words, tuple(known.category[word] for word in words), places)


def _without_seat(found: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """The seat of a toilet is no chair. The script drops it from the words but not from their places, which it then
    reads off by position; so does this."""
    words = [word for word, _ in found if word != "seat"]
    return [(word, place) for word, (_, place) in zip(words, found, strict=False)]


def scores(captions: Sequence[tuple[Named, Collection[str]]]) -> dict[str, float]:
    """CHAIRs, CHAIRi and Recall of captions, each with the objects in its picture. NaN where there is nothing to
    divide by."""
    mentions = invented = bad = present = told = 0
    for said, truth in captions:
        wrong = [category for category in said.categories if category not in truth]
        mentions += len(said.categories)
        invented += len(wrong)
        bad += bool(wrong)
        present += len(set(truth))
        told += len(set(said.categories) & set(truth))
    return {
        "CHAIRs": bad / len(captions) if captions else math.nan,
        "CHAIRi": invented / mentions if mentions else math.nan,
        "Recall": told / present if present else math.nan,
    }


def results(doc: Mapping[str, Any], answers: Sequence[str]) -> dict[str, Any]:
    """hallucinated: the caption names something that is not there. length in words. The rest is computed over all."""
    row = (named(answers[0]), tuple(doc["objects"]))
    wrong = any(category not in row[1] for category in row[0].categories)
    return {
        "hallucinated": float(wrong),
        "chair_i": row,
        "recall": row,
        "length": float(len(answers[0].split())),
    }


def chair_i(rows: Sequence[tuple[Named, Collection[str]]]) -> float:
    return scores(rows)["CHAIRi"]


def recall(rows: Sequence[tuple[Named, Collection[str]]]) -> float:
    return scores(rows)["Recall"]
