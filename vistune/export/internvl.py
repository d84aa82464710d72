"""InternVL's meta file and JSON Lines (InternVL docs, "Prepare customized data"): LLaVA's conversations, with the size
of the image, or `width_list` and `height_list` of several.

Paths in SPLIT_meta.json are relative to the export: train from there, or put its path before them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vistune.export.folder import JsonFiles
from vistune.export.llava import talk
from vistune.export.release import Release
from vistune.export.talk import shown
from vistune.files import write_json
from vistune.records import Sample


def write(release: Release, samples: Iterable[Sample], folder: Path) -> None:
    with JsonFiles(folder, lines=True) as files:
        for sample in samples:
            said, images = talk(sample), shown(sample)
            paths = [release.place(sample, image, folder) for image in images]
            row: dict[str, Any] = {"id": sample.id}
            if len(images) == 1:
                row |= {"image": paths[0], "width": images[0].width, "height": images[0].height}
            elif images:
                row |= {"image": paths, "width_list": [i.width for i in images]}
                row |= {"height_list": [i.height for i in images]}
            files.add(sample.split, row | said | {"vistune": release.about(sample)})
    for split, rows in files.rows.items():
        entry = {"root": "./", "annotation": files.name(split), "data_augment": False, "repeat_time": 1, "length": rows}
        write_json(folder / f"{split}_meta.json", {f"vistune_{split}": entry})
