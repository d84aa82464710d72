"""LLaVA-HR: two resolutions and their adapters, what each stage trains, and the authors' checkpoint."""

import pytest
import torch
from safetensors.torch import save_file
from talks import PICTURE

from vistune.errors import VistuneError
from vistune.models import family
from vistune.models.families.base import at_stage
from vistune.models.fusion import DualTower
from vistune.models.reader import Reader
from vistune.models.tiny import tokenizer_for
from vistune.models.vlm import build, load_original
from vistune.records import Message

KIND = family("llava_hr")
PRESET = KIND.preset("llava-hr-7b")


def asked(*images):
    return [Message("user", "What is it?", images), Message("assistant", "A dog.")]


def test_tokens_and_views_of_each_stage():
    tokenizer = tokenizer_for(PRESET)
    align, instruct = (Reader(KIND, at_stage(PRESET, stage), tokenizer) for stage in PRESET.stages)
    for size in ((336, 336), (800, 600), (3000, 500)):
        low, high = align.plan(*size), instruct.plan(*size)
        assert (low.tokens, [view.size[0] for view in low.views]) == (576, [384, 336])
        assert (high.tokens, [view.size[0] for view in high.views]) == (1024, [1024, 448])
        assert high.layout == (1,)
    assert (align.policy.base.fit, instruct.policy.base.fit) == ("crop", "pad")
    assert align.template is not instruct.template


def test_published_parameters(role_sizes):
    small, large = role_sizes("llava_hr", "llava-hr-7b"), role_sizes("llava_hr", "llava-hr-x-13b")
    clip = 303_507_456 - 1024 - 2_048  # without CLS and the last LayerNorm, with all blocks
    assert small["vision"] == clip + 196_227_264
    assert large["vision"] == clip + 843_391_872
    assert (small["adapters"], large["adapters"]) == (18_255_363, 44_212_227)
    assert small["connector"] == 20_979_712 + 2_623_488
    assert large["connector"] == 31_467_520 + 4_196_352


def test_the_first_stage_is_that_of_a_model_without_adapters():
    vlm = build("llava_hr")
    tower = vlm.model.vision_tower
    picture = vlm.inputs([asked(0)], [[PICTURE]])["pictures"]
    bare = DualTower(tower.low_tower, tower.high_tower, adapters=False)
    bare.sum.load_state_dict(tower.sum.state_dict())
    high, low = (view[None] for view in picture[0].views)
    with torch.no_grad():
        assert torch.equal(tower(picture)[0], bare(high, low)[0])
    align, instruct = vlm.preset.stages
    assert set(align.rates) == {"connector"}
    assert set(instruct.rates) == set(vlm.family.roles)
    assert {name.split(".")[1] for name in vlm.roles()["connector"] if name.startswith("vision_tower.")} == {"sum"}


def test_adapters_act_once_they_are_trained():
    vlm = build("llava_hr")
    tower = vlm.model.vision_tower
    picture = vlm.inputs([asked(0)], [[PICTURE]])["pictures"]
    with torch.no_grad():
        before = tower(picture)[0]
        for adapter in tower.adapters:
            for layer in (adapter.high_out, adapter.low_out):
                torch.nn.init.normal_(layer.weight)
        assert not torch.allclose(tower(picture)[0], before, atol=1e-3)


def test_all_blocks_and_no_cls():
    tower = build("llava_hr").model.vision_tower
    assert len(tower.low_tower.model.encoder.layers) == 4 and len(tower.adapters) == 3
    assert "vision_tower.low_tower.model.embeddings.class_embedding" not in build("llava_hr").model.state_dict()
    assert tower.low_tower.embed(torch.randn(1, 3, 56, 56)).shape == (1, 16, 32)


def test_open_clips_wide_trunk_has_another_epsilon():
    trunk = KIND.preset("llava-hr-x-13b").settings
    assert (trunk.high_eps, PRESET.settings.high_eps) == (1e-5, 1e-6)


@pytest.fixture
def published(renamed, llava_names):
    """A model's weights under their authors' names."""
    both, adapter = "model.vision_tower.", r"vision_tower\.adapters\.(\d)\."
    latent, trunk = both + r"align_stages_latent.\1.", both + "slow_vision_tower.vision_tower."
    clip = both + "fast_vision_tower.vision_tower.vision_model."
    names = [
        *llava_names(trunk + "stem", trunk + "stages"),
        (r"vision_tower\.low_tower\.model\.", clip),
        (adapter + "high_in", latent + "slow_conv"),
        (adapter + "high_out", latent + "slow_proj"),
        (adapter + "low_in", latent + "fast_conv"),
        (adapter + "low_out", latent + "fast_proj"),
        (adapter + r"gate\.0", latent + "gate.0"),
        (adapter + r"gate\.1", latent + "gate.2"),
        (r"vision_tower\.sum\.low", both + "align_stages.0.fast_proj"),
        (r"vision_tower\.sum\.high", both + "align_stages.0.slow_proj"),
    ]
    constants = {
        clip + "embeddings.class_embedding": torch.ones(32),
        clip + "embeddings.position_ids": torch.arange(17),
        clip + "post_layernorm.weight": torch.ones(32),
    }
    return lambda vlm: renamed(vlm.model.state_dict(), names) | constants


def test_the_authors_checkpoint(tmp_path, published):
    theirs = build("llava_hr", seed=1)
    for adapter in theirs.model.vision_tower.adapters:
        torch.nn.init.normal_(adapter.high_out.weight)
    state, tokenizer = published(theirs), theirs.reader.tokenizer
    save_file(state, tmp_path / "model.safetensors")
    found = load_original(tmp_path, "llava_hr", "tiny", tokenizer=tokenizer).model.state_dict()
    assert all(torch.equal(tensor, found[key]) for key, tensor in theirs.model.state_dict().items())
    del state["model.vision_tower.align_stages_latent.1.gate.2.bias"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(VistuneError, match=r"1 missing \(vision_tower\.adapters\.1\.gate\.1\.bias\)"):
        load_original(tmp_path, "llava_hr", "tiny", tokenizer=tokenizer)
    save_file(state | {"model.mm_projector.extra": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(VistuneError, match=r"unexpected \(extra\)"):
        load_original(tmp_path, "llava_hr", "tiny", tokenizer=tokenizer)


def test_stock_towers_from_two_folders(tmp_path, published):
    from transformers import CLIPVisionConfig, CLIPVisionModel

    theirs = build("llava_hr", seed=1)
    clip = CLIPVisionModel(CLIPVisionConfig(**KIND.preset("tiny").settings.vision))
    clip.config.save_pretrained(tmp_path / "clip")
    weights = {f"vision_model.{key}": tensor for key, tensor in clip.state_dict().items()}  # as on the hub
    save_file(weights, tmp_path / "clip" / "model.safetensors", metadata={"format": "pt"})
    prefix = "model.vision_tower.slow_vision_tower.vision_tower."
    trunk = {
        key.replace(prefix, "visual.trunk."): tensor
        for key, tensor in published(theirs).items()
        if key.startswith(prefix)
    }
    (tmp_path / "open_clip").mkdir()
    save_file(trunk | {"logit_scale": torch.ones(1)}, tmp_path / "open_clip" / "open_clip_model.safetensors")
    found = build("llava_hr", vision=f"{tmp_path}/clip,{tmp_path}/open_clip").model.vision_tower
    assert torch.equal(found.low_tower.model.pre_layrnorm.weight, clip.pre_layrnorm.weight)
    expected = theirs.model.vision_tower.high_tower.state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in found.high_tower.state_dict().items())
