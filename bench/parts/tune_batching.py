"""Forward and backward pass of the tiny LLaVA over the same samples, put together in four ways. No optimiser step."""

import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from parts.tune_data import write

SAMPLES, BATCH, TIMES = 64, 8, 3


def batching() -> dict[str, Any]:
    """Real tokens a second of processor time: padded to the longest of a random batch; of a batch of like length; in
    one row without padding, under a dense mask; the same, attention by segments (ours)."""
    import torch

    from vistune.models.vlm import load
    from vistune.store import open_image, read_samples
    from vistune.tune.objective import Objective
    from vistune.tune.packed import packed, padded

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = write(Path(name), SAMPLES)
        vlm, samples = load(folder / "model"), list(read_samples(folder / "release"))
        sizes = [[(image.width, image.height) for image in sample.images] for sample in samples]
        readings = [vlm.reader.read(sample.messages, size) for sample, size in zip(samples, sizes, strict=True)]
        opened = [[open_image(folder / "release", image) for image in sample.images] for sample in samples]
        pictures = [vlm.reader.look(*both) for both in zip(readings, opened, strict=True)]
    given = list(range(SAMPLES))
    alike = sorted(given, key=lambda n: readings[n].length)

    def rows(order: list[int], join: Callable[..., Any]) -> list[Any]:
        parts = [order[n : n + BATCH] for n in range(0, SAMPLES, BATCH)]
        return [join(vlm.reader, [[readings[n]] for n in part], [pictures[n] for n in part]) for part in parts]

    arms = {
        "padded": rows(given, padded),
        "padded_by_length": rows(alike, padded),
        "packed_dense_mask": [dense(row) for row in rows(given, packed)],
        "packed_segments": rows(given, packed),
    }
    objective = Objective(vlm.model.train())
    vlm.model.model.vision_tower.requires_grad_(False)
    real = sum(reading.length for reading in readings)
    seconds, losses = dict.fromkeys(arms, [float("inf")] * (SAMPLES // BATCH)), {}
    for _ in range(TIMES):
        for arm, made in arms.items():
            spent, losses[arm] = [], 0.0
            for row in made:
                began = time.process_time()
                loss = objective(row).sum()
                loss.backward()
                spent.append(time.process_time() - began)
                losses[arm] += float(loss.detach())
                vlm.model.zero_grad(set_to_none=True)
            seconds[arm] = list(map(min, seconds[arm], spent))
    rate = {arm: round(real / sum(each)) for arm, each in seconds.items()}
    return {
        "samples": SAMPLES,
        "batch": BATCH,
        "tokens": real,
        "padding": {arm: round(1 - real / sum(row.places for row in made), 3) for arm, made in arms.items()},
        "tokens_per_cpu_s": rate,
        "ratio": {arm: round(rate["packed_segments"] / rate[arm], 2) for arm in arms},
        "largest_loss_difference": max(abs(v / losses["packed_segments"] - 1) for v in losses.values()),
    }


def dense(row: Any) -> Any:
    """The row with a mask of all its tokens in place of segments."""
    row.inputs["attention_mask"] = mask(row.inputs.pop("segments"))
    return row


def mask(segments: list[Any]) -> Any:
    """bool (1, 1, T, T) for segments that begin on their own: each sees itself, causally."""
    import torch

    whole = torch.zeros(segments[-1].end, segments[-1].end, dtype=torch.bool)
    for segment in segments:
        part = slice(segment.start, segment.end)
        whole[part, part] = torch.ones(segment.end - segment.start, segment.end - segment.start).tril().bool()
    return whole[None, None]


def attention() -> dict[str, Any]:
    """Attention alone, forward and backward, of one pack of 4,096 tokens in samples of the mix with 64 tokens a
    picture: 8 heads of 64 channels."""
    import torch
    from parts.tune_data import MEDIAN, SPREAD, WITH_IMAGE

    from vistune.tune.attention import Segment, packed_attention

    torch.set_num_threads(1)
    rng, segments, end = random.Random(3), [], 0
    while end < 4_096:
        length = max(8, round(MEDIAN * 2.718281828 ** rng.gauss(0, SPREAD))) + 64 * (rng.random() < WITH_IMAGE)
        segments.append(Segment(end, min(end + length, 4_096)))
        end = segments[-1].end
    module, whole = torch.nn.Module(), mask(segments)
    module.train()
    q, k, v = (torch.randn(1, 8, 4_096, 64, requires_grad=True) for _ in range(3))
    arms: dict[str, dict[str, Any]] = {
        "dense_mask": {"attention_mask": whole},
        "segments": {"attention_mask": None, "segments": segments},
    }
    seconds, found = dict.fromkeys(arms, float("inf")), {}
    for _ in range(3):
        for arm, inputs in arms.items():
            began = time.process_time()
            found[arm], _ = packed_attention(module, q, k, v, scaling=0.125, **inputs)
            found[arm].sum().backward()
            seconds[arm] = min(seconds[arm], time.process_time() - began)
    return {
        "samples": len(segments),
        "cpu_s": {arm: round(s, 3) for arm, s in seconds.items()},
        "ratio": round(seconds["dense_mask"] / seconds["segments"], 1),
        "largest_difference": float((found["dense_mask"] - found["segments"]).detach().abs().max()),
    }
