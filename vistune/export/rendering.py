"""Boxes in a sample's text, rendered as another consumer writes them.

A region says where its box stands (`Region.mention`), and there the text of the release is replaced. A sample is
rendered whole or not at all: where a box stands in its text that no region vouches for, or an image that the
consumer refuses, all of it stays as it is and is counted, since two formats in one row teach neither.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vistune.boxcodec import NATIVE, Codec
from vistune.edits import Edit, edited, shifted
from vistune.errors import VistuneError
from vistune.records import ImageRef, Region, Sample

NATIVE_WORDS = re.compile("|".join(re.escape(NATIVE.words(language)) for language in ("en", "zh")))
"""What the templates call the format of a release."""


@dataclass
class Tally:
    """What became of the samples and the boxes in their text."""

    samples: Counter[str] = field(default_factory=Counter)  # by split
    boxes: int = 0  # written in the format of the export
    boxes_without_area: int = 0  # of these; they are thinner than half a step
    samples_with_boxes: int = 0
    samples_kept: Counter[str] = field(default_factory=Counter)  # in the format of the release, by reason


class Kept(Exception):
    """Why a sample's text stays as it is."""


def render(sample: Sample, codec: Codec, tally: Tally) -> Sample:
    """The sample with its boxes as `codec` writes them: in messages, triple, choices, and in what instructions call
    the format. Raises VistuneError for a mention that lies outside its message."""
    tally.samples[sample.split] += 1
    written = mentions(sample)
    if codec is NATIVE:
        tally.boxes += len(written)
        tally.samples_with_boxes += bool(written)
        return sample
    try:
        _vouched(sample, written)
        edits, texts = _edits(sample, codec, written)
    except Kept as reason:
        tally.samples_kept[str(reason)] += 1
        return sample
    tally.samples_with_boxes += bool(texts)
    tally.boxes += sum(map(len, edits.values()))
    tally.boxes_without_area += sum(_flat(codec, new) for spans in edits.values() for _, _, new in spans)
    for number, message in enumerate(sample.messages if sample.lineage.template else ()):
        found = [(*m.span(), codec.words(sample.language)) for m in NATIVE_WORDS.finditer(message.text)]
        if found:
            edits[number] = sorted(edits.get(number, []) + found)
    return _apply(sample, codec, edits, texts) if edits else sample


def mentions(sample: Sample) -> dict[tuple[int, int, int], Region]:
    """Where boxes stand in the text: (message, first character, end) -> the region whose box it is. Mentions that are
    names are left out."""
    found = {}
    for region in sample.regions:
        if not region.mention:
            continue
        number, start, end = region.mention
        if not (0 <= number < len(sample.messages) and 0 <= start < end <= len(sample.messages[number].text)):
            raise VistuneError(
                f"sample {sample.id}: region {region.annotation_id} is mentioned at {region.mention}, outside its "
                "messages. Validate it."
            )
        if NATIVE.pattern.fullmatch(sample.messages[number].text, start, end):
            found[number, start, end] = region
    return found


def _vouched(sample: Sample, written: Mapping[tuple[int, int, int], Region]) -> None:
    """Raises Kept when a box stands in the text that is not the one of its region, or where no region is mentioned.
    Text that is neither made by a template nor about regions may hold four numbers in brackets that are no box."""
    for (number, start, end), region in written.items():
        if not _agree(sample.messages[number].text[start:end], region, sample.images[region.image]):
            raise Kept("box_differs")
    if not sample.regions and not sample.lineage.template:
        return
    for number, message in enumerate(sample.messages):
        for match in NATIVE.pattern.finditer(message.text):
            if (number, *match.span()) not in written and max(map(int, match.groups())) <= NATIVE.steps:
                raise Kept("box_without_mention")


def _agree(text: str, region: Region, image: ImageRef) -> bool:
    """Whether the text is the region's box, within a step: half steps round either way."""
    try:
        box = NATIVE.decode(text, image.width, image.height)
    except ValueError:
        return False
    sides = (image.width, image.height) * 2
    return all(abs(a - b) * NATIVE.steps <= side for a, b, side in zip(box, region.box, sides, strict=True))


def _edits(
    sample: Sample, codec: Codec, written: Mapping[tuple[int, int, int], Region]
) -> tuple[dict[int, list[Edit]], dict[str, str]]:
    """The edits of each message, and text of the release -> text of the export."""
    edits: dict[int, list[Edit]] = {}
    texts: dict[str, str] = {}
    for (number, start, end), region in written.items():
        image = sample.images[region.image]
        try:
            new = codec.encode(region.box, image.width, image.height)
        except ValueError:
            raise Kept("image_refused") from None
        old = sample.messages[number].text[start:end]
        if texts.setdefault(old, new) != new:
            raise Kept("box_ambiguous")  # the same numbers in images of different sizes
        edits.setdefault(number, []).append((start, end, new))
    return edits, texts


def _flat(codec: Codec, text: str) -> bool:
    found = codec.pattern.fullmatch(text)
    x1, y1, x2, y2 = found.groups() if found else ("",) * 4
    return x1 == x2 or y1 == y2


def _apply(sample: Sample, codec: Codec, edits: dict[int, list[Edit]], texts: dict[str, str]) -> Sample:
    def rewritten(text: str) -> str:
        text = NATIVE.pattern.sub(lambda found: texts.get(found[0], found[0]), text)
        words = codec.words(sample.language)
        return NATIVE_WORDS.sub(lambda _: words, text) if sample.lineage.template else text

    return replace(
        sample,
        instruction=rewritten(sample.instruction),
        input=rewritten(sample.input),
        response=rewritten(sample.response),
        choices=tuple(map(rewritten, sample.choices)),
        messages=tuple(edited(m, edits[n]) if n in edits else m for n, m in enumerate(sample.messages)),
        regions=tuple(_moved(region, edits) for region in sample.regions),
    )


def _moved(region: Region, edits: dict[int, list[Edit]]) -> Region:
    if not region.mention:
        return region
    number, start, end = region.mention
    return replace(region, mention=(number, *(shifted(edits.get(number, []), at) for at in (start, end))))
