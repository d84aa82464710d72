"""Backgrounds in named colours, plain or with a texture of two close shades of that colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vistune.hashing import choose, keyed, uniform

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Colour:
    name: str
    zh: str
    rgb: tuple[int, int, int]


COLOURS = (
    Colour("white", "白色", (248, 248, 246)),
    Colour("gray", "灰色", (158, 160, 164)),
    Colour("red", "红色", (222, 70, 66)),
    Colour("orange", "橙色", (246, 158, 62)),
    Colour("yellow", "黄色", (250, 224, 94)),
    Colour("green", "绿色", (104, 178, 92)),
    Colour("light blue", "浅蓝色", (166, 218, 244)),
    Colour("blue", "蓝色", (72, 112, 206)),
    Colour("purple", "紫色", (150, 102, 190)),
    Colour("pink", "粉色", (248, 182, 204)),
    Colour("brown", "棕色", (150, 108, 74)),
)

TEXTURES = ("plain", "striped", "dotted", "checkered", "speckled", "shaded")
PLAIN_SHARE = 0.4


@dataclass(frozen=True)
class Background:
    colour: Colour
    texture: str  # one of TEXTURES


def pick(seed: int, *key: object) -> Background:
    plain = uniform(seed, *key, "plain") < PLAIN_SHARE
    texture = "plain" if plain else choose(TEXTURES[1:], seed, *key, "texture")
    return Background(choose(COLOURS, seed, *key, "colour"), texture)


def paint(background: Background, size: int, seed: int, *key: object) -> np.ndarray:
    """The background as uint8 (size, size, 3)."""
    import numpy as np

    base = np.array([c + keyed(seed, *key, "jitter", i) % 9 - 4 for i, c in enumerate(background.colour.rgb)])
    darkest = 0.8 if background.texture == "shaded" else 0.86
    other = base * (darkest + 0.06 * uniform(seed, *key, "shade"))
    steps = np.linspace(0, 1, 256)[:, None]
    shades = np.clip(np.rint(base * (1 - steps) + other * steps), 0, 255).astype(np.uint8)
    return shades.take(_share(background.texture, size, seed, *key), axis=0)


def _share(texture: str, size: int, seed: int, *key: object) -> np.ndarray:
    """How much of the second shade each pixel has: uint8 (size, size), 255 is all of it."""
    import numpy as np

    x, y = np.arange(size)[None, :], np.arange(size)[:, None]
    step = 10 + keyed(seed, *key, "step") % 16  # pixels
    mask = np.zeros((size, size), bool)
    if texture == "striped":
        mask |= choose((x, y, x + y, x - y), seed, *key, "direction") // step % 2 == 1
    elif texture == "checkered":
        mask |= (x // step + y // step) % 2 == 1
    elif texture == "dotted":
        offset = y // step % 2 * (step // 2)  # every second row is shifted
        mask |= ((x + offset) % step - step // 2) ** 2 + (y % step - step // 2) ** 2 < (0.3 * step) ** 2
    elif texture == "speckled":
        # Raw 64-bit output: a bit generator's stream is fixed, the distributions built on it are not.
        grains = (size + 1) // 2
        raw = np.random.PCG64(keyed(seed, *key, "grain")).random_raw(grains * grains)
        mask |= (
            ((raw >> np.uint64(40)) % np.uint64(5) == 0).reshape(grains, grains).repeat(2, 0).repeat(2, 1)[:size, :size]
        )
    elif texture == "shaded":
        line = choose((x + 0 * y, y + 0 * x, x + y, size - 1 - x + y), seed, *key, "direction")
        return (line * 255 // line.max()).astype(np.uint8)
    return mask.astype(np.uint8) * np.uint8(255)
