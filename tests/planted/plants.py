"""Ways to damage the files of a data set, each a function of them: name -> JSON tree or bytes."""

import io
import json
from collections.abc import Callable
from typing import Any

from PIL import Image

Plant = Callable[[dict[str, Any]], Any]

SIZE = (40, 30)

BOX = {"id": 9, "image_id": 1, "category_id": 1, "bbox": [2, 3, 8, 12], "iscrowd": 0}
"""A row of COCO's boxes that has no fault."""


def png(size: tuple[int, int] = SIZE, **how: Any) -> bytes:
    held = io.BytesIO()
    Image.new("RGB", size, (9, 80, 160)).save(held, **{"format": "png", **how})
    return held.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter: 30x40 upright
    return png(format="jpeg", exif=exif)


def row(name: str, key: str, at: int, **change: Any) -> Plant:
    """Changes keys of a row; a value of `...` takes the key out."""

    def plant(files: dict[str, Any]) -> None:
        found = files[name][key][at] if key else files[name][at]
        found.update(change)
        for gone in [k for k, v in found.items() if v is ...]:
            del found[gone]

    return plant


def more(name: str, key: str, *rows: Any) -> Plant:
    return lambda files: (files[name][key] if key else files[name]).extend(rows)


def text(name: str, old: str, new: str) -> Plant:
    """Changes the text of a file; all of it, for an empty `old`."""

    def plant(files: dict[str, Any]) -> None:
        found = files[name] if isinstance(files[name], bytes) else json.dumps(files[name]).encode()
        assert old.encode() in found
        files[name] = found.replace(old.encode(), new.encode(), 1) if old else new.encode()

    return plant


def file(name: str, content: bytes | None) -> Plant:
    """Replaces a file, or takes it out."""
    return lambda files: files.pop(name) if content is None else files.update({name: content})


def both(*plants: Plant) -> Plant:
    return lambda files: [plant(files) for plant in plants]


def cut(name: str) -> Plant:
    """Cuts a file short."""
    return lambda files: files.update({name: json.dumps(files[name]).encode()[:-9]})


def top(name: str, **keys: Any) -> Plant:
    """Changes keys of a file; a value of `...` takes the key out."""
    return lambda files: files.update({name: {k: v for k, v in {**files[name], **keys}.items() if v is not ...}})


def no_pictures(files: dict[str, Any]) -> None:
    for name in [name for name in files if name.startswith("images/")]:
        del files[name]


def folder(name: str) -> Plant:
    """A folder stands where the file should."""
    return lambda files: files.update({f"{name}/x": files.pop(name)})
