"""The Arrow schema of records on disk, and the way there and back."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from vistune.records import SCHEMA_VERSION, ImageRef, Lineage, Message, Region, Reject, Sample, SourceFile

if TYPE_CHECKING:
    import pyarrow as pa


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
            "messages": tuple(
                Message(m["role"], m["text"], tuple(m["images"]), tuple(m["places"])) for m in row["messages"]
            ),
            "images": tuple(ImageRef(**i) for i in row["images"]),
            "lineage": Lineage(**lineage),
            "choices": tuple(row["choices"]),
            "permutation": tuple(row["permutation"]),
            "regions": tuple(
                Region(
                    tuple(r["box"]),
                    r["label"],
                    r["annotation_id"],
                    r["image"],
                    tuple(r["mention"]),
                    tuple(map(tuple, r["polygons"])),
                )
                for r in row["regions"]
            ),
        }
    )


def reject_from_row(row: dict[str, Any]) -> Reject:
    return Reject(**row)


@cache
def sample_schema() -> pa.Schema:
    """The Arrow schema of samples on disk (parquet, zstd, no pixels)."""
    import pyarrow as pa

    text, strings, integers = pa.string(), pa.list_(pa.string()), pa.list_(pa.int32())
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
                pa.list_(pa.struct([("role", text), ("text", text), ("images", integers), ("places", integers)])),
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
            ("permutation", integers),
            ("choice_style", text),
            (
                "regions",
                pa.list_(
                    pa.struct(
                        [
                            ("box", pa.list_(pa.float64(), 4)),
                            ("label", text),
                            ("annotation_id", text),
                            ("image", pa.int32()),
                            ("mention", integers),
                            ("polygons", pa.list_(pa.list_(pa.float64()))),
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
