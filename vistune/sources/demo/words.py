"""English for concept names: articles, plurals, numbers and lists. Every concept is a countable noun phrase."""

from __future__ import annotations

import re
from collections.abc import Sequence

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

IRREGULAR = {
    "die": "dice",
    "mouse": "mice",
    "goose": "geese",
    "ox": "oxen",
    "foot": "feet",
    "tooth": "teeth",
    "cactus": "cacti",
    "wolf": "wolves",
    "leaf": "leaves",
    "loaf": "loaves",
    "sheaf": "sheaves",
    "knife": "knives",
    "shelf": "shelves",
    "scarf": "scarves",
    "snowman": "snowmen",
}
SAME = {"deer", "moose", "bison", "sheep", "shrimp", "squid", "buffalo"}  # and all words in -fish
TAKES_ES_AFTER_O = {"potato", "tomato", "volcano", "mango", "mosquito", "tornado"}

# Spelt with a vowel, spoken with the sound of "y" or "w" (unicorn, euro, ewe, one-piece) ...
_CONSONANT_SOUND = re.compile(r"(uni([^nm]|$)|us[ei]|ur[ae]|u[kt]|eu|ewe|one\b|once)", re.I)
# ... or with a silent h.
_VOWEL_SOUND = re.compile(r"(hour|honest|honou?r|heir)", re.I)


def article(name: str) -> str:
    """ "a" or "an", by how the name is spoken.

    >>> [article(n) for n in ("apple", "dog", "unicorn", "hourglass", "umbrella", "X-ray", "T-shirt", "SUV", "ewe")]
    ['an', 'a', 'a', 'an', 'an', 'an', 'a', 'an', 'a']
    """
    first = re.split(r"[ -]", name)[0]
    if first.isupper():  # letters spoken one by one: an X-ray, an SUV, a DNA strand
        return "an" if first[0] in "AEFHILMNORSX8" else "a"
    if _VOWEL_SOUND.match(name):
        return "an"
    return "an" if name[0].lower() in "aeiou" and not _CONSONANT_SOUND.match(name) else "a"


def a(name: str) -> str:
    """The name with its article.

    >>> a("elephant")
    'an elephant'
    """
    return f"{article(name)} {name}"


def plural(name: str) -> str:
    """The plural of a noun phrase: of the word before "of", "with", "and ...", else of the last word.

    >>> [plural(n) for n in ("bus", "cherry", "pair of socks", "nest with eggs", "computer mouse", "bow and arrow")]
    ['buses', 'cherries', 'pairs of socks', 'nests with eggs', 'computer mice', 'bows and arrows']
    """
    if " and " in name:
        return " and ".join(plural(part) for part in name.split(" and "))
    head, joint, rest = re.match(r"(.*?)( (?:of|with|in|on) |$)(.*)", name).groups()  # type: ignore[union-attr]
    before, space, word = head.rpartition(" ")
    return before + space + _plural_word(word) + joint + rest


def _plural_word(word: str) -> str:
    if word in SAME or word.endswith("fish"):
        return word
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word.endswith(("s", "x", "z", "ch", "sh")) or word in TAKES_ES_AFTER_O:
        return word + "es"
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + "s"


def count(number: int, name: str) -> str:
    """
    >>> count(1, "owl"), count(3, "owl")
    ('an owl', 'three owls')
    """
    return a(name) if number == 1 else f"{NUMBERS[number]} {plural(name)}"


def listed(parts: Sequence[str]) -> str:
    """
    >>> listed(["a cat"]), listed(["a cat", "a dog"]), listed(["a cat", "a dog", "two owls"])
    ('a cat', 'a cat and a dog', 'a cat, a dog and two owls')
    """
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def sentence(text: str) -> str:
    """Capital at the start, full stop at the end."""
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")
