"""Visual prompts: a region is marked by a shape drawn over the picture and named in words (ViP-LLaVA paper, section
3.1; llava/visual_prompt_generator.py). Drawn on the picture at its own size, before any view is made.

Lengths are for a picture whose longer side has `anchor` pixels, and grow with it. All randomness comes from `Draws`,
in the order in which the authors' code asks for it, so that the same seed gives the same picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vistune.errors import VistuneError

if TYPE_CHECKING:
    from PIL.Image import Image

Point = tuple[float, float]
Polygon = Sequence[Point]

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (255, 0, 0),
    "lime": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "fuchsia": (255, 0, 255),
    "aqua": (0, 255, 255),
    "orange": (255, 165, 0),
    "purple": (128, 0, 128),
    "gold": (255, 215, 0),
}
"""Those with a name in the text; any other goes unnamed."""


class Draws:
    """The two generators that the authors seed with one number."""

    def __init__(self, seed: int) -> None:
        self.python = Random(seed)
        self.numpy = np.random.RandomState(seed)


@dataclass(frozen=True)
class VisualPrompt:
    """What to draw. `alpha` and `width` are random where None; `constant` fixes the sizes of rectangles and points."""

    shape: str
    box: tuple[float, float, float, float]  # left, top, right, bottom, in pixels
    color: tuple[int, int, int]
    polygons: Sequence[Polygon] = ()  # the region's outline, in pixels
    alpha: int | None = None  # 0 to 255
    width: int | None = None
    constant: bool = False
    anchor: int = 336


@dataclass(frozen=True)
class Overlay:
    """All that is drawn over one picture, in this order."""

    prompts: Sequence[VisualPrompt]
    seed: int = 0

    def on(self, picture: Image) -> Image:
        draws = Draws(self.seed)
        for prompt in self.prompts:
            picture = draw_prompt(picture, prompt, draws)
        return picture


class Brush(NamedTuple):
    """What a shape is drawn with. `polygon` is one of the region's, drawn at random."""

    canvas: Any  # PIL.ImageDraw.ImageDraw
    prompt: VisualPrompt
    polygon: Polygon | None
    ink: tuple[int, int, int, int]
    side: int  # the picture's longer one
    draws: Draws

    def scaled(self, length: int) -> int:
        return int(length * self.side / self.prompt.anchor)

    def width(self, least: int, most: int, constant: int | None = None) -> int:
        """The prompt's, the constant one, or a random one."""
        if self.prompt.constant and constant is not None:
            width = self.scaled(constant)
        else:
            width = self.draws.python.randint(self.scaled(least), self.scaled(most))
        return max(self.scaled(self.prompt.width) if self.prompt.width is not None else width, 1)


def check(prompt: VisualPrompt) -> None:
    """Raises VistuneError for an unknown shape, a polygon of fewer than three corners, and a box or polygon without
    area."""
    if prompt.shape not in SHAPES:
        raise VistuneError(f"unknown visual prompt {prompt.shape!r}; known: {', '.join(SHAPES)}.")
    if short := [len(polygon) for polygon in prompt.polygons if len(polygon) < 3]:
        raise VistuneError(f"a polygon of a visual prompt has {short[0]} corners; it needs 3.")
    for left, top, right, bottom in (prompt.box, *map(bounds, prompt.polygons)):
        if right <= left or bottom <= top:
            raise VistuneError(f"a {prompt.shape} cannot be drawn in {left, top, right, bottom}: it has no area.")


def draw_prompt(picture: Image, prompt: VisualPrompt, draws: Draws, parity: bool = False) -> Image:
    """The picture with the shape blended over it, RGB of the same size.

    A point without a polygon falls into the box; with `parity` it raises, as in the authors' code. Raises VistuneError
    as `check` does."""
    from PIL import Image as pillow
    from PIL import ImageDraw

    check(prompt)
    if parity and prompt.shape == "point" and not prompt.polygons:
        raise VistuneError("a point needs a polygon to fall into (as in ViP-LLaVA's own code).")
    overlay = pillow.new("RGBA", picture.size, (0, 0, 0, 0))
    alpha = prompt.alpha
    if alpha is None:
        alpha = draws.python.randint(48, 128) if prompt.shape == "mask" else draws.python.randint(96, 255)
    polygon = draws.python.choice(prompt.polygons) if prompt.polygons else None
    brush = Brush(ImageDraw.Draw(overlay), prompt, polygon, (*prompt.color, alpha), max(picture.size), draws)
    SHAPES[prompt.shape].draw(brush)
    return pillow.alpha_composite(picture.convert("RGBA"), overlay).convert("RGB")


def name_prompt(shape: str, color: str = "") -> str:
    """The words for what is drawn; without a colour where that has no name.

    >>> name_prompt("ellipse", "red"), name_prompt("arrow")
    ('within the red ellipse', 'pointed to by the arrow')
    """
    return " ".join([SHAPES[shape].relation, "the", *color.split(), shape])


def _rectangle(brush: Brush) -> None:
    left, top, right, bottom = brush.prompt.box
    brush.canvas.rectangle([(left, top), (right, bottom)], outline=brush.ink, width=brush.width(2, 8, constant=3))


def _ellipse(brush: Brush) -> None:
    width, ratio = brush.width(2, 8), brush.draws.python.uniform(1, 1.5)
    left, top, right, bottom = bounds(*brush.prompt.polygons) if brush.prompt.polygons else brush.prompt.box
    x, y, across, down = (right + left) / 2, (bottom + top) / 2, (right - left) * ratio, (bottom - top) * ratio
    box = [x - across / 2, y - down / 2, x + across / 2, y + down / 2]
    brush.canvas.ellipse(box, outline=brush.ink, width=width)


def _triangle(brush: Brush) -> None:
    width = brush.width(2, 8)
    corners = [_anywhere(brush, brush.prompt.polygons) for _ in range(3)]
    while _widest_angle(corners) > 150:
        corners = [_anywhere(brush, brush.prompt.polygons) for _ in range(3)]
    brush.canvas.line([*corners, corners[0]], fill=brush.ink, width=width, joint="curve")


def _point(brush: Brush) -> None:
    prompt, python = brush.prompt, brush.draws.python
    low, high = brush.scaled(5), brush.scaled(20)
    radius = max(brush.scaled(8) if prompt.constant else python.randint(low, high), 1)
    round_ = python.random() < 0.5 or prompt.constant
    aspect = 1 if round_ else python.uniform(0.5, 2.0)
    left, top, right, bottom = prompt.box
    polygon = brush.polygon or [(left, top), (right, top), (right, bottom), (left, bottom)]
    left, top, right, bottom = bounds(polygon)
    center, spread = [(right + left) / 2, (bottom + top) / 2], [[(right - left) / 8, 0], [0, (bottom - top) / 8]]
    for _ in range(11):  # the last is taken wherever it falls
        x, y = brush.draws.numpy.multivariate_normal(center, spread)
        if _contains(polygon, x, y):
            break
    across, down = radius * aspect, radius / aspect
    brush.canvas.ellipse([x - across, y - down, x + across, y + down], outline=brush.ink, fill=brush.ink)


def _scribble(brush: Brush) -> None:
    """A cubic Bézier curve of random points, in short straight lines (the paper says quadratic)."""
    width = brush.width(2, 12)
    a, b, c, d = (_anywhere(brush, [brush.polygon] if brush.polygon else []) for _ in range(4))
    last = None
    for t in np.linspace(0, 1, brush.scaled(1000)):
        weights = (1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3
        x, y = (weights[0] * a[n] + weights[1] * b[n] + weights[2] * c[n] + weights[3] * d[n] for n in (0, 1))
        if last:
            brush.canvas.line([last, (x, y)], fill=brush.ink, width=width)
        last = (x, y)


def _mask(brush: Brush) -> None:
    brush.width(0, 2)  # drawn though a mask has no line
    for polygon in _outlines(brush.prompt):
        brush.canvas.polygon(polygon, fill=brush.ink)


def _contour(brush: Brush) -> None:
    width = brush.width(1, 2)
    shifts = range(-width, width + 1)
    for polygon in _outlines(brush.prompt):
        for dx in shifts:
            for dy in shifts:
                brush.canvas.polygon([(x + dx, y + dy) for x, y in polygon], outline=brush.ink)


def _arrow(brush: Brush) -> None:
    """The head lies near the middle of the box, the shaft leads away from it."""
    python, (left, top, right, bottom) = brush.draws.python, brush.prompt.box
    width = brush.width(1, 6)
    length = python.uniform(0.8 * min(right - left, bottom - top), max(brush.scaled(50), 1))
    angle = python.uniform(0, 2 * math.pi)
    x = (left + right) / 2 + python.uniform(-0.25, 0.25) * (right - left)
    y = (top + bottom) / 2 + python.uniform(-0.25, 0.25) * (bottom - top)
    head = max(python.uniform(0.2, 0.5) * length, brush.scaled(6))
    end = (x + (length - head) * math.cos(angle), y + (length - head) * math.sin(angle))
    shaft = [(x, y), end]
    if python.random() < 0.5:  # a bend, as a hand draws it
        across, down = (python.uniform(-5, 5) * brush.scaled(1) for _ in range(2))
        shaft.insert(1, ((x + end[0]) / 2 + across, (y + end[1]) / 2 + down))
    brush.canvas.line(shaft, fill=brush.ink, width=width)
    sides = [angle + math.pi / 3, angle - math.pi / 3]
    barbs = [(x + head * math.cos(side), y + head * math.sin(side)) for side in sides]
    outline = [barbs[0], (x, y), barbs[1]]
    if python.random() < 0.5:
        brush.canvas.polygon(outline, fill=brush.ink)
    else:
        brush.canvas.line(outline, fill=brush.ink, width=width)


class Shape(NamedTuple):
    relation: str  # of what is marked to the shape, in words
    draw: Callable[[Brush], None]


SHAPES: dict[str, Shape] = {
    "rectangle": Shape("within", _rectangle),
    "ellipse": Shape("within", _ellipse),
    "triangle": Shape("with", _triangle),
    "point": Shape("at", _point),
    "scribble": Shape("with", _scribble),
    "mask contour": Shape("with", _contour),
    "mask": Shape("with", _mask),
    "arrow": Shape("pointed to by", _arrow),
}


def _outlines(prompt: VisualPrompt) -> Sequence[Polygon]:
    left, top, right, bottom = prompt.box
    return prompt.polygons or [[(left, top), (left, bottom), (right, bottom), (right, top)]]


def bounds(*polygons: Polygon) -> tuple[float, float, float, float]:
    """Left, top, right, bottom."""
    xs, ys = zip(*[corner for polygon in polygons for corner in polygon], strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _contains(polygon: Polygon, x: float, y: float) -> bool:
    """Whether a ray to the right crosses the outline an odd number of times."""
    inside = False
    for (x1, y1), (x2, y2) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        if (y1 > y) != (y2 > y) and x < x1 + (x2 - x1) * (y - y1) / (y2 - y1):
            inside = not inside
    return inside


def _anywhere(brush: Brush, polygons: Sequence[Polygon]) -> Point:
    """A random point in the polygons, or, after 50 misses, in their bounds; without polygons in the box."""
    numpy = brush.draws.numpy
    left, top, right, bottom = bounds(*polygons) if polygons else brush.prompt.box
    for _ in range(51):
        x, y = numpy.uniform(left, right), numpy.uniform(top, bottom)
        if not polygons or any(_contains(polygon, x, y) for polygon in polygons):
            break
    return x, y


def _widest_angle(corners: Sequence[Point]) -> float:
    """In degrees.

    >>> round(_widest_angle([(0, 0), (1, 0), (0, 1)]))
    90
    """
    angles = []
    for n in range(3):
        before, at, after = (corners[(n + k) % 3] for k in range(3))
        a, b, c = math.dist(at, after), math.dist(before, after), math.dist(before, at)
        angles.append(math.degrees(math.acos(max(-1.0, min(1.0, (a * a + c * c - b * b) / (2 * a * c))))))
    return max(angles)
