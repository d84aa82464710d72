"""SPHINX: views, order, labels, parameter counts, and the authors' checkpoint."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from talks import ASKED
from transformers import AutoConfig, Dinov2Config
from transformers.initialization import no_init_weights

from vistune.errors import VistuneError
from vistune.models.encoders.dinov2 import Dinov2Tower
from vistune.models.families.base import Picture
from vistune.models.families.sphinx import FAMILY, Connector, Settings, Tower
from vistune.models.meta_llama import halves
from vistune.models.reader import Reader, prepared
from vistune.models.tiny import tokenizer_for
from vistune.models.vlm import build, load_original
from vistune.records import Message


@pytest.fixture(scope="module")
def vlm():
    return build("sphinx")


@pytest.mark.parametrize("size", [(336, 336), (800, 600), (1024, 512), (448, 1344)])
@pytest.mark.parametrize(
    ("settings", "tokens"),
    [
        (FAMILY.presets["sphinx"].settings, 291),
        (FAMILY.presets["sphinx-1k"].settings, 1455),
        (FAMILY.presets["sphinx-v2-1k"].settings, 1455),
        (FAMILY.presets["sphinx-tiny"].settings, 259),
        (FAMILY.presets["sphinx-tiny-1k"].settings, 1295),
        (Settings(parts=3), 2910),
        (Settings(parts=2, halve=True), 687),
    ],
)
def test_tokens_do_not_depend_on_the_picture(settings, tokens, size):
    assert FAMILY.policy(settings).plan(*size).tokens == tokens


def test_pictures_stand_between_bos_and_a_text_that_does_not_mention_them(vlm):
    reading = vlm.reader.read(ASKED, [(80, 60)])
    views = 5 * (1 + 2 + 5 + 1)  # begin, queries, CLS and 2 x 2 patches, end
    assert reading.spans == ((1, 1 + views),)
    assert reading.ids[0] == vlm.reader.tokenizer.bos_token_id
    text = vlm.reader.tokenizer.decode(reading.ids[1 + views :])
    assert text.endswith("\n\n### Human: What is it?\n### Assistant: A dog.\n###")
    assert "image" not in text
    learned = [token for token, label in zip(reading.ids, reading.labels, strict=True) if label != -100]
    assert vlm.reader.tokenizer.decode(learned) == " A dog.\n###"  # the blank, a token here, is part of "▁A" elsewhere
    assert vlm.reader.stop == "###"


def test_the_first_token_of_the_vocabulary_can_be_learned(vlm):
    token = vlm.reader.tokenizer.convert_ids_to_tokens(0)
    reading = vlm.reader.read([Message("user", "?"), Message("assistant", f"{token} or {token}")])
    assert reading.labels.count(0) == 2


def test_a_limit_that_leaves_no_room_for_the_views_is_an_error_with_both_numbers():
    preset = replace(FAMILY.presets["sphinx-1k"], limit=512)
    reader = Reader(FAMILY, preset, prepared(tokenizer_for(preset), preset))
    with pytest.raises(VistuneError, match=r"has 16\d\d tokens, the limit is 512 \(sample s1\)"):
        reader.read(ASKED, [(80, 60)], sample="s1")


def test_the_connector_takes_queries_first_and_halves_the_parts_only():
    preset = FAMILY.presets["tiny"]
    settings = replace(preset.settings, halve=True, size=56)
    _, connector = FAMILY.parts(settings, AutoConfig.for_model(**preset.text))
    assert isinstance(connector, Connector)
    features, queries = torch.randn(5, 17, 48), torch.randn(5, 2, 16)
    (tokens,) = connector([(features, queries)], None, None)
    assert len(tokens) == FAMILY.policy(settings).plan(9, 9).tokens == (1 + 2 + 17 + 1) + 4 * (1 + 2 + 5 + 1)
    torch.testing.assert_close(tokens[0], connector.begin[0, 0])
    torch.testing.assert_close(tokens[1:3], connector.project_queries(queries[0]))
    torch.testing.assert_close(tokens[3:20], connector.project(features[0]))
    torch.testing.assert_close(tokens[20], connector.end[0, 0])


def test_light_models_see_the_same_views_at_two_sizes():
    settings = replace(FAMILY.presets["tiny"].settings, light=True)
    picture = Image.linear_gradient("L").resize((80, 60)).convert("RGB")
    plan = FAMILY.policy(settings).plan(80, 60)
    views = FAMILY.look(settings, plan, picture)
    assert [tuple(view.shape[1:]) for view in views] == [(28, 28)] * 5 + [(64, 64)] * 5
    tower = Tower(settings)
    ((features, queries),) = tower([Picture(plan, views)])
    assert features.shape == (5, 5, 16 + 16) and queries is None
    assert tower.clip is None and tower.qformer is None


def test_the_frozen_q_former_does_not_drop_out_unless_asked_to():
    assert Tower(FAMILY.presets["tiny"].settings).qformer.qformer.model.config.hidden_dropout_prob == 0
    as_theirs = replace(FAMILY.presets["tiny"].settings, dropout=0.1)
    assert Tower(as_theirs).qformer.qformer.model.config.attention_probs_dropout_prob == 0.1


def test_published_sizes():
    def count(module):
        return sum(parameter.numel() for parameter in module.parameters())

    with torch.device("meta"), no_init_weights():
        preset = FAMILY.presets["sphinx-1k"]
        tower, connector = FAMILY.parts(preset.settings, AutoConfig.for_model(**preset.text))
        light, _ = FAMILY.parts(FAMILY.presets["sphinx-tiny"].settings, AutoConfig.for_model(**preset.text))
    assert count(connector.project) == 5632 * 5120 + 3 * 5120  # 28.85 M
    assert count(connector.project_queries) == 768 * 5120 + 3 * 5120  # 3.95 M
    assert count(tower.convnext) == 843_391_872 + 2 * 3072
    assert count(tower.dino) == 1_136_480_768 - 1536  # published, with the mask token
    assert count(tower.clip) == 303_179_776
    assert count(light) == count(tower.convnext) + count(tower.dino)


def test_positions_of_dinov2_are_resized_by_the_authors_scale():
    config = Dinov2Config(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=518, patch_size=14)
    embeddings = Dinov2Tower(config).model.embeddings
    table = torch.randn(1, 1 + 37 * 37, 8)
    embeddings.position_embeddings.data = table
    found = embeddings.interpolate_pos_encoding(torch.zeros(1, 257, 8), 224, 224)
    grid = table[:, 1:].reshape(1, 37, 37, 8).permute(0, 3, 1, 2)
    theirs = F.interpolate(grid, scale_factor=(16.1 / 37, 16.1 / 37), mode="bicubic")
    plain = F.interpolate(grid, size=(16, 16), mode="bicubic")
    torch.testing.assert_close(found[:, 1:], theirs.permute(0, 2, 3, 1).reshape(1, 256, 8))
    assert found.shape == (1, 257, 8) and (theirs - plain).abs().max() > 0.01
    assert embeddings.interpolate_pos_encoding(torch.zeros(1, 1370, 8), 518, 518) is embeddings.position_embeddings


def test_rows_of_queries_turn_the_same_under_either_pairing():
    heads, width, at = 2, 8, 3.0
    weight, x = torch.randn(heads * width, 5), torch.randn(5)
    angles = at * 10000.0 ** (-torch.arange(0, width, 2) / width)
    pairs = (weight @ x).reshape(heads, width // 2, 2)
    turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.polar(torch.ones(4), angles))
    first, second = (halves(weight, heads) @ x).reshape(heads, 2, width // 2).unbind(1)
    cos, sin = angles.cos(), angles.sin()
    ours = torch.stack([first * cos - second * sin, second * cos + first * sin], -1)
    torch.testing.assert_close(ours, turned)


FUSED = ("q", "k", "v", "gate", "up")


def theirs(vlm):
    """The model in the layout of LLaMA2-Accessory."""
    state, text = vlm.model.state_dict(), vlm.model.config.text_config
    made = {
        "llma.tok_embeddings.weight": state["language_model.model.embed_tokens.weight"],
        "llma.norm.weight": state["language_model.model.norm.weight"],
        "llma.output.weight": state["language_model.lm_head.weight"],
        "llma.start_img": state["connector.begin"],
        "llma.end_img": state["connector.end"],
        "llma.qformer.query_tokens": state["vision_tower.qformer.qformer.queries"],
        "llma.clip.logit_scale": torch.ones(()),
        "llma.clip.token_embedding.weight": torch.ones(3, 4),
        "llma.clip.visual.proj": torch.ones(4, 4),
        "llma.dinov2_vitg14.mask_token": torch.zeros(1, 16),
    }
    for n in range(text.num_hidden_layers):
        ours, block = f"language_model.model.layers.{n}.", f"llma.layers.{n}."
        for name, heads in (("q", text.num_attention_heads), ("k", text.num_key_value_heads)):
            rows = state[f"{ours}self_attn.{name}_proj.weight"].reshape(heads, 2, -1, text.hidden_size)
            made[f"{block}attention.w{name}.weight"] = rows.transpose(1, 2).reshape(-1, text.hidden_size)
        made[block + "attention.wv.weight"] = state[ours + "self_attn.v_proj.weight"]
        made[block + "attention.wo.weight"] = state[ours + "self_attn.o_proj.weight"]
        for w, name in (("1", "gate"), ("2", "down"), ("3", "up")):
            made[f"{block}feed_forward.w{w}.weight"] = state[f"{ours}mlp.{name}_proj.weight"]
        made[block + "attention_norm.weight"] = state[ours + "input_layernorm.weight"]
        made[block + "ffn_norm.weight"] = state[ours + "post_attention_layernorm.weight"]
    for key, tensor in state.items():
        name = key
        if key.startswith("connector.project"):
            name = key.replace("connector.project_queries", "qformer_proj").replace("connector.project", "visual_proj")
        elif key.startswith("vision_tower.qformer.encoder.model."):
            name = "qformer.vision_model." + key.removeprefix("vision_tower.qformer.encoder.model.")
        elif key.startswith("vision_tower.qformer.qformer.model."):
            name = "qformer.qformer." + key.removeprefix("vision_tower.qformer.qformer.model.")
        elif key.startswith("vision_tower.convnext."):
            name = key.replace("vision_tower.convnext.", "openclip_convnext_xxl.")
            for old, new in (
                ("embeddings.patch_embeddings", "stem.0"), ("embeddings.layernorm", "stem.1"),
                ("downsampling_layer", "downsample"), ("layer_scale_parameter", "gamma"), ("dwconv", "conv_dw"),
                ("pwconv", "mlp.fc"), (".layernorm", ".norm"), (".layers.", ".blocks."), ("xxl.norm", "xxl.head.norm"),
            ):  # fmt: skip
                name = name.replace(old, new)
        elif key.startswith("vision_tower.clip.") and "_proj." not in key:
            name = key.replace("vision_tower.clip.model.", "clip.visual.")
            for old, new in (
                ("embeddings.patch_embedding", "conv1"), ("embeddings.class", "class"), ("pre_layrnorm", "ln_pre"),
                ("embeddings.position_embedding.weight", "positional_embedding"), ("post_layernorm", "ln_post"),
                ("encoder.layers", "transformer.resblocks"), ("layer_norm", "ln_"), ("fc1", "c_fc"), ("fc2", "c_proj"),
            ):  # fmt: skip
                name = name.replace(old, new)
        elif key.startswith("vision_tower.dino.") and not any(f".{p}_proj." in key for p in FUSED):
            name = key.replace("vision_tower.dino.model.", "dinov2_vitg14.")
            for old, new in (
                ("embeddings.cls_token", "cls_token"), ("embeddings.position_embeddings", "pos_embed"),
                ("embeddings.patch_embeddings.projection", "patch_embed.proj"), ("g14.layernorm", "g14.norm"),
                ("encoder.layer.", "blocks."), ("layer_scale", "ls"), ("lambda1", "gamma"),
                ("attention.o_proj", "attn.proj"), ("down_proj", "w3"),
            ):  # fmt: skip
                name = name.replace(old, new)
        if name != key:
            made[f"llma.{name}"] = tensor
    for kind in ("weight", "bias"):
        ours, block = "vision_tower.clip.model.encoder.layers.0.", "llma.clip.visual.transformer.resblocks.0."
        made[f"{block}attn.in_proj_{kind}"] = torch.cat([state[f"{ours}self_attn.{p}_proj.{kind}"] for p in "qkv"])
        made[f"{block}attn.out_proj.{kind}"] = state[f"{ours}self_attn.out_proj.{kind}"]
        ours, block = "vision_tower.dino.model.encoder.layer.0.", "llma.dinov2_vitg14.blocks.0."
        made[f"{block}attn.qkv.{kind}"] = torch.cat([state[f"{ours}attention.{p}_proj.{kind}"] for p in "qkv"])
        made[f"{block}mlp.w12.{kind}"] = torch.cat([state[f"{ours}mlp.{p}_proj.{kind}"] for p in ("gate", "up")])
    return {key: tensor.clone() for key, tensor in made.items()}


SPLIT = {
    "wq": 0, "wk": 0, "wv": 0, "w1": 0, "w3": 0, "output": 0, "wo": 1, "w2": 1, "tok_embeddings": 1
}  # fmt: skip


def write(folder, state):
    """Two files of a model-parallel run."""
    for n in range(2):
        shard = {}
        for key, tensor in state.items():
            axis = SPLIT.get(key.split(".")[-2]) if key.startswith(("llma.layers", "llma.output", "llma.tok")) else None
            shard[key] = tensor if axis is None else tensor.chunk(2, axis)[n].clone()
        torch.save({"model": shard}, folder / f"consolidated.0{n}-of-02.model.pth")


def test_the_authors_checkpoint_of_two_model_parallel_files(vlm, tmp_path):
    write(tmp_path, theirs(vlm))
    loaded = load_original(tmp_path, "sphinx", "tiny", allow_bin=True, tokenizer=vlm.reader.tokenizer)
    expected = vlm.model.state_dict()
    for key, tensor in loaded.model.state_dict().items():
        assert torch.equal(tensor, expected[key]), key


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("llma.layers.1.attention.wk.weight"), r"1 missing .*layers\.1\.self_attn\.k_proj"),
        (lambda state: state.update({"llma.layers.0.extra": torch.ones(1)}), r"unexpected \(layers\.0\.extra\)"),
        (lambda state: state.update({"vision.extra": torch.ones(1)}), r"1 unexpected \(vision\.extra\)"),
    ],
)
def test_a_checkpoint_with_other_keys_is_refused(change, message, vlm, tmp_path):
    state = theirs(vlm)
    change(state)
    write(tmp_path, state)
    with pytest.raises(VistuneError, match=message):
        load_original(tmp_path, "sphinx", "tiny", allow_bin=True, tokenizer=vlm.reader.tokenizer)
