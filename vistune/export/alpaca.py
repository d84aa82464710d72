"""Alpaca rows as LLaMA-Factory extends them (its data/README.md): `instruction`, `input`, `output`, `system`,
`history` and `images`, with an entry of dataset_info.json for each file.

A sample of one turn gives its own instruction and input, which the trainer joins with a line break. Where its message
puts them together otherwise, the message is kept as `vistune.user`. In a longer sample the last turn is the
instruction, and those before it are the history.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from vistune.export.folder import JsonFiles
from vistune.export.release import Release
from vistune.export.talk import marked, shown, turns
from vistune.files import write_json
from vistune.records import Sample

COLUMNS = {
    "prompt": "instruction",
    "query": "input",
    "response": "output",
    "system": "system",
    "history": "history",
    "images": "images",
}


def write(release: Release, samples: Iterable[Sample], folder: Path) -> None:
    with JsonFiles(folder) as files:
        for sample in samples:
            row = {"id": sample.id, **_triple(sample)}
            row["images"] = [release.place(sample, image, folder) for image in shown(sample)]
            row["vistune"] = release.about(sample) | row.pop("vistune")
            files.add(sample.split, row)
    entries = {
        f"vistune_{split}": {"file_name": files.name(split), "formatting": "alpaca", "columns": COLUMNS}
        for split in files.rows
    }
    write_json(folder / "dataset_info.json", entries)


def _triple(sample: Sample) -> dict[str, Any]:
    system, pairs = turns(sample)
    *before, (asked, answered) = pairs
    history = [[marked(sample, question), marked(sample, answer)] for question, answer in before]
    instruction, query, extra = marked(sample, asked), "", {}
    if not before and not any(asked.places) and sample.instruction:
        instruction, query = marked(sample, replace(asked, text=sample.instruction)), sample.input
        if asked.text != "\n".join(part for part in (sample.instruction, sample.input) if part):
            extra = {"user": asked.text}
    return {
        "instruction": instruction,
        "input": query,
        "output": marked(sample, answered),
        "system": system,
        "history": history,
        "vistune": extra,
    }
