"""English nouns: articles, plurals, and whether a name can be counted.

Rules for common nouns of label sets (COCO, LVIS, Open Images, emoji names) with lists of exceptions. A name is
several words whose head is the last one before a preposition or participle: "sheaf of rice", "nest with eggs".
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

Number = Literal["singular", "plural", "mass", "proper"]


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


AFTER_HEAD = _set(
    "of with without on in at behind over under from to for between "
    "showing fluttering facing tilted increasing decreasing"
)

MASS = _set(
    "bacon badminton baggage beef beer bowling bread broccoli butter camping cauliflower cheese chocolate clothing "
    "coffee confetti construction cooking coral corn cream custard dna electricity equipment falafel fire flatbread "
    "fog fondue food furniture garlic gold grass hay hockey honey ice jam jewelry juice ketchup lacrosse lettuce "
    "lightning luggage mate meat milk money mud music mustard oden paint pasta pong popcorn pork rain rice sake salt "
    "sand seafood seaweed silverware smoke snow soap spaghetti steam sugar sushi tea tennis tofu traffic voltage "
    "water wheat wind wood wool yarn"
)
COUNTED_ALL_THE_SAME = frozenset({"ice cream", "soft ice cream"})

PROPER = frozenset({"mount fuji", "tokyo tower"})
PROPER_WITH_ARTICLE = frozenset({"statue of liberty", "milky way", "kaaba"})

ALWAYS_PLURAL = _set(
    "people men women children teeth feet geese mice cattle bikinis emus kiwis menus skis taxis zucchinis"
)
SINGULAR_IN_S = _set(
    "alias atlas bias bus canvas christmas cosmos gas hippocampus lens minibus molasses octopus omnibus pancreas "
    "rhinoceros swiss trolleybus"
)

IRREGULAR = {
    "axis": "axes",
    "cactus": "cacti",
    "calf": "calves",
    "child": "children",
    "die": "dice",
    "elf": "elves",
    "foot": "feet",
    "fungus": "fungi",
    "goose": "geese",
    "half": "halves",
    "hoof": "hooves",
    "knife": "knives",
    "leaf": "leaves",
    "life": "lives",
    "loaf": "loaves",
    "louse": "lice",
    "mouse": "mice",
    "ox": "oxen",
    "passerby": "passersby",
    "person": "people",
    "quiz": "quizzes",
    "scarf": "scarves",
    "sheaf": "sheaves",
    "shelf": "shelves",
    "thief": "thieves",
    "tooth": "teeth",
    "wife": "wives",
    "wolf": "wolves",
}
UNCHANGED = _set("aircraft bison buffalo deer elk moose salmon sheep shrimp squid swine trout")
O_TAKES_ES = _set("echo hero mango mosquito potato tomato tornado torpedo volcano")
NO_MAN = frozenset({"human", "german", "roman", "talisman", "caiman", "ottoman", "shaman"})

SILENT_H = ("heir", "herb", "honest", "honor", "honour", "hour")
CONSONANT_SOUND = ("eu", "ewe", "once", "one-", "uk", "uni", "ura", "use", "usu", "ut")
VOWEL_LETTERS = frozenset("aefhilmnorsx")  # as spoken: "an X-ray", "a T-shirt", "an SUV"

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def number_word(count: int) -> str:
    """
    >>> number_word(3), number_word(40)
    ('three', '40')
    """
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


@lru_cache(maxsize=100_000)
def number(name: str) -> Number:
    """What kind of noun a name is; only "singular" ones can be counted.

    >>> number("fire engine"), number("grapes"), number("cooked rice"), number("milky way")
    ('singular', 'plural', 'mass', 'proper')
    """
    lower = name.lower()
    if lower in PROPER or lower in PROPER_WITH_ARTICLE:
        return "proper"
    head = _head(lower)[0].split()
    if " ".join(head) in COUNTED_ALL_THE_SAME:
        return "singular"
    last = head[-1] if head else ""
    if last in MASS:
        return "mass"
    singular_end = last in SINGULAR_IN_S or last.endswith(("ss", "us", "is", "'s", "’s")) or len(last) < 4
    return "plural" if last in ALWAYS_PLURAL or (last.endswith("s") and not singular_end) else "singular"


@lru_cache(maxsize=100_000)
def with_article(name: str) -> str:
    """The name as something not yet mentioned: "a dog", "an hourglass", but "grapes", "bread".

    >>> with_article("umbrella"), with_article("unicorn"), with_article("scissors")
    ('an umbrella', 'a unicorn', 'scissors')
    """
    kind = number(name)
    if kind == "proper":
        return f"the {name}" if name.lower() in PROPER_WITH_ARTICLE else name
    return f"{_article(name)} {name}" if kind == "singular" else name


@lru_cache(maxsize=100_000)
def plural(name: str) -> str:
    """The plural of a singular name; any other name as it is.

    >>> plural("kitchen knife"), plural("sheaf of rice"), plural("bow and arrow"), plural("jeans")
    ('kitchen knives', 'sheaves of rice', 'bows and arrows', 'jeans')
    """
    if number(name) != "singular":
        return name
    head, rest = _head(name)
    parts = []
    for part in head.split(" and "):
        before, space, last = part.rpartition(" ")
        parts.append(f"{before}{space}{_plural_word(last)}")
    return " and ".join(parts) + rest


def amount(name: str, count: int) -> str:
    """So many of a thing, for a list: "a dog", "three mice", "grapes".

    >>> amount("mouse", 3), amount("owl", 1), amount("bread", 2)
    ('three mice', 'an owl', 'bread')
    """
    if count == 1 or number(name) != "singular":
        return with_article(name)
    return f"{number_word(count)} {plural(name)}"


def forms(name: str) -> dict[str, str]:
    """The slots that a template may fill with a noun."""
    many = number(name) == "plural"
    return {
        "name": name,
        "a_name": with_article(name),
        "plural": plural(name),
        "is": "are" if many else "is",
        "Is": "Are" if many else "Is",
    }


def _head(name: str) -> tuple[str, str]:
    words = name.split(" ")
    for position, word in enumerate(words):
        if position and word in AFTER_HEAD:
            return " ".join(words[:position]), " " + " ".join(words[position:])
    return name, ""


def _plural_word(word: str) -> str:
    lower = word.lower()
    if lower in IRREGULAR:
        return IRREGULAR[lower] if lower == word else IRREGULAR[lower].capitalize()
    if lower in UNCHANGED or lower.endswith(("fish", "craft")):
        return word
    if lower.endswith("man") and lower not in NO_MAN:
        return word[:-2] + "en"
    if lower.endswith("mouse"):
        return word[:-5] + "mice"
    if lower.endswith(("s", "x", "z", "ch", "sh")) or lower in O_TAKES_ES:
        return word + "es"
    if lower.endswith("y") and lower[-2:-1] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


def _article(name: str) -> str:
    first = name.split(" ", 1)[0]
    letters = first.split("-", 1)[0]
    lower = first.lower()
    if (len(letters) == 1 and letters.isalpha()) or (len(letters) > 1 and letters.isupper()):
        return "an" if letters[0].lower() in VOWEL_LETTERS else "a"  # read letter by letter
    if lower[0].isdigit():
        digits = lower[: len(lower) - len(lower.lstrip("0123456789"))]
        return "an" if digits[0] == "8" or digits in ("11", "18") else "a"
    if lower.startswith(SILENT_H):
        return "an"
    if lower == "one" or lower.startswith(CONSONANT_SOUND):
        return "a"
    return "an" if lower[0] in "aeiou" else "a"
