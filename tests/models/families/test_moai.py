"""MoAI: evidence, what the mixer reads and what it must not, parameter counts, and the authors' checkpoint."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from talks import ASKED, PICTURES
from transformers import AutoConfig, CLIPVisionConfig, CLIPVisionModel, LlamaModel
from transformers.initialization import no_init_weights

from vistune.errors import VistuneError
from vistune.models import evidence
from vistune.models.experts import add_experts
from vistune.models.families.moai import FAMILY, NOTHING
from vistune.models.position_tables import resized
from vistune.models.vlm import build, load_original
from vistune.records import Message


@pytest.fixture(scope="module")
def vlm():
    """Its mixer is strong enough to be seen."""
    made = build("moai")
    torch.manual_seed(1)
    with torch.no_grad():
        for name in (*made.roles()["experts"], *made.roles()["plora"]):
            if ".mixer." in name or "plora" in name:
                made.model.get_parameter(name).normal_(std=0.2)
    return made


def seen(text: str, segment: int = 1) -> evidence.Evidence:
    segmentation = np.zeros((490, 490), np.uint8)
    segmentation[:245, :245] = segment
    return evidence.Evidence(text, segmentation)


def logits(vlm, conversation, pictures, found=(), **changes):
    batch = vlm.inputs([conversation], [pictures], evidence=[found] if found else ())
    with torch.no_grad():
        return vlm.model(**batch | changes).logits[0]


def test_tokens_and_prompt(vlm):
    assert FAMILY.policy(FAMILY.presets["moai-7b"].settings).plan(800, 600).tokens == 1225
    reading = vlm.reader.read(ASKED, [(80, 60)])
    ((start, end),) = reading.spans
    assert end - start == 4
    decode = vlm.reader.tokenizer.decode
    assert decode(reading.ids[1:start]) == (
        "AI assistant should give helpful and detailed answers to user after fully understanding an image. "
    )
    said = " [UNUSED_TOKEN_146]user\nWhat is it?[UNUSED_TOKEN_145]\n[UNUSED_TOKEN_146]assistant\n"
    assert decode(reading.ids[end:]) == said + "A dog.[UNUSED_TOKEN_145]\n"
    assert vlm.reader.stop == "[UNUSED_TOKEN_145]"


def test_the_mixer_reads_what_comes_before_the_first_answer(vlm):
    again = [*ASKED, Message("user", "Sure?"), Message("assistant", "Yes.")]
    for conversation in (ASKED, again):
        reading = vlm.reader.read(conversation, [(80, 60)])
        kinds = FAMILY.types(reading)
        first = next(t for t, label in enumerate(reading.labels) if label != -100)
        ((start, end),) = reading.spans
        assert kinds == [0] * start + [1] * (end - start) + [0] * (first - end) + [-1] * (len(kinds) - first)
    prompt = vlm.reader.read(again[:3], [(80, 60)], prompt=True)
    assert FAMILY.types(prompt) == kinds[: prompt.length]
    alone = vlm.reader.read([Message("user", "Hello"), Message("assistant", "Hi")])
    assert set(FAMILY.types(alone)) == {-1}


def test_no_answer_is_seen_before_it_is_said(vlm):
    other = [ASKED[0], Message("assistant", "A cat.")]
    one, two = logits(vlm, ASKED, PICTURES[:1]), logits(vlm, other, PICTURES[:1])
    reading = vlm.reader.read(ASKED, [(80, 60)])
    first = next(t for t, label in enumerate(reading.labels) if label != -100)
    assert torch.equal(one[: first + 2], two[: first + 2])  # "A " is common to both
    assert not torch.allclose(one[first + 2 :], two[first + 2 :])
    leaking = torch.tensor([[max(kind, 0) for kind in FAMILY.types(reading)]])
    one, two = (logits(vlm, c, PICTURES[:1], token_types=leaking) for c in (ASKED, other))
    assert not torch.allclose(one[:first], two[:first])  # as the mixer would, were the answer counted as text


def test_evidence_matters_in_words_and_in_the_map(vlm):
    plain = logits(vlm, ASKED, PICTURES[:1])
    assert torch.equal(plain, logits(vlm, ASKED, PICTURES[:1], [NOTHING]))
    words = logits(vlm, ASKED, PICTURES[:1], [seen("The image includes a dog.")])
    colours = logits(vlm, ASKED, PICTURES[:1], [seen("The image includes a dog.", 2)])
    assert (plain - words).abs().max() > 1e-4 and (words - colours).abs().max() > 1e-8


def test_evidence_as_it_enters(vlm):
    aside = FAMILY.evidence(vlm.reader, seen("cat <image></s>"))
    text = [vlm.reader.tokenizer.bos_token_id, *vlm.reader.tokenizer.encode("cat ", add_special_tokens=False)]
    assert aside.ids.tolist()[: len(text)] == text
    controls = {vlm.reader.placeholder, vlm.reader.tokenizer.eos_token_id}
    assert not controls & set(aside.ids.tolist())  # words stay words
    assert aside.colours.shape == (3, 28, 28)
    spans = aside.colours.flatten(1).amax(1) - aside.colours.flatten(1).amin(1)
    even = pytest.approx([128 / 255 / 255 / 0.26862954, 0, 0], rel=1e-4)  # nearly: these are values for bytes
    assert spans.tolist() == even
    assert FAMILY.evidence(vlm.reader, None).ids.tolist()[1:] == vlm.reader.text("   ")


def test_pictures_of_a_row_are_told_about_together(vlm):
    conversation = [Message("user", "Compare", (0, 1)), Message("assistant", "same")]
    one = logits(vlm, conversation, PICTURES, [seen("a"), seen("b")])
    other = logits(vlm, conversation, PICTURES, [seen("a"), seen("c")])
    assert (one - other).abs().max() > 1e-6
    batch = vlm.inputs([ASKED, [Message("user", "Hi"), Message("assistant", "Ho")], conversation],
                       [PICTURES[:1], [], PICTURES])  # fmt: skip
    found = vlm.model(**batch).context["evidence"]
    assert found.shape == (3, 4, 32) and not found[1].any()


def test_single_tokens_are_not_mixed(vlm):
    conversations = [ASKED[:1], [Message("user", "Hello")], [Message("user", "Compare", (0, 1))]]
    inputs = vlm.inputs(conversations, [PICTURES[:1], [], PICTURES], prompt=True, side="left")
    inputs.pop("labels")
    stepwise = vlm.model.generate(
        **inputs, do_sample=False, max_new_tokens=5, pad_token_id=0, eos_token_id=None, output_logits=True,
        return_dict_in_generate=True,
    )  # fmt: skip
    new = stepwise.sequences[:, inputs["input_ids"].shape[1] :]
    with torch.no_grad():
        whole = vlm.model(
            input_ids=stepwise.sequences,
            pictures=inputs["pictures"],
            attention_mask=torch.cat([inputs["attention_mask"], torch.ones_like(new)], 1),
            position_ids=torch.cat([inputs["position_ids"], inputs["position_ids"][:, -1:] + torch.arange(1, 6)], 1),
            token_types=torch.cat([inputs["token_types"], torch.full_like(new, -1)], 1),
        ).logits[:, -6:-1]
    torch.testing.assert_close(torch.stack(stepwise.logits, 1), whole, atol=1e-5, rtol=0)


def test_the_first_step_throws_dice_and_keeps_the_gates_still(monkeypatch):
    tiny = FAMILY.presets["tiny"]
    (step, _) = tiny.stages
    monkeypatch.setitem(FAMILY.presets, "step", replace(tiny, settings=replace(tiny.settings, **step.settings)))
    vlm = build("moai", "step")
    vlm.model.train()
    vlm.model(**vlm.inputs([ASKED], [PICTURES[:1]])).loss.backward()
    layers = vlm.model.language_model.model.layers
    assert layers[0].mixer is None
    gates, experts = layers[1].mixer.visual_gate.weight.grad, layers[1].mixer.visual
    assert not gates.any()
    assert sum(bool(expert.query[1].weight.grad.any()) for expert in experts) <= 1


def test_the_compressor_is_drawn_as_torch_draws_and_the_mixer_as_transformers_does():
    model = build("moai").model
    compressor, mixer = model.connector.compressor.layers[0], model.language_model.model.layers[1].mixer
    assert compressor.up.weight.std().item() == pytest.approx((1 / 32 / 3) ** 0.5, rel=0.1)
    assert mixer.visual[0].query[0].weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_roles_inside_the_layers(vlm):
    layer = "language_model.model.layers.1."
    for name, role in {
        layer + "self_attn.q_proj.down.weight": "plora",
        layer + "mlp.down_proj.up.weight": "plora",
        layer + "mlp.down_proj.text.weight": "language",
        layer + "mixer.visual.0.query.0.weight": "experts",
        layer + "mixer.text_gate.bias": "experts",
        "connector.compressor.latents": "experts",
        "connector.project.layers.0.weight": "connector",
    }.items():
        assert FAMILY.role(name) == role
        vlm.model.get_parameter(name)
    assert all(set(stage.rates) == {"experts"} for stage in FAMILY.presets["moai-7b"].stages)


def test_published_sizes():
    preset = FAMILY.presets["moai-7b"]
    text = AutoConfig.for_model(**preset.text)
    with torch.device("meta"), no_init_weights():
        _, connector = FAMILY.parts(preset.settings, text)
        model = LlamaModel(AutoConfig.for_model(**preset.text | {"num_hidden_layers": 16, "vocab_size": 8}))
        add_experts(model, FAMILY.experts(preset.settings, text))
    assert [n for n, layer in enumerate(model.layers) if layer.mixer] == [7, 15]  # of 32: 7, 15, 23, 31
    assert sum(p.numel() for p in connector.compressor.parameters()) == 151_363_584  # 151.36 M
    mixers = sum(p.numel() for name, p in model.named_parameters() if ".mixer." in name)
    assert round(2 * mixers / 1e6, 2) == 50.43
    assert sum(p.numel() for p in connector.project.parameters()) == 1024 * 4096 + 4096 * 4096 + 2 * 4096


def theirs(vlm):
    """The model in the authors' layout. The encoder's table of positions is CLIP's own, of 3 x 3 patches."""
    state, text = vlm.model.state_dict(), vlm.model.config.text_config
    groups, made = text.num_key_value_heads, {}
    plora = {"text": "main", "down": "A", "up": "B"}
    for key, tensor in state.items():
        name = key.removeprefix("language_model.")
        if key.startswith("vision_tower."):
            name = key.replace("vision_tower.model.", "vit.vision_tower.vision_model.")
            if "position_embedding" in key:
                tensor = torch.randn(1 + 9, 16, generator=torch.Generator().manual_seed(0))
        elif key.startswith("connector.project."):
            name = key.replace("connector.project.layers.0", "vision_proj.0").replace(
                "connector.project.layers.1", "vision_proj.2"
            )
        elif key.startswith("connector.compressor."):
            name = key.replace("connector.compressor", "moai_compressor")
            for old, new in (
                ("feature_norm", "0.norm_media"), ("latent_norm", "0.norm_latents"), ("attention.query", "0.to_q"),
                ("attention.out", "0.to_out"), ("mlp_norm", "1.0"), (".up.", ".1.1."), (".down.", ".1.3."),
            ):  # fmt: skip
                name = name.replace(old, new)
            if "attention.key" in name or "attention.value" in name:
                continue
        elif ".mixer." in key:
            for side, here in (("visual", "img"), ("text", "lang")):
                other = "lang" if here == "img" else "img"
                for n, expert in enumerate((f"CA_{here}_aux", f"CA_{here}_{other}", f"SA_{here}")):
                    name = name.replace(f"mixer.{side}.{n}.", f"attention.moai_{expert}.linear_")
                name = name.replace(f"mixer.{side}_gate", f"attention.moai_GA_{here}")
            for letter, word in (("q", "query"), ("k", "key"), ("v", "value"), ("o", "out")):
                name = name.replace(f"linear_{word}", f"linear_{letter}")
        elif "_proj." in key:
            *place, part, _ = key.split(".")
            linear = {"o_proj": "attention.wo", "gate_proj": "feed_forward.w1", "down_proj": "feed_forward.w2",
                      "up_proj": "feed_forward.w3"}.get(place[-1])  # fmt: skip
            if linear is None:
                continue
            name = f"model.layers.{place[3]}.{linear}.Plora_{plora[part]}.weight"
        else:
            for old, new in (
                ("embed_tokens", "tok_embeddings"), ("lm_head", "output"), ("input_layernorm", "attention_norm"),
                ("post_attention_layernorm", "ffn_norm"),
            ):  # fmt: skip
                name = name.replace(old, new)
        made[name] = tensor
    for n in range(text.num_hidden_layers):
        ours, block = f"language_model.model.layers.{n}.self_attn.", f"model.layers.{n}.attention.wqkv.Plora_"
        for part in ("text", "up"):
            q, k, v = (state[f"{ours}{p}_proj.{part}.weight"].unflatten(0, (groups, -1)) for p in "qkv")
            made[f"{block}{plora[part]}.weight"] = torch.cat([q, k, v], 1).flatten(0, 1)
        made[block + "A.weight"] = state[ours + "q_proj.down.weight"]
    block = "connector.compressor.layers.0.attention."
    pair = [state[f"{block}{part}.weight"] for part in ("key", "value")]
    made["moai_compressor.layers.0.0.to_kv.weight"] = torch.cat(pair)
    made["vit.vision_tower.vision_model.post_layernorm.weight"] = torch.ones(16)
    made["vit.vision_tower.vision_model.post_layernorm.bias"] = torch.ones(16)
    return {key: tensor.clone().contiguous() for key, tensor in made.items()}


def test_the_authors_checkpoint(vlm, tmp_path):
    state = theirs(vlm)
    save_file(state, tmp_path / "model.safetensors")
    loaded = load_original(tmp_path, "moai", "tiny", tokenizer=vlm.reader.tokenizer).model.state_dict()
    expected = dict(vlm.model.state_dict())
    table = state["vit.vision_tower.vision_model.embeddings.position_embedding.weight"]
    enlarged = torch.cat([table[:1], resized(table[1:], 2, 2)])
    expected["vision_tower.model.embeddings.position_embedding.weight"] = enlarged
    for n in range(2):  # q, k and v share it in the authors' model
        shared = f"language_model.model.layers.{n}.self_attn.q_proj.down.weight"
        for other in "kv":
            expected[shared.replace("q_proj", f"{other}_proj")] = expected[shared]
    for key, tensor in loaded.items():
        assert torch.equal(tensor, expected[key]), key


def test_a_checkpoint_with_other_keys_is_refused(vlm, tmp_path):
    state = theirs(vlm)
    state.pop("model.layers.1.attention.moai_GA_img.bias")
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(VistuneError, match=r"1 missing \(language_model\.model\.layers\.1\.mixer\.visual_gate\.bias\)"):
        load_original(tmp_path, "moai", "tiny", tokenizer=vlm.reader.tokenizer)
    save_file(state | {"sgg.weight": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(VistuneError, match=r"1 unexpected \(sgg\.weight\)"):
        load_original(tmp_path, "moai", "tiny", tokenizer=vlm.reader.tokenizer)


def test_a_published_clip_is_enlarged_for_the_tower(vlm, tmp_path):
    config = CLIPVisionConfig(**FAMILY.presets["tiny"].settings.vision | {"image_size": 42})
    config.save_pretrained(tmp_path)
    published = CLIPVisionModel(config).state_dict()
    save_file(published, tmp_path / "model.safetensors", {"format": "pt"})
    tower = build("moai").model.vision_tower
    FAMILY.load_vision(tower, str(tmp_path))
    table = published["embeddings.position_embedding.weight"]
    torch.testing.assert_close(tower.model.embeddings.position_embedding.weight[1:].detach(), resized(table[1:], 2, 2))
