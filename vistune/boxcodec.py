"""Boxes as the text of each consumer: pixel boxes of the upright image to text, and back. Pure functions.

A consumer counts steps along each side of its frame: the image, the image padded to a square, or the image resized
for its vision encoder. It writes a coordinate as the nearest step, or as the step below it (it rounds down): `encode`
does what the consumer's own data does. `decode` gives the point nearest to all coordinates that are written so: the
step itself, or the middle between a step and the next. So a box that is encoded and decoded is off by at most half a
step in every format, and text that is decoded and encoded comes back the same.

`Codec.source` says where a format is known from: [S] the consumer's code was read, [B] its documentation or issues,
[M] from memory, unconfirmed.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from vistune.errors import VistuneError
from vistune.records import Box

Frame = Literal["image", "padded", "resized", "pixels"]
"""What the steps lie along: the image; the image in the middle of a padded square (floor of half the difference before
it, as the padding code of LLaVA, Shikra and SVIT has it); the pixels of the image as Qwen2.5-VL resizes it; or
hundredths of the image's own pixels."""

FACTOR = 28
"""Qwen2-VL and Qwen2.5-VL resize images to multiples of this: 14-pixel patches, merged 2 x 2."""

MAX_RATIO = 200
"""Qwen's image processor refuses longer images."""


@dataclass(frozen=True)
class Axis:
    """One side of a frame."""

    steps: int
    span: float  # pixels of the image that the steps cover
    before: int = 0  # pixels of padding before the image


@dataclass(frozen=True)
class Codec:
    """How one consumer writes boxes. Methods raise ValueError for what is no box, no text of a box, or no size."""

    name: str
    shape: str  # the text of a box, %s for each number
    scale: str  # what the numbers are, in English
    scale_zh: str  # and in Chinese
    source: str
    frame: Frame = "image"
    steps: int = 0  # of frames that do not count pixels
    down: bool = False  # numbers are rounded down, else to the nearest (half to even)
    top: int = 0  # the greatest number written, where that is not `steps`
    decimals: int = 0  # the text says step / 10**decimals
    form: str = ""  # of a number, as in format(); empty: as short as it goes
    ref: tuple[str, str] = ("", " ")  # what stands around a name before its box
    label: bool = False  # instead, the name is a key of the JSON object that the box is
    pixels: tuple[int, int] = (0, 0)  # fewest and most pixels of a resized image

    def encode(self, box: Box, width: int, height: int) -> str:
        """The text of `box` in an image of `width` x `height` pixels. What leaves the image is clamped to it.

        >>> CODECS["minigpt_v2"].encode((10, 20, 30, 40), 100, 100)
        '{<10><20><30><40>}'
        >>> CODECS["llava"].encode((0, 0, 640, 480), 640, 480)  # 80 of 640 pixels above and below are padding
        '[0.0, 0.12, 1.0, 0.88]'
        """
        if not all(map(math.isfinite, box)) or box[0] > box[2] or box[1] > box[3]:
            raise ValueError(f"expected finite x1 <= x2 and y1 <= y2, got the box {box!r}")
        x, y = self.axes(width, height)
        axes = ((x, width), (y, height)) * 2
        steps = [self._step(min(max(v, 0.0), size), axis) for v, (axis, size) in zip(box, axes, strict=True)]
        return self.shape % tuple(self._digits(n) for n in steps)

    def decode(self, text: str, width: int, height: int) -> Box:
        """The pixel box that `text` names. Its sides are off by at most half a step; in padded and other frames that
        have no step at the image's border, they may lie outside the image by as much.

        >>> CODECS["minigpt_v2"].decode("{<10><20><30><40>}", 100, 100)
        (10.5, 20.5, 30.5, 40.5)
        >>> CODECS["llava"].decode("[0.0, 0.14, 1.0, 0.86]", 400, 300)
        (0.0, 6.0, 400.0, 294.0)
        """
        found = self.pattern.fullmatch(text.strip())
        x, y = self.axes(width, height)
        if found:
            steps = [round(float(number) * 10**self.decimals) for number in found.groups()]
            limits = [self.top or axis.steps for axis in (x, y, x, y)]
            ordered = steps[0] <= steps[2] and steps[1] <= steps[3]
            if ordered and all(n <= most for n, most in zip(steps, limits, strict=True)):
                x1, y1, x2, y2 = (self._point(n, axis) for n, axis in zip(steps, (x, y, x, y), strict=True))
                return x1, y1, x2, y2
        most = f"{self._digits(self.top or x.steps)} across and {self._digits(self.top or y.steps)} down"
        raise ValueError(
            f"expected a box of {self.name}, {self.shape % ('x1', 'y1', 'x2', 'y2')} with x1 <= x2, y1 <= y2, and "
            f"numbers from 0 to {most}{f', {self.decimals} decimals' if self.decimals else ''}; got {text!r:.100}"
        )

    def words(self, language: str = "en") -> str:
        """What an instruction calls the format.

        >>> CODECS["minigpt_v2"].words()
        '{<x1><y1><x2><y2>} in integers from 0 to 100'
        """
        corners = self.shape % ("x1", "y1", "x2", "y2")
        return f"{corners}，{self.scale_zh}" if language == "zh" else f"{corners} {self.scale}"

    def named(self, name: str, text: str) -> str:
        """The text of a box with the name of what is in it, as the consumer writes both.

        >>> CODECS["qwen_vl"].named("dog", "<box>(10,20),(30,40)</box>")
        '<ref>dog</ref><box>(10,20),(30,40)</box>'
        >>> CODECS["qwen3_vl"].named("dog", '{"bbox_2d": [10, 20, 30, 40]}')
        '{"bbox_2d": [10, 20, 30, 40], "label": "dog"}'
        """
        if self.label:
            return f'{text[:-1]}, "label": {json.dumps(name, ensure_ascii=False)}}}'
        return f"{self.ref[0]}{name}{self.ref[1]}{text}"

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Finds boxes in running text; four groups, the numbers. Spaces after commas and colons are optional."""
        number = rf"\d{{1,9}}(?:\.\d{{1,{self.decimals}}})?" if self.decimals else r"\d{1,9}"
        pieces = [re.escape(p).replace(r"\ ", "").replace(",", r",\s*") for p in self.shape.split("%s")]
        if self.label:
            pieces[0] = pieces[0].replace(":", r":\s*")
            pieces[-1] = r'\](?:,\s*"label":\s*"(?:[^"\\]|\\.)*")?\s*\}'
        return re.compile(f"({number})".join(pieces))

    def axes(self, width: int, height: int) -> tuple[Axis, Axis]:
        """The sides of the frame of an image, across and down."""
        if width < 1 or height < 1:
            raise ValueError(f"expected an image of at least 1x1 pixels, got {width}x{height}")
        if self.frame == "padded":
            side = max(width, height)
            return Axis(self.steps, side, (side - width) // 2), Axis(self.steps, side, (side - height) // 2)
        if self.frame == "resized":
            across, down = smart_resize(width, height, *self.pixels)
            return Axis(across, width), Axis(down, height)
        if self.frame == "pixels":
            return Axis(width * 100, width), Axis(height * 100, height)
        return Axis(self.steps, width), Axis(self.steps, height)

    def _step(self, v: float, axis: Axis) -> int:
        exact = (v + axis.before) * axis.steps / axis.span
        return min(math.floor(exact) if self.down else round(exact), self.top or axis.steps)

    def _point(self, step: int, axis: Axis) -> float:
        middle = min(step + 0.5, axis.steps) if self.down else step
        return middle * axis.span / axis.steps - axis.before

    def _digits(self, step: int) -> str:
        return format(step / 10**self.decimals if self.decimals else step, self.form)


def smart_resize(width: int, height: int, fewest: int, most: int) -> tuple[int, int]:
    """Width and height to which Qwen2-VL and Qwen2.5-VL resize an image: multiples of FACTOR, `fewest` to `most`
    pixels together (transformers' Qwen2VLImageProcessor; qwen-vl-utils differs for images less than 14 pixels high
    or wide). Raises ValueError when one side is more than MAX_RATIO times the other.

    >>> smart_resize(640, 480, *QWEN_PIXELS)
    (644, 476)
    """
    if max(width, height) > MAX_RATIO * min(width, height):
        raise ValueError(f"expected sides within 1:{MAX_RATIO}, got an image of {width}x{height} pixels")
    across, down = (round(side / FACTOR) * FACTOR for side in (width, height))
    if across * down > most:
        shrink = math.sqrt(width * height / most)
        across, down = (max(FACTOR, math.floor(s / shrink / FACTOR) * FACTOR) for s in (width, height))
    elif across * down < fewest:
        grow = math.sqrt(fewest / (width * height))
        across, down = (math.ceil(s * grow / FACTOR) * FACTOR for s in (width, height))
    return across, down


QWEN_PIXELS = (56 * 56, 28 * 28 * 16384)
"""Limits in the processor configuration of the published Qwen2.5-VL weights; transformers' class default allows
28 * 28 * 1280 at most."""

_CODECS = (
    Codec(
        "vistune",
        "[%s, %s, %s, %s]",
        "in integers from 0 to 999",
        "用0到999的整数",
        "the text of a release: parts of the image, nearest, the far edge is 999",
        steps=999,
    ),
    Codec(
        "llava",
        "[%s, %s, %s, %s]",
        "as fractions of the image padded to a square, with two decimals",
        "为补成正方形后图上的比例，保留两位小数",
        "LLaVA-1.5: padded square [B issues 606, 822: RefCOCO rows are disputed]; two decimals, nearest [M]",
        frame="padded",
        steps=100,
        decimals=2,
    ),
    Codec(
        "svit",
        "[%s, %s, %s, %s]",
        "as fractions of the image, with three decimals",
        "为图上的比例，保留三位小数",
        "SVIT: fractions of the image, before its expand_to_square.py turns them into LLaVA's frame; round(v, 3) [S]",
        steps=1000,
        decimals=3,
        ref=("<st>", "<ed> "),
    ),
    Codec(
        "shikra",
        "[%s,%s,%s,%s]",
        "as fractions of the image padded to a square, with three decimals",
        "为补成正方形后图上的比例，保留三位小数",
        "Shikra transform.py: padded square, clamped, round(v, 3), written with :.3f and no spaces [S]",
        frame="padded",
        steps=1000,
        decimals=3,
        form=".3f",
        ref=("", ""),
    ),
    Codec(
        "minigpt_v2",
        "{<%s><%s><%s><%s>}",
        "in integers from 0 to 100",
        "用0到100的整数",
        "MiniGPT-v2 coco_dataset.py: int(v / size * 100), so rounded down; the far edge is 100 [S]",
        steps=100,
        down=True,
        ref=("<p>", "</p> "),
    ),
    Codec(
        "qwen_vl",
        "<box>(%s,%s),(%s,%s)</box>",
        "in integers from 0 to 999",
        "用0到999的整数",
        "Qwen-VL: int(1000 v / size) in [0, 1000), so rounded down; the far edge is 999. Its tokenizer reads n / 1000, "
        "its RefCOCO evaluation n / 999 [S]",
        steps=1000,
        down=True,
        top=999,
        ref=("<ref>", "</ref>"),
    ),
    Codec(
        "qwen2_vl",
        "<|box_start|>(%s,%s),(%s,%s)<|box_end|>",
        "in integers from 0 to 999",
        "用0到999的整数",
        "Qwen2-VL: [0, 1000) [B], so rounded down as in Qwen-VL [M]; ms-swift writes the nearest of 0 to 1000 [S]",
        steps=1000,
        down=True,
        top=999,
        ref=("<|object_ref_start|>", "<|object_ref_end|>"),
    ),
    Codec(
        "qwen25_vl",
        '{"bbox_2d": [%s, %s, %s, %s]}',
        "in pixels of the resized image",
        "以缩放后图像的像素为单位",
        "Qwen2.5-VL: pixels of the resized image; nearest, as ms-swift writes them [S]",
        frame="resized",
        label=True,
        pixels=QWEN_PIXELS,
    ),
    Codec(
        "qwen3_vl",
        '{"bbox_2d": [%s, %s, %s, %s]}',
        "in integers from 0 to 1000",
        "用0到1000的整数",
        "Qwen3-VL: 0 to 1000 over the image [B]; nearest, as ms-swift writes them [S]",
        steps=1000,
        label=True,
    ),
    Codec(
        "internvl",
        "<box>[[%s, %s, %s, %s]]</box>",
        "in integers from 0 to 1000",
        "用0到1000的整数",
        "InternVL: 0 to 1000, read as n / 1000 by evaluate_grounding.py; nearest, as ms-swift writes them [S]",
        steps=1000,
        ref=("<ref>", "</ref>"),
    ),
    Codec(
        "cogvlm",
        "[[%s,%s,%s,%s]]",
        "in integers from 000 to 999",
        "用000到999的整数",
        "CogVLM: read as n / 1000 by grounding_parser.py [S]; 000 to 999, so rounded down [M]",
        steps=1000,
        down=True,
        top=999,
        form="03d",
        ref=("", ""),
    ),
    Codec(
        "ferret",
        "[%s, %s, %s, %s]",
        "in integers from 0 to 1000",
        "用0到1000的整数",
        "Ferret train.py: int(v * 1000 / size), so rounded down; the far edge is 1000 [S]",
        steps=1000,
        down=True,
    ),
    Codec(
        "ms_swift",
        "[%s, %s, %s, %s]",
        "in pixels of the image",
        "以图像的像素为单位",
        "ms-swift: pixels of the image (bbox_type real), from which it writes the text of the model it trains [S]; "
        "to 1/100 here",
        frame="pixels",
        decimals=2,
    ),
)

CODECS: dict[str, Codec] = {codec.name: codec for codec in _CODECS}

NATIVE = CODECS["vistune"]
"""How releases write boxes."""


def find(name: str) -> Codec:
    """The codec of that name. `qwen25_vl:1003520` is Qwen2.5-VL with images of at most so many pixels, since its
    frame depends on the limit that the trainer sets. Raises VistuneError for an unknown name or limit.

    >>> find("qwen25_vl:1003520").encode((0, 0, 1920, 1080), 1920, 1080)
    '{"bbox_2d": [0, 0, 1316, 728]}'
    """
    base, colon, limit = name.partition(":")
    if base not in CODECS:
        raise VistuneError(f"there is no box format {base!r}. Choose one of {', '.join(CODECS)}.")
    if not colon:
        return CODECS[base]
    fewest = CODECS[base].pixels[0]
    if not fewest:
        raise VistuneError(f"box format {name!r}: {base} does not resize images, so it takes no limit of pixels.")
    if not limit.isdecimal() or int(limit) < fewest:
        raise VistuneError(f"box format {name!r}: expected a number of pixels from {fewest} on, got {limit!r}.")
    return replace(CODECS[base], name=name, pixels=(fewest, int(limit)))
