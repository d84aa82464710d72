"""Mini-Gemini: patch information mining at two sizes, five language models, and the authors' checkpoints."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors.torch import save_file
from talks import PICTURE
from transformers import AutoConfig, AutoModelForCausalLM

from vistune.errors import VistuneError
from vistune.models import family
from vistune.models.families.base import at_stage
from vistune.models.families.mini_gemini import mixtral_keys
from vistune.models.keymap import load
from vistune.models.labels import IGNORE
from vistune.models.reader import Reader
from vistune.models.tiny import tiny_text, tokenizer_for
from vistune.models.vlm import build, load_original
from vistune.records import Message

KIND = family("mini_gemini")
GEMMA = tiny_text("gemma", head_dim=8, num_key_value_heads=1, tie_word_embeddings=True)
MIXTRAL = tiny_text("mixtral", num_local_experts=3, num_experts_per_tok=2)


def asked(*images):
    return [Message("user", "What is it?", images), Message("assistant", "A dog.")]


def with_text(monkeypatch, text, template="vicuna_v1", **changes):
    """The tiny model with another language model, as the preset "other"."""
    preset = replace(KIND.preset("tiny"), text=text, template=template, **changes)
    monkeypatch.setitem(KIND.presets, "other", preset)
    return build("mini_gemini", "other", seed=1)


def at(preset, number):
    """The reader of a stage."""
    values = KIND.preset(preset)
    return Reader(KIND, at_stage(values, values.stages[number]), tokenizer_for(values))


@pytest.mark.parametrize(
    ("preset", "stage", "tokens", "high", "fit", "limit"),
    [
        ("mgm-7b", 0, 576, 768, "crop", 2048),
        ("mgm-7b", 1, 576, 768, "pad", 2048),
        ("mgm-7b-hd", 0, 576, 768, "crop", 2048),
        ("mgm-7b-hd", 1, 2880, 1536, "pad", 4096),
    ],
)
def test_tokens_and_views_of_each_stage(preset, stage, tokens, high, fit, limit):
    reader = at(preset, stage)
    for size in ((336, 336), (800, 600), (3000, 500)):
        plan = reader.plan(*size)
        assert (plan.tokens, plan.views[0].size) == (tokens, (high, high))
        assert {view.size for view in plan.views[1:]} == {(336, 336)}
    assert (reader.policy.base.fit, reader.preset.limit) == (fit, limit)


def test_hd_shows_the_overview_first():
    vlm = build("mini_gemini", "tiny-hd")
    picture = vlm.inputs([asked(0)], [[PICTURE]])["pictures"]
    assert picture[0].plan.layout == (5, 1, 2, 3, 4)
    with torch.no_grad():
        ((low, high),) = vlm.model.see(picture)
        assert (low.shape[:2], high.shape) == ((5, 4), (60, 32, 32))
        (tokens,) = vlm.model.connector([(low, high)], picture, None)
        changed = low.clone()
        changed[4] += 1  # the last view that the tower saw
        (other,) = vlm.model.connector([(changed, high)], picture, None)
    assert torch.equal(tokens[4:], other[4:]) and not torch.isclose(tokens[:4], other[:4]).all(1).any()


def test_what_is_mined_is_added_to_clips_own_feature():
    vlm = build("mini_gemini")
    picture = vlm.inputs([asked(0)], [[PICTURE]])["pictures"]
    connector = vlm.model.connector
    torch.nn.init.zeros_(connector.mining.value[1].weight)
    torch.nn.init.zeros_(connector.mining.value[1].bias)
    with torch.no_grad():
        ((low, high),) = vlm.model.see(picture)
        torch.testing.assert_close(connector([(low, high)], picture, None)[0], connector.mlp(low[0]))


def test_the_frozen_trunk_drops_blocks_only_where_asked_to():
    tiny = KIND.preset("tiny").settings
    for rate, same in ((0.0, True), (0.9, False)):
        high = {**tiny.high, "layer_scale_init_value": 1.0, "drop_path_rate": rate}
        tower = KIND.parts(replace(tiny, high=high), AutoConfig.for_model("llama"))[0].high_tower.train()
        pixels = torch.randn(8, 3, 64, 64)
        with torch.no_grad():
            assert torch.equal(tower(pixels), tower(pixels)) == same


def test_a_published_size_of_each_language_model(role_sizes):
    counts = partial(role_sizes, "mini_gemini")
    small, large = counts("mgm-7b"), counts("mgm-13b-hd")
    assert (small["connector"], large["connector"]) == (6_963_456 + 20_979_712, 6_963_456 + 31_467_520)
    # CLIP-L without what state -2 does not read, and the trunk of ConvNeXt-L
    assert small["vision"] == large["vision"] == 303_507_456 - 12_596_224 - 2_048 + 196_227_264
    assert small["language"] + small["head"] == 6_738_415_616
    gemma = counts("mgm-2b")
    assert gemma["language"] + gemma["head"] == 2_506_172_416
    mixtral = counts("mgm-8x7b")
    assert mixtral["language"] + mixtral["head"] == 46_702_792_704


def test_visual_tokens_of_gemma_are_multiplied_as_text_is(monkeypatch):
    vlm = with_text(monkeypatch, GEMMA)
    table = vlm.model.get_input_embeddings()
    torch.testing.assert_close(table(torch.tensor([5])), vlm.model.get_input_embeddings().weight[5:6] * 32**0.5)
    assert vlm.model.connector.scale == 32**0.5
    assert build("mini_gemini").model.connector.scale == 1.0


def test_llama_3_answers_under_a_systems_header(monkeypatch):
    reader = with_text(monkeypatch, tiny_text(), KIND.preset("mgm-8b").template).reader
    reading = reader.read(asked(), [])
    header = "<|start_header_id|>system<|end_header_id|>\n\n"
    assert reader.tokenizer.decode(reading.ids).endswith(f"What is it?<|eot_id|>{header}A dog.<|eot_id|>")
    assert reader.tokenizer.decode([x for x in reading.labels if x != IGNORE]) == "A dog.<|eot_id|>"


def test_gemma_stops_at_the_end_of_its_turn(monkeypatch):
    preset = KIND.preset("mgm-2b")
    reader = with_text(monkeypatch, GEMMA, preset.template, stop=preset.stop).reader
    reading = reader.read(asked(0), [PICTURE.size])
    text = reader.tokenizer.decode(reading.ids).replace("<image>", "")
    assert (
        text == "<s><start_of_turn>user\n\nWhat is it?<end_of_turn>\n<start_of_turn>model\nA dog.<end_of_turn>\n<eos>"
    )
    assert len(reader.text(reader.stop)) == 1


def test_the_recipes_differ_in_rates_and_in_the_first_template():
    rates = {name: KIND.preset(name).stages[1].rates for name in ("mgm-7b", "mgm-34b", "mgm-8x7b")}
    assert rates["mgm-7b"] == {"connector": 2e-5, "language": 2e-5, "head": 2e-5}
    assert rates["mgm-34b"] == rates["mgm-8x7b"] == {"connector": 2e-5, "language": 1e-5, "head": 1e-5}
    templates = {name: KIND.preset(f"mgm-{name}").stages[0].template for name in ("2b", "7b", "8b", "34b")}
    assert templates == {"2b": "mgm_gemma", "7b": "plain", "8b": "mgm_llama_3", "34b": "plain"}


@pytest.fixture
def published(renamed, llava_names):
    """A model's weights under their authors' names."""
    trunk = "model.vision_tower_aux."
    names = [
        *llava_names(trunk + "vision_stem", trunk + "vision_stages"),
        (r"connector\.mining\.query", "model.vlm_uni_query_projector"),
        (r"connector\.mining\.key", "model.vlm_uni_aux_projector"),
        (r"connector\.mining\.value", "model.vlm_uni_val_projector"),
        (r"vision_tower\.low_tower\.model\.", "model.vision_tower.vision_tower.vision_model."),
    ]
    return lambda vlm: renamed(vlm.model.state_dict(), names)


def as_published(state):
    """Mixtral's experts one by one, as its authors name them."""
    found = {}
    for key, tensor in state.items():
        base = key.rpartition("mlp.experts.")[0] + "block_sparse_moe.experts."
        for n, expert in enumerate(tensor if ".experts." in key else ()):
            if key.endswith("gate_up_proj"):
                gate, up = expert.chunk(2)
                found |= {f"{base}{n}.w1.weight": gate.clone(), f"{base}{n}.w3.weight": up.clone()}
            else:
                found[f"{base}{n}.w2.weight"] = expert.clone()
        if ".experts." not in key:
            found[key.replace(".mlp.gate.", ".block_sparse_moe.gate.")] = tensor
    return found


@pytest.mark.parametrize("text", [tiny_text(), GEMMA, MIXTRAL], ids=lambda text: text["model_type"])
def test_the_authors_checkpoints(tmp_path, monkeypatch, text, published):
    theirs = with_text(monkeypatch, text)
    state, tokenizer = published(theirs), theirs.reader.tokenizer
    if text["model_type"] == "gemma":
        del state["lm_head.weight"]  # the embeddings', saved once
    if text["model_type"] == "mixtral":
        state = as_published(state)
        assert "model.layers.1.block_sparse_moe.experts.2.w3.weight" in state
    save_file(state, tmp_path / "model.safetensors")
    found = load_original(tmp_path, "mini_gemini", "other", tokenizer=tokenizer).model.state_dict()
    assert all(torch.equal(tensor, found[key]) for key, tensor in theirs.model.state_dict().items())
    del state["model.vlm_uni_aux_projector.1.bias"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(VistuneError, match=r"1 missing \(connector\.mining\.key\.1\.bias\)"):
        load_original(tmp_path, "mini_gemini", "other", tokenizer=tokenizer)


def test_experts_are_stacked_as_transformers_stacks_them(tmp_path):
    text = dict(MIXTRAL) | {"vocab_size": 40}
    config = AutoConfig.for_model(text.pop("model_type"), **text)
    model = AutoModelForCausalLM.from_config(config)
    state = as_published({k.removeprefix("model."): v for k, v in model.model.state_dict().items()})
    other = AutoModelForCausalLM.from_config(config).model
    load(other, mixtral_keys(state), "Mixtral")
    assert all(torch.equal(tensor, other.state_dict()[key]) for key, tensor in model.model.state_dict().items())
    config.save_pretrained(tmp_path)
    save_file(
        {f"model.{k}": v for k, v in state.items()} | {"lm_head.weight": model.lm_head.weight.data},
        tmp_path / "model.safetensors",
    )
    read = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).state_dict()
    assert all(torch.equal(tensor, read[key]) for key, tensor in model.state_dict().items())
