"""Flickr30k Entities (https://github.com/BryanPlummer/flickr30k_entities): captions whose phrases are tied to boxes.

The folder holds, as published, `Sentences/<image>.txt` (a caption a line, phrases marked up as
`[/EN#<chain>/<type> <words>]`), `Annotations/<image>.xml` (the boxes of each chain), `UNRELATED_CAPTIONS`, and
`train.txt`, `val.txt` and `test.txt`, the images of each split. Images are `<image>.jpg` unless an `image_pattern` says
otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from vistune.errors import VistuneError
from vistune.files import inside
from vistune.records import Caption, Phrase
from vistune.sources.questions import file_name
from vistune.sources.rows import Listing, Malformed, Refused, Row
from vistune.sources.spec import AnnotationFile

SPLITS = {"train": "train.txt", "validation": "val.txt", "test": "test.txt"}

MAX_BYTES = 1 << 20
"""Of one file: those about an image have some KB, the list of training images 300 KB."""

_OPENING = re.compile(r"\[/EN#(\d+)((?:/\w+)+)")
_CLINGS = re.compile(r"[.,;:!?)]|n't|'\w+")


def read_entities(root: Path, file: AnnotationFile, listing: Listing) -> None:
    """Adds captions, and their phrases with boxes. Boxes count pixels from 1, both ends included."""
    folder = inside(root, file.path)
    names = sorted(path.stem for path in (folder / "Sentences").glob("*.txt") if path.is_file())
    if not names:
        raise VistuneError(f"{folder} has no Sentences/*.txt. Name the folder that holds Sentences and Annotations.")
    members, unrelated = _members(folder, listing.split), _unrelated(folder)
    for image in names:
        sentences = _text(inside(root, f"{file.path}/Sentences/{image}.txt"))
        drawn: _Boxes | None = None
        for row in listing.each("caption", _captions(sentences, image), file, id="id"):
            with row:
                if members is not None and image not in members:
                    row.pass_over()
                    continue
                if row.name in unrelated:
                    raise Refused("caption_unrelated", "UNRELATED_CAPTIONS says that it is not about the image.")
                text, phrases = parse(row.need("sentence", str))
                drawn = drawn or _Boxes(inside(root, f"{file.path}/Annotations/{image}.xml"))
                place = file_name(listing.image_pattern or "{image_id}.jpg", image)
                listing.image(image, place, drawn.width, drawn.height)
                row.keep(image, Caption(row.name, text))
                _add_phrases(row, text, phrases, drawn)


def parse(sentence: str) -> tuple[str, list[tuple[str, int, int]]]:
    """The caption as people write it, and its phrases: chain, first character, end. Raises Malformed when the markup
    does not close.

    >>> parse("[/EN#1/people A man] , smiling at [/EN#2/people/other his dog 's tail] .")
    ("A man, smiling at his dog's tail.", [('1', 0, 5), ('2', 18, 32)])
    """
    text, phrases = "", []
    chain, start = "", -1
    for token in sentence.split():
        opening = _OPENING.fullmatch(token)
        if opening and not chain:
            chain, start = opening[1], -1
            continue
        closes = bool(chain) and token.endswith("]")
        word = token[:-1] if closes else token
        if opening or word.startswith("[/"):
            raise Malformed(f"the markup of {sentence!r:.80} opens {token!r:.40} where it cannot")
        if word:
            text += word if not text or _CLINGS.fullmatch(word) else f" {word}"
            start = len(text) - len(word) if chain and start < 0 else start
        if closes:
            if start < 0:
                raise Malformed(f"the markup of {sentence!r:.80} has a phrase without words")
            phrases.append((chain, start, len(text)))
            chain = ""
    if chain:
        raise Malformed(f"the markup of {sentence!r:.80} does not close")
    return text, phrases


class _Boxes:
    """What an annotation file says: the boxes of each chain, none for those that are the whole scene or not seen."""

    def __init__(self, path: Path) -> None:
        self.width: int | None = None
        self.height: int | None = None
        self.chains: dict[str, list[list[int]]] = {}
        self.problem = ""  # with the whole file
        self.problems: dict[str, str] = {}  # with a chain
        try:
            if path.stat().st_size > MAX_BYTES:
                raise Malformed(f"it has more than {MAX_BYTES:,} bytes")
            top = ElementTree.fromstring(path.read_bytes(), ElementTree.XMLParser(target=_NoEntities()))
            self.width, self.height = _integer(top, "size/width"), _integer(top, "size/height")
        except (OSError, ElementTree.ParseError, ValueError, LookupError, Malformed) as error:
            self.problem = str(error)
            return
        for thing in top.iter("object"):
            self._add(thing)

    def _add(self, thing: ElementTree.Element) -> None:
        chains = [(name.text or "").strip() for name in thing.findall("name")]
        box = thing.find("bndbox")
        try:
            if box is None and "1" not in ((thing.findtext(key) or "").strip() for key in ("scene", "nobndbox")):
                raise Malformed("it has neither a box nor scene or nobndbox")
            sides = [] if box is None else [_integer(box, key) for key in ("xmin", "ymin", "xmax", "ymax")]
        except (Malformed, ValueError) as error:
            self.problems |= dict.fromkeys(chains, str(error))
            return
        for chain in chains:
            boxes = self.chains.setdefault(chain, [])
            if sides:
                boxes.append([sides[0] - 1, sides[1] - 1, sides[2], sides[3]])


class _NoEntities(ElementTree.TreeBuilder):
    """Annotation files declare no document type; one that does might name entities that expand to gigabytes."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise Malformed("it declares a document type")


def _add_phrases(caption: Row, text: str, phrases: list[tuple[str, int, int]], drawn: _Boxes) -> None:
    """Phrases marked as not visual, as the whole scene or as not seen have no place: they are only words."""
    listing, image = caption.listing, caption.value["image"]
    placed = [p for p in phrases if p[0] != "0" and (p[0] in drawn.problems or drawn.chains.get(p[0]) != [])]
    values = ({"id": f"{caption.name}.{start}", "phrase": (chain, start, end)} for chain, start, end in placed)
    for row in listing.each("phrase", values, caption.file, id="id"):
        with row:
            chain, start, end = row.value["phrase"]
            problem = drawn.problem or drawn.problems.get(chain)
            if problem:
                raise Refused("boxes_unreadable", f"Annotations/{image}.xml, chain {chain}: {problem}.")
            if chain not in drawn.chains:
                raise Refused("chain_unknown", f"Annotations/{image}.xml does not mention chain {chain}.")
            phrase = Phrase(row.name, text[start:end], (), "caption_phrase", caption=caption.name, span=(start, end))
            row.keep(image, phrase, *drawn.chains[chain], frame="xyxy")


def _captions(text: str, image: str) -> Iterator[Any]:
    """Captions with the number that UNRELATED_CAPTIONS has for them, from 1."""
    lines = [line for line in text.split("\n") if line.strip()]
    for number, line in enumerate(lines, start=1):
        yield {"id": f"{image}-{number}", "image": image, "sentence": line}


def _members(folder: Path, split: str) -> set[str] | None:
    """The images of the split; None where the folder does not say."""
    path = folder / SPLITS[split]
    return set(_text(path).split()) if path.is_file() else None


def _unrelated(folder: Path) -> set[str]:
    path = folder / "UNRELATED_CAPTIONS"
    lines = [line.split() for line in _text(path).splitlines() if not line.startswith("#")] if path.is_file() else []
    return {f"{line[0]}-{line[1]}" for line in lines if len(line) == 2}


def _text(path: Path) -> str:
    """A text file; bytes that are not UTF-8 become lone surrogates, which `need` refuses row by row."""
    if path.stat().st_size > MAX_BYTES:
        raise VistuneError(f"{path} has more than {MAX_BYTES:,} bytes. Check that it is a file of Flickr30k Entities.")
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def _integer(element: ElementTree.Element, path: str) -> int:
    text = element.findtext(path)
    if text is None:
        raise Malformed(f"{element.tag} lacks {path}")
    return int(text)
