"""Features of the vision tower for the training images: from a cache on disk while the tower is frozen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vistune.files import atomic
from vistune.progress import Progress
from vistune.records import ImageRef
from vistune.store import open_image

if TYPE_CHECKING:
    from vistune.models.modeling import VistuneForConditionalGeneration

BATCH = 16  # images per forward: larger batches fall out of a CPU's cache


class Features:
    """`features(images)` -> float32 (I, P, C). With `folder`, keeps each image's features in a file of its own, whole
    or absent, so that stages share them and a killed run continues; without, encodes on every call."""

    def __init__(
        self,
        model: VistuneForConditionalGeneration,
        root: Path,
        images: Iterable[ImageRef],
        folder: Path | None,
    ) -> None:
        self.model, self.root = model, root
        self.folder = folder / tower_digest(model) if folder else None
        if self.folder is None:
            return
        unique = {image.sha256: image for image in images}
        missing = [unique[sha] for sha in sorted(unique) if not self._path(unique[sha]).exists()]
        with Progress("features", len(missing), "images") as progress:
            for start in range(0, len(missing), BATCH):
                part = missing[start : start + BATCH]
                for image, features in zip(part, self._encode(part).half().cpu().numpy(), strict=True):
                    with atomic(self._path(image)) as temporary, open(temporary, "wb") as f:
                        np.save(f, features)
                progress.step(len(part))

    def _path(self, image: ImageRef) -> Path:
        assert self.folder is not None
        return self.folder / image.sha256[:2] / f"{image.sha256}.npy"

    def _encode(self, images: Sequence[ImageRef]) -> Tensor:
        return self.model.encode_images([open_image(self.root, image) for image in images])

    def __call__(self, images: Sequence[ImageRef]) -> Tensor:
        if self.folder is None:
            return self._encode(images)
        return torch.from_numpy(np.stack([np.load(self._path(image)) for image in images])).float()


def tower_digest(model: VistuneForConditionalGeneration) -> str:
    """Names a tower by its configuration and weights."""
    import hashlib

    found = hashlib.sha256(repr(model.vision_tower.config).encode())
    for name, tensor in sorted(model.vision_tower.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:32]
