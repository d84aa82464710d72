"""Qwen-VL: 256 tokens a picture, learned control tokens, the authors' names."""

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from talks import ASKED
from transformers import AutoConfig, AutoModelForCausalLM, CLIPVisionConfig, CLIPVisionModel
from transformers.initialization import no_init_weights

from vistune.errors import VistuneError
from vistune.models.families.base import at_stage
from vistune.models.families.qwen_vl import FAMILY, QWEN_7B
from vistune.models.labels import IGNORE
from vistune.models.reader import Reader
from vistune.models.vlm import build, load_original
from vistune.records import Message


@pytest.fixture(scope="module")
def tiny():
    return build("qwen_vl")


def learned(reader, reading):
    return reader.tokenizer.decode([x for x in reading.labels if x != IGNORE])


def test_prompt_and_labels(tiny):
    reading = tiny.reader.read(ASKED, [(30, 40)])
    ids = [token for token in reading.ids if token != tiny.reader.placeholder]
    assert tiny.reader.tokenizer.decode(ids) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nPicture 1: <img></img>\nWhat is it?<|im_end|>\n"
        "<|im_start|>assistant\nA dog.<|im_end|>\n"
    )
    # Nothing predicts the first token; every other control token is learned, whoever speaks.
    assert learned(tiny.reader, reading) == ("<|im_end|>\n<|im_start|><|im_end|>\n<|im_start|>A dog.<|im_end|>\n")


def test_pictures_are_numbered_and_have_as_many_tokens_at_any_size(tiny):
    turns = [Message("user", "Same?", (0, 1)), Message("assistant", "no")]
    reading = tiny.reader.read(turns, [(1000, 20), (3, 3)])
    assert [end - start for start, end in reading.spans] == [4, 4]
    assert "Picture 2: " in tiny.reader.tokenizer.decode(reading.ids)
    chat = FAMILY.presets["qwen-vl-chat"]
    assert FAMILY.policy(chat.settings).plan(800, 600).tokens == 256
    first = FAMILY.policy(at_stage(chat, chat.stages[0]).settings).plan(800, 600)
    assert (first.views[0].size, first.tokens) == ((224, 224), 256)


def test_the_first_stages_are_written_without_chat(tiny):
    preset = at_stage(tiny.preset, tiny.preset.stages[0])
    reader = Reader(FAMILY, preset, tiny.reader.tokenizer)
    turns = [Message("user", "Generate the caption in English:", (0,)), Message("assistant", "a dog")]
    reading = reader.read(turns, [(30, 40)])
    ids = [token for token in reading.ids if token != reader.placeholder]
    text = "<img></img>Generate the caption in English: a dog<|endoftext|>"
    assert reader.tokenizer.decode(ids) == text
    assert learned(reader, reading) == " a dog<|endoftext|>"
    assert reader.stop == "<|endoftext|>"


def test_boxes_are_control_tokens_and_other_spelled_ones_are_words(tiny):
    tokenizer = tiny.reader.tokenizer
    box = tiny.reader.read([ASKED[0], Message("assistant", "<ref>it</ref><box>(1,2),(3,4)</box>")], [(30, 40)])
    assert tokenizer.convert_tokens_to_ids("<box>") in box.ids
    spoken = tiny.reader.read([ASKED[0], Message("assistant", "<img> <|im_end|>")], [(30, 40)])
    assert spoken.ids.count(tokenizer.convert_tokens_to_ids("<img>")) == 1  # that of the picture
    assert spoken.ids.count(tokenizer.convert_tokens_to_ids("<|im_end|>")) == 3


def test_published_parameters():
    preset = FAMILY.presets["qwen-vl-chat"]
    text = AutoConfig.for_model(**QWEN_7B)
    with torch.device("meta"), no_init_weights():
        tower, connector = FAMILY.parts(preset.settings, text)
        language = AutoModelForCausalLM.from_config(text)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in (
        ("tower", tower), ("connector", connector), ("language", language)
    )}  # fmt: skip
    assert round(count["tower"] / 1e6, 1) == 1842.8
    assert round(count["connector"] / 1e6, 2) == 92.84
    assert count["language"] == 7_721_324_544  # Qwen-7B
    trained = sum(p.numel() for p in connector.parameters() if p.requires_grad)
    assert count["connector"] - trained == 256 * 4096  # the table of positions


def authors(model, depth=2, layers=2):
    """Weights of the tiny model under the names of QWenLMHeadModel."""
    ours = model.state_dict()
    named = {
        "transformer.wte.weight": ours["language_model.model.embed_tokens.weight"],
        "transformer.ln_f.weight": ours["language_model.model.norm.weight"],
        "lm_head.weight": ours["language_model.lm_head.weight"],
        "transformer.rotary_emb.inv_freq": torch.zeros(4),
    }
    for n in range(layers):
        at, of = f"transformer.h.{n}.", f"language_model.model.layers.{n}."
        for kind in ("weight", "bias"):
            parts = [ours[f"{of}self_attn.{part}_proj.{kind}"] for part in "qkv"]
            named[f"{at}attn.c_attn.{kind}"] = torch.cat(parts)
        for name, source in {
            "ln_1": "input_layernorm",
            "ln_2": "post_attention_layernorm",
            "attn.c_proj": "self_attn.o_proj",
            "mlp.w1": "mlp.up_proj",
            "mlp.w2": "mlp.gate_proj",
            "mlp.c_proj": "mlp.down_proj",
        }.items():
            named[f"{at}{name}.weight"] = ours[f"{of}{source}.weight"]
    visual, tower, connector = "transformer.visual.", "vision_tower.", "connector.resampler."
    named |= {
        visual + "conv1.weight": ours[tower + "patches.weight"],
        visual + "positional_embedding": ours[tower + "positions"],
        visual + "attn_pool.query": ours[connector + "queries"],
        visual + "attn_pool.pos_embed": ours[connector + "positions"],
        visual + "attn_pool.kv_proj.weight": ours[connector + "inputs.weight"],
        visual + "proj": ours[connector + "project.weight"].T.contiguous(),
    }
    for kind in ("weight", "bias"):
        parts = [ours[f"{connector}attention.{part}.{kind}"] for part in ("query", "key", "value")]
        named[f"{visual}attn_pool.attn.in_proj_{kind}"] = torch.cat(parts)
        for name, source in {
            "ln_pre": tower + "norm",
            "ln_post": connector + "post_norm",
            "attn_pool.ln_q": connector + "query_norm",
            "attn_pool.ln_kv": connector + "input_norm",
            "attn_pool.attn.out_proj": connector + "attention.out",
        }.items():
            named[f"{visual}{name}.{kind}"] = ours[f"{source}.{kind}"]
        for n in range(depth):
            for name, source in {
                "ln_1": "norm1",
                "ln_2": "norm2",
                "attn.in_proj": "qkv",
                "attn.out_proj": "out",
                "mlp.c_fc": "up",
                "mlp.c_proj": "down",
            }.items():
                key = f"{visual}transformer.resblocks.{n}.{name}.{kind}"
                named[key] = ours[f"{tower}blocks.{n}.{source}.{kind}"]
    return named


def test_the_authors_checkpoint(tmp_path):
    source = build("qwen_vl", seed=5)
    state = authors(source.model)
    converted = FAMILY.original(dict(state), source.model.config)
    own = source.model.state_dict()
    assert converted.keys() == own.keys()
    assert all(torch.equal(converted[key], own[key]) for key in own)
    save_file(state, tmp_path / "model.safetensors")
    loaded = load_original(tmp_path, "qwen_vl", "tiny", tokenizer=source.reader.tokenizer)
    assert all(torch.equal(tensor, own[key]) for key, tensor in loaded.model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transformer.visual.proj": None}, r"1 missing \(connector\.resampler\.project\.weight\)"),
        ({"transformer.surprise": torch.zeros(1)}, r"transformer\.surprise"),
    ],
)
def test_another_checkpoint_is_an_error_that_names_the_keys(tmp_path, tiny, change, message):
    state = {k: v for k, v in (authors(tiny.model) | change).items() if v is not None}
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(VistuneError, match=message):
        load_original(tmp_path, "qwen_vl", "tiny", tokenizer=tiny.reader.tokenizer)


def test_the_encoder_starts_as_a_published_clip(tmp_path, tiny):
    torch.manual_seed(1)
    config = CLIPVisionConfig(
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=224,
        patch_size=14,
        hidden_act="gelu",
        layer_norm_eps=1e-6,
        attn_implementation="sdpa",
    )
    published = CLIPVisionModel(config).eval()
    published.save_pretrained(tmp_path)
    tower = build("qwen_vl", vision=str(tmp_path)).model.vision_tower
    hidden = torch.randn(1, 5, 48)
    with torch.no_grad():
        expected = hidden
        for layer in published.encoder.layers:
            expected = layer(expected, attention_mask=None)
            expected = expected[0] if isinstance(expected, tuple) else expected
        for block in tower.blocks:
            hidden = block(hidden)
    torch.testing.assert_close(hidden, expected, atol=1e-6, rtol=0)
    assert torch.equal(tower.positions, published.embeddings.position_embedding.weight[1:])


def test_text_pictures_and_padding_agree(tiny):
    picture = Image.radial_gradient("L").resize((80, 60)).convert("RGB")
    plain = [Message("user", "Hello"), Message("assistant", "Hi")]
    with torch.no_grad():
        alone = tiny.model(**tiny.inputs([ASKED], [[picture]])).logits[0]
        for side in ("left", "right"):
            batch = tiny.inputs([ASKED, plain], [[picture], []], side=side)
            logits = tiny.model(**batch).logits[0][batch["attention_mask"][0].bool()]
            torch.testing.assert_close(logits, alone, atol=1e-5, rtol=0)
