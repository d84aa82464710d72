"""What each family sees of one picture: its views at a common scale, drawn from the same plans that feed the models."""

from __future__ import annotations

import math
import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont

from vistune.files import atomic
from vistune.models import FAMILIES, family
from vistune.models.catalogue import PHOTO, shown
from vistune.models.families.base import Family
from vistune.models.views import Interpolate, View, ViewPlan

SCALE = 0.18  # pixels of the figure for one of a view
WIDTH, COLUMNS, MARGIN, GAP = 1560, 3, 28, 5
PAPER, CARD, INK, GREY, LINE = "#f4f4f1", "#ffffff", "#1d1d1b", "#6b6b66", "#d9d9d3"


def scene(width: int = PHOTO[0], height: int = PHOTO[1]) -> Image.Image:
    """A photo-like picture of our own: a lake in the mountains at evening, a boat, a house, a sign with words."""
    dice = random.Random(7)
    sky = _gradient(width, height, [(0, (64, 104, 168)), (0.45, (236, 186, 140)), (0.6, (250, 226, 180))])
    draw = ImageDraw.Draw(sky)
    draw.ellipse((560, 205, 640, 285), fill=(255, 240, 205))
    sky = sky.filter(ImageFilter.GaussianBlur(5))
    draw = ImageDraw.Draw(sky)
    shades = [((116, 124, 158), 150, 220), ((84, 96, 124), 95, 270), ((52, 72, 84), 50, 320)]
    for colour, rise, base in shades:
        points = [(x, base - rise * _ridge(x / width, dice.random() * 0.02, base)) for x in range(0, width + 8, 8)]
        draw.polygon([(0, 380), *points, (width, 380)], fill=colour)
    land = sky.crop((0, 0, width, 380)).filter(ImageFilter.GaussianBlur(1.2))
    picture = _gradient(width, height, [(0, (120, 136, 160)), (1, (34, 56, 84))])
    picture.paste(land)
    mirror = land.transpose(Image.Transpose.FLIP_TOP_BOTTOM).filter(ImageFilter.GaussianBlur(3))
    water = Image.blend(mirror, _gradient(width, 380, [(0, (110, 124, 146)), (1, (22, 40, 66))]), 0.55)
    picture.paste(water.crop((0, 0, width, height - 380)), (0, 380))
    draw = ImageDraw.Draw(picture)
    for _ in range(260):
        y = dice.randint(386, height - 1)
        x, length = dice.randint(-40, width), dice.randint(8, 26 + (y - 380) // 4)
        light = dice.randint(90, 190)
        draw.line((x, y, x + length, y), fill=(light, light, min(255, light + 18)))
    _boat(draw, 210, 452)
    _house(draw, 96, 330)
    _sign(draw, 600, 420)
    grain = Image.effect_noise((width, height), 18).convert("RGB")
    return Image.blend(picture, grain, 0.07)


def draw(target: Path) -> None:
    """Writes the figure, a PNG."""
    picture = scene()
    cards = [_card(name, known, picture) for name in FAMILIES if shown(known := family(name))[0]]
    heights = [MARGIN] * COLUMNS
    width = (WIDTH - MARGIN * (COLUMNS + 1)) // COLUMNS
    places = []
    for card in cards:  # each into the shortest column
        column = heights.index(min(heights))
        places.append((MARGIN + column * (width + MARGIN), heights[column]))
        heights[column] += card.height + MARGIN
    page = Image.new("RGB", (WIDTH, max(heights)), PAPER)
    for card, place in zip(cards, places, strict=True):
        page.paste(card, place)
    with atomic(target) as temporary:
        page.save(temporary, "PNG", optimize=True)


def _card(name: str, known: Family, picture: Image.Image) -> Image.Image:
    title, preset = shown(known)
    plan = known.policy(preset.settings).plan(*picture.size)
    width = (WIDTH - MARGIN * (COLUMNS + 1)) // COLUMNS
    drawn, placed, height = _placed(plan, picture, width - 32)
    card = Image.new("RGB", (width, height + 106), CARD)
    pen = ImageDraw.Draw(card)
    pen.rectangle((0, 0, card.width - 1, card.height - 1), outline=LINE)
    pen.text((16, 12), known.title, INK, ImageFont.load_default(20))
    views = f"{len(plan.views)} view{'s' * (len(plan.views) != 1)}, {plan.tokens:,} tokens"
    pen.text((16, 42), f"{name} · {title} · {views}", GREY, ImageFont.load_default(13))
    pen.text((16, 62), _short(known.views, 72), GREY, ImageFont.load_default(13))
    for view, place in zip(drawn, placed, strict=True):
        at = (place[0] + 16, place[1] + 90)
        card.paste(view, at)
        pen.rectangle((at[0] - 1, at[1] - 1, at[0] + view.width, at[1] + view.height), outline="#9a9a92")
    return card


def _placed(plan: ViewPlan, picture: Image.Image, room: int) -> tuple[list[Image.Image], list[tuple[int, int]], int]:
    """The views, where each lies on a card, and the height of all: tiles in their grid, others side by side."""
    drawn = [_scaled(_view(plan, view, picture)) for view in plan.views]
    tiles = [n for n, view in enumerate(plan.views) if view.kind in ("tile", "slice", "window")]
    columns = plan.grid[0] if plan.grid and plan.grid[0] * plan.grid[1] == len(tiles) else len(tiles)
    if len(tiles) == 4 and not plan.grid:
        columns = 2
    places: dict[int, tuple[int, int]] = {}
    x = y = bottom = 0
    for n, view in enumerate(drawn):
        if n in tiles:
            continue
        if x and x + view.width > room:
            x, y = 0, bottom + 12
        places[n] = (x, y)
        x, bottom = x + view.width + 16, max(bottom, y + view.height)
    if tiles:
        wide = columns * (drawn[tiles[0]].width + GAP)
        if x and x + wide > room:
            x, y = 0, bottom + 12
        for count, n in enumerate(tiles):
            row, column = divmod(count, columns)
            places[n] = (x + column * (drawn[n].width + GAP), y + row * (drawn[n].height + GAP))
            bottom = max(bottom, places[n][1] + drawn[n].height)
    return drawn, [places[n] for n in range(len(drawn))], bottom


def _view(plan: ViewPlan, view: View, picture: Image.Image) -> Image.Image:
    from vistune.models.pixels import redraw

    for step in view.steps if view.whole else plan.canvas + view.steps:
        picture = picture.resize(step.size) if isinstance(step, Interpolate) else redraw(picture, step)
    return picture


def _scaled(view: Image.Image) -> Image.Image:
    size = max(1, round(view.width * SCALE)), max(1, round(view.height * SCALE))
    return view.resize(size, Image.Resampling.LANCZOS)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: text.rindex(" ", 0, most - 2)] + " …"


def _gradient(width: int, height: int, stops: list[tuple[float, tuple[int, int, int]]]) -> Image.Image:
    column = Image.new("RGB", (1, height))
    for y in range(height):
        t = y / max(1, height - 1)
        below = max((s for s in stops if s[0] <= t), default=stops[0])
        above = min((s for s in stops if s[0] > t), default=stops[-1])
        share = 0.0 if above[0] <= below[0] else (t - below[0]) / (above[0] - below[0])
        mixed = tuple(round(a + (b - a) * share) for a, b in zip(below[1], above[1], strict=True))
        column.putpixel((0, y), mixed)
    return column.resize((width, height))


def _ridge(t: float, jitter: float, phase: float) -> float:
    """Height of a mountain ridge at t in [0, 1]."""
    waves = math.sin(5.1 * t + phase) + 0.5 * math.sin(13.7 * t + 2 * phase) + 0.2 * math.sin(41 * t + phase)
    return 0.5 + 0.3 * waves + 4 * jitter


def _boat(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
    pen.ellipse((x - 20, y + 34, x + 170, y + 52), fill=(24, 38, 56))
    pen.polygon([(x - 14, y + 16), (x + 164, y + 16), (x + 138, y + 44), (x + 14, y + 44)], fill=(150, 52, 40))
    pen.polygon([(x - 14, y + 16), (x + 164, y + 16), (x + 158, y + 23), (x - 8, y + 23)], fill=(214, 196, 170))
    pen.line((x + 72, y + 16, x + 72, y - 150), fill=(70, 52, 40), width=5)
    pen.polygon([(x + 78, y - 146), (x + 78, y + 2), (x + 156, y + 2)], fill=(246, 240, 226))
    pen.polygon([(x + 66, y - 128), (x + 66, y + 2), (x + 8, y + 2)], fill=(226, 214, 194))


def _house(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
    pen.rectangle((x, y, x + 74, y + 50), fill=(214, 190, 160))
    pen.polygon([(x - 10, y), (x + 84, y), (x + 37, y - 38)], fill=(122, 58, 48))
    for left in (x + 10, x + 46):
        pen.rectangle((left, y + 14, left + 16, y + 32), fill=(255, 222, 130))


def _sign(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
    pen.rectangle((x + 52, y + 60, x + 60, y + 172), fill=(78, 58, 44))
    pen.rounded_rectangle((x, y, x + 132, y + 64), 6, fill=(238, 230, 208), outline=(78, 58, 44), width=4)
    pen.text((x + 16, y + 7), "LAKE BUS", (60, 50, 44), ImageFont.load_default(22))
    pen.text((x + 16, y + 35), "every 20 min", (60, 50, 44), ImageFont.load_default(17))
