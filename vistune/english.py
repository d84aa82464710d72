"""English about things by their names: articles, plurals, numbers, lists.

Names are those of label sets: COCO, LVIS, Open Images, emoji. `inflect` knows the words. What it cannot know is here:
which names are not counted, and where the head of a name ends ("sheaf of rice", "nest with eggs").
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from inflect import engine

Number = Literal["singular", "plural", "mass", "proper"]

CACHED = 100_000
"""Names remembered by each function: more than a label set has, so that a name is worked out once."""

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


AFTER_HEAD = _set(
    "of with without on in at behind over under from to for between "
    "showing facing fluttering tilted increasing decreasing"
)

MASS = _set(
    "bacon badminton baggage bamboo beef beer bowling boxing bread broccoli butter camping cauliflower cheese "
    "chocolate clothing coffee confetti construction cooking coral corn cream custard dna electricity equipment "
    "falafel fencing fire fog fondue food furniture garlic ginger gold grass hair hay hockey honey ice jam jewelry "
    "juice ketchup lacrosse lettuce lightning luggage mate meat milk molasses money mud music mustard oden oil paint "
    "paper pasta pong popcorn pork rain rice sake salt sand seafood seaweed silverware skiing smoke snow soap "
    "spaghetti steam sugar surfing sushi swimming tea tennis thread tofu traffic voltage water wheat wind wine wood "
    "wool yarn"
)
COUNTED_ALL_THE_SAME = frozenset({"ice cream", "soft ice cream"})

PROPER = frozenset({"mount fuji", "tokyo tower"})
PROPER_WITH_ARTICLE = frozenset({"statue of liberty", "milky way", "kaaba"})

# A name is plural if its head ends in "s", but for "ss", "us", "is" and these.
ALWAYS_PLURAL = _set(
    "people men women children teeth feet geese mice cattle bikinis emus kiwis menus skis taxis zucchinis"
)
SINGULAR_IN_S = _set("alias atlas bias canvas christmas cosmos lens pancreas rhinoceros thermos")

# inflect: "bisons", "dices"; "passerbies", "thiefs"; "banjoes" for every word in "o" that it does not know.
PLURALS = {name: name for name in ("bison", "buffalo", "dice", "elk", "shrimp", "squid", "swine")} | {
    "passerby": "passersby",
    "thief": "thieves",
}
O_TAKES_ES = _set("echo hero mango mosquito potato tomato tornado torpedo volcano")

VOWEL_LETTERS = frozenset("AEFHILMNORSX")  # as spoken: "an X-ray", "a T-shirt", "an SUV"


def number_word(count: int) -> str:
    """
    >>> number_word(3), number_word(40)
    ('three', '40')
    """
    return NUMBERS[count] if 0 <= count < len(NUMBERS) else str(count)


@lru_cache(CACHED)
def number(name: str) -> Number:
    """What kind of noun a name is.

    >>> number("fire engine"), number("grapes"), number("cooked rice"), number("Milky Way")
    ('singular', 'plural', 'mass', 'proper')
    >>> number("compass"), number("skis"), number("glass of milk"), number("ice cream")
    ('singular', 'plural', 'singular', 'singular')
    """
    lower = name.lower()
    if lower in PROPER or lower in PROPER_WITH_ARTICLE:
        return "proper"
    head = _head(lower)[0]
    last = head.rpartition(" ")[2]
    if last in MASS:
        return "singular" if head in COUNTED_ALL_THE_SAME else "mass"
    singular_end = last in SINGULAR_IN_S or last.endswith(("ss", "us", "is", "'s", "’s")) or len(last) < 4
    return "plural" if last in ALWAYS_PLURAL or (last.endswith("s") and not singular_end) else "singular"


def is_counted(name: str) -> bool:
    """Whether "two ..." can be said of it.

    >>> is_counted("owl"), is_counted("bread"), is_counted("jeans")
    (True, False, False)
    """
    return number(name) == "singular"


@lru_cache(CACHED)
def article(name: str) -> str:
    """ "a" or "an", by how the name is spoken.

    >>> [article(n) for n in ("apple", "unicorn", "hourglass", "umbrella", "SUV", "8 ball", "one-piece swimsuit")]
    ['an', 'a', 'an', 'an', 'an', 'an', 'a']
    """
    first = (name.split() or [""])[0]
    letters = first.partition("-")[0]
    if letters.isupper():  # read letter by letter, where inflect reads some as words: "a SUV"
        return "an" if letters[0] in VOWEL_LETTERS else "a"
    if first[:1].isdecimal():  # inflect takes every number for "one": "a 8 ball"
        digits = first[: len(first) - len(first.lstrip("0123456789"))]
        return "an" if digits[:1] == "8" or digits in ("11", "18") else "a"
    return _inflect().a(first).split()[0] if first else "a"


@lru_cache(CACHED)
def with_article(name: str) -> str:
    """The name as something not yet mentioned: "a dog", "an hourglass", but "grapes", "bread".

    >>> with_article("umbrella"), with_article("scissors"), with_article("tennis"), with_article("milky way")
    ('an umbrella', 'scissors', 'tennis', 'the milky way')
    """
    if name.lower() in PROPER_WITH_ARTICLE:
        return f"the {name}"
    return f"{article(name)} {name}" if is_counted(name) else name


@lru_cache(CACHED)
def plural(name: str) -> str:
    """The plural of a singular name; any other name as it is.

    >>> [plural(n) for n in ("box", "kitchen knife", "sheaf of rice", "bow and arrow", "snowman", "T-Rex", "yo-yo")]
    ['boxes', 'kitchen knives', 'sheaves of rice', 'bows and arrows', 'snowmen', 'T-Rexes', 'yo-yos']
    >>> [plural(n) for n in ("jeans", "bread", "tropical fish", "salt and pepper shaker")]
    ['jeans', 'bread', 'tropical fish', 'salt and pepper shakers']
    """
    if not is_counted(name):
        return name
    head, rest = _head(name)
    if " and " in head:
        return " and ".join(map(plural, head.split(" and "))) + rest
    before, space, last = head.rpartition(" ")
    return before + space + _plural_word(last) + rest


@lru_cache(CACHED)
def amount(name: str, count: int) -> str:
    """So many of a thing, for a list. What is not counted is named without its number.

    >>> amount("owl", 1), amount("mouse", 3), amount("bread", 2), amount("grapes", 2)
    ('an owl', 'three mice', 'bread', 'grapes')
    """
    if count == 1 or not is_counted(name):
        return with_article(name)
    return f"{number_word(count)} {plural(name)}"


def be(name: str, count: int = 1) -> str:
    """
    >>> be("cat"), be("cat", 2), be("scissors"), be("bread", 2)
    ('is', 'are', 'are', 'is')
    """
    kind = number(name)
    return "are" if kind == "plural" or (kind == "singular" and count != 1) else "is"


def join(parts: Sequence[str]) -> str:
    """
    >>> join(["a cat"]), join(["a cat", "two dogs", "grapes"])
    ('a cat', 'a cat, two dogs and grapes')
    """
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)


def sentence(text: str) -> str:
    """The text with a capital at its start.

    >>> sentence("an owl.")
    'An owl.'
    """
    return text[:1].upper() + text[1:]


def _head(name: str) -> tuple[str, str]:
    """A name up to its head, and the rest.

    >>> _head("small glass of milk"), _head("red apple")
    (('small glass', ' of milk'), ('red apple', ''))
    """
    words = name.split(" ")
    for position, word in enumerate(words):
        if position and word.lower() in AFTER_HEAD:
            return " ".join(words[:position]), " " + " ".join(words[position:])
    return name, ""


def _plural_word(word: str) -> str:
    if word == word.upper():  # SUVs, TVs; inflect: "SUVS"
        return word and word + "s"
    lower = word.lower()  # inflect takes what has a capital for somebody's name: "the Cherrys"
    if lower in PLURALS:
        many = PLURALS[lower]
    elif lower.endswith("o"):
        many = lower + ("es" if lower in O_TAKES_ES else "s")
    else:
        many = _inflect().plural_noun(lower)
        if many.endswith("ss"):  # of a word in "s" that inflect does not know
            many = many[:-1] + "es"
    if many.startswith(lower):
        return word + many[len(lower) :]
    return sentence(many) if word[0].isupper() else many


@cache
def _inflect() -> engine:
    from unittest.mock import patch

    # typeguard would rewrite every function of inflect on import, to check arguments: three seconds, for nothing here.
    with patch("typeguard.typechecked", lambda target: target):
        import inflect
    return inflect.engine()
