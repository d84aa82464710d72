"""Connectors at their published sizes, and what their arithmetic must keep."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vistune.errors import VistuneError
from vistune.models.connectors.grid import GridMLP, GridMLPConfig
from vistune.models.connectors.mlp import MLP, MLPConfig, internvl_mlp_keys, llava_mlp_keys, merged, unshuffled
from vistune.models.connectors.resampler import Resampler, ResamplerConfig, resampler_keys
from vistune.models.connectors.roi_resampler import RoIResampler, bins, roi_weights
from vistune.models.keymap import load
from vistune.models.position_tables import resized, sincos


def count(module):
    return sum(p.numel() for p in module.parameters())


MLPS = {
    "LLaVA v1, 7B": (MLPConfig(1024, 4096, depth=1), 4_198_400),
    "LLaVA 1.5, 7B": (MLPConfig(1024, 4096), 20_979_712),
    "LLaVA 1.5, 13B": (MLPConfig(1024, 5120), 31_467_520),
    "ViP-LLaVA 7B": (MLPConfig(5120, 4096, norm=True), 37_767_168),
    "InternVL 8B": (MLPConfig(1024, 4096, norm=True, merge=4), 33_570_816),
    "InternVL 1.5, 26B": (MLPConfig(3200, 6144, norm=True, merge=4), 116_429_824),
}


@pytest.mark.parametrize(("config", "expected"), MLPS.values(), ids=MLPS)
def test_published_sizes_of_mlps(config, expected):
    with torch.device("meta"):
        assert count(MLP(config)) == expected


def test_published_sizes_of_resamplers():
    with torch.device("meta"):
        qwen = Resampler(ResamplerConfig(1664, 4096, 256, 32))
        uhd = RoIResampler(ResamplerConfig(1024, 5120, 144, 40))
        minicpm = Resampler(ResamplerConfig(1152, 4096, 96, 32, query_positions=False, key_positions="sincos"))
    assert count(qwen) == 76_054_528 + 16_785_408
    assert count(uhd) - uhd.positions.numel() == 137_103_360 and not uhd.positions.requires_grad
    assert round(count(minicpm) / 1e6, 2) == 89.04


def test_merging_orders():
    """A 4 x 4 grid of the numbers 0 to 15."""
    grid = torch.arange(16.0).reshape(1, 16, 1)
    assert merged(grid, 4)[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    assert merged(grid, 4, "transposed")[0].tolist() == [[0, 1, 4, 5], [8, 9, 12, 13], [2, 3, 6, 7], [10, 11, 14, 15]]
    assert merged(grid, 4, "row")[0, 1].tolist() == [4, 5, 6, 7]
    with pytest.raises(VistuneError, match="15 features do not form a square of blocks of 4"):
        merged(grid[:, :15], 4)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_unshuffling_keeps_blocks_together(rows, columns, block, channels):
    x = torch.randn(2, rows * block, columns * block, channels)
    y = unshuffled(x, block)
    assert y.shape == (2, rows, columns, block * block * channels)
    assert torch.equal(y[1, rows - 1, 0], x[1, -block:, :block].flatten())


def test_resampling_ignores_padding():
    torch.manual_seed(0)
    for positions in ("resized", "sincos"):
        resampler = Resampler(ResamplerConfig(8, 16, 4, 2, key_positions=positions)).eval()
        short, long = torch.randn(1, 6, 8), torch.randn(1, 12, 8)
        both = torch.cat([torch.cat([short, torch.full((1, 6, 8), 9.0)], dim=1), long])
        together = resampler(both, [(2, 3), (4, 3)])
        assert torch.allclose(together[:1], resampler(short, (2, 3)), atol=1e-6)
        assert torch.allclose(together[1:], resampler(long, [(4, 3)]), atol=1e-6)


def test_resampler_refuses_what_does_not_fit():
    resampler = Resampler(ResamplerConfig(8, 16, 4, 2))
    with pytest.raises(VistuneError, match="6 features is not square"):
        resampler(torch.zeros(1, 6, 8))
    with pytest.raises(VistuneError, match="do not fit 2 views of 6 features"):
        resampler(torch.zeros(2, 6, 8), [(2, 3)])
    with pytest.raises(VistuneError, match="5 queries do not form a square"):
        Resampler(ResamplerConfig(8, 16, 5, 2))


def test_a_query_sees_only_its_cell():
    torch.manual_seed(0)
    resampler = RoIResampler(ResamplerConfig(8, 16, 9, 2)).eval()
    features = torch.randn(1, 18 * 12, 8)
    changed = features.clone().unflatten(1, (18, 12))
    changed[:, :5] += 1.0  # the first row of cells has 6 rows; a sample reaches no more than one further
    moved = (resampler(features, (18, 12)) - resampler(changed.flatten(1, 2), (18, 12))).abs().amax(-1) > 1e-4
    assert moved[0].tolist() == [True] * 3 + [False] * 6


def test_roi_resampling_of_mixed_sizes_is_that_of_each():
    torch.manual_seed(0)
    resampler = RoIResampler(ResamplerConfig(8, 16, 9, 2)).eval()
    short, long = torch.randn(1, 30, 8), torch.randn(1, 35, 8)
    both = torch.cat([torch.cat([short, torch.zeros(1, 5, 8)], dim=1), long])
    together = resampler(both, [(5, 6), (7, 5)])
    assert torch.allclose(together, torch.cat([resampler(short, (5, 6)), resampler(long, (7, 5))]), atol=1e-6)


@given(st.integers(1, 60), st.integers(1, 12), st.integers(2, 4), st.booleans())
@settings(max_examples=60, deadline=None)
def test_weights_of_a_region_are_a_mean(length, cells, count, edge):
    weights = roi_weights(length, cells, count, edge)
    assert weights.shape == (cells * count, length) and (weights >= 0).all()
    total = weights.sum(1)
    if edge or length >= cells:
        assert torch.allclose(total, torch.ones_like(total), atol=1e-5)
    else:
        assert (total < 1.0 + 1e-5).all()


def test_bins_follow_the_shape():
    assert [bins(*size) for size in ((24, 24), (24, 32), (24, 36), (10, 50), (36, 24))] == [
        (3, 3), (3, 4), (2, 3), (2, 4), (3, 2),
    ]  # fmt: skip


def test_tables_of_positions():
    table = sincos(3, 3, 8)
    assert torch.equal(resized(table, 3, 3), table)
    assert resized(table, 2, 5).shape == (10, 8)
    assert torch.equal(sincos(2, 5, 8)[7], torch.cat([sincos(1, 5, 8)[2, :4], sincos(2, 1, 8)[1, 4:]]))
    assert resized(table.half(), 4, 4).dtype == torch.float16


def test_original_names_fill_every_weight():
    torch.manual_seed(0)
    original = {
        "attn_pool.query": torch.randn(4, 16),
        "attn_pool.pos_embed": torch.randn(4, 16),
        "attn_pool.kv_proj.weight": torch.randn(16, 8),
        "attn_pool.attn.in_proj_weight": torch.randn(48, 16),
        "attn_pool.attn.in_proj_bias": torch.randn(48),
        "attn_pool.attn.out_proj.weight": torch.randn(16, 16),
        "attn_pool.attn.out_proj.bias": torch.randn(16),
        **{f"attn_pool.ln_{n}.{k}": torch.randn(16) for n in ("q", "kv") for k in ("weight", "bias")},
        **{f"ln_post.{k}": torch.randn(16) for k in ("weight", "bias")},
        "proj": torch.randn(16, 16),
    }
    resampler = Resampler(ResamplerConfig(8, 16, 4, 2))
    load(resampler, resampler_keys(original), "a resampler")
    x = torch.randn(3, 16)
    assert torch.allclose(resampler.project(x), x @ original["proj"], atol=1e-6)
    assert torch.equal(resampler.attention.key.weight, original["attn_pool.attn.in_proj_weight"][16:32])
    with pytest.raises(VistuneError, match=r"1 missing \(post_norm\.bias\)"):
        load(resampler, resampler_keys({k: v for k, v in original.items() if k != "ln_post.bias"}), "a resampler")


def test_names_of_mlps():
    one = torch.zeros(1)
    assert list(llava_mlp_keys({"weight": one, "bias": one})) == ["layers.0.weight", "layers.0.bias"]
    assert list(llava_mlp_keys({"4.bias": one, "final_linear.2.bias": one})) == ["layers.2.bias", "layers.1.bias"]
    assert list(internvl_mlp_keys({"0.bias": one, "3.weight": one})) == ["norm.bias", "layers.1.weight"]
    with pytest.raises(VistuneError, match=r"1 unexpected \(3\.weight\)"):
        llava_mlp_keys({"3.weight": one})


def test_grid_cells_with_weights_in_16_bits_and_buffers_in_32():
    """As DeepSpeed leaves them: it casts weights and not buffers."""
    torch.manual_seed(0)
    grid = GridMLP(GridMLPConfig(channels=8, hidden=16, width=12, grid=2)).eval()
    features, table = torch.randn(3, 4, 8), torch.randn(5, 12)
    expected = grid(features, table)
    for weight in grid.parameters():
        weight.data = weight.data.bfloat16()
    torch.testing.assert_close(grid(features.bfloat16(), table).float(), expected, atol=0.02, rtol=0.02)
