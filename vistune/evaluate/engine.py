"""Forward passes that score answers in packed trees; nothing here knows about tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vistune.evaluate.packing import PAD, Row, visible
from vistune.files import read_json


def load(folder: Path, dtype: str) -> Any:
    """The model in `folder`, on a GPU if there is one, ready to be scored: no gradients. The small family's comes with
    its chat, and is scored in packed trees; any other as a `Vlm`, for `sequences`."""
    from vistune.models import load_model, vlm
    from vistune.models.modeling import precision

    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = folder / "config.json"
    if config.is_file() and read_json(config).get("family") != "small":
        found = vlm.load(folder, precision(dtype, device), device)
        found.model.requires_grad_(False)
        return found
    return load_model(folder, dtype=dtype, device=device).requires_grad_(False)


@torch.inference_mode()
def score(model: Any, rows: Sequence[Row], features: Tensor | None) -> list[tuple[float, bool, int]]:
    """(sum of log-probabilities in nats, every token the most likely one, number of tokens) of each answer in
    `rows`, answers of a row in order. features: float32 (I, P, C), one image a row, or None without images."""
    longest = max(len(row.ids) for row in rows)

    def padded(name: str, fill: int) -> Tensor:
        lists = [getattr(row, name) for row in rows]
        return torch.tensor([x + [fill] * (longest - len(x)) for x in lists], device=model.device)

    question, answer = padded("question", PAD), padded("answer", PAD)
    at = [(n, token) for n, row in enumerate(rows) for token, _ in row.reads]
    wanted = torch.tensor([target for row in rows for _, target in row.reads], device=model.device)
    index = torch.tensor(at, device=model.device).T
    positions = torch.zeros(question.shape, dtype=torch.bool, device=model.device)
    positions[index[0], index[1]] = True
    logits = model(
        input_ids=padded("ids", model.chat.end_id),
        position_ids=padded("places", 0),
        attention_mask=visible(question, answer),
        image_features=features,
        positions=positions,
        use_cache=False,
    ).logits
    # `positions` selects row by row; `place` says at which logits row a token's prediction lies.
    place = (positions.flatten().cumsum(0) - 1).view(positions.shape)[index[0], index[1]]
    logprobs = (logits[place, wanted] - torch.logsumexp(logits, dim=-1)[place]).tolist()
    greedy = (logits.argmax(-1)[place] == wanted).tolist()
    results: list[tuple[float, bool, int]] = []
    start = 0
    for length in (length for row in rows for length in row.lengths):
        end = start + length
        results.append((math.fsum(logprobs[start:end]), all(greedy[start:end]), length))
        start = end
    return results
