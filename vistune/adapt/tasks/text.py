"""Tasks about text that can be read in the image."""

from __future__ import annotations

import json

from vistune.adapt import Params
from vistune.adapt.draws import Draws
from vistune.adapt.geometry import box_text, iou, reading_order
from vistune.adapt.language import Language
from vistune.adapt.scene import Scene
from vistune.adapt.tasks.found import SAME_PLACE, Candidate, Found, Refused, usable
from vistune.records import Region, TextLine

MAX_LINES = 60
"""Lines of one transcription."""


def transcription(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """What does the text in this box say, and what can be read in the picture as a whole? Lines that the data set
    does not place have no order, so only one of them is asked for."""
    limit = params.per_image.transcription
    lines = sorted(scene.image.lines, key=lambda line: line.id)
    read = [line for line in lines if line.text.strip()]
    for empty in (line for line in lines if not line.text.strip()):
        yield Refused("line_empty", f"text line {empty.id} has no text.")
    placed = [line for line in read if usable(scene, line.box)]
    kinds: list[tuple[str, list[TextLine]]] = [("line", [line]) for line in placed if _alone(line, placed)]
    kinds = draws.pick(kinds, limit)
    if read and (len(placed) == len(read) or len(read) == 1) and len(read) <= MAX_LINES:
        order = reading_order([line.box for line in read])
        page = ("page", [read[n] for n in order])
        kinds = [page, *kinds] if not kinds or draws.below(2) else kinds
    for kind, shown in kinds[:limit]:
        texts = [" ".join(line.text.split()) for line in shown]
        slots = {"text": "\n".join(texts), "json": json.dumps(texts, ensure_ascii=False)}
        regions = tuple(Region(line.box, text, line.id) for line, text in zip(shown, texts, strict=True) if line.box[2])
        boxes: tuple[str, ...] = ()
        if kind == "line":
            boxes = (box_text(shown[0].box, scene.width, scene.height),)
            slots["box"] = boxes[0]
        yield Candidate(slots, tuple(line.id for line in shown), regions, kind, boxes=boxes)


def _alone(line: TextLine, lines: list[TextLine]) -> bool:
    """Whether the line's box marks no other line."""
    return not any(iou(line.box, other.box) >= SAME_PLACE for other in lines if other is not line)
