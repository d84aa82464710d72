"""DeepSeek-VL: letterboxed views, a normaliser for each tower, transformers' own classes."""

from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText
from transformers.models.deepseek_vl.image_processing_pil_deepseek_vl import DeepseekVLImageProcessorPil
from transformers.models.deepseek_vl_hybrid.image_processing_pil_deepseek_vl_hybrid import (
    DeepseekVLHybridImageProcessorPil,
)

from vistune.errors import VistuneError
from vistune.models.families.base import Picture
from vistune.models.families.deepseek_vl import FAMILY
from vistune.models.vlm import build, load_original
from vistune.records import Message

PICTURES = [
    Image.radial_gradient("L").resize((100, 33)).convert("RGB"),
    Image.linear_gradient("L").resize((30, 90)).convert("RGB"),
]
TWO = [Message("user", "Compare", (0, 1), (0, 0)), Message("assistant", "Same.")]
HALF = [0.5, 0.5, 0.5]


@pytest.fixture(scope="module")
def hybrid():
    return build("deepseek_vl")


@pytest.fixture(scope="module")
def siglip():
    return build("deepseek_vl", "tiny-1.3b")


def seen(preset, pictures):
    policy = FAMILY.policy(preset.settings)
    plans = [policy.plan(*picture.size) for picture in pictures]
    return [Picture(plan, FAMILY.look(preset.settings, plan, p)) for plan, p in zip(plans, pictures, strict=True)]


def test_any_picture_has_576_tokens():
    for name, fill in (("deepseek-vl-1.3b", (127, 127, 127)), ("deepseek-vl-7b", (122, 116, 104))):
        policy = FAMILY.policy(FAMILY.presets[name].settings)
        plans = [policy.plan(*size) for size in ((1000, 333), (384, 384), (5, 2000))]
        assert {plan.tokens for plan in plans} == {576}
        assert plans[0].canvas[1].fill == fill
        assert plans[2].canvas[0].size[0] == 14  # no side shrinks to less


def test_transformers_rounds_where_the_authors_cut():
    settings = FAMILY.presets["deepseek-vl-1.3b"].settings
    assert FAMILY.policy(settings).plan(1000, 333).canvas[0].size == (384, 127)
    assert FAMILY.policy(replace(settings, transformers=True)).plan(1000, 333).canvas[0].size == (384, 128)


def test_prompt_and_labels(hybrid):
    tokenizer = hybrid.reader.tokenizer
    reading = hybrid.reader.read(TWO, [picture.size for picture in PICTURES])
    assert reading.ids[0] == tokenizer.bos_token_id
    ids = [token for token in reading.ids[1:] if token != hybrid.reader.placeholder]
    text = tokenizer.decode(ids)
    assert text.startswith("You are a helpful language and vision assistant. ")
    assert text.endswith("natural language.\n\nUser: Compare\n\nAssistant: Same.<｜end▁of▁sentence｜>")
    assert tokenizer.decode([x for x in reading.labels if x >= 0]) == " Same.<｜end▁of▁sentence｜>"
    assert [end - start for start, end in reading.spans] == [4, 4]
    assert hybrid.reader.stop == "<｜end▁of▁sentence｜>"


def test_siglip_is_as_in_transformers(siglip):
    settings = replace(siglip.preset.settings, transformers=True)
    own = FAMILY.inputs(settings, seen(replace(siglip.preset, settings=settings), PICTURES))
    size = {"height": 32, "width": 32}
    theirs = DeepseekVLImageProcessorPil(size=size, image_mean=HALF, image_std=HALF)(PICTURES, return_tensors="pt")
    assert torch.equal(own["pixel_values"], theirs["pixel_values"])
    batch = siglip.inputs([TWO], [PICTURES])
    with torch.no_grad():
        ours = siglip.model(**{**batch, "pixel_values": own["pixel_values"]}).logits
        assert torch.equal(ours, siglip.model(**{**batch, **theirs}).logits)


def test_each_tower_has_its_own_normaliser(hybrid):
    """transformers makes SigLIP's copy from bytes: a rounding away."""
    own = FAMILY.inputs(hybrid.preset.settings, seen(hybrid.preset, PICTURES[1:]))
    theirs = DeepseekVLHybridImageProcessorPil(
        size={"height": 32, "width": 32},
        high_res_size={"height": 64, "width": 64},
        image_mean=HALF,
        image_std=HALF,
        resample=Image.Resampling.BILINEAR,
    )(PICTURES[1:], return_tensors="pt")
    assert torch.equal(own["high_res_pixel_values"], theirs["high_res_pixel_values"])
    difference = (own["pixel_values"] - theirs["pixel_values"]).abs()
    assert 0 < difference.max() < 1.01 / 127.5


def test_the_classes_are_those_of_transformers(hybrid, siglip, tmp_path):
    assert hybrid.model.config.model_type == "deepseek_vl_hybrid"
    assert siglip.model.config.model_type == "deepseek_vl"
    assert not siglip.roles()["sam"] and hybrid.roles()["sam"]
    for name, vlm in (("hybrid", hybrid), ("siglip", siglip)):
        vlm.save(tmp_path / name)
        theirs = AutoModelForImageTextToText.from_pretrained(tmp_path / name).eval()
        batch = vlm.inputs([TWO], [PICTURES])
        with torch.no_grad():
            assert torch.equal(theirs(**batch).logits, vlm.model(**batch).logits)


def test_sam_is_frozen_in_every_stage():
    for name in ("deepseek-vl-1.3b", "deepseek-vl-7b"):
        align, multitask, instruct = FAMILY.presets[name].stages
        assert set(align.rates) == {"connector"}
        assert "vision" not in multitask.rates
        assert "vision" in instruct.rates and "sam" not in instruct.rates


def test_published_parameters(role_sizes):
    small, large = (role_sizes("deepseek_vl", name) for name in ("deepseek-vl-1.3b", "deepseek-vl-7b"))
    assert (round(small["connector"] / 1e6, 2), round(large["connector"] / 1e6, 2)) == (6.30, 20.98)
    assert round(large["sam"] / 1e6, 2) == 96.36
    assert small["vision"] == large["vision"]
    pooling = 12_595_200  # the head of attention that timm's SigLIP has and nothing reads
    assert round((small["vision"] + pooling) / 1e6, 2) == 316.28
    assert [round((sum(c.values()) + pooling) / 1e9, 2) for c in (small, large)] == [1.98, 7.34]  # as on the hub


def authors(model):
    """Weights of a tiny model under the authors' names."""
    names = {
        "lm_head.weight": "language_model.lm_head.weight",
        "model.aligner.linear1.": "aligner.layers.0.",
        "model.aligner.linear2.": "aligner.layers.2.",
        "model.aligner.high_res_vision_proj.": "aligner.high_up_proj.",
        "model.aligner.vision_proj.": "aligner.low_up_proj.",
        "model.aligner.proj.": "aligner.layers.1.",
        "model.language_model.": "language_model.model.",
    }
    high, low = "vision_model.vision_tower_high.vision_tower.", "vision_model.vision_tower_low.vision_tower."
    state = model.state_dict()
    if "model.high_res_vision_alpha" not in state:
        low = "vision_model.vision_tower."
    norms = {"conv1": "0", "layer_norm1": "1", "conv2": "2", "layer_norm2": "3"}
    for one, other in norms.items():
        names[f"model.high_res_vision_model.vision_encoder.neck.{one}."] = f"{high}neck.{other}."
        names[f"model.high_res_vision_neck.{one}."] = f"{high}neck_hd.{other}."
    names |= {
        "model.high_res_vision_alpha": high + "hd_alpha_downsamples",
        "model.high_res_vision_proj.conv1.": high + "downsamples.0.",
        "model.high_res_vision_proj.conv2.": high + "downsamples.1.",
        "model.high_res_vision_model.vision_encoder.pos_embed": high + "pos_embed",
        "model.high_res_vision_model.vision_encoder.patch_embed.projection.": high + "patch_embed.proj.",
        "model.high_res_vision_model.vision_encoder.layers.": high + "blocks.",
        "model.vision_model.embeddings.patch_embedding.": low + "patch_embed.proj.",
        "model.vision_model.encoder.layers.": low + "blocks.",
        "model.vision_model.post_layernorm.": low + "norm.",
    }
    found = {}
    for key, tensor in state.items():
        if ".self_attn." in key and "vision_model" in key:
            continue
        if key == "model.vision_model.embeddings.position_embedding.weight":
            found[low + "pos_embed"] = tensor[None]
            continue
        prefix = max((name for name in names if key.startswith(name)), key=len)
        name = names[prefix] + key.removeprefix(prefix)
        found[name.replace("layer_norm", "norm") if "blocks." in name else name] = tensor
    for n in range(2):
        part = f"model.vision_model.encoder.layers.{n}.self_attn."
        for kind in ("weight", "bias"):
            found[f"{low}blocks.{n}.attn.qkv.{kind}"] = torch.cat([state[f"{part}{x}_proj.{kind}"] for x in "qkv"])
            found[f"{low}blocks.{n}.attn.proj.{kind}"] = state[f"{part}out_proj.{kind}"]
    found[low + "attn_pool.latent"] = torch.zeros(1, 1, 32)
    if "model.high_res_vision_alpha" in state:
        found["vision_model.high_layer_norm.weight"] = torch.zeros(32)
    return found


@pytest.mark.parametrize("preset", ["tiny", "tiny-1.3b"])
def test_the_authors_checkpoint(tmp_path, preset):
    source = build("deepseek_vl", preset, seed=9)
    state = authors(source.model)
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, tmp_path / "model.safetensors")
    loaded = load_original(tmp_path, "deepseek_vl", preset, tokenizer=source.reader.tokenizer)
    own = source.model.state_dict()
    assert all(torch.equal(tensor, own[key]) for key, tensor in loaded.model.state_dict().items())
    save_file({"aligner.surprise": torch.zeros(1)}, tmp_path / "model-2.safetensors")
    with pytest.raises(VistuneError, match=r"surprise"):
        load_original(tmp_path, "deepseek_vl", preset, tokenizer=source.reader.tokenizer)
