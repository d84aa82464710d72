"""Towers at their published sizes, features as selected, and transformers' own results."""

import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    ConvNextConfig,
    InternVLVisionConfig,
    InternVLVisionModel,
    PretrainedConfig,
    PreTrainedModel,
)

from vistune.errors import VistuneError
from vistune.models.encoders.clip import ClipTower, clip_keys
from vistune.models.encoders.convnext import ConvNextTower, convnext_keys
from vistune.models.encoders.features import Selection
from vistune.models.encoders.intern_vit import InternVitTower, intern_vit_keys
from vistune.models.encoders.openclip import OpenClipConfig, OpenClipTower, openclip_keys
from vistune.models.keymap import load

SMALL = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
}
LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}


def count(module):
    return sum(p.numel() for p in module.parameters())


def clip(**options):
    torch.manual_seed(0)
    return CLIPVisionModel(CLIPVisionConfig(**{**SMALL, **options})).eval()


def test_published_sizes():
    with torch.device("meta"):
        large = CLIPVisionModel(CLIPVisionConfig(**LARGE, image_size=336, patch_size=14))
        assert count(large) == 303_507_456
        block = count(large.encoder.layers[0])
        assert count(ClipTower(large, Selection((-2,)))) == 303_507_456 - block - 2 * 1024
        convnext = {"hidden_sizes": [192, 384, 768, 1536], "depths": [3, 3, 27, 3]}
        assert count(ConvNextTower(ConvNextConfig(**convnext))) == 196_227_264
        xxl = ConvNextConfig(hidden_sizes=[384, 768, 1536, 3072], depths=[3, 4, 30, 3])
        assert count(ConvNextTower(xxl, eps=1e-5)) == 843_391_872
        vit = InternVLVisionConfig(**LARGE, attention_bias=True, layer_norm_eps=1e-6)
        assert count(InternVitTower(InternVLVisionModel(vit), Selection())) == 304_012_288
        monkey = OpenClipTower(OpenClipConfig(banks=4))
        adapters = sum(p.numel() for name, p in monkey.named_parameters() if ".adapters." in name)
        assert adapters == 51_118_656 and count(monkey) - adapters == 1_842_770_688


def test_features_are_transformers_hidden_states():
    model = clip()
    pixels = torch.randn(2, 3, 56, 56)
    states = model(pixels, output_hidden_states=True).hidden_states
    last = model.post_layernorm(states[4])
    assert torch.allclose(ClipTower(clip(), Selection((-2,)))(pixels), states[3][:, 1:], atol=1e-6)
    assert torch.allclose(ClipTower(clip(), Selection((4,), "keep", norm=True))(pixels), last, atol=1e-6)
    several = ClipTower(clip(), Selection((-2, 1, 0)))
    assert several.width == 48
    assert torch.allclose(several(pixels), torch.cat([states[n][:, 1:] for n in (3, 1, 0)], -1), atol=1e-6)


def test_positions_at_other_sizes():
    model, pixels = clip(), torch.randn(1, 3, 84, 42)
    expected = model(pixels, interpolate_pos_encoding=True).last_hidden_state[:, 1:]
    assert torch.allclose(ClipTower(clip(), Selection(), "bicubic")(pixels), expected, atol=1e-6)
    with pytest.raises(VistuneError, match="takes 56x56 pixels; got 42x84"):
        ClipTower(clip(), Selection())(pixels)


def test_a_tower_trains_every_weight_it_keeps():
    for selection in (Selection((-2,)), Selection(cls="never"), Selection(cls="keep", norm=True)):
        tower = ClipTower(clip(), selection).train()
        tower(torch.randn(1, 3, 56, 56)).square().sum().backward()
        assert [name for name, p in tower.named_parameters() if p.grad is None] == []


def test_checkpoints_of_whole_encoders_fit_what_is_kept():
    whole = {f"vision_model.{key}": tensor for key, tensor in clip().state_dict().items()}
    whole["vision_model.embeddings.position_ids"] = torch.arange(17)
    for selection in (Selection((-2,)), Selection(cls="never"), Selection(norm=True)):
        tower = ClipTower(clip(), selection)
        load(tower, clip_keys(whole, tower), "a tower")
    deeper = {**whole, "vision_model.encoder.layers.4.mlp.fc1.bias": torch.zeros(24)}
    with pytest.raises(VistuneError, match=r"1 unexpected \(model\.encoder\.layers\.4\.mlp\.fc1\.bias\)"):
        load(tower, clip_keys(deeper, tower), "a tower")


def test_states_that_do_not_exist():
    with pytest.raises(VistuneError, match=r"hidden states \[-6\] of an encoder with 4 blocks"):
        ClipTower(clip(), Selection((-6,)))


def test_a_tower_without_cls_loads_in_a_model():
    """transformers looks for the CLS embedding when it draws weights, so the tower must still have one to show."""

    class Whole(PreTrainedModel):
        config_class = PretrainedConfig

        def __init__(self, config):
            super().__init__(config)
            self.tower = ClipTower(clip(), Selection(cls="never"))
            self.post_init()

    model = Whole(PretrainedConfig())
    loaded = Whole.from_pretrained(None, config=PretrainedConfig(), state_dict=model.state_dict())
    pixels = torch.randn(1, 3, 56, 56)
    assert torch.equal(loaded.tower(pixels), model.tower(pixels))


def test_convnext_as_a_pyramid():
    torch.manual_seed(0)
    config = ConvNextConfig(hidden_sizes=[4, 6, 8, 10], depths=[1, 1, 1, 1])
    tower = ConvNextTower(config, (0, 1, 2, 3)).eval()
    last = ConvNextTower(config).eval()
    last.load_state_dict(tower.state_dict())
    pixels = torch.randn(1, 3, 64, 96)
    assert tower.width == 28 and tower(pixels).shape == (1, 28, 16, 24)
    assert last(pixels).shape == (1, 10, 2, 3)
    assert {m.eps for m in ConvNextTower(config, eps=1e-5).modules() if hasattr(m, "eps")} == {1e-5}


def test_names_of_convnext():
    one = torch.zeros(1)
    names = {
        "stem.1.bias": "embeddings.layernorm.bias",
        "vision_stages.2.downsample.1.weight": "stages.2.downsampling_layer.1.weight",
        "stages.0.blocks.3.mlp.fc2.bias": "stages.0.layers.3.pwconv2.bias",
        "stages.0.blocks.3.gamma": "stages.0.layers.3.layer_scale_parameter",
    }
    assert list(convnext_keys({**dict.fromkeys(names, one), "head.norm.weight": one})) == list(names.values())


def test_intern_vit_splits_its_fused_projection():
    torch.manual_seed(0)
    config = InternVLVisionConfig(**{**SMALL, "num_hidden_layers": 2}, attention_bias=True)
    tower = InternVitTower(InternVLVisionModel(config).eval(), Selection((1,)))
    states = intern_vit_keys({"encoder.layers.0.attn.qkv.bias": torch.arange(6.0)})
    assert states["encoder.layer.0.attention.k_proj.bias"].tolist() == [2, 3]
    whole = InternVLVisionModel(config).eval()
    whole.load_state_dict({**whole.state_dict(), **tower.model.state_dict()})
    pixels = torch.randn(1, 3, 84, 56)
    hidden = whole(pixels, output_hidden_states=True).hidden_states
    assert torch.allclose(tower(pixels), hidden[1][:, 1:], atol=1e-6)


def test_adapters_of_many_views_in_one_batch():
    torch.manual_seed(0)
    tower = OpenClipTower(OpenClipConfig(width=16, depth=2, heads=2, hidden=24, banks=3, rank=4, mlp_rank=4)).eval()
    pixels = torch.randn(4, 3, 28, 42)
    plain = tower(pixels)
    assert torch.equal(tower(pixels, torch.tensor([0, 1, 2, -1])), plain), "adapters start as nothing"
    for name, weight in tower.named_parameters():
        if name.endswith(".up") and ".adapters." in name:
            torch.nn.init.normal_(weight)
    together = tower(pixels, torch.tensor([0, 2, 1, -1]))
    assert torch.allclose(together[3], plain[3], atol=1e-5)
    for view, bank in enumerate((0, 2, 1)):
        alone = tower(pixels[view : view + 1], torch.tensor([bank]))[0]
        assert torch.allclose(together[view], alone, atol=1e-4) and not torch.allclose(alone, plain[view], atol=1e-2)
    with pytest.raises(VistuneError, match="none"):
        OpenClipTower(OpenClipConfig(width=16, depth=1, heads=2, hidden=24))(pixels, torch.tensor([0] * 4))


def test_adapters_are_stacked_in_the_order_of_their_numbers():
    block = "transformer.resblocks.0.mlp_lora"
    original = {f"{block}.{n}.lora_a.weight": torch.full((2, 3), float(n)) for n in (10, 2, 0, 1)}
    original |= {f"{block}.{n}.lora_scale": torch.tensor([float(n)]) for n in (1, 0)}
    state = openclip_keys(original)
    assert state["blocks.0.adapters.mlp.down"][:, 0, 0].tolist() == [0, 1, 2, 10]
    assert state["blocks.0.adapters.mlp.scale"].tolist() == [0, 1]
