"""What the adapters share to check the texts of boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from harness import Case, same

from vistune.boxcodec import CODECS
from vistune.models.original_boxes import points, write


def encoded(where: str, name: str, cases: Sequence[dict[str, Any]]) -> Iterator[Case]:
    """The authors' numbers exactly; and ours, which stay in the codec's range and want corners in order."""
    codec = CODECS[name]
    for n, case in enumerate(cases):
        box, width, height, expected = case["in"]["box"], case["in"]["w"], case["in"]["h"], case["out"]
        yield same(f"{where} box {n} as written", write(name, box, width, height), expected)
        if box[0] <= box[2] and box[1] <= box[3]:
            found = codec.pattern.fullmatch(expected)
            kept = [min(int(number), codec.top or codec.steps) for number in found.groups()] if found else []
            text = codec.encode(tuple(box), width, height)
            yield same(f"{where} box {n}", text, codec.shape % tuple(format(number, codec.form) for number in kept))


def read(where: str, name: str, numbers: Sequence[int], width: int, height: int, expected: Sequence[float]) -> Case:
    """Coordinates of four numbers: the authors' are the near edge of each step, ours (where the corners are in order)
    lie within half a step of it."""
    codec = CODECS[name]
    got = points(numbers, codec.steps, width, height)
    case = same(where, got, expected)
    if case.passed and numbers[0] <= numbers[2] and numbers[1] <= numbers[3] and max(numbers) <= (codec.top or 100):
        text = codec.shape % tuple(format(number, codec.form) for number in numbers)
        halves = [side / codec.steps / 2 + 1e-6 for side in (width, height)] * 2
        ours = codec.decode(text, width, height)
        near = [abs(a - b) <= half for a, b, half in zip(ours, got, halves, strict=True)]
        return same(where, near, [True] * 4)
    return case
