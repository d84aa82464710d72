"""What other models saw in a picture, as words and as a colour map: the auxiliary input of MoAI.

Four readers look at a picture resized to SIDE x SIDE pixels: panoptic segmentation, open-vocabulary detection, scene
graphs and text recognition. Here their findings become the sentences that MoAI embeds beside the image, and the
segments a map of colours (ByungKwanLee/MoAI moai/utils/utils.py). numpy only; the readers run beforehand
(`evidence_writer`) and leave a file of JSON lines, one a picture, which `read_evidence` reads.

Boxes are (left, top, right, bottom) as parts of the picture, in float32 like the authors', so that rounding agrees.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vistune.errors import VistuneError

SIDE = 490
LEAST_DETECTION, LEAST_RELATION, LEAST_LINE = 0.5, 0.8, 0.85
MOST_RELATIONS = 10

MOST_BYTES = 4_000_000
"""Of a line. Its map takes 320,000 without compression."""

_BROKEN = (ValueError, KeyError, TypeError, OSError, SyntaxError, RecursionError)
"""What json, base64 and Pillow raise about bytes of another kind."""

Found = tuple[Sequence[float], str]
"""A box and the name of what is in it."""


class Evidence(NamedTuple):
    """Of one picture."""

    text: str  # what the readers say, verbalised
    segmentation: np.ndarray  # uint8 (SIDE, SIDE): the number of each pixel's segment, 0 for none


def box_text(box: Sequence[float]) -> str:
    """
    >>> box_text((0.125, 0.5986, 1.0, 0.005))
    '[0.12, 0.60, 1.00, 0.00]'
    """
    return f"[{', '.join(f'{round(float(np.float32(v)), 2):.2f}' for v in box)}]"


def parts(box: Sequence[float], width: int, height: int) -> list[float]:
    """A box in pixels as parts of the picture."""
    sizes = np.array([width, height, width, height], np.float32)
    return (np.asarray(box, np.float32) / sizes).tolist()


def plain_name(name: str) -> str:
    """A class of COCO's panoptic segmentation without what only tells it from others.

    >>> plain_name("floor-other-merged")
    'floor'
    """
    return name.replace("-merged", "").replace("-other", "").replace("-stuff", "")


def segments(segmentation: np.ndarray, names: Sequence[str], parity: bool = False) -> list[Found]:
    """Boxes of a panoptic map int (H, W) whose value n is segment n, named `names[n - 1]`; values below 1 are none.
    A segment that others cover is left out; with `parity` there is then nothing, as the authors' list is too short."""
    found: list[Found] = []
    scale = np.float32(1 / SIDE)
    for number, name in enumerate(names, 1):
        rows, columns = np.nonzero(segmentation == number)
        if len(rows):
            corners = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            found.append(((np.array(corners, np.float32) * scale).tolist(), plain_name(name)))
    return [] if parity and len(found) < len(names) else found


def detections(scores: Sequence[float], boxes: Sequence[Sequence[float]], names: Sequence[str]) -> list[Found]:
    """Detections that are sure enough; boxes in pixels of the resized picture."""
    least = np.float32(LEAST_DETECTION)
    rows = zip(scores, boxes, names, strict=True)
    return [(parts(box, SIDE, SIDE), name) for score, box, name in rows if np.float32(score) >= least]


def relations(
    names: Sequence[str],
    pairs: Sequence[Sequence[int]],
    scores: np.ndarray,
    predicates: Sequence[str],
    parity: bool = False,
) -> list[str]:
    """The surest relations of a scene graph, surest first: at most MOST_RELATIONS, and no more than there are objects.
    `names` are the objects; `scores` float (R, 1 + predicates) of each of the R `pairs` of (subject, object), the first
    column for no relation. With `parity` they come in the order of numpy's partition, the threshold is compared with
    scores in another order than the relations, and fewer relations than are asked for are none."""
    shown = numbered([plain_name(name) for name in names])
    likely = np.asarray(scores, np.float64)[:, 1:] if len(pairs) else np.zeros((0, len(predicates)))
    best = likely.max(1, initial=0)
    most = min(MOST_RELATIONS, len(names))
    if parity:
        if not 0 < most <= len(best):
            return []
        chosen = np.argpartition(best, -most)[-most:][np.partition(best, -most)[-most:] >= LEAST_RELATION]
    else:
        chosen = np.argsort(-best, kind="stable")[:most]
        chosen = chosen[best[chosen] >= LEAST_RELATION]
    return [
        f"{shown[pairs[n][0]]} is {predicates[int(likely[n].argmax())]} {shown[pairs[n][1]]}" for n in chosen.tolist()
    ]


def numbered(names: Sequence[str]) -> list[str]:
    """Names that several have get a number.

    >>> numbered(["cat", "dog", "cat"])
    ['cat (#1)', 'dog', 'cat (#2)']
    """
    total, seen, found = Counter(names), Counter[str](), []
    for name in names:
        seen[name] += 1
        found.append(f"{name} (#{seen[name]})" if total[name] > 1 else name)
    return found


def lines(texts: Sequence[tuple[str, float]]) -> list[str]:
    """Recognised texts that are sure enough."""
    return [text for text, score in texts if score >= LEAST_LINE]


def sentence(kind: str, items: Sequence[str]) -> str:
    """
    >>> sentence("text descriptions", ["exit", "12"])
    'The image includes text descriptions: exit, and 12.'
    """
    return f"The image includes {kind}: {', and '.join(items)}." if items else ""


def objects(found: Sequence[Found]) -> str:
    items = [f"{box_text(box)} {name}" for box, name in found]
    return sentence("bounding box coordinates and their objects", items)


def verbalised(
    segmented: Sequence[Found] = (),
    detected: Sequence[Found] = (),
    related: Sequence[str] = (),
    read: Sequence[str] = (),
) -> str:
    """All evidence of one picture."""
    related_text, read_text = sentence("relationships between objects", related), sentence("text descriptions", read)
    return together((objects(segmented), objects(detected), related_text, read_text))


def together(sentences: Sequence[str]) -> str:
    """The four readers' sentences; one that found nothing leaves its blank."""
    return " ".join(sentences)


def listed(text: str) -> list[tuple[list[float], str]]:
    """Boxes and names of a list like `(#1 cat) [0.1, 0.2, 0.3, 0.4], ...`. An entry of other than four numbers is left
    out. Raises VistuneError for brackets that do not close, and for more names than boxes."""
    names, boxes = re.findall(r"\(([^()]*)\)", text), re.findall(r"\[([^][]*)\]", text)
    counts = [text.count(mark) for mark in "()[]"]
    if len({*counts, len(names), len(boxes)}) > 1:
        raise VistuneError(f"{len(names)} names and {len(boxes)} boxes, with brackets {counts}, in {text!r:.80}.")
    found = [
        ([float(n) for n in box.split(",")], name.split(" ", 1)[-1]) for box, name in zip(boxes, names, strict=True)
    ]
    return [entry for entry in found if len(entry[0]) == 4]


@cache
def colours(number: int = 134) -> np.ndarray:
    """PASCAL VOC's colours float64 (number, 3), in [0, 1]: the bits of a label, three by three from the lowest, are the
    bits of red, green and blue from the highest."""
    labels = np.arange(number)
    table = np.zeros((number, 3), np.int64)
    for level in range(8):
        for channel in range(3):
            table[:, channel] |= (labels >> (3 * level + channel) & 1) << (7 - level)
    return table / 255


def colour_map(segmentation: np.ndarray) -> np.ndarray:
    """float64 (H, W, 3): a panoptic map in colours, by segment (not by class); none is black. MoAI then subtracts means
    of 0 to 255 from it, so its vision tower sees a nearly even grey."""
    return colours()[np.maximum(segmentation, 0)]


@cache
def open_vocabulary() -> tuple[str, ...]:
    """What MoAI's detector looks for: 847 classes of ADE20K, then ImageNet's 1000 in the words of CLIP's authors."""
    data: dict[str, Any] = json.loads(Path(__file__).with_name("open_vocabulary.json").read_text(encoding="utf-8"))
    return (*data["ade20k_847"], *data["imagenet"])


def line(image: str, evidence: Evidence) -> str:
    """One line of the file. image: what the picture is called there, such as the digest of its bytes; the map of
    segments is a PNG in base64."""
    from PIL import Image

    drawn = io.BytesIO()
    Image.fromarray(evidence.segmentation.astype(np.uint8)).save(drawn, "PNG", optimize=True)
    found = {"image": image, "text": evidence.text, "map": base64.b64encode(drawn.getvalue()).decode()}
    return json.dumps(found, ensure_ascii=False) + "\n"


def read_evidence(file: Path | str) -> dict[str, Evidence]:
    """What `line` wrote, by image. Raises VistuneError, with the line's number, for one that is something else or
    longer than MOST_BYTES, for a map that is no grey picture of SIDE x SIDE, which is not decoded, and for an image
    that comes twice; and for a file that is not there."""
    if not Path(file).is_file():
        raise VistuneError(f"the file of evidence {file} is missing; write it with vistune.models.evidence_writer.")
    found: dict[str, Evidence] = {}
    with Path(file).open("rb") as rows:
        for number in count(1):
            if not (row := rows.readline(MOST_BYTES + 1)):
                return found
            where = f"line {number} of {file}"
            if len(row) > MOST_BYTES:
                raise VistuneError(f"{where} has more than {MOST_BYTES:,} bytes; it is no evidence of a picture.")
            image, evidence = _read_line(row, where)
            if image in found:
                raise VistuneError(f"{file} has two lines about the image {image}; the second is line {number}.")
            found[image] = evidence
    return found


def _read_line(row: bytes, where: str) -> tuple[str, Evidence]:
    from PIL import Image

    try:
        fields = json.loads(row)
        image, text = fields["image"], fields["text"]
        if not (isinstance(image, str) and isinstance(text, str)):
            raise TypeError("image and text are not both text")
        with Image.open(io.BytesIO(base64.b64decode(fields["map"], validate=True)), formats=["PNG"]) as drawn:
            if (drawn.mode, drawn.size) != ("L", (SIDE, SIDE)):
                raise VistuneError(
                    f"the map of {image}, {where}, is a picture of mode {drawn.mode} and {drawn.width}x{drawn.height} "
                    f"pixels; expected mode L and {SIDE}x{SIDE}."
                )
            return image, Evidence(text, np.array(drawn))
    except _BROKEN as error:
        raise VistuneError(f"{where} is no evidence of a picture ({error!r:.80}).") from None
    except Image.DecompressionBombError as error:
        raise VistuneError(f"{where} has a map that is too large to decode ({error}).") from None
