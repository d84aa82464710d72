"""CLIP's vision tower: transformers' model, with features chosen and positions resized as each system does it.

LLaVA, LLaVA-NeXT, ViP-LLaVA, LLaVA-UHD, LLaVA-HR, Mini-Gemini and others read the same weights in different ways: state
-2 or five states, with or without CLS, at a fixed resolution or any. Source: LLaVA, multimodal_encoder/clip_encoder.py,
and its counterparts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import CLIPVisionModel

from vistune.errors import VistuneError
from vistune.models.encoders.features import Selection, run_blocks
from vistune.models.keymap import QKV, State, load, rename, split_rows
from vistune.models.position_tables import resized

Positions = Literal["fixed", "bicubic", "antialiased"]

POSITIONS = "model.embeddings.position_embedding.weight"


class ClipTower(nn.Module):
    """Keeps of `model` only what the selection reads, so that every weight of the tower takes part and can train.

    positions: "fixed" accepts the model's own resolution only; "bicubic" resizes the table as transformers and
    LLaVA-UHD do; "antialiased" as LLaVA-HR does.
    """

    def __init__(self, model: CLIPVisionModel, selection: Selection, positions: Positions = "fixed") -> None:
        super().__init__()
        self.selection = selection
        self.positions = positions
        self.model = model
        self.total = len(model.encoder.layers)  # blocks of the published encoder
        model.encoder.layers = model.encoder.layers[: max(self.states)]
        if not selection.norm:
            model.post_layernorm = nn.Identity()
        if selection.cls == "never":  # transformers still expects to find it when it draws weights
            del model.embeddings.class_embedding
            model.embeddings.register_buffer("class_embedding", torch.zeros(model.config.hidden_size), persistent=False)

    @property
    def states(self) -> tuple[int, ...]:
        return self.selection.states(self.total)

    @property
    def width(self) -> int:
        """Channels of the features."""
        return self.model.config.hidden_size * len(self.states)

    def embed(self, pixels: Tensor) -> Tensor:
        """pixels: (V, 3, height, width), normalised -> (V, CLS + P, C): patches plus positions."""
        part = self.model.embeddings
        patches = part.patch_embedding(pixels.to(part.patch_embedding.weight.dtype))
        rows, columns = patches.shape[2:]
        height, width = pixels.shape[2:]
        if self.positions == "fixed" and (height, width) != (part.image_size, part.image_size):
            raise VistuneError(f"the encoder takes {part.image_size}x{part.image_size} pixels; got {width}x{height}.")
        cls, table = part.position_embedding.weight.split([1, part.num_patches])
        patches = patches.flatten(2).transpose(1, 2) + resized(table, rows, columns, self.positions == "antialiased")
        if self.selection.cls == "never":
            return patches
        return torch.cat([(part.class_embedding + cls).expand(len(patches), 1, -1), patches], dim=1)

    def forward(self, pixels: Tensor, between: Mapping[int, Callable[[Tensor], Tensor]] | None = None) -> Tensor:
        """pixels: (V, 3, height, width), normalised -> features (V, P, C), with CLS first where it is kept.
        `between`: see `run_blocks`."""
        hidden = self.model.pre_layrnorm(self.embed(pixels))
        blocks = [partial(layer, attention_mask=None) for layer in self.model.encoder.layers]
        norm = self.model.post_layernorm if self.selection.norm else None
        features = run_blocks(hidden, blocks, self.states, norm, between)
        return features[:, 1:] if self.selection.cls == "drop" else features


def clip_keys(original: Mapping[str, Tensor], tower: ClipTower) -> State:
    """Keys of CLIPVisionModel, in any version of transformers -> those of `tower`, without what it does not keep."""
    left_out = [r"embeddings\.position_ids"]  # a constant, which old versions saved
    left_out += [rf"encoder\.layers\.{n}\..+" for n in range(max(tower.states), tower.total)]
    if tower.selection.cls == "never":
        left_out.append(r"embeddings\.class_embedding")
    if not tower.selection.norm:
        left_out.append(r"post_layernorm\..+")
    level = r"(?:vision_model\.)?"  # gone since transformers 5
    table = [*((level + pattern, None) for pattern in left_out), (level + r"(.+)", r"model.\1")]
    return rename(original, table, "the CLIP tower")


def load_clip(tower: ClipTower, folder: str) -> None:
    """A published CLIP (a folder or a hub id), as transformers has it, into `tower`. A tower that takes any resolution
    gets the table of positions resized to its own."""
    published = CLIPVisionModel.from_pretrained(folder, dtype=torch.float32)
    state = clip_keys(published.state_dict(), tower)
    if tower.positions != "fixed":
        side = tower.model.config.image_size // tower.model.config.patch_size
        cls, table = state[POSITIONS].split([1, len(state[POSITIONS]) - 1])
        state[POSITIONS] = torch.cat([cls, resized(table, side, side, tower.positions == "antialiased")])
    load(tower, state, f"the CLIP of {folder}")


def open_clip_keys(original: Mapping[str, Tensor]) -> State:
    """OpenAI's and open_clip's names of a whole CLIP -> `ClipTower` with all blocks and the last LayerNorm. What text
    passes through is left out, and the projection into the space that text shares."""
    block, ours = r"visual\.transformer\.resblocks\.(\d+)\.", r"model.encoder.layers.\1."
    state = rename(
        original,
        [
            (r"visual\.proj|(?!visual\.).+", None),
            (r"visual\.conv1\.weight", "model.embeddings.patch_embedding.weight"),
            (r"visual\.class_embedding", "model.embeddings.class_embedding"),
            (r"visual\.positional_embedding", "model.embeddings.position_embedding.weight"),
            (r"visual\.ln_pre\.(.+)", r"model.pre_layrnorm.\1"),
            (r"visual\.ln_post\.(.+)", r"model.post_layernorm.\1"),
            (block + r"ln_([12])\.(.+)", ours + r"layer_norm\2.\3"),
            (block + r"attn\.in_proj_(weight|bias)", ours + r"self_attn.qkv.\2"),
            (block + r"attn\.out_proj\.(.+)", ours + r"self_attn.out_proj.\2"),
            (block + r"mlp\.c_fc\.(.+)", ours + r"mlp.fc1.\2"),
            (block + r"mlp\.c_proj\.(.+)", ours + r"mlp.fc2.\2"),
        ],
        "the CLIP tower",
    )
    split_rows(state, "qkv", QKV)
    return state


def owl_clip_keys(original: Mapping[str, Tensor], heads: int) -> State:
    """mPLUG-Owl's names below its `vision_model` -> `ClipTower` with all blocks and the last LayerNorm. Rows of
    `query_key_value` come by head: its queries, keys and values."""
    block, ours = r"encoder\.layers\.(\d+)\.", r"model.encoder.layers.\1."
    state = rename(
        original,
        [
            (r"embeddings\.cls_token", "model.embeddings.class_embedding"),
            (r"embeddings\.position_embedding", "model.embeddings.position_embedding.weight"),
            (r"embeddings\.patch_embed\.weight", "model.embeddings.patch_embedding.weight"),
            (r"embeddings\.pre_layernorm\.(.+)", r"model.pre_layrnorm.\1"),
            (r"post_layernorm\.(.+)", r"model.post_layernorm.\1"),
            (block + r"input_layernorm\.(.+)", ours + r"layer_norm1.\2"),
            (block + r"post_attention_layernorm\.(.+)", ours + r"layer_norm2.\2"),
            (block + r"self_attn\.query_key_value\.(.+)", ours + r"self_attn.qkv.\2"),
            (block + r"self_attn\.dense\.(.+)", ours + r"self_attn.out_proj.\2"),
            (block + r"mlp\.(fc[12]\..+)", ours + r"mlp.\2"),
        ],
        "mPLUG-Owl's tower",
    )
    for name, level in (("class_embedding", (0, 0)), ("position_embedding.weight", 0)):
        if (key := f"model.embeddings.{name}") in state:
            state[key] = state[key][level]
    split_rows(state, "qkv", QKV, groups=heads)
    return state
