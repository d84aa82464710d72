"""A tiny release with a few images, for everything that trains."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vistune import store
from vistune.records import Lineage, Region, Sample, conversation

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "white": (240, 240, 240)}


def make_release(folder: Path, images: int = 8) -> Path:
    """Plain pictures whose upper half has one colour and lower half another, with questions about them."""
    names = list(COLOURS)
    samples = []
    for n in range(images):
        top, bottom = names[n % 4], names[(n // 4 + n + 1) % 4]
        pixels = np.zeros((64, 64, 3), dtype=np.uint8)
        pixels[:32], pixels[32:] = COLOURS[top], COLOURS[bottom]
        pixels[0, 0] = n  # every file is another file
        path = folder / "incoming" / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        image = store.add_image(folder, path, store.describe_image(folder, f"incoming/{n}.png"))
        regions = (Region((0, 0, 64, 32), top, "t"), Region((0, 32, 64, 64), bottom, "b"))
        for k, (task, question, answer) in enumerate(
            [
                ("caption", "Describe it.", f"{top} over {bottom}"),
                ("vqa", "Top colour?", top),
                ("vqa", "Bottom colour?", bottom),
                ("presence", f"Is there {top}?", "Yes"),
            ]
        ):
            samples.append(
                Sample(
                    id=f"vt1:{n:03d}{k}",
                    dataset="d",
                    split="validation" if n == images - 1 else "train",
                    task=task,
                    method="adapt",
                    instruction=question,
                    input="",
                    response=answer,
                    messages=conversation([(question, answer)]),
                    images=(image,),
                    lineage=Lineage(f"d/{n}", ("t", "b"), ()),
                    licence="MIT",
                    group=image.sha256,
                    regions=regions if task == "caption" else (),
                )
            )
    store.write_samples(folder, samples)
    return folder


@pytest.fixture(scope="session")
def release(tmp_path_factory) -> Path:
    return make_release(tmp_path_factory.mktemp("release"))
