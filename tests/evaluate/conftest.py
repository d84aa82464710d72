"""Tiny random models and a tiny sources folder, shared by the tests of the evaluate stage."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vistune.records import ImageRef
from vistune.store import describe_image

sys.path.insert(0, str(Path(__file__).parent))  # for `published`


@pytest.fixture(scope="session")
def demo_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny demo corpus with all of its benchmarks; copy it before changing it."""
    from vistune.sources import DemoParams, Params, run
    from vistune.stages import Context

    output = tmp_path_factory.mktemp("sources")
    demo = DemoParams(
        train_scenes=2,
        align_scenes=2,
        validation_scenes=1,
        heldout_trained=3,
        heldout_aligned=3,
        heldout_unseen=3,
        easy_vqa_images=3,
        size=96,
    )
    run(Params(demo=demo), {}, output, Context(seed=0, home=output, root=output))
    return output


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every published benchmark in a tiny copy of its files."""
    from published import lay_out

    root = tmp_path_factory.mktemp("benchmarks")
    lay_out(root)
    return root


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `tune` writes, as far as evaluate reads it: two random models."""
    from vistune.models.families.small import tiny

    folder = tmp_path_factory.mktemp("tune")
    tiny(seed=1).save(folder / "base")
    tiny(seed=2).save(folder / "model")
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[ImageRef]]:
    """A folder of six different small pictures, and references to them."""
    from PIL import Image, ImageDraw

    folder = tmp_path_factory.mktemp("pictures")
    for n in range(6):
        image = Image.new("RGB", (48, 40), (40 * n, 120, 255 - 40 * n))
        ImageDraw.Draw(image).rectangle((4 * n, 5, 4 * n + 15, 30), fill=(255 - 30 * n, 20 * n, 90))
        image.save(folder / f"{n}.png")
    return folder, [describe_image(folder, f"{n}.png") for n in range(6)]


@pytest.fixture
def answer() -> Callable[..., Any]:
    """Makes an Answer from the few fields a test cares about."""
    from vistune.answers import Answer

    def make(item: str, model: str, condition: str, correct: float, **more: Any) -> Answer:
        fields: dict[str, Any] = {
            "item": item,
            "benchmark": item.split("/")[0],
            "task": "naming",
            "concepts": "trained",
            "image": f"sha-{item.split('/')[-1].split('.')[0]}",
            "path": "0.png",
            "question": "What is it?",
            "gold": "a",
            "model": model,
            "condition": condition,
            "kind": "choice",
            "answer": "a" if correct else "b",
            "metrics": {"accuracy": correct, "accuracy_sum": correct, "greedy": correct},
            "scores": {"a": -1.0, "b": -2.0},
        }
        return Answer(**fields | more)

    return make
