"""The forward passes behind shared prefixes: pictures and what stands before the questions once, then continuations.

What a prefix leaves in the key-value cache is one row, whatever number of questions continue it: their tokens lie in
the same row, one question behind the other, and a mask keeps them apart. No cache is copied. Prefixes of a batch are
padded on the right; padding stays in the cache, where nothing looks at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vistune.models.families.base import Composed, Native, Picture
from vistune.models.injection import embed
from vistune.models.reader import Reading
from vistune.models.vlm import Vlm


@dataclass
class Prefix:
    """Of a batch: what its rows have in the cache."""

    cache: Any
    owner: Tensor  # int64 (B, L): 0 for the prefix, else the question that a token belongs to; PAD for padding
    next: Tensor  # int64 (B,), the position behind the prefix
    context: dict[str, Tensor] | None  # what else the layers of a composed model take
    last: Tensor | None  # float32 (B, K), logits behind the prefix

    def forget(self, length: int) -> None:
        """Back to the first `length` tokens."""
        if extra := self.owner.shape[1] - length:
            self.cache.crop(-extra)
            self.owner = self.owner[:, :length]

    def select(self, rows: Tensor) -> None:
        """Keeps these rows of the batch."""
        self.cache.batch_select_indices(rows)
        self.owner, self.next = self.owner[rows], self.next[rows]
        self.context = {name: value[rows] for name, value in self.context.items()} if self.context else self.context


class Trunk:
    """A model that continues prefixes."""

    def __init__(self, vlm: Vlm) -> None:
        self.model, self.reader = vlm.model, vlm.reader
        self.composed, self.native = isinstance(vlm.family, Composed), isinstance(vlm.family, Native)
        self.ends, self.stop = ends(vlm)
        self.additive = vlm.model.config.get_text_config()._attn_implementation == "eager"

    @property
    def device(self) -> torch.device:
        return self.model.device

    def encode(self, pictures: Sequence[Picture]) -> list[Any]:
        """What the vision encoder makes of each picture: what `Vlm.model.see` gives, or the visual tokens (N, D) of
        a model of transformers."""
        if self.composed:
            return list(self.model.see(pictures))
        inputs = self._moved(self.reader.pictures(pictures))
        found = self.model.model.get_image_features(**inputs, return_dict=True).pooler_output
        rows = torch.cat([one.flatten(0, -2) for one in found])
        return list(rows.split([picture.plan.tokens for picture in pictures]))

    def prefix(
        self, readings: Sequence[Reading], pictures: Sequence[Picture], seen: Sequence[Any], last: bool
    ) -> Prefix:
        """pictures: of all readings, one after the other; seen: what `encode` gave of them, where the model is not one
        that is known by its processor alone; last: whether the logits behind the prefixes are wanted."""
        lengths = [reading.length for reading in readings]
        rows = torch.arange(len(readings), device=self.device)
        ends = torch.tensor(lengths, device=self.device) - 1
        inputs = self._moved(self.reader.batch(readings, [[] for _ in readings], "right"))
        inputs.pop("labels")
        owner = inputs["attention_mask"] - 1  # 0, and PAD for padding
        if self.composed:
            if pictures:
                inputs |= {"pictures": list(pictures), "image_features": [_to(one, self.device) for one in seen]}
            hidden, context = self.model.hidden(**inputs, use_cache=True)
            found = self._head(hidden.last_hidden_state[rows, ends]) if last else None
            return Prefix(hidden.past_key_values, owner, self._next(readings), context, found)
        if self.native:
            ids = inputs.pop("input_ids")
            visual = torch.cat([one.to(self.device) for one in seen]) if pictures else None
            inputs["inputs_embeds"] = embed(ids, visual, self.reader.placeholder, self.model.get_input_embeddings())
            out = self.model.model(**inputs, use_cache=True)
            found = self._head(out.last_hidden_state[rows, ends]) if last else None
            return Prefix(out.past_key_values, owner, self._next(readings), None, found)
        inputs |= self._moved(self.reader.pictures(pictures))
        following = self._following(inputs)
        kept = ends.unique()
        out = self.model(**inputs, use_cache=True, logits_to_keep=kept)
        found = out.logits[rows, torch.searchsorted(kept, ends)].float()
        return Prefix(out.past_key_values, owner, following, None, found)

    def go_on(self, prefix: Prefix, ids: Tensor, places: Tensor, owner: Tensor, mask: Tensor, at: Tensor) -> Tensor:
        """Adds tokens to the rows. ids, owner: int64 (B, T); places: int64 (B, T), from the end of the prefix; mask:
        bool (B, T, L + T), True where a token may look; at: int64 (2, N), rows and tokens -> float32 (N, K), the
        logits there."""
        prefix.owner = torch.cat([prefix.owner, owner], dim=1)
        positions = prefix.next[:, None] + places  # of text, so where positions have several axes they are all equal
        seen = mask[:, None]
        if self.additive:
            least = torch.finfo(self.model.dtype).min
            seen = torch.zeros(seen.shape, dtype=self.model.dtype, device=seen.device).masked_fill(~seen, least)
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": seen, "position_ids": positions}
        inputs |= {"past_key_values": prefix.cache, "use_cache": True}
        rows, tokens = at
        if self.composed:
            hidden, _ = self.model.hidden(**inputs, context=prefix.context)
            return self._head(hidden.last_hidden_state[rows, tokens])
        if self.native:
            return self._head(self.model.model(**inputs).last_hidden_state[rows, tokens])
        return self.model(**inputs).logits[rows, tokens].float()

    def _head(self, states: Tensor) -> Tensor:
        return self.model.get_output_embeddings()(states).float()

    def _next(self, readings: Sequence[Reading]) -> Tensor:
        found = [int(self.reader.places(reading).max()) + 1 if reading.length else 0 for reading in readings]
        return torch.tensor(found, device=self.device)

    def _following(self, inputs: dict[str, Any]) -> Tensor:
        """Of a model that computes positions itself."""
        mask = inputs["attention_mask"]
        counted = "position_ids" in inputs or "image_grid_thw" not in inputs
        if counted or not hasattr(self.model.model, "get_rope_index"):
            return mask.sum(-1)
        names = ("input_ids", "attention_mask", "image_grid_thw", "mm_token_type_ids")
        positions, _ = self.model.model.get_rope_index(**{k: inputs[k] for k in names if k in inputs})
        return positions.masked_fill(mask == 0, 0).amax((0, 2)) + 1

    def _moved(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {k: v.to(self.device) if isinstance(v, Tensor) else v for k, v in inputs.items()}


def _to(seen: Any, device: torch.device) -> Any:
    return seen.to(device) if isinstance(seen, Tensor) else tuple(one.to(device) for one in seen)


def ends(vlm: Vlm) -> tuple[frozenset[int], tuple[str, ...]]:
    """The tokens that end an answer, and the text that does where it is more than a token."""
    reader = vlm.reader
    stop = reader.text(reader.stop) if reader.stop else []
    found = {reader.tokenizer.eos_token_id, *(stop if len(stop) == 1 else [])}
    if not isinstance(vlm.family, Composed | Native):
        said = vlm.model.generation_config.eos_token_id
        found |= set(said) if isinstance(said, list) else {said}
    return frozenset(found - {None}), (reader.stop,) if len(stop) > 1 else ()
