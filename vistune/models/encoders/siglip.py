"""SigLIP's vision tower: transformers' model, with its positions placed as each system does it.

| system | positions | blocks | input |
|---|---|---|---|
| DeepSeek-VL | the table as it is | all | square views |
| MiniCPM-V 2.0 | the table resized as timm does it, antialiased | all but the last | one view size a call |
| MiniCPM-V 2.6 | an entry for each row and column (`buckets`) | all but the last | strips of patches |
| MiniCPM-V 2.5 | the same, with all patches taken for one row | all but the last | strips of patches |

Sources: MiniCPM-V, modeling_navit_siglip.py, and 2.0's modeling_minicpmv.py; DeepSeek-VL, siglip_vit.py; NaViT paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import isqrt
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import SiglipVisionModel

from vistune.errors import VistuneError
from vistune.models.encoders.features import Selection, run_blocks
from vistune.models.keymap import QKV, State, load, rename, split_rows
from vistune.models.position_tables import resized

Size = tuple[int, int]  # rows, columns of a view's patches
Positions = Literal["fixed", "antialiased", "bucket", "bucket-row"]


class SiglipTower(nn.Module):
    """Keeps of `model` (vision_use_head=False) only what the selection reads. There is no CLS token.

    "bucket-row" is how MiniCPM-V 2.5 runs and was trained: rows and columns are lost, and since its mask is written
    along the wrong side, padding is attended to and counts as part of the row.
    """

    def __init__(self, model: SiglipVisionModel, selection: Selection, positions: Positions = "fixed") -> None:
        super().__init__()
        self.selection = selection
        self.positions = positions
        self.model = model
        self.total = len(model.encoder.layers)  # blocks of the published encoder
        self.states = selection.states(self.total)
        model.encoder.layers = model.encoder.layers[: max(self.states)]
        if not selection.norm:
            model.post_layernorm = nn.Identity()

    @property
    def width(self) -> int:
        """Channels of the features."""
        return self.model.config.hidden_size * len(self.states)

    def forward(self, pixels: Tensor, sizes: Sequence[Size] | None = None) -> Tensor:
        """pixels: (V, 3, height, width), normalised; or, with `sizes`, the grid of each view, strips (V, 3, patch,
        P * patch), padded on the right -> features (V, P, C), zero at padding"""
        part = self.model.embeddings
        patches = part.patch_embedding(pixels.to(part.patch_embedding.weight.dtype))
        rows, columns = patches.shape[2:]
        table = part.position_embedding.weight
        hidden = patches.flatten(2).transpose(1, 2)
        filled = mask = None
        if self.positions.startswith("bucket"):
            grids = [(rows, columns)] * len(pixels) if sizes is None else list(sizes)
            ids, filled = self._places(grids, hidden)
            hidden = hidden + table[ids]
            if self.positions == "bucket":
                mask = torch.where(filled, 0.0, torch.finfo(hidden.dtype).min)[:, None, None].to(hidden.dtype)
                mask = mask.expand(-1, -1, hidden.shape[1], -1)
        elif self.positions == "fixed" and rows * columns != len(table):
            raise VistuneError(f"the encoder has positions for {len(table)} patches; got {rows}x{columns}.")
        else:
            hidden = hidden + resized(table, rows, columns, antialias=True)
        blocks = [partial(layer, attention_mask=mask) for layer in self.model.encoder.layers]
        features = run_blocks(hidden, blocks, self.states, self.model.post_layernorm if self.selection.norm else None)
        return features if filled is None else features * filled[..., None]

    def _places(self, grids: Sequence[Size], hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The entry of the table for each patch, int64 (V, P), 0 at padding; and where a patch is, bool (V, P)."""
        views, patches = hidden.shape[:2]
        side = round(len(self.model.embeddings.position_embedding.weight) ** 0.5)
        if len(grids) != views or max(rows * columns for rows, columns in grids) > patches:
            raise VistuneError(f"{len(grids)} grids {list(grids)[:3]} do not fit {views} views of {patches} patches.")
        ids = torch.zeros(views, patches, dtype=torch.long)
        for n, (rows, columns) in enumerate([(1, patches)] * views if self.positions == "bucket-row" else grids):
            ids[n, : rows * columns] = (buckets(rows, side)[:, None] * side + buckets(columns, side)).flatten()
        lengths = torch.tensor([rows * columns for rows, columns in grids])
        filled = torch.arange(patches) < lengths[:, None]
        return ids.to(hidden.device), filled.to(hidden.device)


def buckets(length: int, side: int) -> Tensor:
    """Which of `side` entries each of `length` patches takes, spread evenly: int64 (length,).

    >>> buckets(3, 70).tolist()
    [0, 23, 46]
    """
    # In float32, as the original rounds: a patch on an entry's edge may fall on either side of it.
    edges = torch.arange(1 / side, 1.0, 1 / side)
    at = torch.arange(0, 1 - 1e-6, 1 / length)[:length]
    return torch.bucketize(at, edges, right=True)


def siglip_keys(original: Mapping[str, Tensor], tower: SiglipTower) -> State:
    """Keys of transformers' SiglipVisionModel, which MiniCPM-V 2.5 and 2.6 share (`vpm`), or timm's -> those of
    `tower`, without what it does not keep and the pooling head."""
    if "pos_embed" in original:
        original = timm_siglip_keys(original)
    left_out = [rf"encoder\.layers\.{n}\..+" for n in range(max(tower.states), tower.total)]
    left_out += [r"embeddings\.position_ids", r"head\..+"]
    if not tower.selection.norm:
        left_out.append(r"post_layernorm\..+")
    level = r"(?:vision_model\.)?"  # gone since transformers 5
    table = [*((level + pattern, None) for pattern in left_out), (level + r"(.+)", r"model.\1")]
    return rename(original, table, "the SigLIP tower")


def load_siglip(tower: SiglipTower, folder: str) -> None:
    """A published SigLIP (a folder or a hub id), as transformers has it, into `tower`; its positions resized where the
    tower has more of them."""
    published = SiglipVisionModel.from_pretrained(folder, dtype=torch.float32)
    state = siglip_keys(published.state_dict(), tower)
    key = "model.embeddings.position_embedding.weight"
    side = isqrt(tower.model.embeddings.position_embedding.num_embeddings)
    state[key] = resized(state[key], side, side, antialias=True)
    load(tower, state, f"the SigLIP of {folder}")


def timm_siglip_keys(original: Mapping[str, Tensor]) -> State:
    """timm's names, of MiniCPM-V 2.0 and DeepSeek-VL -> SiglipVisionModel's, without the pooling head."""
    block, ours = r"blocks\.(\d+)\.", r"encoder.layers.\1."
    state = rename(
        original,
        [
            (r"attn_pool\..+", None),
            (r"pos_embed", "embeddings.position_embedding.weight"),
            (r"patch_embed\.proj\.(.+)", r"embeddings.patch_embedding.\1"),
            (block + r"norm([12])\.(.+)", ours + r"layer_norm\2.\3"),
            (block + r"attn\.qkv\.(.+)", ours + r"self_attn.qkv.\2"),
            (block + r"attn\.proj\.(.+)", ours + r"self_attn.out_proj.\2"),
            (block + r"mlp\.(.+)", ours + r"mlp.\2"),
            (r"norm\.(.+)", r"post_layernorm.\1"),
        ],
        "timm's SigLIP",
    )
    split_rows(state, "qkv", QKV)
    if (table := "embeddings.position_embedding.weight") in state:
        state[table] = state[table][0]
    return state
