"""Which samples the page shows: chosen by keyed hash, so that a rerun shows the same and nobody picks the nice ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.hashing import keyed, shuffled
from vistune.records import Region, Sample
from vistune.report.pictures import boxes, thumbnail
from vistune.schema import from_table
from vistune.store import shards

INSTRUCTIONS = 3
"""Instructions shown under one image."""

TURNS = 3
"""Question and answer pairs shown of one dialogue."""


def index(release: Path) -> list[dict[str, Any]]:
    """Id, task, method, language, split and image of every sample of a release, without its texts."""
    import pyarrow.parquet as pq

    columns = ["id", "task", "method", "language", "split", "licence", "images.list.element.sha256"]
    rows: list[dict[str, Any]] = []
    for shard in _shards(release):
        with pq.ParquetFile(shard) as file:
            for row in file.read(columns=columns).to_pylist():
                image = row.pop("images")
                rows.append({**row, "image": image[0]["sha256"] if image else ""})
    return rows


def fetch(release: Path, ids: Iterable[str]) -> dict[str, Sample]:
    """The samples with these ids."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    wanted = sorted(set(ids))
    found: dict[str, Sample] = {}
    for shard in _shards(release):
        table = pq.read_table(shard, filters=pc.is_in(pc.field("id"), pa.array(wanted, pa.string())))
        found |= {sample.id: sample for sample in from_table(table, Sample)}
    return found


def _shards(release: Path) -> list[Path]:
    found = [release / shard.name for shard in shards(release, "samples")]
    for path in found:
        if not path.is_file():
            raise VistuneError(f"{path} is missing. Run `vistune validate` again.")
    return found


def choose_sheet(rows: Sequence[Mapping[str, Any]], count: int, seed: int) -> list[list[str]]:
    """For each of `count` images, the ids of up to INSTRUCTIONS single-turn samples, least shown task first, so that
    the sheet shows every task kind that exists."""
    by_image: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["method"] == "adapt" and row["image"]:
            by_image.setdefault(row["image"], []).append(row)
    shown: Counter[str] = Counter()
    sheet = []
    for image in shuffled(sorted(by_image), seed, "report", "sheet")[:count]:
        left = sorted(by_image[image], key=lambda r: keyed(seed, "report", "instruction", r["id"]))
        chosen: list[str] = []
        tasks: set[str] = set()
        while left and len(chosen) < INSTRUCTIONS:
            row = min(left, key=lambda r: (r["task"] in tasks, shown[r["task"]]))
            left.remove(row)
            chosen.append(row["id"])
            tasks.add(row["task"])
            shown[row["task"]] += 1
        sheet.append(chosen)
    return sheet


def choose_dialogues(rows: Sequence[Mapping[str, Any]], count: int, seed: int) -> list[str]:
    """Ids of `count` dialogues, one of each kind in turn."""
    by_task: dict[str, list[str]] = {}
    for row in rows:
        if row["method"] == "self_instruct" and row["image"]:
            by_task.setdefault(row["task"], []).append(row["id"])
    queues = [shuffled(sorted(by_task[t]), seed, "report", "dialogue", t) for t in sorted(by_task)]
    chosen: list[str] = []
    while any(queues) and len(chosen) < count:
        for queue in queues:
            if queue and len(chosen) < count:
                chosen.append(queue.pop(0))
    return chosen


def sheet(release: Path, groups: Sequence[Sequence[str]], samples: Mapping[str, Sample]) -> list[dict[str, Any]]:
    """Cards of images with the instructions of each group, and the boxes of all `samples` about the image."""
    regions: dict[str, list[Region]] = {}
    for sample in samples.values():
        for region in sample.regions:
            regions.setdefault(sample.images[region.image].sha256, []).append(region)
    cards = []
    for group in groups:
        members = [samples[i] for i in group]
        image = members[0].images[0]
        cards.append(
            {
                **thumbnail(release, image),
                "name": members[0].lineage.annotated_image,
                "boxes": boxes(image, regions.get(image.sha256, [])),
                "instructions": [
                    {"task": s.task, "language": s.language, "instruction": question(s), "response": s.response}
                    for s in members
                ],
            }
        )
    return cards


def dialogues(release: Path, ids: Sequence[str], samples: Mapping[str, Sample]) -> list[dict[str, Any]]:
    """Dialogues as turns beside their image; the image carries no boxes, since the teacher's text must stand alone."""
    cards = []
    for sample in (samples[i] for i in ids):
        turns = [{"role": m.role, "text": m.text} for m in sample.messages if m.role != "system"]
        cards.append(
            {
                "task": sample.task,
                "teacher": sample.lineage.teacher,
                "language": sample.language,
                **thumbnail(release, sample.images[0]),
                "boxes": [],
                "name": sample.lineage.annotated_image,
                "turns": turns[: 2 * TURNS],
                "more": max(0, len(turns) - 2 * TURNS) // 2,
            }
        )
    return cards


def question(sample: Sample) -> str:
    """Instruction and input as the model reads them."""
    return "\n".join(part for part in (sample.instruction, sample.input) if part)
