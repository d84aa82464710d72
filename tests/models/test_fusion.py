"""Two encoders that become one."""

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, ConvNextConfig

from vistune.errors import VistuneError
from vistune.models.encoders.clip import ClipTower
from vistune.models.encoders.convnext import ConvNextTower
from vistune.models.encoders.features import Selection
from vistune.models.fusion import DualTower, PatchMining, ResolutionAdapter, ResolutionSum, regridded


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_published_sizes():
    with torch.device("meta"):
        assert count(ResolutionAdapter(1024, 1536)) == 6_085_121
        assert 3 * count(ResolutionAdapter(1024, 3072)) == 44_212_227
        assert count(ResolutionSum(1024, 1536)) == 2_623_488
        assert count(PatchMining(1024, 2880)) == 6_963_456


def test_a_fresh_adapter_changes_nothing():
    low, high = torch.randn(2, 16, 8), torch.randn(2, 12, 8, 8)
    assert torch.equal(ResolutionAdapter(8, 12)(low, high), low)


def test_regridding():
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert regridded(x, 2)[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    larger = regridded(x, 8)[0, 0]
    assert larger.shape == (8, 8) and (larger[0, 0], larger[-1, -1]) == (0, 15)
    with pytest.raises(VistuneError, match="4x4 do not fit a grid of 3x3"):
        regridded(x, 3)


def towers(adapters):
    torch.manual_seed(0)
    clip = CLIPVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=4, num_attention_heads=2, image_size=28, patch_size=14
    )
    low = ClipTower(CLIPVisionModel(clip), Selection(cls="never"), "antialiased")
    high = ConvNextTower(ConvNextConfig(hidden_sizes=[4, 4, 4, 6], depths=[1, 1, 1, 1]))
    return DualTower(low, high, adapters).eval()


def test_adapters_join_after_every_quarter_but_the_last():
    high, low = torch.randn(1, 3, 128, 128), torch.randn(1, 3, 56, 56)
    without, tower = towers(False), towers(True)
    tower.load_state_dict(without.state_dict(), strict=False)
    assert len(without.adapters) == 0 and torch.equal(tower(high, low), without(high, low))
    calls = []
    for n, adapter in enumerate(tower.adapters):
        adapter.register_forward_hook(lambda *_, n=n: calls.append(f"adapter {n}"))
    for n, block in enumerate(tower.low_tower.model.encoder.layers):
        block.register_forward_hook(lambda *_, n=n: calls.append(f"block {n}"))
    tower(high, low)
    assert calls == ["block 0", "adapter 0", "block 1", "adapter 1", "block 2", "adapter 2", "block 3"]


def test_mining_looks_into_its_own_window():
    torch.manual_seed(0)
    mining = PatchMining(8, 6).eval()
    low, high = torch.randn(1, 9, 8), torch.randn(1, 6, 12, 12)
    changed = high.clone()
    changed[:, :, 4:8, 8:] += torch.randn(6, 4, 4)  # the window of the sixth feature
    moved = (mining.mine(low, high) - mining.mine(low, changed)).abs().amax(-1)[0] > 0
    assert moved.nonzero().flatten().tolist() == [5]
    with pytest.raises(VistuneError, match=r"\(10, 12\) map do not fit 9"):
        mining.mine(low, high[:, :, :10])


def test_crops_mine_their_quarter_and_the_overview_all():
    torch.manual_seed(0)
    mining = PatchMining(8, 6).eval()
    low, high = torch.randn(2, 5, 4, 8), torch.randn(2, 6, 16, 16)
    fused = mining(low, high, grid=2)
    third = mining.mine(low[:, 2], high[:, :, 8:, :8])
    assert torch.allclose(fused[:, 2], low[:, 2] + third, atol=1e-6)
    small = torch.nn.functional.interpolate(high, (8, 8), mode="bilinear")
    assert torch.allclose(fused[:, 4], low[:, 4] + mining.mine(low[:, 4], small), atol=1e-6)
    assert torch.allclose(mining(low[:, :4], high, grid=2), fused[:, :4], atol=1e-6)
    with pytest.raises(VistuneError, match="3 views do not form a grid of 2x2"):
        mining(low[:, :3], high, grid=2)
