"""Messages as JSON Lines: content blocks of transformers' chat templates, and the `images` that TRL puts into the
{"type": "image"} blocks in their order. Paths are relative to the export.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vistune.export.folder import JsonFiles
from vistune.export.release import Release
from vistune.export.talk import blocks, shown, turns
from vistune.records import Sample


def write(release: Release, samples: Iterable[Sample], folder: Path) -> None:
    with JsonFiles(folder, lines=True) as files:
        for sample in samples:
            turns(sample)  # refuses what no chat template takes
            row = {
                "id": sample.id,
                "messages": [{"role": m.role, "content": blocks(m)} for m in sample.messages],
                "images": [release.place(sample, image, folder) for image in shown(sample)],
                "vistune": release.about(sample),
            }
            files.add(sample.split, row)
