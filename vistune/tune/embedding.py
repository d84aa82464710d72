"""Alignment to word embeddings: each grid cell should point where the language model keeps the word for it.

A cell shows the smallest annotated region that covers its centre; background regions cover the image. Its target is
the mean input embedding of that region's name. The loss is a softmax over the cosines with all names, so a few
thousand boxes teach the connector the language model's own vocabulary in seconds, without running it. The names then
become the connector's visual vocabulary: a cell that shows a fire engine is passed on as the very tokens that spell it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vistune.errors import VistuneError
from vistune.hashing import keyed
from vistune.models.families.small import remember
from vistune.progress import Progress
from vistune.records import Region, Sample
from vistune.tune import StageParams
from vistune.tune.schedule import cosine

if TYPE_CHECKING:
    from collections.abc import Callable

    from vistune.models.vlm import Vlm
    from vistune.tune.features import Features

OBJECT_SHARE = 0.75  # of the cells drawn: most of a picture is background


def cell_labels(regions: Sequence[Region], width: int, height: int, grid: int) -> list[str]:
    """The name each of grid x grid cells shows, row by row; "" where no region covers the cell's centre.

    >>> sky, bird = Region((0, 0, 8, 8), "sky", "1"), Region((4, 0, 8, 4), "bird", "2")
    >>> cell_labels([bird, sky], 8, 8, 2)
    ['sky', 'bird', 'sky', 'sky']
    """
    labels = [""] * (grid * grid)
    largest_first = sorted(
        regions, key=lambda r: ((r.box[2] - r.box[0]) * (r.box[3] - r.box[1]), r.label), reverse=True
    )
    for region in largest_first:
        x1, y1, x2, y2 = region.box
        for row in range(grid):
            if not y1 <= (row + 0.5) * height / grid < y2:
                continue
            for column in range(grid):
                if x1 <= (column + 0.5) * width / grid < x2:
                    labels[row * grid + column] = region.label
    return labels


def align(
    vlm: Vlm,
    features: Features,
    samples: Sequence[Sample],
    stage: StageParams,
    seed: int,
    record: Callable[[dict[str, float], int], None],
) -> dict[str, Any]:
    """Trains the connector's directions in place. Returns what it used: images, cells, names, final accuracy."""
    model = vlm.model
    grid = model.connector.config.grid
    by_image: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if len(sample.images) == 1:
            by_image[sample.images[0].sha256].append(sample)
    cells: list[Tensor] = []
    names_of_cells: list[str] = []
    big: list[bool] = []
    for _, group in sorted(by_image.items()):
        image = group[0].images[0]
        regions = {r.annotation_id: r for s in group for r in s.regions}
        if not regions:
            continue
        areas = {r.label: (r.box[2] - r.box[0]) * (r.box[3] - r.box[1]) for r in regions.values()}
        labels = cell_labels(list(regions.values()), image.width, image.height, grid)
        known = [i for i, label in enumerate(labels) if label]
        cells.append(features([image])[0][known].half())
        names_of_cells += [labels[i] for i in known]
        big += [areas[labels[i]] >= image.width * image.height for i in known]
    if not cells:
        raise VistuneError(
            f"training stage {stage.name} (objective embedding) needs samples with named regions; the release has "
            "none for its datasets. Use objective caption, or add boxes to the sources."
        )
    x = torch.cat(cells)  # float16 (N, C)
    names = sorted(set(names_of_cells))
    index = {name: n for n, name in enumerate(names)}
    y = torch.tensor([index[name] for name in names_of_cells])
    background = np.asarray(big)
    pools = [np.flatnonzero(~background), np.flatnonzero(background)]

    table = cast(Tensor, model.get_input_embeddings().weight).detach()
    tokens = [vlm.reader.text(f" {name}") for name in names]
    words = torch.stack([table[torch.tensor(ids)].float().mean(0) for ids in tokens])
    words = F.normalize(words - model.connector.center, dim=-1)  # (M, D)

    connector = model.connector.float().train()
    connector.standardise(x[:: max(len(x) // 50_000, 1)])
    trained = [connector.up.weight, connector.up.bias, connector.down.weight, connector.down.bias]
    peak = stage.learning_rates["connector"]
    optimizer = torch.optim.AdamW(trained, lr=peak, weight_decay=stage.weight_decay, fused=True)
    with Progress(f"tune {stage.name}", stage.steps, "steps") as progress:
        for step in range(stage.steps):
            generator = np.random.default_rng(keyed(seed, stage.name, "cells", step))
            torch.manual_seed(keyed(seed, stage.name, "dropout", step))
            wanted = [round(stage.batch * OBJECT_SHARE), stage.batch - round(stage.batch * OBJECT_SHARE)]
            picked = torch.from_numpy(
                np.concatenate([generator.choice(p, n) for p, n in zip(pools, wanted, strict=True) if len(p)])
            )
            scores = connector.directions(x[picked]) @ words.T / stage.temperature
            loss = F.cross_entropy(scores, y[picked], label_smoothing=stage.smoothing)
            rate = peak * cosine(step, stage.steps, stage.warmup)
            for settings in optimizer.param_groups:
                settings["lr"] = rate
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(trained, stage.clip if stage.clip else math.inf)
            optimizer.step()
            accuracy = float((scores.argmax(-1) == y[picked]).float().mean())
            record({"loss": loss.item(), "accuracy": accuracy, "lr": rate, "grad_norm": float(norm)}, step)
            progress.step(note=f"loss {loss.item():.3f} · cells named right {accuracy:.0%}")
    connector.eval()
    connector.learn_names(words, tokens)
    remember(model)
    objects = torch.from_numpy(pools[0] if len(pools[0]) else pools[1])
    objects = objects[:: max(len(objects) // 20_000, 1)]
    with torch.no_grad():
        right = (connector.directions(x[objects]) @ words.T).argmax(-1) == y[objects]
    accuracy = round(float(right.float().mean()), 4)
    return {"images": len(by_image), "cells": len(x), "names": len(names), "cell_accuracy": accuracy}
