"""From views to visual tokens in a sequence: counts are known before anything runs, and hold."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vistune.errors import VistuneError
from vistune.models.injection import SENTINEL, Sequenced, embed, expand, pad
from vistune.models.layout import middle, placeholders, pooled, stitch, visual_tokens, with_newlines
from vistune.models.views import Square
from vistune.models.views_derived import mini_gemini, monkey
from vistune.models.views_slices import llava_uhd
from vistune.models.views_tiles import AnyRes, ClosestRatio, square_grids

POLICIES = {
    "square": Square(336, "pad"),
    "anyres": AnyRes(),
    "anyres_max": AnyRes(square_grids(6, 384), 384, most=9),
    "slices": llava_uhd(),
    "closest": ClosestRatio(),
    "windows": monkey(),
    "mining": mini_gemini(1536, grid=2),
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@given(width=st.integers(20, 3000), height=st.integers(20, 3000))
@settings(max_examples=15, deadline=None)
def test_placeholders_and_visual_tokens_are_as_many_as_planned(policy, width, height):
    plan = policy.plan(width, height)
    ids = placeholders(plan.layout, [view.tokens for view in plan.views], -1, lambda words: [7])
    assert ids.count(-1) == plan.tokens and len(ids) - plan.tokens == sum(isinstance(p, str) for p in plan.layout)
    stitched = any(isinstance(part, tuple) for part in plan.layout)
    sizes = [view.tokens or (view.patches[0] * view.patches[1] if stitched else 0) for view in plan.views]
    views = [torch.empty(n, 1) for n in sizes]
    rows = visual_tokens(plan.layout, views, plan.grid, plan.features, torch.zeros(1))
    assert rows.shape == (plan.tokens, 1)


def test_tiles_are_stitched_row_by_row():
    """Two tiles of 2 x 2 beside one another."""
    tiles = torch.tensor([[0, 1, 4, 5], [2, 3, 6, 7]])[..., None]
    assert stitch(tiles, (2, 1))[..., 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert stitch(tiles, (1, 2))[..., 0].tolist() == [[0, 1], [4, 5], [2, 3], [6, 7]]


def test_padding_is_cut_and_rows_are_closed():
    grid = torch.arange(12.0).reshape(4, 3, 1)
    assert middle(grid, 2, 3)[..., 0].tolist() == [[3, 4, 5], [6, 7, 8]]
    assert with_newlines(grid[:2, :2], torch.tensor([-1.0]))[:, 0].tolist() == [0, 1, -1, 3, 4, -1]
    assert pooled(grid, 2, 3)[:, 0, 0].tolist() == [1.5, 7.5] and pooled(grid, 4, 3) is grid
    assert with_newlines(grid[:, :0], torch.tensor([-1.0])).shape == (4, 1), "a very thin picture leaves newlines only"


def test_layouts_refuse_what_does_not_fit():
    views = [torch.zeros(4, 1)] * 3
    with pytest.raises(VistuneError, match=r"2 tiles, a grid of \(1, 1\)"):
        visual_tokens((0, (2, 2)), views, (1, 1), (2, 2), torch.zeros(1))
    with pytest.raises(VistuneError, match="no newline"):
        visual_tokens((0, (2, 4)), views, (2, 1), (2, 4))
    with pytest.raises(VistuneError, match="the text ',' between views"):
        placeholders((0, ",", 1), [1, 1], -1)


def test_pictures_take_their_sentinels_in_order():
    got = expand([1, SENTINEL, 2, SENTINEL], [-100, -100, 2, -100], [[9, 9], [9, 7, 9]])
    assert got == Sequenced([1, 9, 9, 2, 9, 7, 9], [-100, -100, -100, 2, -100, -100, -100])


def test_samples_that_do_not_fit_are_refused_with_both_numbers():
    with pytest.raises(VistuneError, match=r"2 image tokens but 1 images \(sample vt1:a\)"):
        expand([SENTINEL, SENTINEL], [0, 0], [[9]], sample="vt1:a")
    with pytest.raises(VistuneError, match=r"0 image tokens but 1 images"):
        expand([1], [1], [[9]])
    with pytest.raises(VistuneError, match=r"4 tokens, but at most 3 fit \(sample vt1:b\)"):
        expand([1, SENTINEL], [1, 1], [[9, 9, 9]], limit=3, sample="vt1:b")
    assert expand([1, SENTINEL], [1, 1], [[9, 9, 9]], limit=3, parity=True).ids == [1, 9, 9]


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side(side):
    batch = pad([Sequenced([1, 2, 3], [1, 2, 3]), Sequenced([4], [-100])], side)
    assert batch.ids.shape == batch.labels.shape == batch.mask.shape == (2, 3)
    assert batch.ids[batch.mask].tolist() == [1, 2, 3, 4] and batch.positions[batch.mask].tolist() == [0, 1, 2, 0]
    assert batch.mask[1].tolist() == [side == "right", False, side == "left"]
    assert (batch.labels[~batch.mask] == -100).all()


def test_visual_tokens_take_the_placeholders():
    torch.manual_seed(0)
    table, visual = nn.Embedding(5, 4), torch.randn(3, 4)
    batch = pad([Sequenced([1, 9, 9], [0] * 3), Sequenced([9, 2], [0] * 2)])
    got = embed(batch.ids, visual, 9, table, batch.mask)
    assert torch.equal(got[0, 1:], visual[:2]) and torch.equal(got[1, 0], visual[2])
    assert torch.equal(got[0, 0], table.weight[1]) and torch.equal(got[1, 2], torch.zeros(4))
    assert torch.equal(embed(torch.tensor([[1, 2]]), None, 9, table), table(torch.tensor([[1, 2]])))


def test_counts_that_differ_are_refused():
    table, ids = nn.Embedding(5, 4), torch.tensor([[1, 9, 9]])
    for given_rows in (1, 3):
        with pytest.raises(VistuneError, match=f"2 image placeholders but {given_rows} visual tokens"):
            embed(ids, torch.zeros(given_rows, 4), 9, table)
    with pytest.raises(VistuneError, match="2 image placeholders but 0 visual tokens"):
        embed(ids, None, 9, table)
    rows = torch.randn(3, 4)
    assert torch.equal(embed(ids, rows, 9, table, parity=True)[0, 1:], rows[:2])
    with pytest.raises(VistuneError, match="2 image placeholders but 1 visual tokens"):
        embed(ids, rows[:1], 9, table, parity=True)
