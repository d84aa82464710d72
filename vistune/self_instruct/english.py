"""Category names in English sentences: articles, plurals, numbers, lists.

Category names are free text written by data sets ("red apple", "scissors", "leaf fluttering in wind"), so the rules
work on the head word and fall back to the plain name where English does not count a thing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")

# After one of these a name's head has passed: "bowl with spoon" is a kind of bowl.
_HEAD_ENDS = {"of", "with", "in", "on", "to", "at", "behind", "without", "showing", "facing", "fluttering"}

_IRREGULAR = {
    "calf": "calves", "child": "children", "die": "dice", "echo": "echoes", "foot": "feet", "goose": "geese",
    "half": "halves", "hero": "heroes", "hoof": "hooves", "knife": "knives", "leaf": "leaves", "life": "lives",
    "loaf": "loaves", "man": "men", "mango": "mangoes", "mosquito": "mosquitoes", "mouse": "mice", "ox": "oxen",
    "person": "people", "potato": "potatoes", "quiz": "quizzes", "scarf": "scarves", "shelf": "shelves",
    "thief": "thieves", "tomato": "tomatoes", "tooth": "teeth", "volcano": "volcanoes", "wife": "wives",
    "wolf": "wolves", "woman": "women",
}  # fmt: skip
_UNCHANGED = {"aircraft", "bison", "deer", "dice", "fish", "moose", "salmon", "sheep", "shrimp", "squid", "trout"}

# Named without number: "some bread", never "a bread".
_MASS = {
    "bacon", "bamboo", "bread", "broccoli", "butter", "cheese", "coffee", "confetti", "coral", "corn", "cream",
    "food", "garlic", "ginger", "grass", "hair", "honey", "ice", "juice", "luggage", "milk", "money", "oil", "paper",
    "pasta", "popcorn", "rice", "sake", "salad", "salt", "sand", "soap", "spaghetti", "sugar", "sushi", "tea",
    "thread", "water", "wheat", "wine", "wood", "yarn",
}  # fmt: skip
# Named bare: games and weather take no article.
_BARE = {
    "badminton", "bowling", "boxing", "camping", "cooking", "cricket game", "fencing", "field hockey", "fog",
    "ice hockey", "lacrosse", "lightning", "ping pong", "skiing", "surfing", "swimming", "table tennis", "tennis",
}  # fmt: skip
_COUNTED_WHOLE = {"ice cream", "soft ice cream"}  # count nouns whose last word is a mass noun

_ENDS_IN_S_SINGULAR = {"canvas", "gas", "lens", "atlas", "christmas", "iris", "bias", "pancreas", "chess"}
_PLURAL_DESPITE_ENDING = {"skis", "people"}

_AN_BY_SOUND = re.compile(r"^(hour|honest|heir|x-|x\b|8|11\b|18\b)", re.IGNORECASE)
_A_BY_SOUND = re.compile(r"^(uni(?!n)|ukulele|utensil|euro|eur|ewe|use|one\b|one-|once)", re.IGNORECASE)


@lru_cache(maxsize=8192)
def split_head(noun: str) -> tuple[str, str, str]:
    """A name as (before the head word, head word, after it).

    >>> split_head("small glass of milk")
    ('small', 'glass', 'of milk')
    >>> split_head("red apple")
    ('red', 'apple', '')
    """
    words = noun.split()
    end = next((i for i, w in enumerate(words) if i and w.lower() in _HEAD_ENDS), len(words))
    return " ".join(words[: end - 1]), words[end - 1] if words else "", " ".join(words[end:])


@lru_cache(maxsize=8192)
def is_plural(noun: str) -> bool:
    """Whether a name is plural as it stands.

    >>> [is_plural(n) for n in ("grapes", "bus", "cherries", "skis", "glass of milk", "compass")]
    [True, False, True, True, False, False]
    """
    head = split_head(noun)[1].lower()
    if head in _PLURAL_DESPITE_ENDING:
        return True
    if head in _ENDS_IN_S_SINGULAR or head.endswith(("ss", "us", "is", "os", "'s", "’s")):
        return False
    return head.endswith("s") and len(head) > 3


@lru_cache(maxsize=8192)
def is_mass(noun: str) -> bool:
    """Whether a name is not counted in English.

    >>> [is_mass(n) for n in ("flatbread", "cooked rice", "ice cream", "slice of bread", "tennis")]
    [False, True, False, False, True]
    """
    if noun.lower() in _COUNTED_WHOLE:
        return False
    return noun.lower() in _BARE or split_head(noun)[1].lower() in _MASS


def is_counted(noun: str) -> bool:
    """Whether "two ..." makes sense: neither a mass noun nor plural already."""
    return not is_mass(noun) and not is_plural(noun)


@lru_cache(maxsize=8192)
def plural(noun: str) -> str:
    """
    >>> [plural(n) for n in ("cat", "box", "cherry", "palm tree", "leaf fluttering in wind", "computer mouse", "bus")]
    ['cats', 'boxes', 'cherries', 'palm trees', 'leaves fluttering in wind', 'computer mice', 'buses']
    >>> [plural(n) for n in ("snowman", "boy", "grapes", "bread", "fish")]
    ['snowmen', 'boys', 'grapes', 'bread', 'fish']
    """
    before, head, after = split_head(noun)
    low = head.lower()
    if is_plural(noun) or is_mass(noun) or low in _UNCHANGED:
        return noun
    if low in _IRREGULAR:
        many = head[0] + _IRREGULAR[low][1:]
    elif low.endswith("man") and low not in ("german", "human", "talisman"):
        many = head[:-3] + "men"
    elif re.search(r"(s|x|z|ch|sh)$", low):
        many = head + "es"
    elif re.search(r"[^aeiou]y$", low):
        many = head[:-1] + "ies"
    else:
        many = head + "s"
    return " ".join(part for part in (before, many, after) if part)


@lru_cache(maxsize=8192)
def indefinite(noun: str) -> str:
    """A name with its indefinite article, chosen by sound.

    >>> [indefinite(n) for n in ("apple", "unicorn", "hourglass", "x-ray", "SUV", "T-Rex", "ewe", "umbrella")]
    ['an apple', 'a unicorn', 'an hourglass', 'an x-ray', 'an SUV', 'a T-Rex', 'a ewe', 'an umbrella']
    >>> [indefinite(n) for n in ("bread", "scissors", "tennis")]
    ['some bread', 'scissors', 'tennis']
    """
    if noun.lower() in _BARE or is_plural(noun):
        return noun
    if is_mass(noun):
        return f"some {noun}"
    first = noun.split()[0] if noun.split() else noun
    if len(first) > 1 and first.isupper() and first.isalpha():
        vowel = first[0] in "AEFHILMNORSX"  # read letter by letter
    elif _A_BY_SOUND.match(noun):
        vowel = False
    else:
        vowel = bool(_AN_BY_SOUND.match(noun)) or noun[:1].lower() in "aeiou"
    return f"{'an' if vowel else 'a'} {noun}"


def number(n: int) -> str:
    """
    >>> number(2), number(13)
    ('two', '13')
    """
    return NUMBERS[n] if 0 < n < len(NUMBERS) else str(n)


def several(noun: str, n: int) -> str:
    """`n` of a thing; a thing that English does not count is named without its number.

    >>> several("cat", 1), several("cat", 2), several("grapes", 2)
    ('a cat', 'two cats', 'grapes')
    """
    return f"{number(n)} {plural(noun)}" if n > 1 and is_counted(noun) else indefinite(noun)


def join(parts: Sequence[str], word: str = "and") -> str:
    """
    >>> join(["a cat", "two dogs", "grapes"])
    'a cat, two dogs and grapes'
    """
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def be(noun: str, n: int = 1) -> str:
    """
    >>> be("cat"), be("cat", 2), be("scissors")
    ('is', 'are', 'are')
    """
    return "are" if (n > 1 and is_counted(noun)) or is_plural(noun) else "is"


def sentence(text: str) -> str:
    """First letter upper case."""
    return text[:1].upper() + text[1:]
