"""The types that flow between stages; `schema.py` says how they lie on disk.

Readers in `sources/` yield `AnnotatedImage`s (what a data set says about an image) and `Dialogue`s (rows that are
instruction data already). `Sample` is one training row: what `adapt` and `self_instruct` write and what `tune` reads.
`Reject` is a row that was not used, with its reason.
Boxes are pixel (x1, y1, x2, y2) of the upright image, always; a model family renders its own box text.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass, field, fields
from hashlib import sha256
from struct import Struct
from typing import Any, Literal, TypeVar, dataclass_transform

import msgspec
from msgspec import defstruct

SCHEMA_VERSION = 2

_BITS = Struct(">8HB").unpack_from
"""The first 136 bits of a digest, as numbers that Python shifts fastest."""

_PAIRS = [a + b for a in "abcdefghijklmnopqrstuvwxyz234567" for b in "abcdefghijklmnopqrstuvwxyz234567"]
"""Ten bits -> two characters of base 32. For fifteen, the processor's cache would be too small."""

_JSON = msgspec.json.Encoder().encode
"""Writes what `hashing.canonical` does of a list of texts and integers, several times as fast."""

Box = tuple[float, float, float, float]
"""Pixel x1, y1, x2, y2 with x1 < x2 and y1 < y2."""

Polygon = tuple[float, ...]
"""Pixel x, y, x, y, ... of at least three corners."""


T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """A frozen dataclass that msgspec makes, in a third of the time: records are made by the million. `dataclasses`
    knows it as one of its own; the garbage collector passes over it, since no record holds itself."""
    apart = {*cls.__annotations__, "__annotations__", "__dict__", "__weakref__"}
    body = {name: value for name, value in vars(cls).items() if name not in apart}
    found = fields(dataclass(cls))  # type: ignore[arg-type]
    body |= {"__doc__": cls.__doc__, "__dataclass_fields__": {f.name: f for f in found}}
    columns = [(f.name, f.type, *_default(f)) for f in found]
    made = defstruct(cls.__name__, columns, module=cls.__module__, namespace=body, frozen=True, gc=False)  # type: ignore[arg-type]
    return made  # type: ignore[return-value]


def _default(f: Field[Any]) -> tuple[Any, ...]:
    """What msgspec takes for the default of a field: nothing where there is none."""
    if f.default_factory is not MISSING:
        return (msgspec.field(default_factory=f.default_factory),)
    return () if f.default is MISSING else (f.default,)


@record
class ImageRef:
    """Which image: identity is the digest of the file's bytes; `path` only says where a copy lies."""

    sha256: str  # of the file's bytes, 64 hexadecimal digits
    width: int  # pixels, upright (EXIF orientation applied)
    height: int  # pixels, upright
    format: str  # "png", "jpeg", ...
    path: str  # relative to the folder of the artefact that holds the image


@record
class Category:
    """One class name of a data set, with its names in other languages (`{"zh": "苹果"}`)."""

    label: str
    group: str = ""
    names: dict[str, str] = field(default_factory=dict)

    def name(self, language: str) -> str | None:
        return self.label if language == "en" else self.names.get(language)


@record
class Annotation:
    """One annotated object: `thing=False` marks background (COCO "stuff"), `crowd=True` an uncounted group."""

    id: str  # the id in the source file
    category: Category
    box: Box
    crowd: bool = False
    thing: bool = True
    attributes: tuple[str, ...] = ()
    polygons: tuple[Polygon, ...] = ()  # outlines of its parts, where the data set draws them
    area: float = 0.0  # of the mask, square pixels; 0 where the data set gives none


@record
class Label:
    """A person's verdict on the whole image: it shows something of this category, or (`present=False`) it does not."""

    id: str
    category: Category
    present: bool = True


@record
class Relation:
    """`subject` `predicate` `object`, e.g. man - riding - horse; both ends are ids of annotations of the image."""

    id: str
    subject: str
    predicate: str
    object: str


@record
class Phrase:
    """Words about one region or several: a region description, a referring expression, or a phrase of a caption."""

    id: str
    text: str
    boxes: tuple[Box, ...]
    kind: Literal["description", "referring", "caption_phrase"]
    objects: tuple[str, ...] = ()  # ids of the annotations it speaks about, where the data set says so
    caption: str = ""  # id of the caption that a caption_phrase is part of
    span: tuple[int, int] = (0, 0)  # characters of that caption, end exclusive
    unique: bool = False  # the data set vouches that the words fit nothing else in the image
    language: str = "en"


@record
class TextLine:
    """Text that can be read in the image; box (0, 0, 0, 0) where the data set does not place it."""

    id: str
    text: str
    box: Box = (0.0, 0.0, 0.0, 0.0)


@record
class Table:
    """What a chart or table shows, cell by cell. The first column names the rows."""

    id: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    kind: str = ""  # "v_bar", "line", "pie", ...: the source's own chart type


@record
class Caption:
    id: str
    text: str
    language: str = "en"


@record
class Question:
    """A question a person (or a data set's author) asked about the image, with every given answer."""

    id: str
    text: str
    answer: str  # the agreed one
    answers: tuple[str, ...]  # as often as it was given
    choices: tuple[str, ...] = ()  # `answer` is one of them, byte for byte
    kind: str = ""  # the source's own question type
    language: str = "en"
    sentence: str = ""  # the answer as a whole sentence
    context: str = ""  # what must be read to answer: a hint, a passage
    rationales: tuple[str, ...] = ()  # why the answer is right
    extractive: bool = False  # the answer is text that can be read in the image


@record
class SourceFile:
    path: str  # relative to the sources folder
    sha256: str  # of its bytes; of names and contents for a folder, of pictures in it of their sizes


@record
class AnnotatedImage:
    """One image with everything its data set says about it.

    `vocabulary` lists the categories the data set annotates exhaustively: only for these does a missing
    annotation prove absence. It is shared by all images of a data set. Data sets that annotate each image for
    categories of its own (LVIS, Open Images) have no vocabulary; there `complete` names the labels whose every
    instance in this image is annotated, and a `Label` with `present=False` proves absence.
    """

    id: str  # "<dataset>/<image id>"
    dataset: str
    split: str  # "train" | "validation" | "test"
    image: ImageRef
    licence: str
    attribution: str = ""
    captions: tuple[Caption, ...] = ()
    objects: tuple[Annotation, ...] = ()
    questions: tuple[Question, ...] = ()
    vocabulary: tuple[Category, ...] = ()
    files: tuple[SourceFile, ...] = ()
    complete: tuple[str, ...] = ()
    labels: tuple[Label, ...] = ()
    relations: tuple[Relation, ...] = ()
    phrases: tuple[Phrase, ...] = ()
    lines: tuple[TextLine, ...] = ()
    tables: tuple[Table, ...] = ()

    @property
    def things(self) -> tuple[Annotation, ...]:
        """Countable objects: neither background nor crowd."""
        return tuple(o for o in self.objects if o.thing and not o.crowd)


@record
class Message:
    role: Literal["user", "assistant", "system"]
    text: str  # without image placeholders
    images: tuple[int, ...] = ()  # indices into Sample.images that are shown in this message
    places: tuple[int, ...] = ()  # at which character of `text` each is shown; empty: all before the text


@record
class Dialogue:
    """A row that is instruction data already: any number of images, and turns of user and assistant."""

    id: str  # "<dataset>/<row id>"
    dataset: str
    split: str
    images: tuple[ImageRef, ...]
    messages: tuple[Message, ...]
    licence: str
    attribution: str = ""
    language: str = "en"
    task: str = ""  # the source's own name of the task
    instruction: str = ""  # where the source keeps them apart; else they are read off the messages
    input: str = ""
    files: tuple[SourceFile, ...] = ()


@record
class Region:
    """A named box the sample speaks about."""

    box: Box  # pixel x1, y1, x2, y2 of the upright image
    label: str  # name of its category in the source
    annotation_id: str  # in the source file
    image: int = 0  # index into Sample.images
    mention: tuple[int, ...] = ()  # message, first character, end: where its box or name stands; empty: nowhere
    polygons: tuple[Polygon, ...] = ()  # outlines of its parts, pixel x, y, x, y, ... each


@record
class Lineage:
    """What made a sample: enough to explain it, to repeat it, and to withdraw it."""

    annotated_image: str  # AnnotatedImage.id or Dialogue.id
    annotation_ids: tuple[str, ...]  # that make it true, as the source files name them
    files: tuple[SourceFile, ...]  # of the data set
    template: str = ""  # "presence.en.03@1+sentence@1": instruction and response format (adapt)
    prompt: str = ""  # "conversation@1" (self_instruct)
    prompt_sha256: str = ""  # of the prompt's text
    teacher: str = ""  # "grammar@1", "openai:<model>"
    request: str = ""  # id in the request ledger
    item: int = 0  # position among what one template or reply gave


@record
class Sample:
    """One training row: (instruction, input, response) and the same as chat messages."""

    id: str  # "vt1:" and 26 letters and digits: a hash of what made it
    dataset: str  # of the image
    split: str  # "train", "validation" or "test"
    task: str  # "presence", "caption", "conversation", ...
    method: Literal["adapt", "self_instruct"]  # the stage that made it
    instruction: str  # what is asked for
    input: str  # what it is asked about, where that is given apart: a question, options
    response: str  # the last answer
    messages: tuple[Message, ...]  # the same as a dialogue
    images: tuple[ImageRef, ...]  # each image that is shown
    lineage: Lineage
    licence: str  # the most restrictive of its sources' (SPDX): of images, annotations and template
    group: str  # the leakage unit: samples of one group stay in one split
    language: str = "en"  # of the text
    polarity: str = ""  # "yes" | "no" | "negative" | ""
    choices: tuple[str, ...] = ()  # in the order in which they are shown
    permutation: tuple[int, ...] = ()  # choice n is the source's choice permutation[n]; empty: the source has none
    choice_style: str = ""  # how choices are lettered: "A.", "(A)", "1.", ...; empty where they are not shown
    regions: tuple[Region, ...] = ()  # boxes it speaks about


@record
class Reject:
    """A row that was not used. `stage` + `key` say which, `reason` is a short stable word, `detail` a sentence."""

    stage: str  # that refused it
    key: str  # of the row: a sample's id, or data set, kind and id of a source row
    reason: str  # a word of the stage: "box_outside"
    detail: str  # a sentence about this row


def sample_id(task: str, lineage: Lineage, seed: int) -> str:
    """Id of a sample from what made it, so that the same inputs name the same sample: the first 130 bits of the
    SHA-256 of that, as canonical JSON, in base 32 (RFC 4648).

    >>> len(sample_id("caption", Lineage("d/1", ("7",), ()), 0))
    30
    """
    made_of = (SCHEMA_VERSION, task, seed, lineage.annotated_image, lineage.annotation_ids, lineage.template)
    identity = _JSON((*made_of, lineage.prompt, lineage.prompt_sha256, lineage.teacher, lineage.item))
    a, b, c, d, e, f, g, h, i = _BITS(sha256(identity).digest())
    p = _PAIRS
    return (
        f"vt1:{p[a >> 6]}{p[(a & 63) << 4 | b >> 12]}{p[b >> 2 & 1023]}{p[(b & 3) << 8 | c >> 8]}"
        f"{p[(c & 255) << 2 | d >> 14]}{p[d >> 4 & 1023]}{p[(d & 15) << 6 | e >> 10]}{p[e & 1023]}"
        f"{p[f >> 6]}{p[(f & 63) << 4 | g >> 12]}{p[g >> 2 & 1023]}{p[(g & 3) << 8 | h >> 8]}"
        f"{p[(h & 255) << 2 | i >> 6]}"
    )


def conversation(turns: list[tuple[str, str]]) -> tuple[Message, ...]:
    """Messages of a dialogue about one image: the image is shown before the first question."""
    messages: list[Message] = []
    for n, (question, answer) in enumerate(turns):
        messages.append(Message("user", question, (0,) if n == 0 else ()))
        messages.append(Message("assistant", answer))
    return tuple(messages)
