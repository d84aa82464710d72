"""The types that flow between stages, and their one Arrow schema.

`AnnotatedImage` is what every reader in `sources/` yields. `Sample` is one training row: what `adapt` and
`self_instruct` write and what `tune` reads. `Reject` is a row that was not used, with its reason.
Boxes are pixel (x1, y1, x2, y2) of the upright image, always; a model family renders its own box text.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from vistune.hashing import canonical

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1

Box = tuple[float, float, float, float]
"""Pixel x1, y1, x2, y2 with x1 < x2 and y1 < y2."""


@dataclass(frozen=True)
class ImageRef:
    """Which image: identity is the digest of the file's bytes; `path` only says where a copy lies."""

    sha256: str
    width: int  # pixels, upright (EXIF orientation applied)
    height: int
    format: str  # "png", "jpeg", ...
    path: str  # relative to the folder of the artefact that holds the image


@dataclass(frozen=True)
class Category:
    """One class name of a data set, with its names in other languages (`{"zh": "苹果"}`)."""

    label: str
    group: str = ""
    names: dict[str, str] = field(default_factory=dict)

    def name(self, language: str) -> str | None:
        return self.label if language == "en" else self.names.get(language)


@dataclass(frozen=True)
class Annotation:
    """One annotated object: `thing=False` marks background (COCO "stuff"), `crowd=True` an uncounted group."""

    id: str  # the id in the source file
    category: Category
    box: Box
    crowd: bool = False
    thing: bool = True
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Caption:
    id: str
    text: str
    language: str = "en"


@dataclass(frozen=True)
class Question:
    """A question a person (or a data set's author) asked about the image, with every given answer."""

    id: str
    text: str
    answer: str  # the agreed one
    answers: tuple[str, ...]
    choices: tuple[str, ...] = ()
    kind: str = ""  # the source's own question type
    language: str = "en"


@dataclass(frozen=True)
class SourceFile:
    path: str  # relative to the sources folder
    sha256: str


@dataclass(frozen=True)
class AnnotatedImage:
    """One image with everything its data set says about it.

    `vocabulary` lists the categories the data set annotates exhaustively: only for these does a missing
    annotation prove absence. It is shared by all images of a data set.
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

    @property
    def things(self) -> tuple[Annotation, ...]:
        """Countable objects: neither background nor crowd."""
        return tuple(o for o in self.objects if o.thing and not o.crowd)


@dataclass(frozen=True)
class Message:
    role: Literal["user", "assistant", "system"]
    text: str
    images: tuple[int, ...] = ()  # indices into Sample.images, shown before the text


@dataclass(frozen=True)
class Region:
    """A named box the sample speaks about."""

    box: Box
    label: str
    annotation_id: str
    image: int = 0


@dataclass(frozen=True)
class Lineage:
    """What made a sample: enough to explain it, to repeat it, and to withdraw it."""

    annotated_image: str  # AnnotatedImage.id
    annotation_ids: tuple[str, ...]
    files: tuple[SourceFile, ...]
    template: str = ""  # "presence.en.03@1" (adapt)
    prompt: str = ""  # "conversation@1" (self_instruct)
    prompt_sha256: str = ""
    teacher: str = ""  # "grammar@1", "openai:<model>"
    request: str = ""  # id in the request ledger
    item: int = 0  # position among what one template or reply gave


@dataclass(frozen=True)
class Sample:
    """One training row: (instruction, input, response) and the same as chat messages."""

    id: str
    dataset: str
    split: str
    task: str
    method: Literal["adapt", "self_instruct"]
    instruction: str
    input: str
    response: str
    messages: tuple[Message, ...]
    images: tuple[ImageRef, ...]
    lineage: Lineage
    licence: str
    group: str  # the leakage unit: samples of one group stay in one split
    language: str = "en"
    polarity: str = ""  # "yes" | "no" | "negative" | ""
    choices: tuple[str, ...] = ()
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True)
class Reject:
    """A row that was not used. `stage` + `key` say which, `reason` is a short stable word, `detail` a sentence."""

    stage: str
    key: str
    reason: str
    detail: str


def sample_id(task: str, lineage: Lineage, seed: int) -> str:
    """Id of a sample from what made it, so that the same inputs name the same sample.

    >>> len(sample_id("caption", Lineage("d/1", ("7",), ()), 0))
    30
    """
    identity = [SCHEMA_VERSION, task, seed, lineage.annotated_image, lineage.annotation_ids, lineage.template]
    identity += [lineage.prompt, lineage.prompt_sha256, lineage.teacher, lineage.item]
    text = base64.b32encode(hashlib.sha256(canonical(identity)).digest()[:20]).decode().lower()
    return f"vt1:{text[:26]}"


def conversation(turns: list[tuple[str, str]]) -> tuple[Message, ...]:
    """Messages of a dialogue about one image: the image is shown before the first question."""
    messages: list[Message] = []
    for n, (question, answer) in enumerate(turns):
        messages.append(Message("user", question, (0,) if n == 0 else ()))
        messages.append(Message("assistant", answer))
    return tuple(messages)


def sample_to_row(sample: Sample) -> dict[str, Any]:
    """Plain data for Arrow. Spelled out because `dataclasses.asdict` copies deeply and costs ten times as much."""
    row = dict(vars(sample))
    row["messages"] = [vars(m) for m in sample.messages]
    row["images"] = [vars(i) for i in sample.images]
    row["regions"] = [vars(r) for r in sample.regions]
    row["lineage"] = {**vars(sample.lineage), "files": [vars(f) for f in sample.lineage.files]}
    return row


def reject_to_row(reject: Reject) -> dict[str, Any]:
    return dict(vars(reject))


def sample_from_row(row: dict[str, Any]) -> Sample:
    lineage = dict(row["lineage"])
    lineage["annotation_ids"] = tuple(lineage["annotation_ids"])
    lineage["files"] = tuple(SourceFile(**f) for f in lineage["files"])
    return Sample(
        **{
            **row,
            "messages": tuple(Message(m["role"], m["text"], tuple(m["images"])) for m in row["messages"]),
            "images": tuple(ImageRef(**i) for i in row["images"]),
            "lineage": Lineage(**lineage),
            "choices": tuple(row["choices"]),
            "regions": tuple(
                Region(tuple(r["box"]), r["label"], r["annotation_id"], r["image"]) for r in row["regions"]
            ),
        }
    )


def reject_from_row(row: dict[str, Any]) -> Reject:
    return Reject(**row)


@cache
def sample_schema() -> pa.Schema:
    """The Arrow schema of samples on disk (parquet, zstd, no pixels)."""
    import pyarrow as pa

    text, strings = pa.string(), pa.list_(pa.string())
    file = pa.struct([("path", text), ("sha256", text)])
    return pa.schema(
        [
            ("id", text),
            ("dataset", text),
            ("split", text),
            ("task", text),
            ("method", text),
            ("instruction", text),
            ("input", text),
            ("response", text),
            (
                "messages",
                pa.list_(pa.struct([("role", text), ("text", text), ("images", pa.list_(pa.int32()))])),
            ),
            (
                "images",
                pa.list_(
                    pa.struct(
                        [
                            ("sha256", text),
                            ("width", pa.int32()),
                            ("height", pa.int32()),
                            ("format", text),
                            ("path", text),
                        ]
                    )
                ),
            ),
            (
                "lineage",
                pa.struct(
                    [
                        ("annotated_image", text),
                        ("annotation_ids", strings),
                        ("files", pa.list_(file)),
                        ("template", text),
                        ("prompt", text),
                        ("prompt_sha256", text),
                        ("teacher", text),
                        ("request", text),
                        ("item", pa.int32()),
                    ]
                ),
            ),
            ("licence", text),
            ("group", text),
            ("language", text),
            ("polarity", text),
            ("choices", strings),
            (
                "regions",
                pa.list_(
                    pa.struct(
                        [
                            ("box", pa.list_(pa.float64(), 4)),
                            ("label", text),
                            ("annotation_id", text),
                            ("image", pa.int32()),
                        ]
                    )
                ),
            ),
        ],
        metadata={"vistune.schema": str(SCHEMA_VERSION)},
    )


@cache
def reject_schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema([(name, pa.string()) for name in ("stage", "key", "reason", "detail")])
