"""How evenly processes are loaded, from lengths alone: no model, no picture."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from parts.tune_data import MEDIAN, SPREAD, WITH_IMAGE

STEPS = 64
"""At least so many steps are simulated."""


@dataclass(frozen=True)
class Shape:
    """What decides the cost of a sample: the closed form of a training step with a frozen tower."""

    parameters: float  # of the language model, without embeddings
    layers: int
    width: int
    tower: float  # parameters
    patches: int  # of a view
    tower_layers: int
    tower_width: int
    tokens: int  # of a view, in the language model
    views: tuple[int, ...]  # of a picture, drawn alike
    most: int  # tokens of a pack

    def cost(self, tokens: int, views: int) -> float:
        decoder = 2 * self.parameters * tokens + 2 * self.layers * self.width * tokens**2
        view = 2 * self.tower * self.patches + 4 * self.tower_layers * self.tower_width * self.patches**2
        return 3 * decoder + views * view


SHAPES = {
    "llava-1.5-7b": Shape(6.48e9, 32, 4096, 0.303e9, 577, 24, 1024, 576, (1,), 4096),
    "llava-next-7b": Shape(6.48e9, 32, 4096, 0.303e9, 577, 24, 1024, 576, (2, 3, 4, 5), 8192),
    "0.5b with so400m, tiles pooled to 196 tokens": Shape(
        0.36e9, 24, 896, 0.43e9, 729, 27, 1152, 196, (1, 2, 3, 5, 7, 10), 8192
    ),
}


def mix(shape: Shape, count: int) -> tuple[list[int], list[int]]:
    """Tokens and views of so many samples."""
    rng = random.Random(1)
    tokens, views = [], []
    for _ in range(count):
        shown = rng.choice(shape.views) if rng.random() < WITH_IMAGE else 0
        text = max(8, round(MEDIAN * 2.718281828 ** rng.gauss(0, SPREAD)))
        views.append(shown)
        tokens.append(min(text + shown * shape.tokens, shape.most))
    return tokens, views


def simulate(shape: Shape, processes: int) -> dict[str, Any]:
    """Ours as the planner does it, in windows; packs of the same windows shuffled, as a sampler with shuffle=True deals
    them; and samples one by one in random order, as many for each process as a pack holds on average, unpadded."""
    from vistune.tune.pack import balance, pack, padding, schedule
    from vistune.tune.plan import WINDOWS

    window = WINDOWS * processes
    mean = sum(mix(shape, 2_000)[0]) / 2_000
    count = max(round(STEPS * processes * shape.most / mean), window) // window * window
    tokens, views = mix(shape, count)

    def arrange(part: Sequence[int]) -> list[list[int]]:
        found = pack([tokens[n] for n in part], [views[n] for n in part], shape.most)
        return [[part[n] for n in one] for one in found]

    def cost(one: Sequence[int]) -> float:
        return sum(shape.cost(tokens[n], views[n]) for n in one)

    windows = [range(start, start + window) for start in range(0, count, window)]
    steps = list(schedule(windows, arrange, cost, processes, 0))
    packs = [one for step in steps for one in step if one]
    ours, costs = [[*map(cost, step)] for step in steps], [*map(cost, packs)]
    each = [shape.cost(*both) for both in zip(tokens, views, strict=True)]
    size = max(round(len(tokens) / len(packs)), 1)
    batches = [sum(each[n : n + size]) for n in range(0, len(each), size)]
    return {
        "samples": count,
        "packs": len(packs),
        "steps": len(ours),
        "room_unused": round(padding(tokens, packs, shape.most), 4),
        "ours": vars(balance(ours)),
        "packs_shuffled": vars(balance(shuffled(costs, processes))),
        "samples_shuffled": vars(balance(shuffled(batches, processes))),
    }


def shuffled(costs: Sequence[float], processes: int) -> list[list[float]]:
    order = random.Random(2).sample(costs, len(costs)) + [0.0] * (-len(costs) % processes)
    return [order[n : n + processes] for n in range(0, len(order), processes)]
