"""EfficientNet-Lite0: the convolutional tower of the default family, which transformers does not have.

Small enough for two CPU cores, and one of the few ImageNet encoders whose weights install with pip. Architecture:
EfficientNet-B0 without squeeze-and-excitation, ReLU6 in place of swish, fixed stem and head (the EfficientNet-Lite
release notes of TensorFlow TPU models, 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS = [  # kernel, stride, expansion, output channels, repeats (EfficientNet paper, table 1)
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
]


@dataclass(frozen=True)
class EfficientNetLiteConfig:
    image_size: int = 224  # pixels, square
    width: int = 1280  # channels of the feature grid
    multiplier: float = 1.0  # of all inner channels; below 1 only for tests

    @property
    def grid(self) -> int:
        """Cells per side of the feature grid (the tower halves five times)."""
        return -(-self.image_size // 32)


class SameConv(nn.Conv2d):
    """Convolution, with bias, padded as TensorFlow does: output = ceil(input / stride), extra pixel at the end."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        totals = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[2:]]
        if any(total % 2 for total in totals):  # only then does the input have to be copied
            (top, left) = (total // 2 for total in totals)
            x = F.pad(x, (left, totals[1] - left, top, totals[0] - top))
            totals = [0, 0]
        padding = [total // 2 for total in totals]
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class InvertedResidual(nn.Module):
    """Expand (1x1), filter (depthwise), project (1x1); the input is added back when shapes agree."""

    def __init__(self, width: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = width * expansion
        self.expand = SameConv(width, inner, 1) if expansion != 1 else None
        self.depthwise = SameConv(inner, inner, kernel, stride, groups=inner)
        self.project = SameConv(inner, out, 1)
        self.residual = stride == 1 and width == out

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        y = self.project(F.relu6(self.depthwise(y), inplace=True))
        return x + y if self.residual else y


class EfficientNetLite(nn.Module):
    """Frozen in every stage, so batch normalisation is folded into the convolutions' weights (`fold`)."""

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__()
        self.config = config

        def channels(n: int) -> int:
            return max(int(n * config.multiplier), 4)

        width = channels(32)
        self.stem = SameConv(3, width, 3, stride=2)
        blocks = []
        for kernel, stride, expansion, out, repeats in BLOCKS:
            for n in range(repeats):
                blocks.append(InvertedResidual(width, channels(out), kernel, stride if n == 0 else 1, expansion))
                width = channels(out)
        self.blocks = nn.Sequential(*blocks)
        self.head = SameConv(width, config.width, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: (I, 3, S, S), RGB in [0, 255] -> features (I, P, C), cells row by row. Normalisation is
        (x - 127) / 128, as this release was trained, not the usual ImageNet mean and deviation."""
        x = ((pixels - 127.0) / 128.0).to(self.stem.weight.dtype).contiguous(memory_format=torch.channels_last)
        x = F.relu6(self.head(self.blocks(F.relu6(self.stem(x), inplace=True))), inplace=True)
        return x.flatten(2).transpose(1, 2)


def fold(original: Mapping[str, Tensor], epsilon: float = 1e-3) -> dict[str, Tensor]:
    """State dict of `EfficientNetLite` from the published one: each batch norm folded into its convolution.

    Raises KeyError naming the first missing key. The classifier (`_fc`) is dropped.
    """

    def conv(name: str, norm: str) -> tuple[Tensor, Tensor]:
        scale = original[f"{norm}.weight"] / torch.sqrt(original[f"{norm}.running_var"] + epsilon)
        bias = original[f"{norm}.bias"] - original[f"{norm}.running_mean"] * scale
        return original[f"{name}.weight"] * scale[:, None, None, None], bias

    folded: dict[str, Tensor] = {}
    folded["stem.weight"], folded["stem.bias"] = conv("_conv_stem", "_bn0")
    folded["head.weight"], folded["head.bias"] = conv("_conv_head", "_bn1")
    for n in range(sum(repeats for *_, repeats in BLOCKS)):
        theirs, ours = f"_blocks.{n}", f"blocks.{n}"
        if f"{theirs}._expand_conv.weight" in original:
            folded[f"{ours}.expand.weight"], folded[f"{ours}.expand.bias"] = conv(
                f"{theirs}._expand_conv", f"{theirs}._bn0"
            )
        for part, norm in (("depthwise", "_bn1"), ("project", "_bn2")):
            folded[f"{ours}.{part}.weight"], folded[f"{ours}.{part}.bias"] = conv(
                f"{theirs}._{part}_conv", f"{theirs}.{norm}"
            )
    return folded
