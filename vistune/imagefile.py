"""One image file: what it is (digest, upright size, format), and its pixels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from vistune.errors import VistuneError
from vistune.files import inside
from vistune.hashing import file_digest
from vistune.records import ImageRef

if TYPE_CHECKING:
    from PIL import Image

MAX_IMAGE_PIXELS = 64_000_000
"""Larger images are refused before they are decoded (a decompression bomb is small on disk)."""

ORIENTATION = 0x0112
"""The EXIF tag; from 5 to 8 the picture is shown turned by 90 degrees."""

TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
"""PNG chunks in which some tools keep EXIF or XMP."""


def describe_image(root: Path, relative: str) -> ImageRef:
    """Reads digest, upright size and format of an image file without decoding its pixels.
    Raises VistuneError for a missing, unreadable, or too large file."""
    path = inside(root, relative)
    if not path.is_file():
        raise VistuneError(f"image file {relative} is missing in {root}.")
    width, height, kind = read_header(path, relative)
    return ImageRef(file_digest(path), width, height, kind, relative)


def read_header(path: Path, name: str) -> tuple[int, int, str]:
    """Upright width and height in pixels and format. Raises VistuneError, which calls the file `name`."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            width, height = image.size
            if width * height > MAX_IMAGE_PIXELS:
                raise VistuneError(f"image {name} has {width}x{height} pixels; the limit is {MAX_IMAGE_PIXELS:,}.")
            if image.format != "TIFF" and orientation(image) in (5, 6, 7, 8):  # Pillow's TIFF size is upright already
                width, height = height, width
            return width, height, (image.format or "").lower()
    except UnidentifiedImageError:
        raise VistuneError(f"image {name} cannot be read (it is of no known image format).") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise VistuneError(f"image {name} cannot be read ({error}).") from None


def orientation(image: Image.Image) -> int:
    """EXIF orientation of an opened image, 1 where it states none; the same as `image.getexif()` gives.

    Pillow decodes a PNG for it, since its metadata may follow the pixels. A look at the file's chunks mostly
    shows that none does."""
    from PIL.Image import Image as Plain

    file = getattr(image, "fp", None)
    if image.format == "PNG" and file is not None and not metadata_after_pixels(file):
        return Plain.getexif(image).get(ORIENTATION, 1)
    return image.getexif().get(ORIENTATION, 1)


def metadata_after_pixels(file: BinaryIO) -> bool:
    """Whether a PNG file has an eXIf or text chunk behind its first IDAT (PNG specification, section 5.3: a chunk is
    length, type, data, checksum). The position in the file is kept. True for a file cut short."""
    start = file.tell()
    try:
        file.seek(8)
        pixels = False
        while True:
            head = file.read(8)
            kind = head[4:]
            if len(head) < 8 or (pixels and (kind == b"eXIf" or kind in TEXT_CHUNKS)):
                return True
            if kind == b"IEND":
                return False
            pixels = pixels or kind == b"IDAT"
            file.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
    finally:
        file.seek(start)


def decode(source: Path | BinaryIO, image: ImageRef) -> Image.Image:
    """The upright RGB picture in `source`. Raises VistuneError, which names `image`, when it cannot be decoded."""
    from PIL import Image, ImageOps

    try:
        with Image.open(source) as raw:
            if raw.width * raw.height > MAX_IMAGE_PIXELS:
                raise VistuneError(f"image {image.path} has {raw.width}x{raw.height} pixels; too large to decode.")
            picture = ImageOps.exif_transpose(raw)
            return picture.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise VistuneError(f"image {image.path} ({image.sha256[:12]}…) cannot be decoded: {error}.") from None
