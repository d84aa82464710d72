"""The encoders that wrap or extend transformers' own: EVA, SigLIP, EVA2 and SPHINX's ensemble."""

import pytest
import torch
from torch import nn
from transformers import Blip2VisionConfig, Blip2VisionModel, SiglipVisionConfig, SiglipVisionModel

from vistune.errors import VistuneError
from vistune.models.encoders.eva import EvaTower
from vistune.models.encoders.eva2 import Eva2Config, Eva2Tower, grid_angles, rotated
from vistune.models.encoders.features import Selection
from vistune.models.encoders.siglip import SiglipTower, siglip_keys
from vistune.models.ensemble import EnsembleConfig, EnsembleConnector, EnsembleTower, halved, renormalised, repeated
from vistune.models.pixels import CLIP, IMAGENET, patch_strip

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": 14}


def blip2():
    torch.manual_seed(0)
    return Blip2VisionModel(Blip2VisionConfig(**SIZES, image_size=56)).eval()


def siglip(**more):
    torch.manual_seed(0)
    return SiglipVisionModel(SiglipVisionConfig(**SIZES, image_size=56, vision_use_head=False, **more)).eval()


def test_eva_is_transformers_model_but_for_one_epsilon():
    pixels = torch.randn(2, 3, 56, 56)
    expected = blip2()(pixels).last_hidden_state
    same = EvaTower(blip2(), Selection(cls="keep", norm=True), norm_eps=1e-6)
    torch.testing.assert_close(same(pixels), expected)
    assert EvaTower(blip2(), Selection(norm=True)).model.post_layernorm.eps == 1e-5


def test_eva_drops_blocks_and_resizes_positions():
    tower = EvaTower(blip2(), Selection((-2,)))
    assert len(tower.model.encoder.layers) == 2
    assert tower(torch.randn(1, 3, 84, 84)).shape == (1, 36, 16)
    with pytest.raises(VistuneError, match="CLS"):
        EvaTower(blip2(), Selection(cls="never"))


def test_post_norm_blocks_add_normalised_branches():
    """With all LayerNorms silenced nothing is added, whatever attention and MLP say."""
    tower = EvaTower(blip2(), Selection(cls="keep"), post_norm=True)
    for block in tower.model.encoder.layers:
        for norm in (block.layer_norm1, block.layer_norm2):
            nn.init.zeros_(norm.weight)
    pixels = torch.randn(1, 3, 56, 56)
    torch.testing.assert_close(tower(pixels), tower.embed(pixels))


def test_siglip_at_its_own_size_is_transformers():
    pixels = torch.randn(2, 3, 56, 56)
    expected = siglip()(pixels).last_hidden_state
    for positions in ("fixed", "antialiased", "bucket"):
        tower = SiglipTower(siglip(), Selection(cls="never", norm=True), positions)
        torch.testing.assert_close(tower(pixels), expected, msg=positions)
    with pytest.raises(VistuneError, match="16 patches; got 2x6"):
        SiglipTower(siglip(), Selection())(torch.randn(1, 3, 28, 84))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_strips_of_patches_do_not_see_padding(attention):
    torch.manual_seed(1)
    views = [torch.randn(3, 28, 42), torch.randn(3, 56, 28)]
    sizes = [(2, 3), (4, 2)]
    tower = SiglipTower(siglip(attn_implementation=attention), Selection((-2,), norm=True), "bucket")
    strips = torch.full((2, 3, 14, 8 * 14), 9.0)
    for n, view in enumerate(views):
        strip = patch_strip(view)
        strips[n, :, :, : strip.shape[2]] = strip
    together = tower(strips, sizes)
    for n, (view, (rows, columns)) in enumerate(zip(views, sizes, strict=True)):
        torch.testing.assert_close(together[n, : rows * columns], tower(view[None])[0])
        assert (together[n, rows * columns :] == 0).all()


def test_row_buckets_lose_the_grid_and_see_padding():
    """MiniCPM-V 2.5: a view of 2 x 3 patches and one of 3 x 2 are the same to its positions."""
    tower = SiglipTower(siglip(), Selection(), "bucket-row")
    strip = torch.randn(1, 3, 14, 6 * 14)
    torch.testing.assert_close(tower(strip, [(2, 3)]), tower(strip, [(3, 2)]))
    padded = torch.cat([strip, torch.zeros(1, 3, 14, 14)], dim=3)
    assert not torch.allclose(tower(padded, [(2, 3)])[:, :6], tower(strip, [(2, 3)]))
    with pytest.raises(VistuneError, match="do not fit"):
        tower(strip, [(3, 3)])


def test_siglip_keys_of_transformers_and_timm_agree():
    model = siglip()
    plain = {f"vision_model.{k}": t for k, t in model.state_dict().items()} | {"head.probe": torch.zeros(1)}
    timm = {"pos_embed": model.embeddings.position_embedding.weight[None]}
    for key, tensor in model.state_dict().items():
        if key.startswith("encoder.layers.") and "q_proj" in key:
            parts = [model.state_dict()[key.replace("q_proj", f"{p}_proj")] for p in "qkv"]
            timm[key.replace("encoder.layers", "blocks").replace("self_attn.q_proj", "attn.qkv")] = torch.cat(parts)
        elif key.startswith("encoder.layers.") and "self_attn" not in key:
            timm[key.replace("encoder.layers", "blocks").replace("layer_norm", "norm")] = tensor
        elif "out_proj" in key:
            timm[key.replace("encoder.layers", "blocks").replace("self_attn.out_proj", "attn.proj")] = tensor
        elif key.startswith("post_layernorm"):
            timm[key.replace("post_layernorm", "norm")] = tensor
        elif key.startswith("embeddings.patch_embedding"):
            timm[key.replace("embeddings.patch_embedding", "patch_embed.proj")] = tensor
    tower = SiglipTower(model, Selection((-2,)))
    mine = tower.state_dict().keys()
    left, right = (siglip_keys(original, tower) for original in (plain, timm))
    assert left.keys() == mine
    for key, tensor in left.items():
        assert torch.equal(tensor, right[key]), key


def test_rotary_positions_depend_on_distance_only():
    torch.manual_seed(0)
    q, k = torch.randn(8), torch.randn(8)
    angles = grid_angles(4, 2, 8)
    turned = [rotated(v.expand(1, 1, 17, 8), angles.cos(), angles.sin())[0, 0] for v in (q, k)]
    assert torch.equal(turned[0][0], q)
    scores = turned[0][1:] @ turned[1][1:].T
    torch.testing.assert_close(scores[0, 5], scores[5, 10])  # one row down and one column to the right, twice


def test_eva2_takes_its_own_size_only():
    tower = Eva2Tower(Eva2Config(image_size=28, width=16, depth=3, heads=2, hidden=20, trained_grid=2))
    assert len(tower.blocks) == 2
    assert tower(torch.randn(2, 3, 28, 28)).shape == (2, 4, 16)
    with pytest.raises(VistuneError, match="28x28 pixels; got 42x28"):
        tower(torch.randn(1, 3, 28, 42))


def test_ensemble_shapes_and_order():
    convnext, dino = nn.Conv2d(3, 4, 32, stride=32), Flat(nn.Conv2d(3, 5, 14, stride=14))
    tower = EnsembleTower(convnext, dino, clip=Flat(nn.Conv2d(3, 6, 14, stride=14)), qformer=Flat(nn.Conv2d(3, 7, 224)))
    features, queries = tower(torch.randn(2, 3, 224, 224))
    assert features.shape == (2, 257, 15)
    connector = EnsembleConnector(EnsembleConfig(15, 8, query_channels=7))
    tokens = connector(halved(features), queries)
    assert tokens.shape == (2, 1 + 2 + 65 + 1, 8)
    assert torch.equal(tokens[0, 0], connector.begin[0, 0])
    assert torch.equal(tokens[1, -1], connector.end[0, 0])


def test_grids_are_repeated_and_halved():
    grid = torch.arange(4.0).reshape(1, 1, 2, 2)
    assert repeated(grid, 4).flatten().tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3]
    cls = torch.full((1, 1, 1), 9.0)
    assert halved(torch.cat([cls, repeated(grid, 4)], dim=1)).flatten().tolist() == [9, 0, 1, 2, 3]
    with pytest.raises(VistuneError, match="2x2 cannot be repeated to a grid of 5x5"):
        repeated(grid, 5)


def test_renormalising_is_normalising_anew():
    x = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(renormalised(CLIP.scale(x), CLIP, IMAGENET), IMAGENET.scale(x))


class Flat(nn.Module):
    """A convolution as a tower: its map as tokens, their mean first."""

    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, pixels):
        x = self.conv(pixels).flatten(2).transpose(1, 2)
        return torch.cat([x.mean(1, keepdim=True), x], dim=1)
