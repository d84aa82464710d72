"""Vision encoders with feature selection, one architecture a file. Those of transformers are wrapped, not rewritten."""

from vistune.models.encoders.efficientnet import (
    BLOCKS,
    EfficientNetLite,
    EfficientNetLiteConfig,
    InvertedResidual,
    SameConv,
    fold,
)

__all__ = ["BLOCKS", "EfficientNetLite", "EfficientNetLiteConfig", "InvertedResidual", "SameConv", "fold"]
