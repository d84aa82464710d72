"""MoAI's mixer and compressor."""

import pytest
import torch

from vistune.models.connectors.perceiver import Perceiver, PerceiverConfig
from vistune.models.mixer import LowRankAttention, Mixer

TYPES = torch.tensor([[-1, -1, 0, 1, 1, 0, 0], [0, 1, 1, 1, 1, 0, 0]])


@pytest.fixture
def mixer():
    torch.manual_seed(0)
    return Mixer(8, heads=2).eval()


@pytest.fixture
def given():
    torch.manual_seed(1)
    return torch.randn(2, 7, 8), torch.randn(2, 3, 8), TYPES


def test_padding_is_neither_mixed_nor_seen(mixer, given):
    x, evidence, types = given
    mixed = mixer(x, evidence, types)
    assert torch.equal(mixed[0, :2], x[0, :2])
    torch.testing.assert_close(mixed[:1, 2:], mixer(x[:1, 2:], evidence[:1], types[:1, 2:]))


def test_text_sees_text_behind_it(mixer, given):
    x, evidence, types = given
    later = x.clone()
    later[1, 6] += 1
    assert not torch.allclose(mixer(x, evidence, types)[1, 0], mixer(later, evidence, types)[1, 0])


def test_a_sample_without_a_picture_is_finite(mixer, given):
    x, evidence, _ = given
    mixed = mixer(x, evidence, torch.zeros_like(TYPES))
    mixed.sum().backward()
    assert torch.isfinite(mixed).all()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in mixer.parameters())


def test_nothing_to_see_leaves_a_token_as_it_was():
    x = torch.randn(3, 8)
    assert torch.equal(LowRankAttention(8, 2)(x, x[:0]), x)


def test_dice_hear_one_expert_of_each_modality(mixer, given):
    mixer.weigh = "dice"
    mixer.train()
    mixer(*given).sum().backward()
    for experts in (mixer.visual, mixer.text):
        heard = [bool(torch.cat([p.grad.flatten() for p in expert.parameters()]).any()) for expert in experts]
        assert sum(heard) == 1


def test_half_precision_gates_differ_only_by_rounding(mixer, given):
    exact = mixer(*given)
    mixer.parity = True
    half = mixer(*given)
    assert half.dtype == exact.dtype
    assert 0 < (half - exact).abs().max() < 5e-3


def test_perceiver_ignores_the_order_of_features():
    torch.manual_seed(0)
    perceiver, features = Perceiver(PerceiverConfig(8, latents=3, depth=2, heads=2, head_width=4)), torch.randn(2, 5, 8)
    torch.testing.assert_close(perceiver(features), perceiver(features.flip(1)))
    assert perceiver(features).shape == (2, 3, 8)
