"""What the readers of ready-made instruction data share: named rows, images inside rows, and turns of talk.

An image is shown where its marker `<image>` stands. The marker is taken out of the text and its place kept
(`Message.places`), so that it can be put back at the same character. White space is trimmed at both ends of a text,
and with it the line break between the text and a marker at its beginning or end; all else stays byte for byte. Control
tokens spelled out in a text (`<|im_start|>`, `</s>`) are text: `models.labels` encodes them as such.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from vistune.files import inside
from vistune.records import Dialogue, Message
from vistune.sources.datafiles import parts, rows
from vistune.sources.rows import DialogueRow, Listing, Malformed, Refused, Row, need
from vistune.sources.spec import AnnotationFile

IMAGE = "<image>"

OTHER_MEDIA = ("video", "videos", "audio", "audios")
"""Keys of rows that also show what cannot be read here; such a row would lose the thing it talks about."""

MAX_EMBEDDED_BYTES = 64 << 20
MAX_CHARACTERS = 1_000_000
"""Of one turn. Beyond, a file was pasted into it."""

_CHINESE = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_KANA = re.compile("[\u3040-\u30ff]")
_REMOTE = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)

Turn = tuple[str, str]
"""Role (user, assistant or system) and text with markers."""


def dialogues(
    root: Path,
    file: AnnotationFile,
    listing: Listing,
    id: str = "id",
    columns: Sequence[str] = (),
    unpack: Callable[[Iterator[Any], AnnotationFile], Iterator[Any]] | None = None,
) -> Iterator[Row]:
    """The rows of a file (or of all data files of a folder), each counted and under a name of its own: its id, or
    "#<position>" without one. Published files repeat ids over different rows; the second is named "<id>#2".
    `unpack` makes one row per dialogue where a file's rows hold several."""
    taken = {d.record.id.removeprefix(f"{listing.dataset}/") for d in listing.dialogues}
    for part in parts(root, file):
        values = rows(inside(root, part.path), columns)
        for row in listing.each("dialogue", unpack(values, part) if unpack else values, part, id):
            nameless = row.name.startswith("#") and part is not file
            row.name = unused(f"{Path(part.path).stem}{row.name}" if nameless else row.name, taken)
            yield row


def keep(
    row: Row,
    messages: tuple[Message, ...],
    images: Iterable[Any],
    task: str = "",
    instruction: str = "",
    input: str = "",
) -> None:
    """Keeps a row as a dialogue. `images` are as the row gives them, see `image_file`."""
    listing = row.listing
    files = tuple(image_file(image, listing) for image in images)
    record = Dialogue(
        id=f"{listing.dataset}/{row.name}",
        dataset=listing.dataset,
        split=listing.split,
        images=(),
        messages=messages,
        licence=listing.licence,
        attribution=listing.attribution,
        language=_language(messages),
        task=task,
        instruction=instruction,
        input=input,
    )
    listing.dialogues.append(DialogueRow(record, files))


def read_turns(values: Sequence[Any], roles: Mapping[str, str], role: str = "from", text: str = "value") -> list[Turn]:
    """Turns of a list of {role, text}. `roles`: the file's name of a role -> ours, or "" for a tool's part."""
    turns = []
    for n, value in enumerate(values):
        try:
            name, said = need(value, role, str), need(value, text, str)
        except Malformed as problem:
            raise Malformed(f"turn {n}: {problem}") from None
        turns.append((known_role(name, roles, n), said))
    return turns


def known_role(name: str, roles: Mapping[str, str], n: int) -> str:
    """Our name of the role of turn n."""
    if name not in roles:
        expected = ", ".join(role for role in roles if roles[role])
        raise Refused("role_unknown", f"turn {n} is by {name!r:.40}, expected one of {expected}.")
    if not roles[name]:
        raise Refused("tools_unsupported", f"turn {n} is by {name!r}: calls of tools are not read.")
    return roles[name]


def arrange(turns: Sequence[Turn], images: int, unmarked_first: bool = False) -> tuple[Message, ...]:
    """The messages of a dialogue about `images` images. User and assistant alternate, after at most one system
    message; the assistant is last. With `unmarked_first`, images without any marker come before the first question.

    Raises Refused: `turns_missing`, `roles_not_alternating`, `answer_missing`, `text_empty`, `text_too_long`,
    `text_encoding`, `image_in_answer`, `image_count`.
    """
    messages: list[Message] = []
    shown, expected = 0, "user"
    for n, (role, text) in enumerate(turns):
        if role != "system" or n:
            if role != expected:
                raise Refused("roles_not_alternating", f"turn {n} is the {role}'s, expected the {expected}'s.")
            expected = "assistant" if role == "user" else "user"
        text, places = unmark(text)
        _check_text(text, n)
        if places and role != "user":
            raise Refused("image_in_answer", f"turn {n} is the {role}'s and holds {IMAGE}.")
        numbers = tuple(range(shown, shown + len(places)))
        messages.append(Message(role, text, numbers, places if any(places) else ()))  # type: ignore[arg-type]
        shown += len(places)
    talk = [m for m in messages if m.role != "system"]
    if not talk:
        raise Refused("turns_missing", "nobody says anything.")
    if talk[-1].role != "assistant":
        raise Refused("answer_missing", "the last turn is the user's.")
    if images and not shown and unmarked_first:
        first = messages.index(talk[0])
        messages[first] = replace(talk[0], images=tuple(range(images)))
    elif shown != images:
        raise Refused("image_count", f"{shown} markers {IMAGE} but {images} images.")
    return tuple(messages)


def unmark(text: str) -> tuple[str, tuple[int, ...]]:
    """A text without its markers and outer white space, and the character at which each marker stood.

    >>> unmark("<image>\\nWhat is it?\\n")
    ('What is it?', (0,))
    >>> unmark("Is <image> like <image>?")
    ('Is  like ?', (3, 9))
    """
    if IMAGE not in text:
        return text.strip(), ()
    pieces = text.split(IMAGE)
    bare = "".join(pieces)
    kept = bare.strip()
    start, at, places = len(bare) - len(bare.lstrip()), 0, []
    for piece in pieces[:-1]:
        at += len(piece)
        places.append(min(max(at - start, 0), len(kept)))
    return kept, tuple(places)


def mark(text: str, places: Sequence[int]) -> str:
    """The inverse of `unmark`.

    >>> mark("Is  like ?", (3, 9))
    'Is <image> like <image>?'
    """
    ends = [0, *places, len(text)]
    return IMAGE.join(text[start:end] for start, end in pairwise(ends))


def question(instruction: str, input: str) -> tuple[str, str, str]:
    """The user's turn for an instruction with an input, and both without markers. The turn without markers is
    instruction, line break, input; an empty instruction leaves its place to the input.

    >>> question("<image>\\nName it. ", "in French")
    ('<image>Name it.\\nin French', 'Name it.', 'in French')
    """
    bare = [unmark(instruction), unmark(input)]
    asked = "\n".join(part for part in (mark(*one) for one in bare) if part)
    first, *rest = [text for text, _ in bare if text] or [""]
    return asked, first, "".join(rest)


def listed(value: Any) -> list[Any]:
    """The images of a row that has one, several, or none (null or an empty text)."""
    if isinstance(value, list):
        return value
    return [] if value is None or value == "" else [value]


def refuse_other_media(row: Row) -> None:
    if isinstance(row.value, dict):
        for key in OTHER_MEDIA:
            if row.value.get(key):
                raise Refused("media_unsupported", f"the row shows a {key.rstrip('s')}; only images are read.")


def image_file(image: Any, listing: Listing) -> str:
    """The file of an image, relative to the data set's image folder. `image` is a path, a data URL, bytes, or
    {"bytes", "path"} (how parquet files of `datasets` hold it); bytes go to `listing.embed`, named by their digest."""
    if isinstance(image, dict):
        image = image.get("bytes") or image.get("path")
    if isinstance(image, str) and image.startswith("data:"):
        image = decode(image.partition(",")[2])
    if not isinstance(image, str | bytes) or not image:
        raise Refused("image_empty", f"an image is {image!r:.40}: neither a path nor the bytes of one.")
    if isinstance(image, str):
        if _REMOTE.match(image):
            raise Refused("image_remote", f"{image!r:.120} is not fetched; download it and name the file.")
        return image
    if len(image) > MAX_EMBEDDED_BYTES:
        raise Refused("image_too_large", f"an image of {len(image):,} bytes; the limit is {MAX_EMBEDDED_BYTES:,}.")
    digest = hashlib.sha256(image).hexdigest()
    file = f"embedded/{digest[:2]}/{digest}"
    if listing.embed is not None:
        listing.embed(file, image)
    return file


def decode(text: str) -> bytes:
    """Bytes from base64; line breaks in it are allowed. Raises Refused `image_encoding`."""
    import base64
    import binascii

    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused("image_encoding", f"an image is not valid base64 ({error}).") from None


def _check_text(text: str, n: int) -> None:
    if not text:
        raise Refused("text_empty", f"turn {n} has no text.")
    if len(text) > MAX_CHARACTERS:
        raise Refused("text_too_long", f"turn {n} has {len(text):,} characters; the limit is {MAX_CHARACTERS:,}.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Refused("text_encoding", f"turn {n} holds half a character at {error.start}.") from None


def _language(messages: Sequence[Message]) -> str:
    """What the script says: "zh", "ja", or else "en". The formats do not state it."""
    if all(m.text.isascii() for m in messages):
        return "en"
    text = "".join(m.text for m in messages)
    letters = sum(c.isalpha() for c in text)
    chinese, kana = len(_CHINESE.findall(text)), len(_KANA.findall(text))
    return "en" if chinese + kana <= 0.3 * letters else "ja" if kana > 0.1 * letters else "zh"


def unused(name: str, taken: set[str]) -> str:
    """The name, numbered when it is among `taken`; it is added to them."""
    name = name[:200].encode(errors="replace").decode()  # it becomes an id, which must be storable
    found, n = name, 1
    while found in taken:
        n += 1
        found = f"{name}#{n}"
    taken.add(found)
    return found
