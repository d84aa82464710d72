"""Plans carried out on pictures."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from vistune.errors import VistuneError
from vistune.models import views_derived as derived
from vistune.models.pixels import (
    CLIP,
    CLIP_BYTES,
    IMAGENET,
    UNIT,
    Normaliser,
    derive,
    merged_patches,
    patch_strip,
    pixels,
    transform,
)
from vistune.models.views import Interpolate, Letterbox, Native, Resize, Square
from vistune.models.views_slices import Slices, llava_uhd
from vistune.models.views_tiles import AnyRes, ClosestRatio

BYTES = Normaliser((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), white=1.0)

POLICIES = [
    Square(56, "crop"),
    Square(56, "pad"),
    Square(56, "stretch"),
    Square(56, "stretch", filter="point-bilinear"),
    Square(56, "widen"),
    Letterbox(64, least=2),
    Native(4 * 784, 64 * 784),
    AnyRes(((56, 112), (112, 56), (112, 112)), 56),
    ClosestRatio(56, most=6),
    Slices(56),
    llava_uhd(56, long_side=200),
    derived.monkey((112, 112), 56),
    derived.llava_hr(384),
    derived.mini_gemini(112, 28),
    derived.mini_gemini(112, 28, 2),
    derived.sphinx(2, 28),
    derived.sphinx(3, 28),
    derived.sphinx_light(2, 28, 64),
    derived.sphinx_light(1, 28, 64),
    derived.deepseek_hybrid(64, 32, 2),
    derived.cogagent(28, 56),
]


def picture(width, height, seed=0):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
@pytest.mark.parametrize("size", [(90, 60), (37, 131), (64, 64)], ids=str)
def test_tensors_have_the_planned_sizes(policy, size):
    plan = policy.plan(*size)
    for view, tensor in zip(plan.views, pixels(plan, picture(*size)), strict=True):
        assert tensor.shape == (3, view.size[1], view.size[0]) and tensor.dtype == torch.float32
        assert torch.isfinite(tensor).all()


def test_a_picture_of_another_size_is_refused():
    with pytest.raises(VistuneError, match="60x90 pixels but its views were planned for 90x60"):
        pixels(Square(56).plan(90, 60), picture(60, 90))
    with pytest.raises(VistuneError, match="mode L"):
        pixels(Square(56).plan(90, 60), picture(90, 60).convert("L"))


def test_normalising():
    image = picture(28, 28)
    raw = np.asarray(image, dtype=np.float64).transpose(2, 0, 1) / 255
    for normaliser in (CLIP, IMAGENET):
        mean, std = (np.array(c)[:, None, None] for c in (normaliser.mean, normaliser.std))
        assert np.allclose(normaliser(image).numpy(), (raw - mean) / std, atol=1e-6)
    assert np.allclose(UNIT(image).numpy(), raw, atol=1e-7)
    assert torch.allclose(CLIP_BYTES(image), CLIP(image), atol=1e-5)
    assert torch.equal(CLIP.scale(UNIT(image)), CLIP(image))


def test_tiles_put_together_are_the_canvas():
    plan = ClosestRatio(28, most=6, thumbnail=False).plan(90, 60)
    columns, rows = plan.grid
    tiles = torch.stack(pixels(plan, picture(90, 60)))
    canvas = tiles.unflatten(0, (rows, columns)).permute(2, 0, 3, 1, 4).flatten(1, 2).flatten(2, 3)
    assert torch.equal(canvas, CLIP(picture(90, 60).resize(plan.canvas[0].size, Image.Resampling.BICUBIC)))


def test_padding_is_the_colour_and_the_rest_the_picture():
    (padded,) = pixels(Square(90, "pad").plan(90, 60), picture(90, 60), BYTES)
    assert torch.equal(padded[:, 15:75], BYTES(picture(90, 60)))
    assert (padded[:, :15] == torch.tensor([122.0, 116, 104])[:, None, None]).all()


def test_anyres_pads_with_black_and_stretches_the_overview():
    overview, *tiles = pixels(AnyRes(((56, 112),), 56).plan(56, 56), picture(56, 56), BYTES)
    assert torch.equal(overview, BYTES(picture(56, 56)))
    assert not tiles[0][:, :28].any() and torch.equal(tiles[0][:, 28:], overview[:, :28])


def test_steps_that_views_share_are_done_once(monkeypatch):
    calls = []
    resize = Image.Image.resize
    monkeypatch.setattr(
        Image.Image, "resize", lambda self, *rest, **more: calls.append(1) or resize(self, *rest, **more)
    )
    plan = ClosestRatio(28, most=6).plan(90, 60)
    assert len(pixels(plan, picture(90, 60))) == 7 and len(calls) == 2


def test_small_copies_are_made_of_the_normalised_square():
    high, low = pixels(derived.llava_hr(384).plan(90, 60), picture(90, 60))
    expected = F.interpolate(high[None], (336, 336), mode="bilinear", align_corners=True)[0]
    assert torch.equal(low, expected)


@pytest.mark.parametrize(
    "policy", [derived.llava_hr(384), derived.mini_gemini(112, 28, 2), derived.sphinx(2, 28)], ids=str
)
def test_models_can_make_the_views_themselves(policy):
    plans = [policy.plan(90, 60), policy.plan(60, 90)]
    outside = [pixels(plan, picture(*plan.picture)) for plan in plans]
    squares = [pixels(policy.base.plan(*plan.picture), picture(*plan.picture))[0] for plan in plans]
    inside = derive(torch.stack(squares), policy.views)
    for n, view in enumerate(inside):
        assert torch.allclose(view, torch.stack([views[n] for views in outside]), atol=1e-6)


def test_a_tensor_cannot_be_resized_as_a_picture():
    with pytest.raises(VistuneError, match="Resize"):
        transform(torch.zeros(3, 8, 8), Resize((4, 4)))
    assert transform(torch.zeros(3, 8, 8), Interpolate((4, 6), "bicubic", half=True)).shape == (3, 6, 4)


def test_bytes_do_not_depend_on_the_number_of_threads():
    plan, threads = Square(490, "stretch", filter="point-bilinear").plan(30, 20), torch.get_num_threads()
    try:
        made = []
        for n in (1, 2):
            torch.set_num_threads(n)
            made.append(pixels(plan, picture(30, 20), BYTES)[0])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*made)


def test_merged_patches_lie_together():
    x = torch.arange(3 * 8 * 12.0).reshape(3, 8, 12)
    rows = merged_patches(x, patch=2, merge=2, frames=2)
    expected = [
        x[:, y : y + 2, left : left + 2].unsqueeze(1).expand(-1, 2, -1, -1).flatten()
        for top in (0, 4)
        for block in (0, 4, 8)
        for y in (top, top + 2)
        for left in (block, block + 2)
    ]
    assert torch.equal(rows, torch.stack(expected))


def test_patch_strip_lays_patches_in_a_row():
    x = torch.arange(3 * 4 * 6.0).reshape(3, 4, 6)
    patches = [x[:, top : top + 2, left : left + 2] for top in (0, 2) for left in (0, 2, 4)]
    assert torch.equal(patch_strip(x, 2), torch.cat(patches, dim=2))
