"""Published sizes of the encoders that several families share, as transformers' configurations. What is not here is
transformers' default.
"""

from __future__ import annotations

from typing import Any

CLIP_L: dict[str, Any] = {  # openai/clip-vit-large-patch14
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "projection_dim": 768,
}
CLIP_L_336: dict[str, Any] = CLIP_L | {"image_size": 336}  # openai/clip-vit-large-patch14-336

SIGLIP_SO400M: dict[str, Any] = {  # google/siglip-so400m-patch14-384; 27 x 27 positions
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
}

CONVNEXT_L: dict[str, Any] = {"hidden_sizes": (192, 384, 768, 1536), "depths": (3, 3, 27, 3)}
"""Of OpenCLIP; 196,227,264 parameters without its head."""

CONVNEXT_XXL: dict[str, Any] = {"hidden_sizes": (384, 768, 1536, 3072), "depths": (3, 4, 30, 3)}
"""Of OpenCLIP; 843,391,872 parameters without its head. Its LayerNorms have an epsilon of 1e-5."""


def tiny_clip(image_size: int = 56, layers: int = 3) -> dict[str, Any]:
    """A CLIP for tests."""
    return {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "image_size": image_size,
        "patch_size": 14,
        "projection_dim": 32,
    }
