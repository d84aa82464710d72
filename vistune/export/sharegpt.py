"""ShareGPT as LLaMA-Factory defines it (its data/README.md): `conversations` with one `<image>` for each of `images`,
`system`, and an entry of dataset_info.json for each file. Paths are relative to the export, the --dataset_dir.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vistune.export.folder import JsonFiles
from vistune.export.release import Release
from vistune.export.talk import conversation, shown
from vistune.files import write_json
from vistune.records import Sample

COLUMNS = {"messages": "conversations", "system": "system", "images": "images"}
TAGS = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"}


def write(release: Release, samples: Iterable[Sample], folder: Path) -> None:
    with JsonFiles(folder) as files:
        for sample in samples:
            system, values = conversation(sample)
            row = {
                "id": sample.id,
                "conversations": values,
                "system": system,
                "images": [release.place(sample, image, folder) for image in shown(sample)],
                "vistune": release.about(sample),
            }
            files.add(sample.split, row)
    entries = {
        f"vistune_{split}": {
            "file_name": files.name(split),
            "formatting": "sharegpt",
            "columns": COLUMNS,
            "tags": TAGS,
        }
        for split in files.rows
    }
    write_json(folder / "dataset_info.json", entries)
