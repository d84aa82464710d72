"""Size, orientation and digest of image files, without decoding what need not be decoded."""

import hashlib
import struct
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin, features

from vistune.errors import VistuneError
from vistune.imagefile import ORIENTATION, decode, describe_image, metadata_after_pixels, orientation

XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def exif(value: int) -> Image.Exif:
    found = Image.Exif()
    found[ORIENTATION] = value
    return found


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*, before: bytes = b"", behind: bytes = b"", end: bool = True) -> bytes:
    """A PNG of 30 x 40 pixels with extra chunks before or behind its pixels."""
    out = BytesIO()
    Image.new("RGB", (30, 40), (9, 8, 7)).save(out, "png")
    data = out.getvalue()
    start, stop = data.index(b"IDAT") - 4, data.index(b"IEND") - 4
    return data[:start] + before + data[start:stop] + behind + (data[stop:] if end else b"")


TURNED = chunk(b"eXIf", exif(6).tobytes()[6:])
RAW = (
    b"Raw profile type exif\0\nexif\n      "
    + str(len(exif(8).tobytes())).encode()
    + b"\n"
    + exif(8).tobytes().hex().encode()
)
INTERNATIONAL = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP.encode())

KINDS = ("jpeg", "webp", "tiff", "png", *(["avif"] if features.check("avif") else []))

FILES = {
    "plain.png": png(),
    "exif before.png": png(before=TURNED),
    "exif behind.png": png(behind=TURNED),
    "ImageMagick before.png": png(before=chunk(b"tEXt", RAW + b"\n")),
    "ImageMagick behind.png": png(behind=chunk(b"tEXt", RAW + b"\n")),
    "xmp before.png": png(before=INTERNATIONAL),
    "xmp behind.png": png(behind=INTERNATIONAL),
    "other text.png": png(before=chunk(b"tEXt", b"Software\0x"), behind=chunk(b"tIME", bytes(7))),
    "no end.png": png(end=False),
}


@pytest.fixture(params=[*FILES, *(f"{kind} {n}" for kind in KINDS for n in range(9)), "gif", "bmp"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "image"
    if request.param in FILES:
        path.write_bytes(FILES[request.param])
    else:
        kind, _, value = request.param.partition(" ")
        options = {"exif": exif(int(value))} if value else {}
        Image.new("RGB", (30, 40), (9, 8, 7)).save(path, format=kind, **options)
    return path


def test_orientation_and_size_are_those_of_the_decoded_picture(file):
    with Image.open(file) as quick, Image.open(file) as slow:
        assert orientation(quick) == slow.getexif().get(ORIENTATION, 1)
    found = describe_image(file.parent, file.name)
    assert decode(file, found).size == (found.width, found.height)
    assert found.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["plain.png", "exif before.png", "xmp before.png", "other text.png"])
def test_a_png_is_not_decoded_for_its_orientation(name, tmp_path, monkeypatch):
    (tmp_path / name).write_bytes(FILES[name])
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda self: pytest.fail("decoded"))
    describe_image(tmp_path, name)


def test_metadata_after_the_pixels_is_noticed():
    assert [metadata_after_pixels(BytesIO(data)) for data in FILES.values()] == [
        "behind" in name or name == "no end.png" for name in FILES
    ]
    stream = BytesIO(FILES["plain.png"])
    stream.seek(5)
    metadata_after_pixels(stream)
    assert stream.tell() == 5


@pytest.mark.parametrize("content", [b"", b"text", FILES["plain.png"][:20]])
def test_what_is_no_image_is_an_error_without_the_folders_name(content, tmp_path):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(VistuneError, match=r"image x\.png cannot be read") as error:
        describe_image(tmp_path, "x.png")
    assert str(tmp_path) not in str(error.value)


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path):
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(
        VistuneError, match=r"bomb\.png (has 20000x20000 pixels; the limit is 64,000,000|cannot be read)"
    ):
        describe_image(tmp_path, "bomb.png")
    with pytest.raises(VistuneError, match=r"image absent\.png is missing|missing in"):
        describe_image(tmp_path, "absent.png")
