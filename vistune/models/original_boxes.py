"""The authors' own arithmetic on boxes, number by number: for exact reproduction only.

`boxcodec` writes and reads the boxes that are meant: clamped to the picture, corners in order, a number read as the
middle of its step. The authors' code takes each coordinate as it comes and rounds in floating point, in the order that
stands here; what a number looks like is the codec's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from vistune.boxcodec import CODECS


class Rule(NamedTuple):
    multiply: bool = False  # int(steps * v / size), else int(v / size * steps)
    top: int | None = None  # numbers are cut to it


RULES: dict[str, Rule] = {
    "minigpt_v2": Rule(),  # datasets/coco_dataset.py
    "qwen_vl": Rule(),  # the documented convention; the far edge is 1000, outside of the 1000 numbers it names
    "qwen2_vl": Rule(),
    "cogvlm": Rule(multiply=True, top=999),  # the README's format
}


def write(name: str, box: Sequence[float], width: int, height: int) -> str:
    """The text of a box by the rule of codec `name`."""
    codec, rule = CODECS[name], RULES[name]
    numbers = []
    for value, size in zip(box, (width, height, width, height), strict=True):
        number = int(codec.steps * value / size) if rule.multiply else int(value / size * codec.steps)
        numbers.append(number if rule.top is None else min(number, rule.top))
    return codec.shape % tuple(format(number, codec.form) for number in numbers)


def point(number: int, steps: int, size: int) -> float:
    """The coordinate that a number is read as: the near edge of its step."""
    return number / steps * size


def points(numbers: Sequence[int], steps: int, width: int, height: int) -> list[float]:
    """Coordinates of numbers across and down in turn."""
    return [point(number, steps, (width, height)[n % 2]) for n, number in enumerate(numbers)]


def minigpt_numbers(answer: str) -> tuple[bool, list[int]]:
    """Whether an answer is a box from its first character on, blanks apart, and its first four integers (fewer: none):
    MiniGPT-4's eval_scripts/eval_ref.py."""
    begins = re.match(r"\{<\d{1,3}><\d{1,3}><\d{1,3}><\d{1,3}>\}", answer.replace(" ", "").replace("<unk>", ""))
    numbers = [int(number) for number in re.findall(r"\d+", answer)][:4]
    return bool(begins), numbers if len(numbers) == 4 else []


def qwen_boxes(text: str) -> list[tuple[str, list[int]]]:
    """(name, numbers) of each box of Qwen-VL, in order; of several boxes after one name, the first has it."""
    found = []
    for match in re.finditer(r"(?:<ref>([^<]*)</ref>)?<box>\((\d+),(\d+)\),\((\d+),(\d+)\)</box>", text):
        found.append(((match[1] or "").strip(), [int(number) for number in match.groups()[1:]]))
    return found


def cogvlm_groups(text: str) -> list[list[list[int]]]:
    """Boxes and points of each `[[...;...]]` of CogVLM; what is no list of numbers is left out."""
    groups = re.findall(r"\[\[(.*?)\]\]", text)
    return [
        [[int(n) for n in box.split(",")] for box in group.split(";") if box.replace(",", "").isdigit()]
        for group in groups
    ]
