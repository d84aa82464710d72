"""A release, read for export: its samples, the bytes of its images, and whom they ask to name."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.files import inside, link_file, read_json
from vistune.imagefile import orientation
from vistune.imagestore import image_path, open_store
from vistune.records import ImageRef, Sample
from vistune.store import read_samples


class Release:
    """A folder that `validate` wrote. `used` and `turned` say what was taken from it so far."""

    def __init__(self, folder: Path) -> None:
        if not (folder / "release.json").is_file():
            raise VistuneError(f"{folder} is no release (it has no release.json). Run `vistune validate`.")
        self.folder = folder
        self.facts = read_json(folder / "release.json")
        credits = folder / "attribution.json"
        self._credits = read_json(credits) if credits.is_file() else {}
        self._images = open_store(folder)
        self.used: dict[str, tuple[str, str]] = {}  # sha256 -> licence, attribution
        self._names: dict[str, str] = {}  # sha256 -> where the image lies in an export
        self._upright: dict[str, bool] = {}

    @property
    def turned(self) -> int:
        return sum(not upright for upright in self._upright.values())

    def count(self, split: str = "") -> int:
        """The number of samples of a split, or of all. Raises VistuneError when there is none."""
        found: dict[str, int] = self.facts["by"]["split"]
        if not split:
            return sum(found.values())
        if split not in found:
            raise VistuneError(f"{self.folder} has no split {split!r}. It has {', '.join(sorted(found))}.")
        return found[split]

    def samples(self, split: str = "") -> Iterator[Sample]:
        """In the order of their ids."""
        return (sample for sample in read_samples(self.folder) if split in ("", sample.split))

    def attribution(self, sample: Sample) -> str:
        """Whom the sample's images ask to name."""
        named = [self._credits.get(image.path, {}).get("attribution", "") for image in sample.images]
        return "; ".join(dict.fromkeys(name for name in named if name))

    def licences(self) -> str:
        """LICENSES.tsv: a line for each image that was used."""
        lines = ["image_sha256\tlicence\tattribution"]
        for sha256, fields in sorted(self.used.items()):
            lines.append("\t".join([sha256, *(" ".join(field.split()) for field in fields)]))
        return "\n".join(lines) + "\n"

    def image(self, sample: Sample, image: ImageRef) -> tuple[str, bytes]:
        """File name and bytes of an image of a sample. The bytes are those of the release, but for an image that its
        EXIF orientation turns: it is written upright, as a PNG of the same pixels, because LLaVA's and other loaders
        ignore the orientation and would see its boxes in the wrong place."""
        loose = inside(self.folder, image.path)
        content = loose.read_bytes() if loose.is_file() else self._images.read(image.sha256)
        found = hashlib.sha256(content).hexdigest()
        if found != image.sha256:
            raise VistuneError(
                f"an image of sample {sample.id} changed: expected sha256 {image.sha256[:12]}…, found {found[:12]}…. "
                f"Restore it in {self.folder}, or run `vistune validate` again."
            )
        credit = self._credits.get(image.path, {})
        self.used[image.sha256] = (credit.get("licence", sample.licence), credit.get("attribution", ""))
        if image.sha256 not in self._upright:
            self._upright[image.sha256] = _is_upright(content, image)
        if self._upright[image.sha256]:
            return f"{image.sha256}.{image.format}", content
        turned = _turn(content)
        return f"{hashlib.sha256(turned).hexdigest()}.png", turned

    def place(self, sample: Sample, image: ImageRef, folder: Path) -> str:
        """Puts an image of a sample into `folder`, once, and returns its path there."""
        if image.sha256 not in self._names:
            name, content = self.image(sample, image)
            stem, _, suffix = name.partition(".")
            relative = image_path(stem, suffix)
            target = folder / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            loose = inside(self.folder, image.path)
            if self._upright[image.sha256] and loose.is_file():
                link_file(loose, target)
            else:
                target.write_bytes(content)
            self._names[image.sha256] = relative
        return self._names[image.sha256]

    def about(self, sample: Sample) -> dict[str, Any]:
        """What a view keeps of a sample beside its conversation."""
        return {
            "task": sample.task,
            "dataset": sample.dataset,
            "split": sample.split,
            "language": sample.language,
            "licence": sample.licence,
            "attribution": self.attribution(sample),
            "instruction": sample.instruction,
            "input": sample.input,
            "response": sample.response,
        }


def _is_upright(content: bytes, image: ImageRef) -> bool:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as opened:
            return orientation(opened) in (0, 1)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise VistuneError(f"image {image.path} cannot be read ({error}). Run `vistune validate` again.") from None


def _turn(content: bytes) -> bytes:
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(content)) as opened:
        upright = ImageOps.exif_transpose(opened)
    buffer = io.BytesIO()
    upright.convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()
