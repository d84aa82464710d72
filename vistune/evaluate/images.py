"""Which image a question is asked about, and its features.

A condition says what the model is shown: the true image, the image of another item (`shuffled`), or none. A model
that answers as well without the true image does not look at it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vistune.errors import VistuneError
from vistune.hashing import keyed
from vistune.records import ImageRef
from vistune.store import open_image

if TYPE_CHECKING:
    from torch import Tensor

Condition = Literal["image", "shuffled", "none"]

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
    partner: dict[str, ImageRef] = {}
    for pool, images in sorted(pools.items()):
        partner |= derangement(images, seed, pool)
    return lambda image: partner[image.sha256]


class Features:
    """Vision features by image digest: each picture is decoded and encoded once, however often it is asked about.
    The least recently used are dropped beyond `CACHE_BYTES`."""

    def __init__(self, model: Any, root: Path) -> None:
        self.model, self.root = model, root
        self.kept: OrderedDict[str, Tensor] = OrderedDict()
        self.bytes = 0

    def __call__(self, images: Sequence[ImageRef]) -> Tensor:
        """float32 (I, P, C) in the order of `images`."""
        import torch

        missing = list({i.sha256: i for i in images if i.sha256 not in self.kept}.values())
        fresh: dict[str, Tensor] = {}
        for start in range(0, len(missing), ENCODE_BATCH):
            part = missing[start : start + ENCODE_BATCH]
            encoded = self.model.encode_images([open_image(self.root, image) for image in part]).cpu()
            fresh |= {image.sha256: one.clone() for image, one in zip(part, encoded, strict=True)}
        found = torch.stack([fresh[i.sha256] if i.sha256 in fresh else self.kept[i.sha256] for i in images])
        for image in images:
            if image.sha256 in fresh and image.sha256 not in self.kept:
                self.kept[image.sha256] = fresh[image.sha256]
                self.bytes += fresh[image.sha256].nbytes
            self.kept.move_to_end(image.sha256)
        while self.bytes > CACHE_BYTES and len(self.kept) > 1:
            self.bytes -= self.kept.popitem(last=False)[1].nbytes
        return found.to(self.model.device)
