"""Which image a question is asked about, the pictures themselves, and what a vision encoder makes of them.

A condition says what the model is shown: the true image, the image of another item (`shuffled`), a grey one (`blank`),
or none. A model that answers as well without the true image does not look at it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vistune.errors import VistuneError
from vistune.files import inside
from vistune.hashing import keyed
from vistune.imagefile import decode, describe_image
from vistune.records import ImageRef
from vistune.store import open_image

if TYPE_CHECKING:
    from PIL.Image import Image

    from vistune.models.families.base import Picture
    from vistune.models.views import ViewPlan

Condition = Literal["image", "shuffled", "blank", "none"]

Shown = Callable[[ImageRef], ImageRef | None]

CACHE_BYTES = 2 << 30
ENCODE_BATCH = 32


def derangement(images: Iterable[ImageRef], seed: int, pool: str) -> dict[str, ImageRef]:
    """sha256 -> another image of the same pool; no image keeps its place, each is used once.
    Raises VistuneError when there are fewer than two images.

    >>> refs = [ImageRef(c, 1, 1, "png", c) for c in "abc"]
    >>> partner = derangement(refs, 0, "demo")
    >>> sorted(p.sha256 for p in partner.values()), any(k == p.sha256 for k, p in partner.items())
    (['a', 'b', 'c'], False)
    """
    unique = {image.sha256: image for image in images}
    if len(unique) < 2:
        raise VistuneError(
            f"the shuffled baseline needs at least 2 different images in {pool}; there is {len(unique)}. "
            "Raise evaluate.limit, add images, or leave 'shuffled' out of evaluate.conditions."
        )
    order = sorted(unique, key=lambda sha: (keyed(seed, "shuffled", pool, sha), sha))
    return {sha: unique[order[(n + 1) % len(order)]] for n, sha in enumerate(order)}


def shown(condition: Condition, pools: Mapping[str, Sequence[ImageRef]], seed: int) -> Shown:
    """What a model is shown for each image under a condition. `pools`: images that may stand in for one another."""
    if condition == "image":
        return lambda image: image
    if condition == "none":
        return lambda image: None
    if condition == "blank":
        return lambda image: GREY
    partner: dict[str, ImageRef] = {}
    for pool, images in sorted(pools.items()):
        partner |= derangement(images, seed, pool)
    return lambda image: partner[image.sha256]


BLANK = "blank"
LEVEL = (127, 127, 127)
GREY = ImageRef(hashlib.sha256(f"{BLANK} {LEVEL}".encode()).hexdigest(), 336, 336, BLANK, "")
"""The picture of `blank`, whatever the size of the true one: it is encoded once, what it leaves in the key-value cache
is computed once, and a question that is asked about many pictures is asked about it once."""


class Pictures:
    """The pictures of questions, in folders to which references are relative. They are opened when their pixels are
    needed; what other lm-eval tasks give, PIL images and paths, is taken too."""

    def __init__(self, *roots: Path) -> None:
        self.roots = roots or (Path(),)
        self._given: dict[str, Image] = {}
        self._files: dict[str, Path] = {}

    def take(self, visual: Any, task: str = "") -> ImageRef:
        """Raises VistuneError for what is no picture."""
        from PIL import Image, ImageOps

        if isinstance(visual, Mapping):
            try:
                return ImageRef(**visual)
            except TypeError:
                pass
        elif isinstance(visual, str | Path):
            path = self.roots[0] / visual
            image = describe_image(path.parent, path.name)
            self._files[image.sha256] = path
            return image
        elif isinstance(visual, Image.Image):
            picture = ImageOps.exif_transpose(visual).convert("RGB")
            sha = hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest()
            self._given[sha] = picture
            return ImageRef(sha, *picture.size, "pixels", "")
        raise VistuneError(
            f"task {task} gives {type(visual).__name__} as its visual; expected an image reference (sha256, width, "
            "height, format, path), as vistune.evaluate.tasks.docs makes them, a PIL image, or a path."
        )

    def open(self, image: ImageRef) -> Image:
        """Upright RGB. Raises VistuneError when the bytes cannot be decoded."""
        if image.format == BLANK:
            from PIL import Image

            return Image.new("RGB", (image.width, image.height), LEVEL)
        if image.sha256 in self._given:
            return self._given[image.sha256]
        if image.sha256 in self._files:
            return decode(self._files[image.sha256], image)
        holding = (root for root in self.roots if inside(root, image.path).is_file())
        return open_image(next(holding, self.roots[0]), image)


Key = tuple[str, "ViewPlan"]
"""A picture as a model sees it: its digest, and how it is cut into views."""


class Encoded:
    """What `encode` makes of pictures, each decoded and encoded once, however often it is asked about. It waits in main
    memory; the least recently used are dropped beyond `CACHE_BYTES`."""

    def __init__(self, encode: Callable[[Sequence[Picture]], list[Any]]) -> None:
        self.encode = encode
        self.kept: OrderedDict[Key, tuple[Picture, Any]] = OrderedDict()
        self.bytes = 0

    def __contains__(self, key: Key) -> bool:
        return key in self.kept

    def __call__(self, wanted: Sequence[Key], looked: Mapping[Key, Picture]) -> list[tuple[Picture, Any]]:
        """Of each picture: without its pixels, and encoded. looked: those that are not known yet."""
        missing = [key for key in dict.fromkeys(wanted) if key not in self.kept]
        fresh: dict[Key, tuple[Picture, Any]] = {}
        for start in range(0, len(missing), ENCODE_BATCH):
            part = missing[start : start + ENCODE_BATCH]
            seen = self.encode([looked[key] for key in part])
            fresh |= {key: (_shapes(looked[key]), _apart(one)) for key, one in zip(part, seen, strict=True)}
        found = [fresh[key] if key in fresh else self.kept[key] for key in wanted]
        for key, one in zip(wanted, found, strict=True):
            if key not in self.kept:
                self.kept[key] = one
                self.bytes += _bytes(one[1])
            self.kept.move_to_end(key)
        while self.bytes > CACHE_BYTES and len(self.kept) > 1:
            self.bytes -= _bytes(self.kept.popitem(last=False)[1][1])
        return found


def _shapes(picture: Picture) -> Picture:
    """With views of the same shapes that hold nothing."""
    return picture._replace(views=tuple(view.new_zeros(()).expand(view.shape) for view in picture.views))


def _apart(seen: Any) -> Any:
    """A copy in main memory that does not keep its whole batch alive."""
    return tuple(one.cpu().clone() for one in seen) if isinstance(seen, tuple) else seen.cpu().clone()


def _bytes(seen: Any) -> int:
    return sum(one.nbytes for one in seen) if isinstance(seen, tuple) else seen.nbytes
