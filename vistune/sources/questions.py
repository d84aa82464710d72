"""What readers of question files share: answers and choices, splits, and the image a question is about."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.files import read_json
from vistune.sources.rows import Malformed, Refused, Row, need

SPLITS: Mapping[Any, str] = {"train": "train", "val": "validation", "test": "test"}
"""How question files name the splits of a data set."""


def expand(pattern: str, image_id: int | str) -> str:
    """The file name of an image from its id.

    >>> expand("COCO_val2014_{image_id:012d}.jpg", 42)
    'COCO_val2014_000000000042.jpg'
    """
    for convert in (str, int) if isinstance(image_id, str) else (int,):
        with contextlib.suppress(LookupError, ValueError, TypeError, AttributeError, OverflowError):
            return pattern.format(image_id=convert(image_id))
    raise VistuneError(
        f"image_pattern {pattern!r} does not fit image id {image_id!r:.80}; "
        "expected something like '{image_id:012d}.jpg'."
    )


def file_name(pattern: str, image_id: int | str) -> str:
    """`expand`, but a pattern that suits other ids is not at fault: raises Malformed then, else VistuneError."""
    try:
        return expand(pattern, image_id)
    except VistuneError:
        expand(pattern, 1)
        raise Malformed(f"image id {image_id!r:.80} does not fit the image_pattern {pattern!r}") from None


def image_of(row: Row, pattern: str, licence: str = "") -> str:
    """The id of the row's image. One that no other file lists is listed here, its file name made from `pattern`."""
    key = row.identifier("image_id")
    if key not in row.listing.images:
        if not pattern:
            raise Refused("image_unknown", f"no file of the data set lists image {key}, and no image_pattern is set.")
        entry = row.listing.image(key, file_name(pattern, row.value["image_id"]))
        if entry is not None and licence:
            entry.licence = licence
    return key


def elsewhere(row: Row, key: str, names: Mapping[Any, str] = SPLITS) -> bool:
    """Whether the row says under `key` that it belongs to another split than the data set; it is then passed over."""
    stated = row.need(key, (str, int), None)
    if stated is None:
        return False
    if stated not in names:
        raise Malformed(f"{key} is {stated!r:.80}, expected one of {', '.join(map(repr, names))}")
    if names[stated] == row.listing.split:
        return False
    row.pass_over()
    return True


def question_text(row: Row, key: str) -> str:
    """A question, on one line."""
    text = row.text(key)
    if not text:
        raise Refused("question_empty", "the question has no text.")
    return text


def texts(values: Sequence[Any], what: str) -> tuple[str, ...]:
    """Texts on one line each. Blank ones say nothing and are left out.

    >>> texts(["red", " ", "dark  red\\n"], "answers")
    ('red', 'dark red')
    """
    for value in values:
        if not isinstance(value, str) or not value.isascii():
            need({what: value}, what, str)
    return tuple(text for value in values if (text := " ".join(value.split())))


def majority(answers: Sequence[str]) -> str:
    """The answer given most often; of several, the one that was given first. Raises Refused when there is none.

    >>> majority(("red", "blue", "green", "blue", "red"))
    'red'
    """
    if not answers:
        raise Refused("question_unanswered", "it has no answer.")
    return Counter(answers).most_common(1)[0][0]


def read_choices(row: Row, key: str, default: Any = ...) -> tuple[str, ...]:
    """The choices of a question, on one line each. No two are the same, else no letter would name the answer."""
    values = row.need(key, list, default)
    choices = texts(values, key)
    if len(choices) < len(values):
        raise Malformed(f"{key} holds a blank text")
    if len(set(choices)) < len(choices):
        raise Refused("choices_repeated", f"two choices are the same: {', '.join(choices)}.")
    return choices


def chosen(choices: Sequence[str], index: int) -> str:
    """The choice that is the answer, from its number counted from 0."""
    if not 0 <= index < len(choices):
        raise Refused("answer_not_among_choices", f"choice {index} is the answer, but there are {len(choices)}.")
    return choices[index]


def rows_at_top(path: Path) -> list[Any]:
    """The rows of a file that is one list. Raises VistuneError when it has another shape."""
    tree = read_json(path)
    if not isinstance(tree, list):
        raise VistuneError(f"{path}: expected a list at the top, got a {type(tree).__name__}. Check the format.")
    return tree


def members(path: Path) -> list[tuple[str, Any]]:
    """The rows of a file that is one object, by id. Ids that are repeated come as often as the file has them. Raises
    VistuneError when it has another shape."""
    top: list[tuple[str, Any]] = []

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal top
        top = pairs  # the object at the top is built last
        return dict(pairs)

    tree = read_json(path, build)
    if not isinstance(tree, dict):
        raise VistuneError(f"{path}: expected an object at the top, got a {type(tree).__name__}. Check the format.")
    return top
