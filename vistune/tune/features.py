"""Features of the vision tower for the training images: from a cache on disk while the tower is frozen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vistune.files import atomic
from vistune.hashing import digest
from vistune.progress import Progress
from vistune.records import ImageRef
from vistune.store import open_image

if TYPE_CHECKING:
    from vistune.models.modeling import VistuneForConditionalGeneration

SHARD = 256  # images
BATCH = 16  # images per forward: larger batches fall out of a CPU's cache


class Features:
    """`features(images)` -> float32 (I, P, C). With `folder`, computes all of `images` once, in shards that are
    whole or absent, so that a killed run continues; without, encodes on every call."""

    def __init__(
        self,
        model: VistuneForConditionalGeneration,
        root: Path,
        images: Iterable[ImageRef],
        folder: Path | None,
    ) -> None:
        self.model, self.root = model, root
        self.known: dict[str, np.ndarray] = {}
        if folder is None:
            return
        unique = {image.sha256: image for image in images}
        ordered = [unique[sha] for sha in sorted(unique)]
        place = folder / tower_digest(model)
        with Progress("features", len(ordered), "images") as progress:
            for start in range(0, len(ordered), SHARD):
                part = ordered[start : start + SHARD]
                shard = self._shard(place, part, progress)
                self.known.update({image.sha256: row for image, row in zip(part, shard, strict=True)})

    def _shard(self, folder: Path, images: Sequence[ImageRef], progress: Progress) -> np.ndarray:
        """float16 (I, P, C), computed or read."""
        path = folder / f"{digest([i.sha256 for i in images])[:32]}.npy"
        if not path.exists():
            parts = []
            for start in range(0, len(images), BATCH):
                parts.append(self._encode(images[start : start + BATCH]).half().cpu().numpy())
                progress.step(len(parts[-1]))
            with atomic(path) as temporary, open(temporary, "wb") as f:
                np.save(f, np.concatenate(parts))
        else:
            progress.step(len(images))
        return np.load(path, mmap_mode="r")

    def _encode(self, images: Sequence[ImageRef]) -> Tensor:
        return self.model.encode_images([open_image(self.root, image) for image in images])

    def __call__(self, images: Sequence[ImageRef]) -> Tensor:
        if not self.known:
            return self._encode(images)
        return torch.from_numpy(np.stack([self.known[i.sha256] for i in images])).float()


def tower_digest(model: VistuneForConditionalGeneration) -> str:
    """Names a tower by its configuration and weights."""
    import hashlib

    found = hashlib.sha256(repr(model.vision_tower.config).encode())
    for name, tensor in sorted(model.vision_tower.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:32]
