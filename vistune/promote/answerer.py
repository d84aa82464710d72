"""The registered model as a function: rows of (image, question) in, answers out, greedy.

An image is a path on the machine that answers, base64 bytes, a data URI, or an address of an origin that the owner of
the server allows (see `address`).
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.errors import VistuneError
from vistune.promote.address import fetch
from vistune.store import MAX_IMAGE_PIXELS

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MAX_IMAGE_BYTES = 32 * 1024 * 1024
MAX_QUESTION = 4000  # characters
MAX_NEW_TOKENS = 512

TOGETHER = 16
"""Questions answered at once: bounds memory."""


class Answerer:
    """`predict` answers one question a row; the parameter `max_new_tokens` bounds each answer."""

    def __init__(self) -> None:
        self.model: Any = None

    def load_context(self, context: Any) -> None:
        from vistune.models import load_model

        self.model = load_model(context.artifacts["model"])

    def predict(self, context: Any, model_input: Any, params: Mapping[str, Any] | None = None) -> list[str]:
        """model_input: a DataFrame, or a list of mappings, with `image` and `question`. All rows are checked before
        the first is answered. Raises VistuneError naming the row (from 0) and what is wrong with it."""
        from vistune.records import Message

        limit = (params or {}).get("max_new_tokens", 32)
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_NEW_TOKENS:
            raise VistuneError(f"max_new_tokens is {limit!r}; expected a whole number from 1 to {MAX_NEW_TOKENS}.")
        asked = [_checked(row, n) for n, row in enumerate(rows(model_input))]
        groups: dict[str, list[int]] = {}  # equal images are encoded once
        for n, (image, _) in enumerate(asked):
            groups.setdefault(image, []).append(n)
        pictures = {image: _at_row(members[0], read_image, image) for image, members in groups.items()}
        answers = [""] * len(asked)
        for image, members in groups.items():
            for start in range(0, len(members), TOGETHER):
                part = members[start : start + TOGETHER]
                conversations = [[Message("user", asked[n][1], (0,))] for n in part]
                found = self.model.generate(conversations, [[pictures[image]]] * len(part), limit)
                for n, answer in zip(part, found, strict=True):
                    answers[n] = answer
        return answers


def rows(model_input: Any) -> list[Mapping[str, Any]]:
    """The rows of a DataFrame, of a list of mappings, or of one mapping."""
    if hasattr(model_input, "to_dict"):
        return model_input.to_dict(orient="records")
    if isinstance(model_input, Mapping):
        return [model_input]
    if isinstance(model_input, list) and all(isinstance(r, Mapping) for r in model_input):
        return model_input
    raise VistuneError(
        f"the input is a {type(model_input).__name__}; expected rows with the columns `image` and `question`."
    )


def _checked(row: Mapping[str, Any], n: int) -> tuple[str, str]:
    image, question = row.get("image"), row.get("question")
    if isinstance(image, Path):
        image = str(image)
    if not isinstance(image, str) or not image.strip():
        raise VistuneError(f"row {n} has no image; expected a path, base64 bytes, or a data URI in `image`.")
    if not isinstance(question, str) or not question.strip():
        raise VistuneError(f"row {n} has no question; expected a text in `question`.")
    if len(question) > MAX_QUESTION:
        raise VistuneError(f"the question of row {n} has {len(question):,} characters; the limit is {MAX_QUESTION:,}.")
    return image.strip(), question.strip()


def _at_row(n: int, function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except VistuneError as error:
        raise VistuneError(f"the image of row {n}: {error}") from None


def read_image(text: str) -> Image.Image:
    """The upright RGB picture that `text` names or holds. Raises VistuneError for an address that is not allowed, for
    what is no image, and, before any pixel is decoded, for one that is too large."""
    from PIL import Image, ImageOps

    data = _bytes(text)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as raw:
            if raw.width * raw.height > MAX_IMAGE_PIXELS:
                raise VistuneError(f"{raw.width}x{raw.height} pixels; the limit is {MAX_IMAGE_PIXELS:,}.")
            return ImageOps.exif_transpose(raw).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise VistuneError(f"its bytes cannot be read as {', '.join(FORMATS)} ({_short(str(error))}).") from None


def _bytes(text: str) -> bytes:
    if text.startswith("data:"):
        head, comma, body = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise VistuneError("a data URI must be `data:image/...;base64,...`.")
        return _base64(body)
    if "://" in text[:32]:
        return fetch(text, MAX_IMAGE_BYTES)
    path = Path(text)
    try:
        if len(text) < 4096 and path.is_file():
            if path.stat().st_size > MAX_IMAGE_BYTES:
                raise VistuneError(f"the file has {path.stat().st_size:,} bytes; the limit is {MAX_IMAGE_BYTES:,}.")
            return path.read_bytes()
    except (OSError, ValueError) as error:
        if not isinstance(error, FileNotFoundError) and len(text) < 256:
            raise VistuneError(f"{_short(text)} cannot be read ({error}).") from None
    return _base64(text)


def _base64(text: str) -> bytes:
    if len(text) > MAX_IMAGE_BYTES * 4 // 3 + 4:
        raise VistuneError(f"its base64 text is longer than {MAX_IMAGE_BYTES:,} bytes take.")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise VistuneError(f"{_short(text)!r} is neither a file on this machine nor base64 bytes.") from None


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
