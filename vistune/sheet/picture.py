"""The sheet as one PNG: a row for each image, a column for each format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vistune.boxcodec import Codec
from vistune.records import Box
from vistune.sheet.cards import Card, Panel

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

CELL = 190  # pixels a side, of a frame as drawn
GAP = 14
LINES = 3  # of box text under a frame
LINE = 14
SIZE = 11  # of letters
TOP = 34

PAPER, INK, SOFT, PADDING, FAIL = "#fbfaf7", "#1c2024", "#545c66", "#9a9ea5", "#b3261e"
COLOURS = ("#ffcc33", "#4cc9f0", "#ff6b6b", "#80ed99", "#f4a5ff", "#ffa94d")


def draw(cards: Sequence[Card], codecs: Sequence[Codec]) -> Image:
    """The picture, in 256 colours: it is there to be looked at and mailed."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(SIZE)
    across, down = CELL + GAP, CELL + LINES * LINE + GAP
    sheet = Image.new("RGB", (GAP + across * len(codecs), TOP + down * len(cards)), PAPER)
    canvas = ImageDraw.Draw(sheet)
    for column, codec in enumerate(codecs):
        canvas.text((GAP + column * across, 12), codec.name, INK, ImageFont.load_default(SIZE + 3))
    for row, card in enumerate(cards):
        for column, panel in enumerate(card.panels):
            _panel(sheet, canvas, font, card, panel, (GAP + column * across, TOP + row * down))
    return sheet.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)


def _panel(
    sheet: Image,
    canvas: ImageDraw,
    font: FreeTypeFont | ImageFont,
    card: Card,
    panel: Panel,
    corner: tuple[int, int],
) -> None:
    x1, y1, x2, y2 = panel.frame
    scale = CELL / max(x2 - x1, y2 - y1)
    left, top = corner[0] - x1 * scale, corner[1] + CELL - y2 * scale  # frames stand on one line, over their text

    def placed(box: Box) -> tuple[float, float, float, float]:
        return (left + box[0] * scale, top + box[1] * scale, left + box[2] * scale, top + box[3] * scale)

    text_top = corner[1] + CELL + 4
    if panel.problem:
        _lines(canvas, font, panel.problem, (corner[0], text_top - 3 * LINE), SOFT)
        return
    if panel.codec.frame == "padded":
        canvas.rectangle(placed(panel.frame), fill=PADDING)
    size = (max(1, round(card.image.width * scale)), max(1, round(card.image.height * scale)))
    sheet.paste(card.picture.resize(size), (round(left), round(top)))
    for mark in panel.marks:
        for box, colour in ((mark.stored, "white"), (mark.read, COLOURS[mark.colour % len(COLOURS)])):
            x1, y1, x2, y2 = placed(box)
            canvas.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline="black", width=4)
            canvas.rectangle((x1, y1, x2, y2), outline=colour, width=2)
    shown = [piece for piece, mark in panel.pieces if mark is not None]
    note = f"IoU {panel.overlap:.2f}  {shown[0] if shown else ''}"
    _lines(canvas, font, note, (corner[0], text_top), FAIL if panel.overlap < 0.5 else SOFT)


def _lines(canvas: ImageDraw, font: FreeTypeFont | ImageFont, text: str, corner: tuple[int, int], colour: str) -> None:
    """Up to LINES lines of at most CELL pixels, broken anywhere."""
    for number in range(LINES):
        end = len(text)
        while end > 1 and canvas.textlength(text[:end], font) > CELL:
            end -= 1
        canvas.text((corner[0], corner[1] + number * LINE), text[:end], colour, font)
        text = text[end:]
