"""Images once each, under the digest of their bytes: as loose files, or in tar shards with an index.

    loose    images/ab/ab12….png: for small projects; nothing to build, every tool can look at them
    sharded  images/shard-<digest>.tar of about 1 GB each, and images/index.arrow: for millions of images

Records name an image by the same path whichever store holds it. One process writes at a time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vistune.errors import VistuneError
from vistune.files import atomic
from vistune.hashing import file_digest
from vistune.imagefile import read_header
from vistune.records import ImageRef

INDEX = "images/index.arrow"

USUAL = ("jpeg", "png", "webp")
"""Formats that are looked for before a folder is listed."""

NAMED = 5
"""Images named in an error."""


def image_path(sha256: str, format: str) -> str:
    """Where an image lies in a release, relative to its folder.

    >>> image_path("ab12", "png")
    'images/ab/ab12.png'
    """
    return f"images/{sha256[:2]}/{sha256}.{format}"


@dataclass(frozen=True, slots=True)
class Slice:
    """An image as a part of a file: of its own, or of a shard."""

    image: ImageRef
    file: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """Raises VistuneError, which names the file, when the bytes are not those of the image."""
        try:
            with open(self.file, "rb", buffering=0) as f:
                data = os.pread(f.fileno(), self.size, self.offset)
        except OSError as error:
            raise VistuneError(
                f"{self.file} cannot be read ({error.strerror}). Restore it (`dvc checkout`), or run the stage that "
                "writes it again."
            ) from None
        expect(self.image.sha256, hashlib.sha256(data).hexdigest(), self.file)
        return data


class ImageStore(Protocol):
    """What both kinds of store can do. Digests are 64 hexadecimal characters."""

    folder: Path

    def __len__(self) -> int: ...

    def __contains__(self, sha256: object) -> bool: ...

    def __iter__(self) -> Iterator[ImageRef]:
        """References, sorted by digest."""

    def read(self, sha256: str) -> bytes:
        """The bytes of one image. Raises VistuneError when the store does not have it."""

    def stream(self) -> Iterator[tuple[ImageRef, bytes]]:
        """All images in the order in which they lie on disk."""

    def add(self, images: Iterable[tuple[ImageRef, Path | Slice]]) -> int:
        """Takes the images (reference, file or part of one) that it does not have and returns their number. Raises
        VistuneError when the bytes are not those the reference names."""

    def verify(self) -> None:
        """Reads every byte. Raises VistuneError naming images that are missing or changed."""

    def collect_garbage(self, used: Iterable[str]) -> int:
        """Drops the images whose digests are not in `used` and returns their number."""


def open_store(folder: Path) -> ImageStore:
    """The images of a release: sharded if it has an index, else loose."""
    from vistune.imageshards import ShardedImages

    return ShardedImages(folder) if (folder / INDEX).is_file() else LooseImages(folder)


class LooseImages:
    """One file for each image."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __len__(self) -> int:
        return sum(1 for _ in self._files())

    def __contains__(self, sha256: object) -> bool:
        return self._find(str(sha256)) is not None

    def __iter__(self) -> Iterator[ImageRef]:
        for path in self._files():
            name = path.relative_to(self.folder).as_posix()
            width, height, _ = read_header(path, name)
            yield ImageRef(path.stem, width, height, path.suffix[1:], name)

    def read(self, sha256: str) -> bytes:
        path = self._find(sha256)
        if path is None:
            raise absent(sha256, self.folder)
        return path.read_bytes()

    def stream(self) -> Iterator[tuple[ImageRef, bytes]]:
        for image in self:
            yield image, (self.folder / image.path).read_bytes()

    def add(self, images: Iterable[tuple[ImageRef, Path | Slice]]) -> int:
        added = 0
        for image, source in images:
            target = self.folder / image_path(image.sha256, image.format)
            added += not target.exists()
            if isinstance(source, Slice):
                self._write(source.read(), target)
            else:
                expect(image.sha256, file_digest(source), source)
                self._link(source, target)
        return added

    @staticmethod
    def _write(data: bytes, target: Path) -> None:
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic(target) as partial:
                partial.write_bytes(data)

    @staticmethod
    def _link(source: Path, target: Path) -> None:
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source, target)
            except OSError:  # another file system
                with atomic(target) as copy:
                    shutil.copyfile(source, copy)

    def verify(self) -> None:
        refuse(self.folder, [p.name for p in self._files() if file_digest(p) != p.stem])

    def collect_garbage(self, used: Iterable[str]) -> int:
        kept = frozenset(used)
        dropped = [path for path in self._files() if path.stem not in kept]
        for path in dropped:
            path.unlink()
        return len(dropped)

    def _files(self) -> Iterator[Path]:
        return (p for p in sorted(self.folder.glob("images/[0-9a-f][0-9a-f]/*")) if not p.name.startswith("."))

    def _find(self, sha256: str) -> Path | None:
        if not sha256.isalnum():  # a path, or a pattern
            return None
        usual = (self.folder / image_path(sha256, format) for format in USUAL)
        found = next((path for path in usual if path.is_file()), None)
        return found or next((self.folder / "images" / sha256[:2]).glob(f"{sha256}.*"), None)


def expect(sha256: str, found: str, source: Path) -> None:
    if found != sha256:
        raise VistuneError(f"{source} changed: expected sha256 {sha256[:12]}…, found {found[:12]}….")


def absent(sha256: str, folder: Path) -> VistuneError:
    return VistuneError(f"image {sha256[:12]}… is not among the images of {folder}. Build the release again.")


def refuse(folder: Path, bad: list[str]) -> None:
    """Raises VistuneError when there are `bad` images."""
    if bad:
        shown = ", ".join(name[:12] + "…" for name in bad[:NAMED])
        raise VistuneError(
            f"{folder}: {len(bad)} images are missing or not what their digests say: {shown}. Build the release again."
        )
