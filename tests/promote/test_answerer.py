"""What the registered model takes as an image, and what it refuses."""

from __future__ import annotations

import base64
import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from vistune.errors import VistuneError
from vistune.promote import answerer
from vistune.promote.answerer import Answerer, read_image, rows


def encoded(size=(8, 6), colour=(200, 10, 10), format="PNG", **options) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, format, **options)
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def path(tmp_path) -> Path:
    (tmp_path / "red.png").write_bytes(base64.b64decode(encoded()))
    return tmp_path / "red.png"


@pytest.fixture
def model():
    """An answerer whose model answers with the picture's first pixel, the question, and the limit."""
    calls = []

    def generate(conversations, images, max_new_tokens):
        calls.append(len(conversations))
        return [
            f"{image.getpixel((0, 0))[0]} {question.text} {max_new_tokens}"
            for (question,), (image,) in zip(conversations, images, strict=True)
        ]

    answerer = Answerer()
    answerer.model = SimpleNamespace(generate=generate)
    return SimpleNamespace(predict=answerer.predict, calls=calls)


def test_path_base64_and_data_uri_are_the_same_picture(path):
    text = encoded()
    pictures = [read_image(t) for t in (str(path), text, f"data:image/png;base64,{text}", f"{text[:20]}\n{text[20:]}")]
    assert {(p.size, p.mode, p.getpixel((0, 0))) for p in pictures} == {((8, 6), "RGB", (200, 10, 10))}


def test_a_jpeg_in_base64_is_not_taken_for_a_path():
    text = encoded(format="JPEG")
    assert text.startswith("/9j/")
    assert read_image(text).size == (8, 6)


def test_a_turned_photograph_comes_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_image(encoded(format="JPEG", exif=exif)).size == (6, 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http://example.org/a.png", "addresses are not fetched"),
        ("file:///etc/passwd", "addresses are not fetched"),
        ("s3://bucket/key", "addresses are not fetched"),
        ("no/such/file.png", "neither a file on this machine nor base64"),
        ("data:image/png,abc", "must be `data:image"),
        (base64.b64encode(b"plain text").decode(), "cannot be read as PNG"),
        (encoded()[:40], "cannot be read as PNG"),
        ("a" * 5000 + "!", "neither a file"),
        ("\0.png", "neither a file|cannot be read"),
    ],
)
def test_what_is_no_image_is_refused(text, message):
    with pytest.raises(VistuneError, match=message):
        read_image(text)


class Images(BaseHTTPRequestHandler):
    """/red.png, /large, /moved to another address, and nothing else."""

    def do_GET(self):
        body = {"/red.png": base64.b64decode(encoded()), "/large": b"x" * 5000}.get(self.path, b"")
        self.send_response(200 if body else 302 if self.path == "/moved" else 404)
        if self.path == "/moved":
            self.send_header("Location", "/red.png")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Nothing: the test's output is for the test."""


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Images) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_an_address_is_fetched_only_from_an_allowed_origin(server, monkeypatch):
    with pytest.raises(VistuneError, match="VISTUNE_IMAGE_ORIGINS is not set"):
        read_image(f"{server}/red.png")
    monkeypatch.setenv("VISTUNE_IMAGE_ORIGINS", f"https://images.example.org {server}")
    assert read_image(f"{server}/red.png").getpixel((0, 0)) == (200, 10, 10)
    port = server.rpartition(":")[2]
    monkeypatch.setattr(answerer, "MAX_IMAGE_BYTES", 4000)
    for address, message in [
        (f"http://localhost:{port}/red.png", "not one of VISTUNE_IMAGE_ORIGINS"),
        (f"https://127.0.0.1:{port}/red.png", "not one of VISTUNE_IMAGE_ORIGINS"),
        (f"http://127.0.0.1:{port}@evil.example/red.png", "not one of VISTUNE_IMAGE_ORIGINS"),
        (f"http://me:pw@127.0.0.1:{port}/red.png", "not one of VISTUNE_IMAGE_ORIGINS"),
        ("file:///etc/passwd", "not one of VISTUNE_IMAGE_ORIGINS"),
        (f"{server}/moved", "answered 302 .a redirect, which is not followed"),
        (f"{server}/none", "answered 404"),
        (f"{server}/large", "more than 4,000 bytes"),
    ]:
        with pytest.raises(VistuneError, match=message):
            read_image(address)


def test_a_format_with_other_parsers_is_refused():
    with pytest.raises(VistuneError, match="cannot be read as PNG"):
        read_image(encoded(format="TIFF"))


def test_too_many_pixels_are_refused_before_decoding(monkeypatch):
    monkeypatch.setattr(answerer, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(VistuneError, match=r"8x6 pixels; the limit is 40"):
        read_image(encoded())


def test_too_many_bytes_are_refused(monkeypatch, path):
    monkeypatch.setattr(answerer, "MAX_IMAGE_BYTES", 20)
    with pytest.raises(VistuneError, match="the limit is 20"):
        read_image(str(path))
    with pytest.raises(VistuneError, match="longer than 20 bytes"):
        read_image(encoded())


def test_answers_come_in_the_order_of_rows_and_each_picture_is_read_once(model, path):
    blue = encoded(colour=(1, 2, 3))
    asked = [(str(path), "a"), (blue, "b"), (str(path), "c")]
    table = [{"image": i, "question": q} for i, q in asked]
    assert model.predict(None, table, {"max_new_tokens": 5}) == ["200 a 5", "1 b 5", "200 c 5"]
    assert model.calls == [2, 1]
    assert model.predict(None, []) == []


def test_a_dataframe_works_like_rows(model, path):
    import pandas as pd

    assert model.predict(None, pd.DataFrame({"image": [str(path)], "question": ["x"]})) == ["200 x 32"]
    assert rows({"image": "i", "question": "q"}) == [{"image": "i", "question": "q"}]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "q"}, "row 1 has no image"),
        ({"image": " ", "question": "q"}, "row 1 has no image"),
        ({"image": None, "question": "q"}, "row 1 has no image"),
        ({"image": 5, "question": "q"}, "row 1 has no image"),
        ({"image": "x.png"}, "row 1 has no question"),
        ({"image": "x.png", "question": float("nan")}, "row 1 has no question"),
        ({"image": "x.png", "question": "w" * 4001}, "row 1 has 4,001 characters"),
        ({"image": "https://a/b.png", "question": "q"}, "image of row 1: https://a/b.png is an address"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_answered(model, path, row, message):
    with pytest.raises(VistuneError, match=message):
        model.predict(None, [{"image": str(path), "question": "q"}, row])
    assert model.calls == []


@pytest.mark.parametrize("limit", [0, 513, "8", True, 1.5, None])
def test_the_length_of_an_answer_is_bounded(model, path, limit):
    with pytest.raises(VistuneError, match="max_new_tokens"):
        model.predict(None, [{"image": str(path), "question": "q"}], {"max_new_tokens": limit})


@pytest.mark.parametrize("value", ["text", 3, ["text"]])
def test_an_input_without_rows_is_refused(value):
    with pytest.raises(VistuneError, match="expected rows"):
        rows(value)
