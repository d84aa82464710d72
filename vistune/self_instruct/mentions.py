"""Category names in running text: which things of a vocabulary a sentence names, how many of each, and whether it
affirms or denies them.

Matching is by words (longest name first, singular and plural, any case), so that "hot dog" is no dog and "catalogue"
no cat. This is a heuristic on English; it errs on the side of finding a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache

from vistune import english

Words = tuple[str, ...]

_TOKEN = re.compile(r"\w+(?:['’\-]\w+)*|[^\w\s]")
_SENTENCE = re.compile(
    r"[.!?;:]+(?=\s|$)|\n+|,?\s+(?=(?:but|while|whereas|however|although|instead|only|just)\b)", re.I
)

_NUMBER = {word: n for n, word in enumerate(english.NUMBERS) if n} | {"single": 1, "both": 2}

# A one-word name that is also a verb or an adjective ("watch", "fly", "orange") counts as a name only as a noun:
# after one of these words, or after an adjective that follows one. Not so what is named without them ("wood", "snow").
_DETERMINERS = {
    "a", "an", "the", "this", "that", "these", "those", "some", "any", "no", "each", "every", "another", "other",
    "my", "your", "his", "her", "its", "our", "their", "many", "several", "few", "more", "fewer", "most", "all",
    "both", "single", "one", "of", "with", "and", "or", "nor", "like", "than", "without", "what", "which", ",", "&",
}  # fmt: skip
_AMBIGUOUS = {
    "bank", "bat", "bear", "bow", "bowl", "book", "box", "camp", "can", "chain", "clamp", "clock", "cook", "crown",
    "drum", "duck", "dress", "drop", "fan", "file", "fish", "fly", "fork", "hammer", "hook", "iron", "key", "kite",
    "knot", "label", "ladder", "light", "link", "lock", "map", "match", "mirror", "mouse", "net", "orange", "park",
    "pen", "phone", "pick", "plant", "play", "ram", "rest", "ring", "rock", "saw", "school", "scroll", "seal", "ship",
    "shower", "sign", "sink", "ski", "spring", "star", "stop", "swing", "tie", "top", "train", "trip", "turkey",
    "watch", "wave", "wing",
}  # fmt: skip

# "an orange at the top" is the fruit, "an orange scarf" is not.
_AFTER_NOUN = {
    "above", "and", "are", "at", "behind", "below", "beside", "bigger", "by", "compared", "for", "from", "further",
    "here", "higher", "in", "is", "left", "lies", "like", "lower", "near", "next", "of", "on", "or", "right", "smaller",
    "than", "there", "to", "under", "with",
}  # fmt: skip
_BEFORE_COLOUR = {"background", "is", "are", "looks", "coloured", "bright", "light", "dark"}
# Words that speak about the picture itself: never names of things in it.
_FRAME = {
    "background", "bottom", "centre", "colour", "corner", "image", "left", "middle", "object", "photo", "photograph",
    "picture", "right", "scene", "side", "thing", "top",
}  # fmt: skip

_DENIALS = {"no", "not", "without", "neither", "nor", "none", "never", "cannot", "lack", "lacks", "missing", "absent"}
_ABSENT_AFTER = re.compile(
    r"^\W*(?:is|are)\s*(?:missing|absent|nowhere|(?:not|n['’]t)\s+(?:here|there|present|visible|shown"
    r"|in\s+(?:the|this)\s+(?:picture|image|photo|scene)))\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Mention:
    """One name in a text."""

    label: str  # the category's label, whatever form the text uses
    start: int  # character offsets in the sentence
    end: int
    number: int | None  # the number word right before it ("three big cats": 3), else None
    denied: bool  # somewhere after a "not", "without" ...
    absent: bool  # said not to be in the picture at all


class Names:
    """The category names of one vocabulary, ready to be found in text."""

    def __init__(self, labels: Iterable[str]) -> None:
        ordered = sorted(label for label in set(labels) if label.lower() not in _FRAME)
        self.forms: dict[Words, str] = {words(label): label for label in ordered if words(label)}
        for label in ordered:  # after all names as they stand: "glasses" is not two of "glass" if it is a name itself
            self.forms.setdefault(words(english.plural(label)), label)
        self.forms.pop((), None)
        self.longest: dict[str, int] = {}  # first word -> words of the longest name that starts with it
        for form in self.forms:
            self.longest[form[0]] = max(len(form), self.longest.get(form[0], 0))

    def find(self, sentence: str) -> list[Mention]:
        """The names in one sentence, left to right.

        >>> names = Names(["cat", "black cat", "dog"])
        >>> [(m.label, m.number, m.denied) for m in names.find("Two black cats, not a dog")]
        [('black cat', 2, False), ('dog', None, True)]
        """
        tokens = [(m.group().lower().replace("’", "'"), m.start(), m.end()) for m in _TOKEN.finditer(sentence)]
        plain = [t for t, _, _ in tokens]
        found: list[Mention] = []
        outside: list[str] = []  # the words so far that belong to no name: "teacup without handle" denies nothing
        i, name_end = 0, -1
        while i < len(tokens):
            for length in range(min(self.longest.get(plain[i], 0), len(tokens) - i), 0, -1):
                label = self.forms.get(tuple(plain[i : i + length]))
                if label is not None and (length > 1 or _is_noun(plain, i, i == name_end)):
                    start, end = tokens[i][1], tokens[i + length - 1][2]
                    absent = _absent(plain[:i]) or bool(_ABSENT_AFTER.match(sentence[end:]))
                    denied = absent or any(t in _DENIALS or t.endswith("n't") for t in outside)
                    found.append(Mention(label, start, end, _number(plain, i), denied, absent))
                    outside = [t for t in outside if t != "without"]  # "without" denies the next thing only
                    i = name_end = i + length
                    break
            else:
                outside.append(plain[i])
                i += 1
        return found


@lru_cache(maxsize=16)
def names(labels: tuple[str, ...]) -> Names:
    """`Names` of a vocabulary, made once: all images of a data set share it."""
    return Names(labels)


@lru_cache(maxsize=16384)
def words(text: str) -> Words:
    """Lower-case words and punctuation marks.

    >>> words("A woman’s hat.")
    ('a', "woman's", 'hat', '.')
    """
    return tuple(m.group().lower().replace("’", "'") for m in _TOKEN.finditer(text))


def sentences(text: str) -> list[str]:
    """Sentences and the halves of a contrast, so that a denial reaches no further than it is meant to.

    >>> sentences("There is no cat, but a dog. Good!")
    ['There is no cat', 'but a dog', 'Good']
    """
    text = re.sub(r"^\s*(?:yes|no)\s*[,.!;:]", lambda m: m.group()[:-1] + ".", text, count=1, flags=re.I)
    return [part.strip() for part in _SENTENCE.split(text) if part and part.strip()]


@cache
def _ambiguous_plurals() -> set[str]:
    return {english.plural(word) for word in _AMBIGUOUS} - _AMBIGUOUS


def _is_noun(plain: list[str], i: int, after_name: bool) -> bool:
    """Whether the word at `i`, a name in some form, is used as one. `after_name`: another name stands right before."""
    word, before, after = plain[i], plain[i - 1] if i else "", plain[i + 1] if i + 1 < len(plain) else ""
    if word in _ambiguous_plurals():
        return not after_name and before not in ("he", "she", "it", "that", "who", "which")  # "the cat watches"
    if word not in _AMBIGUOUS:
        return True
    if word == "orange" and (before in _BEFORE_COLOUR or (after[:1].isalpha() and after not in _AFTER_NOUN)):
        return False  # the colour
    return i == 0 or any(t in _DETERMINERS or t in _NUMBER or t.isdigit() for t in plain[max(0, i - 2) : i])


def _number(plain: list[str], i: int) -> int | None:
    for back in (1, 2):
        word = plain[i - back] if i >= back else ""
        if word in _NUMBER:
            return _NUMBER[word]
        if word.isdigit() and len(word) < 4:
            return int(word)
        if not word.isalpha() or word in _DETERMINERS:
            return None
    return None


def _absent(before: list[str]) -> bool:
    """Whether the words before a name end in "no", "no big", "not any", "don't see any" ..."""
    last = before[-1:] if before[-1:] in (["no"], ["any"]) else before[-2:-1]
    if before[-1:] and before[-1] in ("other", "more", "second", "single"):
        return False
    return last == ["no"] or (last == ["any"] and any(t == "not" or t.endswith("n't") for t in before))
