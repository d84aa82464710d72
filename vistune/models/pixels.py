"""Carries a view plan out: an upright RGB picture becomes normalised tensors, bit for bit as the authors' code does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vistune.errors import VistuneError
from vistune.models.views import Crop, Interpolate, Pad, Resize, Step, View, ViewPlan

if TYPE_CHECKING:
    from PIL.Image import Image

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Normaliser:
    """(x / `white` - mean) / std for each channel, in float32: the arithmetic of both torchvision and transformers."""

    mean: Channels
    std: Channels
    white: float = 255.0

    def __call__(self, picture: Image) -> Tensor:
        """float32 (3, height, width)"""
        x = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
        return self.scale(x.float().div_(self.white))

    def scale(self, x: Tensor) -> Tensor:
        """x: (..., 3, height, width) in [0, 1], float."""
        mean, std = (torch.tensor(c, dtype=x.dtype, device=x.device)[:, None, None] for c in (self.mean, self.std))
        return (x - mean).div_(std)


CLIP = Normaliser((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""Also SAM in DeepSeek-VL, EVA, and Qwen's towers."""

IMAGENET = Normaliser((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""InternViT, DINOv2, timm's ConvNeXt."""

HALF = Normaliser((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""SigLIP."""

UNIT = Normaliser((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
"""[0, 1], where each tower normalises its own input."""

BYTES = Normaliser((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), white=1.0)
"""[0, 255], as the demo's EfficientNet takes it."""

CLIP_BYTES = Normaliser(
    (CLIP.mean[0] * 255, CLIP.mean[1] * 255, CLIP.mean[2] * 255),
    (CLIP.std[0] * 255, CLIP.std[1] * 255, CLIP.std[2] * 255),
    white=1.0,
)
"""MoAI: CLIP's, in bytes; the same up to rounding."""


def pixels(plan: ViewPlan, picture: Image, normaliser: Normaliser = CLIP) -> list[Tensor]:
    """The views in the plan's order, float32 (3, height, width) each. Steps that views share are done once.
    Raises VistuneError for a picture in another mode than RGB or of another size than was planned for."""
    if picture.mode != "RGB":
        raise VistuneError(f"the picture is in mode {picture.mode}; views are made of RGB.")
    if picture.size != plan.picture:
        (w, h), (planned_w, planned_h) = picture.size, plan.picture
        raise VistuneError(f"the picture has {w}x{h} pixels but its views were planned for {planned_w}x{planned_h}.")
    done: dict[tuple[Step, ...], Image | Tensor] = {(): picture}

    def after(steps: tuple[Step, ...]) -> Image | Tensor:
        if steps not in done:
            before = after(steps[:-1])
            if isinstance(steps[-1], Interpolate) and not isinstance(before, Tensor):
                before = normaliser(before)
            done[steps] = transform(before, steps[-1]) if isinstance(before, Tensor) else redraw(before, steps[-1])
        return done[steps]

    made = [after(view.steps if view.whole else plan.canvas + view.steps) for view in plan.views]
    return [view if isinstance(view, Tensor) else normaliser(view) for view in made]


def derive(x: Tensor, views: Iterable[View]) -> list[Tensor]:
    """Views of squares that are tensors already, (B, 3, height, width): for models that make them inside."""
    made = []
    for view in views:
        y = x
        for step in view.steps:
            y = transform(y, step)
        made.append(y)
    return made


def redraw(picture: Image, step: Step) -> Image:
    """One step of a plan on a picture."""
    from PIL import Image as pillow

    match step:
        case Resize(size, "bicubic"):
            return picture.resize(size, pillow.Resampling.BICUBIC)
        case Resize(size, "bilinear"):
            return picture.resize(size, pillow.Resampling.BILINEAR)
        case Resize((width, height)):
            # Four channels, channels last: torch then takes one kernel whatever the number of threads. Otherwise that
            # number would decide the last bit, and the last bit how halves are rounded.
            x = torch.from_numpy(np.array(picture.convert("RGBA"))).permute(2, 0, 1)[None].float()
            x = F.interpolate(x, (height, width), mode="bilinear").round().clamp(0, 255)
            return pillow.fromarray(x[0, :3].permute(1, 2, 0).byte().contiguous().numpy())
        case Pad(canvas, at, fill):
            square = pillow.new("RGB", canvas, fill)
            square.paste(picture, at)
            return square
        case Crop(box):
            return picture.crop(box)
    raise VistuneError(f"a picture cannot be changed by {step}.")


def transform(x: Tensor, step: Step) -> Tensor:
    """One step of a plan on tensors (..., 3, height, width)."""
    match step:
        case Crop((left, top, right, bottom)):
            return x[..., top:bottom, left:right]
        case Interpolate((width, height), mode, align_corners, antialias, half):
            y = (x.half() if half else x).reshape(-1, *x.shape[-3:])
            y = F.interpolate(y, (height, width), mode=mode, align_corners=align_corners, antialias=antialias)
            return y.reshape(*x.shape[:-2], height, width).to(x.dtype)
    raise VistuneError(f"a tensor cannot be changed by {step}; pictures are resized and padded before.")


def merged_patches(x: Tensor, patch: int = 14, merge: int = 2, frames: int = 2) -> Tensor:
    """x: (3, height, width) -> (P, 3 x frames x patch x patch). Patches that are merged later lie together, the still
    picture is repeated for each frame (Qwen2-VL's input)."""
    _, height, width = x.shape
    down, across = height // (patch * merge), width // (patch * merge)
    x = x.reshape(3, down, merge, patch, across, merge, patch).permute(1, 4, 2, 5, 0, 3, 6)
    x = x[:, :, :, :, :, None].expand(-1, -1, -1, -1, -1, frames, -1, -1)
    return x.reshape(down * across * merge * merge, -1)


def patch_strip(x: Tensor, patch: int = 14) -> Tensor:
    """x: (3, height, width) -> (3, patch, P x patch): all patches in one row, so that pictures of different shapes pad
    to one batch (MiniCPM-V 2.6's input)."""
    _, height, width = x.shape
    x = x.reshape(3, height // patch, patch, width // patch, patch).permute(0, 2, 1, 3, 4)
    return x.reshape(3, patch, -1)
