"""M-RoPE without a model, against transformers'."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Qwen2VLConfig, Qwen2VLModel

from vistune.errors import VistuneError
from vistune.models.positions import mrope

IMAGE = 7
CONFIG = Qwen2VLConfig()

parts = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5)), max_size=4)


@given(st.integers(0, 3), parts)
def test_mrope_is_that_of_transformers(start, images):
    ids, grids = [1] * start, []
    for rows, columns, text in images:
        ids += [IMAGE] * (rows * columns) + [1] * text
        grids.append((2 * rows, 2 * columns))
    if not ids:
        return
    model = SimpleNamespace(config=CONFIG)
    model.get_vision_position_ids = Qwen2VLModel.get_vision_position_ids.__get__(model)
    tensor = torch.tensor([ids])
    sizes = torch.tensor([[1, *grid] for grid in grids]) if grids else None
    expected, _ = Qwen2VLModel.get_rope_index(model, tensor, (tensor == IMAGE).int(), sizes)
    assert [list(axis) for axis in mrope(ids, IMAGE, grids)] == expected[:, 0].tolist()


@pytest.mark.parametrize(
    ("ids", "grids", "message"),
    [
        ([1, IMAGE], [], "0 images are too few"),
        ([1, IMAGE, 1], [(2, 4)], "has 2 tokens"),
        ([1, IMAGE], [(2, 4)], "has 2 tokens"),
        ([1, 1], [(2, 4)], "0 images but 1"),
    ],
)
def test_images_and_placeholders_must_fit(ids, grids, message):
    with pytest.raises(VistuneError, match=message):
        mrope(ids, IMAGE, grids)
