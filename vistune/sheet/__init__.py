"""The contact sheet of a release: pictures with their boxes as each export writes them, for a person to look at.

What is drawn is read back from the text that the export would hold, in the frame that the consumer uses, beside that
text and over the stored box. A wrong frame shows at once: the box is off the thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vistune.boxcodec import CODECS, find
from vistune.errors import VistuneError


def write_sheet(release: Path, output: Path, boxes: Sequence[str] = (), count: int = 24) -> dict[str, Any]:
    """Writes `output` (HTML, one file that loads nothing) and the same as PNG beside it. `boxes` names formats for
    `boxcodec.find`, all of them by default. Returns the counts and the paths. Raises VistuneError when the release has
    no sample with a box."""
    from vistune.files import atomic, write_text
    from vistune.sheet.cards import cards
    from vistune.sheet.page import render
    from vistune.sheet.picture import draw

    if output.suffix.lower() not in (".html", ".htm"):
        raise VistuneError(f"--output {output}: expected a name that ends in .html; the PNG is written beside it.")
    if count < 1:
        raise VistuneError(f"--count {count}: expected at least 1 image.")
    codecs = [find(name) for name in dict.fromkeys(boxes)] or list(CODECS.values())
    shown = cards(release, codecs, count)
    write_text(output, render(shown, codecs, release))
    picture = output.with_suffix(".png")
    with atomic(picture) as temporary:
        draw(shown, codecs).save(temporary, "PNG", optimize=True)
    return {"images": len(shown), "formats": len(codecs), "html": output, "png": picture}
