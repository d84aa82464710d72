"""What a frozen vision tower sees in the training images: computed once and kept on disk.

Worth it where the tower is a large part of the work, as in the demo; for a language model of 7 B parameters it is a
hundredth (LLaVA-1.5-7B: 1.2 % of the FLOPs).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vistune.files import atomic
from vistune.hashing import canonical
from vistune.models.families.base import Composed, Picture, written
from vistune.models.vlm import Vlm
from vistune.progress import Progress
from vistune.records import ImageRef
from vistune.store import open_image

BATCH = 16  # images per forward: larger batches fall out of a CPU's cache


class Features:
    """Each image's features in a file of its own under `folder`, whole or absent, so that stages share them and a
    killed run continues."""

    def __init__(self, vlm: Vlm, root: Path, images: Iterable[ImageRef], folder: Path) -> None:
        self.vlm, self.root = vlm, root
        self.folder = folder / tower_digest(vlm)
        unique = {image.sha256: image for image in images}
        missing = [unique[sha] for sha in sorted(unique) if not self._path(sha).exists()]
        with Progress("features", len(missing), "images") as progress:
            for start in range(0, len(missing), BATCH):
                part = missing[start : start + BATCH]
                for image, features in zip(part, self._encode(part), strict=True):
                    with atomic(self._path(image.sha256)) as temporary, open(temporary, "wb") as f:
                        np.save(f, features.half().cpu().numpy())
                progress.step(len(part))

    def _path(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / f"{sha256}.npy"

    @torch.no_grad()
    def _encode(self, images: Sequence[ImageRef]) -> Iterable[Tensor]:
        reader = self.vlm.reader
        pictures = []
        for image in images:
            opened = open_image(self.root, image).convert("RGB")
            plan = reader.plan(*opened.size)
            pictures.append(Picture(plan, reader.family.look(reader.preset.settings, plan, opened)))
        return self.vlm.model.see(pictures)

    def __call__(self, images: Sequence[ImageRef]) -> Tensor:
        """float32 (I, P, C), of images whose features have one shape."""
        return torch.stack([self._read(image.sha256) for image in images])

    def of(self, pictures: Sequence[Picture]) -> list[Tensor]:
        """float32 (P, C) of each picture, whose evidence is its image's digest."""
        return [self._read(str(picture.evidence)) for picture in pictures]

    def _read(self, sha256: str) -> Tensor:
        return torch.from_numpy(np.load(self._path(sha256))).float()


def cacheable(vlm: Vlm) -> bool:
    """Whether the tower gives one tensor for a picture, whatever other pictures stand beside it."""
    family = vlm.family
    if not isinstance(family, Composed) or any((family.several, family.evidence, family.overlay)):
        return False
    plan = vlm.reader.plan(32, 32)
    with torch.no_grad():
        views = tuple(torch.zeros(3, view.size[1], view.size[0]) for view in plan.views)
        return isinstance(vlm.model.see([Picture(plan, views)])[0], Tensor)


def tower_digest(vlm: Vlm) -> str:
    """Names a tower by its settings and weights."""
    import hashlib

    settings: Any = written(vlm.preset)["settings"]
    found = hashlib.sha256(canonical([vlm.family.name, {k: v for k, v in settings.items() if k != "connector"}]))
    for name, tensor in sorted(vlm.model.vision_tower.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:32]
