"""LLaVA JSON (LLaVA docs/Finetune_Custom_Data.md): a list of `id`, `image` and `conversations` of human and gpt.

Paths are relative to the export, the --image_folder. Rows without images have no `image`, those with several a list,
as LLaVA-NeXT reads it. LLaVA brings its own system prompt; one of the sample is kept as `system`, which it ignores.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vistune.export.folder import JsonFiles
from vistune.export.release import Release
from vistune.export.talk import conversation, shown
from vistune.records import Sample


def write(release: Release, samples: Iterable[Sample], folder: Path) -> None:
    with JsonFiles(folder) as files:
        for sample in samples:
            said = talk(sample)
            images = [release.place(sample, image, folder) for image in shown(sample)]
            row: dict[str, Any] = {"id": sample.id}
            if images:
                row["image"] = images[0] if len(images) == 1 else images
            files.add(sample.split, row | said | {"vistune": release.about(sample)})


def talk(sample: Sample) -> dict[str, Any]:
    """`conversations`, and `system` where there is one."""
    system, values = conversation(sample, after="\n")
    return {"conversations": values} | ({"system": system} if system else {})
