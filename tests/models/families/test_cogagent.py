"""CogVLM and CogAgent: tokens, positions, experts, what every layer attends to, and both layouts of the checkpoint."""

import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from talks import ASKED, PICTURES
from transformers import AutoConfig, LlamaModel
from transformers.initialization import no_init_weights

from vistune.errors import VistuneError
from vistune.models.experts import add_experts
from vistune.models.families.base import at_stage
from vistune.models.families.cogagent import FAMILY, AgentConnector, Connector
from vistune.models.vlm import build, load_original
from vistune.records import Message


@pytest.fixture(scope="module")
def vlm():
    """Its experts, which start as copies, differ from the language model."""
    made = build("cogagent")
    torch.manual_seed(1)
    with torch.no_grad():
        for name in (*made.roles()["experts"], "connector.begin", "connector.end"):
            made.model.get_parameter(name).normal_(std=0.05)
    return made


@pytest.fixture
def plain(monkeypatch):
    """CogVLM, tiny."""
    tiny = FAMILY.presets["tiny"]
    monkeypatch.setitem(FAMILY.presets, "plain", replace(tiny, settings=replace(tiny.settings, high={})))
    return build("cogagent", "plain")


@pytest.mark.parametrize(
    ("preset", "views", "tokens"),
    [
        ("cogvlm-base-224", [(224, 224)], 258),
        ("cogvlm-chat", [(490, 490)], 1227),
        ("cogagent-chat", [(224, 224), (1120, 1120)], 258),
    ],
)
def test_tokens(preset, views, tokens):
    plan = FAMILY.policy(FAMILY.presets[preset].settings).plan(800, 600)
    assert [view.size for view in plan.views] == views and plan.tokens == tokens


def test_cogvlm_begins_at_a_smaller_resolution(monkeypatch):
    preset = FAMILY.presets["cogvlm-chat"]
    tokens = [FAMILY.policy(at_stage(preset, stage).settings).plan(800, 600).tokens for stage in preset.stages]
    assert tokens == [258, 258, 1227, 1227]
    tiny = FAMILY.presets["tiny"]
    settings = replace(tiny.settings, high={}, smaller=14)
    monkeypatch.setitem(FAMILY.presets, "smaller", replace(tiny, settings=settings))
    made = build("cogagent", "smaller")
    assert made.reader.read(ASKED, [(80, 60)]).spans == ((1, 4),)
    assert made.model(**made.inputs([ASKED], [PICTURES[:1]])).loss.isfinite()


def test_positions_and_experts_of_a_picture(vlm):
    reading = vlm.reader.read(ASKED, [(80, 60)])
    assert reading.spans == ((1, 7),)  # BOS; begin, 2 x 2 patches, end
    assert vlm.reader.places(reading).tolist()[:9] == [0, 1, 2, 2, 2, 2, 3, 4, 5]
    assert FAMILY.types(reading)[:9] == [0, 1, 1, 1, 1, 1, 0, 0, 0]
    batch = vlm.inputs([ASKED, [Message("user", "Hello"), Message("assistant", "Hi")]], [PICTURES[:1], []])
    assert set(batch["token_types"][1].tolist()) == {0, -1}
    assert (batch["token_types"] == -1).equal(batch["attention_mask"] == 0)


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("cogvlm_chat", " [INST] What is it? [/INST] "),
        ("cogvlm_vqa", "Question: What is it? Short answer:"),
        ("cogvlm_chat_old", "Question: What is it? Answer:"),
        ("cogvlm_base", "What is it?"),
    ],
)
def test_prompts(template, prompt, monkeypatch):
    tiny = FAMILY.presets["tiny"]
    monkeypatch.setitem(FAMILY.presets, "other", replace(tiny, template=template))
    reader = build("cogagent", "other").reader
    reading = reader.read(ASKED[:1], [(80, 60)], prompt=True)
    assert reader.tokenizer.decode(reading.ids[7:]) == prompt
    whole = reader.read(ASKED, [(80, 60)])
    learned = [token for token, label in zip(whole.ids, whole.labels, strict=True) if label != -100]
    assert reader.tokenizer.decode(learned).strip() == "A dog.</s>"


def test_what_the_layers_attend_to(vlm):
    connector = vlm.model.connector
    assert isinstance(connector, AgentConnector)
    features = [(torch.zeros(4, 16), torch.full((16, 16), float(n))) for n in range(1, 4)]
    table = vlm.model.get_input_embeddings()
    found = connector.context(features, None, [0, 2, 2], 3, table)
    assert found["features"].shape == (3, 32, 16) and found["features_mask"].shape == (3, 1, 32)
    assert found["features_mask"].sum(-1).flatten().tolist() == [16, 0, 32]
    assert found["features"][2, :, 0].unique().tolist() == [2, 3]


def test_every_step_of_generation_attends_to_the_features(vlm):
    conversations = [ASKED[:1], [Message("user", "Hello")], [Message("user", "Compare", (0, 1))]]
    inputs = vlm.inputs(conversations, [PICTURES[:1], [], PICTURES], prompt=True, side="left")
    inputs.pop("labels")
    stepwise = vlm.model.generate(
        **inputs, do_sample=False, max_new_tokens=5, pad_token_id=0, eos_token_id=None, output_logits=True,
        return_dict_in_generate=True,
    )  # fmt: skip
    new = stepwise.sequences[:, inputs["input_ids"].shape[1] :]
    following = inputs["position_ids"][:, -1:] + torch.arange(1, 6)
    with torch.no_grad():
        whole = vlm.model(
            input_ids=stepwise.sequences,
            pictures=inputs["pictures"],
            attention_mask=torch.cat([inputs["attention_mask"], torch.ones_like(new)], 1),
            position_ids=torch.cat([inputs["position_ids"], following], 1),
            token_types=torch.cat([inputs["token_types"], torch.zeros_like(new)], 1),
        ).logits[:, -6:-1]
    torch.testing.assert_close(torch.stack(stepwise.logits, 1), whole, atol=1e-5, rtol=0)


def test_the_second_picture_and_the_experts_matter(vlm):
    batch = vlm.inputs([ASKED], [PICTURES[:1]])
    with torch.no_grad():
        logits = vlm.model(**batch).logits
        low, high = batch["pictures"][0].views
        other = [batch["pictures"][0]._replace(views=(low, high + 1))]
        assert (vlm.model(**batch | {"pictures": other}).logits - logits).abs().max() > 1e-4
        text = batch["token_types"].clamp(max=0)
        assert (vlm.model(**batch | {"token_types": text}).logits - logits).abs().max() > 1e-4


def test_cogvlm_has_neither_the_second_encoder_nor_cross_attention(plain):
    assert type(plain.model.connector) is Connector and not hasattr(plain.model.connector, "positions")
    assert plain.roles()["cross"] == []
    assert plain.model(**plain.inputs([ASKED], [PICTURES[:1]])).context is None


def test_roles_inside_the_layers(vlm):
    layer = "language_model.model.layers.1."
    for name, role in {
        layer + "self_attn.q_proj.visual.weight": "experts",
        layer + "mlp.visual.up_proj.weight": "experts",
        layer + "self_attn.q_proj.text.weight": "language",
        layer + "mlp.text.up_proj.weight": "language",
        layer + "cross.key.weight": "cross",
        layer + "cross_norm.weight": "cross",
        "vision_tower.high.positions": "cross",
        "vision_tower.low.model.embeddings.class_embedding": "vision",
        "connector.positions": "connector",
        "language_model.lm_head.weight": "head",
    }.items():
        assert FAMILY.role(name) == role
        vlm.model.get_parameter(name)


def test_published_sizes():
    def count(module, part=""):
        return sum(parameter.numel() for name, parameter in module.named_parameters() if part in name)

    preset = FAMILY.presets["cogagent-chat"]
    text = AutoConfig.for_model(**preset.text)
    with torch.device("meta"), no_init_weights():
        tower, connector = FAMILY.parts(preset.settings, text)
        layer = LlamaModel(AutoConfig.for_model(**preset.text | {"num_hidden_layers": 1}))
        add_experts(layer, FAMILY.experts(preset.settings, text))
    assert count(layer, ".visual.") == 202_375_168  # 6.476 B in 32 layers
    assert 32 * (count(layer, ".cross.") + 4096) == 335_675_392
    assert count(tower.low) == 4_280_905_216  # 63 of 64 blocks, without the projection
    unused = count(tower.high.blocks[0]) + 2 * 1024 + 1024 * 768 + 768  # the last block, LayerNorm and head
    assert round((count(tower.high) - 6400 * 1024 + unused) / 1e6, 1) == 310.4
    glu = {name: p.numel() for name, p in connector.named_parameters()}
    assert sum(glu.values()) - glu["positions"] - glu["begin"] - glu["end"] == 142_614_528
    assert glu["positions"] == 256 * 1792


def hugging_face(vlm):
    """The model in the layout of cogagent-chat-hf."""
    state, made = vlm.model.state_dict(), {}
    for key, tensor in state.items():
        name = key.removeprefix("language_model.")
        if key.startswith("connector."):
            name = "model.vision." + key.removeprefix("connector.")
            for old, new in (
                ("begin", "boi"), ("end", "eoi"), ("positions", "pos_embed"), ("project", "linear_proj.linear_proj"),
                ("vision.norm", "vision.linear_proj.norm1"), ("mlp.gate", "linear_proj.gate_proj"),
                ("mlp.up", "linear_proj.dense_h_to_4h"), ("mlp.down", "linear_proj.dense_4h_to_h"),
            ):  # fmt: skip
                name = name.replace(old, new)
        elif key.startswith("vision_tower.low."):
            name = key.replace("vision_tower.low.model.", "model.vision.")
            for old, new in (
                ("embeddings.patch_embedding", "patch_embedding.proj"), ("encoder.layers", "transformer.layers"),
                ("embeddings.class_embedding", "patch_embedding.cls_embedding"),
                ("embeddings.position_embedding", "patch_embedding.position_embedding.weight"),
                ("layer_norm1", "input_layernorm"), ("layer_norm2", "post_attention_layernorm"),
                ("self_attn.qkv", "attention.query_key_value"), ("self_attn.projection", "attention.dense"),
            ):  # fmt: skip
                name = name.replace(old, new)
            tensor = tensor[0] if "_embedding" in name and "proj" not in name else tensor
        elif key.startswith("vision_tower.high."):
            name = "model.cross_vision.vit.model." + key.removeprefix("vision_tower.high.")
            for old, new in (
                ("vit.model.output_positions", "pos_embed"), ("model.positions", "model.pos_embed"),
                ("model.cls", "model.cls_token"), ("model.patches", "model.patch_embed.proj"),
                ("query.weight", "attn.q_proj.weight"), ("query.bias", "attn.q_bias"), (".key.", ".attn.k_proj."),
                ("value.weight", "attn.v_proj.weight"), ("value.bias", "attn.v_bias"), (".out.", ".attn.proj."),
                ("inner_norm", "attn.inner_attn_ln"), ("mlp.gate", "mlp.w1"), ("mlp.up", "mlp.w2"),
                ("mlp.norm", "mlp.ffn_ln"), ("mlp.down", "mlp.w3"),
            ):  # fmt: skip
                name = name.replace(old, new)
        elif "_proj." in key and "self_attn" in key:
            continue
        else:
            for old, new in (
                ("mlp.text", "mlp.language_mlp"), ("mlp.visual", "mlp.vision_mlp"), ("cross.out", "cross_attn.dense"),
                ("cross.query", "cross_attn.query"), ("cross_norm", "post_cross_attention_layernorm"),
            ):  # fmt: skip
                name = name.replace(old, new)
            if ".cross.key." in key or ".cross.value." in key:
                continue
        made[name] = tensor
    for n in range(2):
        ours, theirs = f"language_model.model.layers.{n}.", f"model.layers.{n}."
        for side, twin in (("text", "language"), ("visual", "vision")):
            qkv = torch.cat([state[f"{ours}self_attn.{p}_proj.{side}.weight"] for p in "qkv"])
            made[f"{theirs}self_attn.{twin}_expert_query_key_value.weight"] = qkv
            made[f"{theirs}self_attn.{twin}_expert_dense.weight"] = state[f"{ours}self_attn.o_proj.{side}.weight"]
        made[theirs + "cross_attn.key_value.weight"] = torch.cat(
            [state[f"{ours}cross.{p}.weight"] for p in ("key", "value")]
        )
        made[theirs + "self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    for name in ("norm.weight", "head.bias", "blocks.1.norm1.weight", "rope.freqs_cos"):  # what never runs
        made["model.cross_vision.vit.model." + name] = torch.ones(3)
    return {key: tensor.clone().contiguous() for key, tensor in made.items()}


def swiss(state):
    """The layout of cogagent-chat-hf -> that of SwissArmyTransformer."""
    made = {}
    for key, tensor in state.items():
        name = key.removeprefix("model.")
        n = name.split(".")[1]
        for old, new in (
            ("embed_tokens", "transformer.word_embeddings"), ("lm_head", "mixins.lm.lm_head"),
            ("vision.patch_embedding.cls_embedding", "vision.transformer.word_embeddings.weight"),
            ("vision.patch_embedding.position_embedding", "vision.transformer.position_embeddings"),
            ("vision.patch_embedding", "vision.mixins.patch_embedding"),
            ("mlp.fc1", "mlp.dense_h_to_4h"), ("mlp.fc2", "mlp.dense_4h_to_h"),
        ):  # fmt: skip
            name = name.replace(old, new)
        if name.startswith("vision."):
            kind = "vit_model." if name.startswith(("vision.transformer.", "vision.mixins.")) else ""
            name = "mixins.eva." + kind + name.removeprefix("vision.")
        elif name.startswith("cross_vision."):
            name = "mixins.encoder." + name.removeprefix("cross_vision.")
        elif name == "norm.weight":
            name = "transformer.final_layernorm.weight"
        elif name.startswith("layers."):
            for old, new in (
                (
                    f"layers.{n}.self_attn.vision_expert_query_key_value",
                    f"mixins.rotary.vision_query_key_value_list.{n}",
                ),
                (f"layers.{n}.self_attn.vision_expert_dense", f"mixins.rotary.vision_dense_list.{n}"),
                ("self_attn.language_expert_query_key_value", "attention.query_key_value"),
                ("self_attn.language_expert_dense", "attention.dense"),
                (f"layers.{n}.mlp.language_mlp.gate_proj", f"mixins.mlp.gate_proj.{n}"),
                (f"layers.{n}.mlp.vision_mlp.gate_proj", f"mixins.mlp.vision_gate_proj.{n}"),
                (f"layers.{n}.mlp.vision_mlp.up_proj", f"mixins.mlp.vision_dense_h_to_4h_list.{n}"),
                (f"layers.{n}.mlp.vision_mlp.down_proj", f"mixins.mlp.vision_dense_4h_to_h_list.{n}"),
                ("mlp.language_mlp.up_proj", "mlp.dense_h_to_4h"),
                ("mlp.language_mlp.down_proj", "mlp.dense_4h_to_h"),
                ("cross_attn.", "cross_attention."),
            ):
                name = name.replace(old, new)
            name = "transformer." + name if name.startswith("layers.") else name
            if "rotary_emb" in name:
                name = "mixins.rotary.rotary_emb.inv_freq"
        made[name] = tensor
    return made


@pytest.mark.parametrize("layout", [dict, swiss])
def test_both_layouts_of_the_authors_checkpoint(layout, vlm, tmp_path):
    save_file(layout(hugging_face(vlm)), tmp_path / "model.safetensors")
    loaded = load_original(tmp_path, "cogagent", "tiny", tokenizer=vlm.reader.tokenizer)
    expected = vlm.model.state_dict()
    for key, tensor in loaded.model.state_dict().items():
        assert torch.equal(tensor, expected[key]), key


def test_a_checkpoint_of_cogagent_is_none_of_cogvlm(vlm, plain, tmp_path):
    state = hugging_face(vlm)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(VistuneError, match=r"unexpected \(model\.cross_vision\."):
        load_original(tmp_path, "cogagent", "plain", tokenizer=plain.reader.tokenizer)
    common = {key: tensor for key, tensor in state.items() if not re.search("cross|pos_embed", key)}
    save_file(common, tmp_path / "model.safetensors")
    loaded = load_original(tmp_path, "cogagent", "plain", tokenizer=plain.reader.tokenizer).model.state_dict()
    assert all(torch.equal(tensor, vlm.model.state_dict()[key]) for key, tensor in loaded.items())
    state.pop("model.layers.0.cross_attn.query.weight")
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(VistuneError, match=r"1 missing \(language_model\.model\.layers\.0\.cross\.query\.weight\)"):
        load_original(tmp_path, "cogagent", "tiny", tokenizer=vlm.reader.tokenizer)
