"""VQA accuracy (VQA v2, OK-VQA, VizWiz; TextVQA in the variant of Pythia, which LLaVA uses).

Official definition: vqaEval.py of GT-Vision-Lab/VQA. An answer is worth min(1, matches / 3), averaged over leaving out
each of the ten people once, so 0, 0.3, 0.6, 0.9, 1.0 for none to four who said the same.

How tools differ:
- The official script normalises (punctuation, number words, articles, contractions) only where the ten raw answers
  differ. Where all ten agree it compares text as it is: "Yes" against ten times "yes" is wrong, and so is "2" against
  "two". lmms-eval always normalises, so its VQA v2 scores are higher. The test server takes what LLaVA has normalised
  before the upload (`normalise_m4c`).
- Pythia's script for TextVQA (LLaVA's m4c_evaluator.py) always normalises, drops "," and "?" first, and splits "'s".
- The official script leaves out a person by comparing whole records. Without distinct `answer_id`s all equal answers
  vanish at once; here a person is left out by position.
- A period goes unless a digit follows (the script's look-behind for a digit before it has no effect), and only the
  first 32 go, since a flag is passed where the count belongs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from vistune.errors import VistuneError

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
NUMBERS = {
    word: str(n)
    for n, word in enumerate(("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"))
} | {"none": "0"}
ARTICLES = ("a", "an", "the")
PERIOD = re.compile(r"\.(?!\d)")
PERIODS = 32  # re.UNICODE, passed as the count

PEOPLE = 10

_APOSTROPHES = (
    "ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's "
    "isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't should've "
    "shouldn't somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd there're "
    "there's they'd they'll they're they've 'twas wasn't we've weren't what'll what're what's what've when's where'd "
    "where's where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're "
    "you've"
)
_TWICE = "couldn't've hadn't've he'd've it'd've mightn't've she'd've shouldn't've somebody'd've someone'd've "
_TWICE += "something'd've there'd've they'd've we'd've who'd've wouldn't've you'd've y'all'll"


def _contractions() -> dict[str, str]:
    """Spellings with an apostrophe left out, and what they stand for. Those of the script that begin with a capital
    ("Im") never match lower-cased text and are not listed."""
    table = {word.replace("'", ""): word for word in _APOSTROPHES.split()}
    for word in _TWICE.split():
        first, second, third = word.split("'")
        table |= {f"{first}{second}'{third}": word, f"{first}'{second}{third}": word}
    # `y'all'd've` has three, and is listed with any one left in; "somebodyd" is a slip of the script, kept.
    table |= dict.fromkeys(("yall'd've", "y'alld've", "y'all'dve"), "y'all'd've")
    table |= dict.fromkeys(("ow's'at", "'ows'at", "'ow'sat"), "'ow's'at")
    return table | {"somebody'd": "somebodyd"}


def _plain(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def _without_punctuation(text: str) -> str:
    """A mark is deleted where it stands beside a space, or everywhere when the text has a number such as 1,000; else
    it becomes a space. Both are asked of the text as it came."""
    grouped = re.search(r"\d,\d", text) is not None
    found = text
    for mark in PUNCTUATION:
        beside = f"{mark} " in text or f" {mark}" in text
        found = found.replace(mark, "" if beside or grouped else " ")
    return PERIOD.sub("", found, count=PERIODS)


def _words(text: str) -> str:
    words = (NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def normalise(text: str) -> str:
    """The official normalisation.

    >>> normalise("The two dogs."), normalise("1,000"), normalise("and/or"), normalise("dont")
    ('2 dogs', '1000', 'and or', "don't")
    """
    return _words(_without_punctuation(_plain(text)))


def normalise_m4c(text: str) -> str:
    """Pythia's normalisation, which TextVQA's scorer and LLaVA's submissions use.

    >>> normalise_m4c("PEPSI-COLA's"), normalise_m4c("1,000 kg")
    ("pepsi cola 's", '1000 kg')
    """
    return normalise(text.lower().replace(",", "").replace("?", "").replace("'s", " 's"))


def accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Official VQA accuracy, 0 to 1.

    >>> round(accuracy("cat", ["cat"] * 3 + ["dog"] * 7), 3), accuracy("Cat", ["cat"] * 10)
    (0.9, 0.0)
    """
    said, given = _plain(prediction), [_plain(a) for a in answers]
    if len(set(answers)) > 1:
        said, given = normalise(said), [normalise(a) for a in given]
    return _agreement(said, given)


def accuracy_m4c(prediction: str, answers: Sequence[str]) -> float:
    """VQA accuracy after Pythia's normalisation of both sides. Raises VistuneError unless there are ten answers.

    >>> accuracy_m4c("Nike.", ["nike"] * 10)
    1.0
    """
    if len(answers) != PEOPLE:
        raise VistuneError(f"TextVQA accuracy is defined for {PEOPLE} answers, got {len(answers)}: {answers!r:.80}.")
    return _agreement(normalise_m4c(prediction), [normalise_m4c(a) for a in answers])


def _agreement(said: str, given: Sequence[str]) -> float:
    if not given:
        raise VistuneError("VQA accuracy needs people's answers, got none. Test splits have none: submit them instead.")
    same = sum(answer == said for answer in given)
    return sum(min(1.0, (same - (answer == said)) / 3) for answer in given) / len(given)


def direct(prediction: str, answers: Sequence[str]) -> float:
    """A-OKVQA's score of a direct answer: min(1, matches / 3) against all ten, nobody left out. Its script compares
    text as it is; the answers are in lower case, so what a model says is lowered and its final period dropped.

    >>> direct("Cat.", ["cat", "cat", "dog"] + ["kitten"] * 7)
    0.6666666666666666
    """
    said = prediction.strip().rstrip(".").lower()
    return min(1.0, sum(answer == said for answer in answers) / 3)


CONTRACTIONS = _contractions()


def results(doc: Mapping[str, Any], answers: Sequence[str]) -> dict[str, Any]:
    """accuracy: official."""
    return {"accuracy": accuracy(answers[0], doc["answers"])}


def results_m4c(doc: Mapping[str, Any], answers: Sequence[str]) -> dict[str, Any]:
    """accuracy: after Pythia's normalisation."""
    return {"accuracy": accuracy_m4c(answers[0], doc["answers"])}


def results_submitted(doc: Mapping[str, Any], answers: Sequence[str]) -> dict[str, Any]:
    """accuracy: official, of the answer as LLaVA submits it (normalised beforehand), which is what papers report for
    VQA v2 and VizWiz."""
    return {"accuracy": accuracy(normalise_m4c(answers[0]), doc["answers"])}


def results_direct(doc: Mapping[str, Any], answers: Sequence[str]) -> dict[str, Any]:
    """accuracy: A-OKVQA's, of a direct answer."""
    return {"accuracy": direct(answers[0], doc["answers"])}
