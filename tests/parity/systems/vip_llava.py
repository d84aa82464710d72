"""ViP-LLaVA."""

from collections.abc import Iterator

import numpy as np
import torch
from harness import Case, Fixture, close, same
from PIL import Image
from systems._modules_llava import VIP_LLAVA
from systems._texts import TEXTS
from systems._views import planned, square

from vistune.errors import VistuneError
from vistune.models.overlay import COLORS, SHAPES, Draws, VisualPrompt, draw_prompt
from vistune.models.views import Square


def views(key: str, width: int, height: int) -> dict:
    fit, size = key.split("_")
    return square(Square(int(size), fit).plan(width, height))


def overlays(fixture: Fixture) -> Iterator[Case]:
    yield same(f"{fixture.name} colours", COLORS, fixture.json["color_pool"])
    for name, entry in fixture.cases.items():
        prompt = VisualPrompt(
            entry["shape"],
            entry["bbox_coord"],
            tuple(entry["rgb_value"]),
            [list(zip(flat[::2], flat[1::2], strict=True)) for flat in entry["segmentation"] or []],
            entry["alpha"],
            entry["width"],
            entry["visual_prompt_style"] == "constant",
            entry["image_size_anchor"],
        )
        draws, where = Draws(entry["seed"]), f"{fixture.name} {name} {prompt.shape}"
        picture = Image.fromarray(fixture.tensors[f"in.{name}.image"].numpy())
        expected = fixture.tensors.get(f"out.{name}.image")
        try:
            got = torch.from_numpy(np.array(draw_prompt(picture, prompt, draws, parity=True)))
        except VistuneError as error:  # nothing is stored where the original raised
            yield Case(where, expected is None, detail=str(error))
            continue
        yield close(where, got, expected, (0.0, 0.0))
        after = [draws.python.random(), draws.numpy.random_sample()]
        yield same(f"{where} random numbers after", after, entry["rng_after"])
        yield same(f"{where} words", [SHAPES[prompt.shape].relation, prompt.shape], entry["words"])


CHECKS = {
    "views": planned(views),
    "overlays": overlays,
    **VIP_LLAVA,
    **TEXTS["vip_llava"],
}
