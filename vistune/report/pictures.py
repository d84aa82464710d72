"""Images in the page: small WebP thumbnails as data URIs, and their boxes in percent of the picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from pathlib import Path

from vistune.errors import VistuneError
from vistune.records import ImageRef, Region

SIDE = 256  # pixels of a thumbnail's longer side
QUALITY = 72


def thumbnail(root: Path, image: ImageRef) -> dict:
    """`source` (a data URI), `width` and `height` in pixels. A picture that cannot be read has an empty source, and
    the page says so in its place."""
    from PIL import Image

    from vistune.store import open_image

    try:
        picture = open_image(root, image)
    except VistuneError:
        return {"source": "", "width": image.width, "height": image.height}
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY, method=6)
    source = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"source": source, "width": picture.width, "height": picture.height}


def boxes(image: ImageRef, regions: Iterable[Region]) -> list[dict]:
    """Each annotated object once, largest first so that small boxes lie on top: label and percent coordinates."""
    once = {(r.annotation_id, r.label): r for r in regions}
    drawn = []
    for r in sorted(once.values(), key=lambda r: (-(r.box[2] - r.box[0]) * (r.box[3] - r.box[1]), r.annotation_id)):
        x1, y1, x2, y2 = (
            round(100 * v / size, 2) for v, size in zip(r.box, (image.width, image.height) * 2, strict=True)
        )
        whole = x2 - x1 > 99 and y2 - y1 > 99  # the background says nothing as a box
        if not whole:
            box = {"label": r.label, "x": x1, "y": y1, "w": round(x2 - x1, 2), "h": round(y2 - y1, 2)}
            drawn.append(box | _label_place(x1, y1, x2))
    return drawn


def _label_place(x1: float, y1: float, x2: float) -> dict:
    """Where a box's name stands: above it, inside at the picture's top, and towards the middle at its right edge."""
    right = x1 > 60
    return {
        "text_x": x2 if right else x1,
        "text_y": y1,
        "dx": -2 if right else 2,
        "dy": 12 if y1 < 8 else -4,
        "anchor": "end" if right else "start",
    }
