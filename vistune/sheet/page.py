"""The sheet as one HTML file: each picture is held once and shown in every frame."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import vistune
from vistune import pages
from vistune.boxcodec import Codec
from vistune.records import Box
from vistune.sheet.cards import Card, Panel

TEMPLATE = Path(__file__).with_name("sheet.html")

COLOURS = 6  # --c0 to --c5 of the style
QUALITY = 78


def render(cards: Sequence[Card], codecs: Sequence[Codec], release: Path) -> str:
    """The page."""
    context = {
        "version": vistune.__version__,
        "release": release.name,
        "codecs": codecs,
        "cards": [_card(number, card) for number, card in enumerate(cards)],
    }
    return pages.render(TEMPLATE, context)


def _card(number: int, card: Card) -> dict[str, Any]:
    sample = card.sample
    buffer = io.BytesIO()
    card.picture.save(buffer, "WEBP", quality=QUALITY, method=6)
    return {
        "number": number,
        "source": "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode(),
        "width": card.image.width,
        "height": card.image.height,
        "id": sample.id,
        "name": sample.lineage.annotated_image,
        "task": sample.task,
        "language": sample.language,
        "turns": [{"role": m.role, "text": m.text} for m in sample.messages if m.role != "system"][:2],
        "panels": [_panel(panel) for panel in card.panels],
    }


def _panel(panel: Panel) -> dict[str, Any]:
    x1, y1, x2, y2 = panel.frame
    return {
        "name": panel.codec.name,
        "problem": panel.problem,
        "view": f"{x1:.6g} {y1:.6g} {x2 - x1:.6g} {y2 - y1:.6g}",
        "frame": _rectangle(panel.frame),
        "padded": panel.codec.frame == "padded",
        "marks": [
            {
                "label": mark.label,
                "colour": mark.colour % COLOURS,
                "stored": _rectangle(mark.stored),
                "read": _rectangle(mark.read),
                "text": mark.text,
                "overlap": f"{mark.overlap:.2f}",
            }
            for mark in panel.marks
        ],
        "pieces": [(text, None if mark is None else mark % COLOURS) for text, mark in panel.pieces],
        "overlap": f"{panel.overlap:.2f}",
        "off": panel.overlap < 0.5,
    }


def _rectangle(box: Box) -> dict[str, str]:
    x1, y1, x2, y2 = box
    return {name: f"{v:.6g}" for name, v in (("x", x1), ("y", y1), ("w", x2 - x1), ("h", y2 - y1))}
