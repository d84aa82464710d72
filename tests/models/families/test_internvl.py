"""InternVL: tiles and thumbnails, placeholders, InternLM2's and others' checkpoints."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoImageProcessor, AutoModelForImageTextToText

from vistune.errors import VistuneError
from vistune.models import family
from vistune.models.connectors.mlp import merged
from vistune.models.tiny import tiny_text, tokenizer_for
from vistune.models.vlm import build, load_original
from vistune.records import Message

INTERNVL = family("internvl")
POLICY = INTERNVL.policy(INTERNVL.presets["internvl2-8b"].settings)
PICTURES = [Image.effect_noise(size, 90).convert("RGB") for size in ((80, 60), (300, 100), (50, 50))]


@pytest.mark.parametrize(
    ("name", "vision", "connector", "total"),
    [
        ("internvl-1.5-26b", 5_536_496_000, 116_429_824, 25_514_186_112),
        ("internvl2-1b", 304_012_288, 4_482_816, 938_158_976),
        ("internvl2-4b", 304_012_288, 22_034_432, 4_146_855_936),
        ("internvl2-8b", 304_012_288, 33_570_816, 8_075_365_376),
        ("internvl2-40b", 5_536_496_000, 143_170_560, 40_068_712_832),
        ("internvl2.5-2b", 304_012_288, 12_595_200, 2_205_754_368),
        ("internvl2.5-4b", 304_012_288, 12_595_200, 3_712_637_952),
        ("internvl2.5-38b", 5_536_496_000, 91_786_240, 38_388_164_992),
        ("internvl2.5-78b", 5_536_496_000, 172_008_448, 78_408_318_336),
    ],
)
def test_published_sizes(name, vision, connector, total, role_sizes):
    numbers = role_sizes("internvl", name)
    assert (numbers["vision"], numbers["connector"], sum(numbers.values())) == (vision, connector, total)


@pytest.mark.parametrize(
    ("size", "grid", "tokens"),
    [
        ((448, 448), (1, 1), 256),
        ((640, 480), (4, 3), 3328),
        ((800, 600), (4, 3), 3328),
        ((1024, 512), (2, 1), 768),
        ((448, 1344), (1, 3), 1024),
        ((1280, 720), None, 2304),
        ((1024, 1024), (3, 3), 2560),
    ],
)
def test_tokens(size, grid, tokens):
    plan = POLICY.plan(*size)
    assert plan.tokens == tokens and grid in (None, plan.grid)
    assert [view.kind for view in plan.views].count("overview") == (len(plan.views) > 1)
    assert len(plan.views) == 1 or plan.views[-1].kind == "overview"  # the thumbnail is last


def test_several_pictures_share_the_tiles():
    preset = INTERNVL.presets["internvl2-8b"]
    reader = type(build("internvl").reader)(INTERNVL, preset, tokenizer_for(preset))
    size = (800, 600)

    def views(count):
        turns = [Message("user", "Compare", tuple(range(count))), Message("assistant", "same")]
        return [len(plan.views) for plan in reader.read(turns, [size] * count).plans]

    assert [views(1), views(2), views(4)] == [[13], [7, 7], [1, 1, 1, 1]]  # of 12, 6 and 3 tiles at most


def test_a_picture_is_a_run_of_context_tokens():
    reader = build("internvl").reader
    turns = [Message("user", "What?", (0,)), Message("assistant", "A dog.")]
    reading = reader.read(turns, [(800, 600)])
    text = reader.tokenizer.decode(reading.ids)
    assert "<|im_start|>user\n<img>" + "<IMG_CONTEXT>" * 13 * 4 + "</img>\nWhat?<|im_end|>\n" in text
    assert text.startswith("<s><|im_start|>system\n你是书生·万象")
    assert reader.tokenizer.decode([label for label in reading.labels if label >= 0]) == "A dog.<|im_end|>"
    assert reader.stop == "<|im_end|>"


def test_transformers_own_tiles_and_class_give_the_same_logits(tmp_path):
    vlm = build("internvl", seed=4)
    vlm.save(tmp_path)
    asked = [Message("user", "Look", (0,)), Message("assistant", "same")]
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    theirs = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32).eval()
    for picture in PICTURES:
        ours = vlm.inputs([asked], [[picture]])
        pixels = processor(picture, return_tensors="pt")["pixel_values"]
        assert torch.equal(pixels, ours["pixel_values"])
        with torch.no_grad():
            assert torch.equal(theirs(**{**ours, "pixel_values": pixels}).logits, vlm.model(**ours).logits)


def test_the_class_merges_as_our_block():
    """Pixel unshuffle, version 2."""
    features = torch.randn(2, 16, 32)
    model = build("internvl").model.model
    found = model.pixel_shuffle(features.reshape(2, 4, 4, 32), 0.5).flatten(1, 2)
    assert torch.equal(found, merged(features, 4))


TOWER = {
    "class_embedding": "cls_token",
    "position_embedding": "position_embeddings",
    "patch_embedding.": "patch_embeddings.projection.",
    "ls1": "lambda_1",
    "ls2": "lambda_2",
    "norm1.": "layernorm_before.",
    "norm2.": "layernorm_after.",
    "attn.": "attention.",
    "proj.": "projection_layer.",
    "encoder.layers.": "encoder.layer.",
    "vision_model.": "model.vision_tower.",
}
PROJECTOR = {"mlp1.": "model.multi_modal_projector.", "0.": "layer_norm.", "1.": "linear_1.", "3.": "linear_2."}
INTERNLM_2 = {
    "model.tok_embeddings": "model.embed_tokens",
    "output.": "lm_head.",
    "attention.": "self_attn.",
    "wo.": "o_proj.",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
}


def published(vlm, internlm):
    """The model's weights as the authors write them; `internlm`: with InternLM2's names and fused rows."""
    state, config = vlm.model.state_dict(), vlm.model.config.text_config
    groups, size = config.num_key_value_heads, config.hidden_size // config.num_attention_heads
    found = {}
    for key, tensor in state.items():
        if key.startswith("model.vision_tower."):
            names, start, whole = TOWER, "", "attn.qkv"
        elif key.startswith("model.multi_modal_projector."):
            names, start, whole = PROJECTOR, "", ""
        else:
            names, start, whole = (INTERNLM_2 if internlm else {}), "language_model.", "attention.wqkv"
            key = key.replace("model.language_model.", "model.")
        theirs = start + key
        for new, old in names.items():
            theirs = theirs.replace(old, new)
        if whole and names and ".q_proj." in theirs:
            full = key if key in state else key.replace("model.", "model.language_model.", 1)
            parts = [state[full.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"]
            if names is INTERNLM_2:  # by group: its queries, its key, its value
                parts = [part.reshape(groups, -1, size, config.hidden_size) for part in parts]
                tensor = torch.cat(parts, dim=1).reshape(-1, config.hidden_size)
            else:
                tensor = torch.cat(parts)
            theirs = theirs.replace(whole.split(".")[0] + ".q_proj", whole)
        elif whole and names and (".k_proj." in theirs or ".v_proj." in theirs):
            continue
        found[theirs] = tensor.clone()
    return found


@pytest.mark.parametrize("kind", ["internlm2", "qwen2", "phi3"])
def test_original_checkpoints(kind, tmp_path):
    text = {"model_type": "llama" if kind == "internlm2" else kind}
    if kind == "phi3":
        text |= {"original_max_position_embeddings": 64, "sliding_window": None}
    vlm = build("internvl", seed=5, text=text)
    state = published(vlm, kind == "internlm2")
    save_file(state, tmp_path / "model.safetensors")
    text["vocab_size"] = len(vlm.reader.tokenizer)
    config = {"ps_version": "v2", "llm_config": text}
    (tmp_path / "config.json").write_text(json.dumps(config))
    expected = vlm.model.state_dict()
    if kind == "internlm2":
        ours = load_original(tmp_path, "internvl", "tiny", tokenizer=vlm.reader.tokenizer).model.state_dict()
    else:
        model = build("internvl", text=text, tokenizer=vlm.reader.tokenizer).model
        ours = INTERNVL.original(state, model.config)
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[key], tensor) for key, tensor in expected.items())


def test_missing_and_unexpected_keys_are_named(tmp_path):
    vlm = build("internvl", seed=5)
    state = published(vlm, True)
    del state["vision_model.encoder.layers.1.ls1"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(VistuneError, match=r"1 missing \(model\.vision_tower\.encoder\.layer\.1\.lambda_1\)"):
        load_original(tmp_path, "internvl", "tiny", tokenizer=vlm.reader.tokenizer)
    save_file({**state, "mlp2.0.weight": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(VistuneError, match=r"1 unexpected \(mlp2\.0\.weight\)"):
        load_original(tmp_path, "internvl", "tiny", tokenizer=vlm.reader.tokenizer)


def test_the_checkpoints_configuration_decides_positions_and_vocabulary(tmp_path):
    factors = {"type": "su", "short_factor": [1.1] * 4, "long_factor": [2.0] * 4}
    said = {"vocab_size": 300, "rope_scaling": factors, "original_max_position_embeddings": 64, "rope_theta": 1e4}
    text = INTERNVL.text_config({"ps_version": "v2", "llm_config": {**said, "hidden_size": 7}})
    model = build("internvl", text={**text, **tiny_text("phi3", sliding_window=None)}).model
    parameters = model.config.text_config.rope_parameters
    assert (parameters["rope_type"], parameters["short_factor"]) == ("longrope", [1.1] * 4)
    assert model.config.text_config.vocab_size == 300
    with pytest.raises(VistuneError, match="pixel shuffle v1"):
        INTERNVL.text_config({"ps_version": "v1"})


def test_an_encoder_is_loaded_by_its_authors_names(tmp_path):
    vlm = build("internvl", seed=5)
    whole = published(vlm, True)
    state = {key.removeprefix("vision_model."): tensor for key, tensor in whole.items() if "vision_model" in key}
    save_file(state, tmp_path / "model.safetensors")
    tower = build("internvl", seed=6, vision=str(tmp_path)).model.model.vision_tower
    expected = vlm.model.model.vision_tower.state_dict()
    assert all(torch.equal(tower.state_dict()[key], tensor) for key, tensor in expected.items())
