"""What the adapters of LLaVA and its kin share: small towers, large inputs from small files, merged sequences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from harness import Unit
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from vistune.models.encoders.clip import ClipTower, Positions
from vistune.models.encoders.features import Selection
from vistune.models.injection import SENTINEL, Sequenced, embed, expand, pad
from vistune.models.layout import Layout, placeholders, visual_tokens


def clip_config(clip: dict[str, Any]) -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=clip["hidden"],
        intermediate_size=clip["inter"],
        num_hidden_layers=clip["layers"],
        num_attention_heads=clip["heads"],
        image_size=clip["image"],
        patch_size=clip.get("patch", 14),
    )


def clip_tower(clip: dict[str, Any], selection: Selection, positions: Positions = "fixed") -> ClipTower:
    return ClipTower(CLIPVisionModel(clip_config(clip)), selection, positions)


def enlarged(x: Tensor, repeat: int = 1) -> Tensor:
    """Each pixel repeated along both sides; stored in half precision at times."""
    return x.float().repeat_interleave(repeat, 2).repeat_interleave(repeat, 3)


class Merge(Unit):
    """prepare_inputs_labels_for_multimodal on features that are visual tokens already."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.placeholder = config["vocab"]
        self.table = nn.Embedding(config["vocab"], config["hidden"])

    def convert(self, weights):
        return {"table.weight": weights["model.embed_tokens.weight"]}

    def merge(
        self,
        ids: Tensor,
        mask: Tensor,
        labels: Tensor,
        pictures: Iterator[tuple[Layout, Sequence[Tensor]]],
        params: dict[str, Any],
    ) -> dict[str, Tensor]:
        """`pictures`: layout and views of each. The originals give a sample without pictures a blank one, unused."""
        samples: list[Sequenced] = []
        visual: list[Tensor] = []
        for row, kept, learned in zip(ids, mask.bool(), labels, strict=True):
            text = row[kept].tolist()
            count = text.count(SENTINEL)
            shown = [next(pictures) for _ in range(max(count, 1))][:count]
            runs = [
                placeholders(layout, [len(view) for view in views], self.placeholder, lambda words: [int(words)])
                for layout, views in shown
            ]
            limit = params.get("tokenizer_model_max_length")
            samples.append(expand(text, learned[kept].tolist(), runs, limit=limit, parity=True))
            rows = [visual_tokens(layout, views) for layout, views in shown]
            visual.append(torch.cat([self.table.weight[:0], *rows])[: samples[-1].ids.count(self.placeholder)])
        batch = pad(samples, params.get("tokenizer_padding_side", "right"))
        return {
            "inputs_embeds": embed(batch.ids, torch.cat(visual), self.placeholder, self.table, batch.mask),
            "attention_mask": batch.mask,
            "labels": batch.labels,
            "position_ids": batch.positions,
        }
