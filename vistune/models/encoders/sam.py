"""SAM and SigLIP side by side, as DeepSeek-VL sees: transformers has all of it, so only the authors' names are here.

`DeepseekVLHybridModel` (7B) holds SAM-B at 1024 pixels (high), SigLIP-L at 384 (low) and the connector that joins them;
`DeepseekVLModel` (1.3B) SigLIP alone and an MLP. Two LayerNorms that the authors build and never use are left out.
Source: DeepSeek-VL, deepseek_vl/models/clip_encoder.py, sam.py, projector.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vistune.models.encoders.siglip import timm_siglip_keys
from vistune.models.keymap import State, gather, rename


def deepseek_vision_keys(original: Mapping[str, Tensor]) -> State:
    """Keys below `vision_model` and `aligner` -> those of DeepseekVLHybridModel or DeepseekVLModel."""
    return gather(
        original,
        {
            "vision_model.vision_tower_high.vision_tower.": ("high_res_vision_", sam_keys),
            "vision_model.vision_tower_low.vision_tower.": ("vision_model.", timm_siglip_keys),
            "vision_model.vision_tower.": ("vision_model.", timm_siglip_keys),
            "vision_model.high_layer_norm.": ("", lambda unused: {}),
            "vision_model.low_layer_norm.": ("", lambda unused: {}),
            "aligner.": ("aligner.", aligner_keys),
        },
        "DeepSeek-VL",
    )


def sam_keys(original: Mapping[str, Tensor]) -> State:
    """SAM with the branch from its first global block -> the keys of DeepseekVLHybridModel after `high_res_vision_`."""
    neck = {"0": "conv1", "1": "layer_norm1", "2": "conv2", "3": "layer_norm2"}
    return rename(
        original,
        [
            (r"hd_alpha_downsamples", "alpha"),
            (r"pos_embed", "model.vision_encoder.pos_embed"),
            (r"patch_embed\.proj\.(.+)", r"model.vision_encoder.patch_embed.projection.\1"),
            (r"blocks\.(\d+)\.norm([12])\.(.+)", r"model.vision_encoder.layers.\1.layer_norm\2.\3"),
            (r"blocks\.(\d+)\.((?:attn|mlp)\..+)", r"model.vision_encoder.layers.\1.\2"),
            (r"neck\.([0-3])\.(.+)", lambda match: f"model.vision_encoder.neck.{neck[match[1]]}.{match[2]}"),
            (r"neck_hd\.([0-3])\.(.+)", lambda match: f"neck.{neck[match[1]]}.{match[2]}"),
            (r"downsamples\.([01])\.(.+)", lambda match: f"proj.conv{int(match[1]) + 1}.{match[2]}"),
        ],
        "DeepSeek-VL's SAM",
    )


def aligner_keys(original: Mapping[str, Tensor]) -> State:
    """The connector's: one linear layer for each tower and one for both, or the MLP's two."""
    hybrid = any(key.startswith("high_up_proj.") for key in original)
    last = [(r"layers\.1\.(.+)", r"proj.\1")] if hybrid else [(r"layers\.2\.(.+)", r"linear2.\1")]
    return rename(
        original,
        [
            (r"high_up_proj\.(.+)", r"high_res_vision_proj.\1"),
            (r"low_up_proj\.(.+)", r"vision_proj.\1"),
            (r"layers\.0\.(.+)", r"linear1.\1"),
            *last,
        ],
        "DeepSeek-VL's aligner",
    )
