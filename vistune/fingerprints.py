"""Every image once: its bytes, its decoded pixels, its size, and a fingerprint from the same decode."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ImageOps

from vistune.errors import VistuneError
from vistune.imagefile import decode
from vistune.imagestore import Slice
from vistune.progress import track
from vistune.records import ImageRef
from vistune.similar import describe, near_pairs
from vistune.store import image_file

AT_ONCE = 1024
"""Images that wait for a thread."""


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """What an image shows, or why it cannot be used."""

    pixels: str = ""  # SHA-256 of size and decoded upright RGB: equal for the same picture in two files
    hash: int = 0  # 64 bits
    thumb: np.ndarray | None = None  # uint8 (16, 16, 3)
    mirrored: int | None = None  # hash of the mirror image, where it was asked for
    defect: str = ""  # "image_undecodable" | "image_size": the image is what its digest says, and bad
    damage: str = ""  # the file is not the one that was annotated
    detail: str = ""


def scan(root: Path, images: Iterable[ImageRef], label: str, mirror: bool = False) -> dict[ImageRef, Fingerprint]:
    """The fingerprint of each distinct image, in the order of their digests. Never raises for a bad image."""
    distinct = sorted(set(images), key=lambda i: (i.sha256, i.path))
    # Threads: decoding and hashing release the lock. The order of results is that of `distinct`.
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        parts = (distinct[start : start + AT_ONCE] for start in range(0, len(distinct), AT_ONCE))
        found = (one for part in parts for one in pool.map(lambda image: fingerprint(root, image, mirror), part))
        return dict(zip(distinct, track(found, label, len(distinct), "images"), strict=True))


def fingerprint(root: Path, image: ImageRef, mirror: bool = False) -> Fingerprint:
    try:
        found = image_file(root, image)
        content = b"" if isinstance(found, Slice) else found.read_bytes()
    except (VistuneError, OSError, ValueError):  # ValueError: a null byte in the path
        return Fingerprint(damage="missing", detail=f"{image.path} is not in the sources folder")
    try:
        content = found.read() if isinstance(found, Slice) else content
    except VistuneError as error:
        return Fingerprint(damage="changed", detail=f"{image.path}: {error}")
    digest = hashlib.sha256(content).hexdigest()
    if digest != image.sha256:
        return Fingerprint(
            damage="changed", detail=f"{image.path} has sha256 {digest[:12]}…, declared {image.sha256[:12]}…"
        )
    try:
        picture = decode(io.BytesIO(content), image)
    except (VistuneError, ValueError, EOFError, struct.error, zlib.error) as error:
        return Fingerprint(defect="image_undecodable", detail=f"{image.path} cannot be decoded: {error}")
    if picture.size != (image.width, image.height):
        width, height = picture.size
        return Fingerprint(
            defect="image_size",
            detail=f"{image.path} is {width}x{height} upright, declared {image.width}x{image.height}",
        )
    pixels = hashlib.sha256(f"{picture.width}x{picture.height} RGB\n".encode())
    pixels.update(picture.tobytes())
    mirrored = describe(ImageOps.mirror(picture))[0] if mirror else None
    return Fingerprint(pixels.hexdigest(), *describe(picture), mirrored)


def similar(fingerprints: Iterable[Fingerprint], hamming: int, difference: float) -> list[tuple[str, str]]:
    """Pairs of pixel digests of different files that show the same picture."""
    # Identical pictures share a digest, so a thousand copies are one entry here.
    distinct = sorted({f.pixels: (f.hash, f.thumb) for f in fingerprints if f.thumb is not None}.items())
    if len(distinct) < 2:
        return []
    names = [pixels for pixels, _ in distinct]
    hashes = np.array([hash for _, (hash, _) in distinct], dtype=np.uint64)
    thumbs = np.stack([thumb for _, (_, thumb) in distinct])
    return [(names[i], names[j]) for i, j in near_pairs(hashes, thumbs, hamming, difference)]
