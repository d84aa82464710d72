"""LLaVA v1 and v1.5; and the layout of checkpoints that LLaVA-NeXT and ViP-LLaVA share with them."""

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText, AutoProcessor, CLIPVisionConfig, CLIPVisionModel

from vistune.errors import VistuneError
from vistune.models import family
from vistune.models.families.base import at_stage
from vistune.models.vlm import build, load, load_original
from vistune.records import Message

LLAVA = family("llava")
PICTURES = [Image.effect_noise((80, 60), 90).convert("RGB"), Image.effect_noise((30, 90), 90).convert("RGB")]
ASKED = [Message("user", "What is it?", (0, 1)), Message("assistant", "A dog.")]


def published(vlm, rows):
    """The model's weights as the authors write them, with a vocabulary of `rows`."""
    projector = "model.multi_modal_projector."
    wide = "final_linear." if vlm.family.name == "vip_llava" else ""
    single = vlm.family.name == "llava" and vlm.preset.settings.depth == 1
    found = {}
    for key, tensor in vlm.model.state_dict().items():
        if key.startswith("model.vision_tower."):
            key = key.replace("model.vision_tower.", "model.vision_tower.vision_tower.vision_model.")
        elif key.startswith(projector + "linear_1."):
            key = key.replace(projector + "linear_1.", f"model.mm_projector.{'' if single else wide + '0.'}")
        elif key.startswith(projector + "linear_2."):
            if single:
                continue
            key = key.replace(projector + "linear_2.", f"model.mm_projector.{wide}2.")
        elif key.startswith(projector):
            key = key.replace(projector + "projector_layernorm.", "model.mm_projector.clip_layernorm.")
        else:
            key = key.replace("model.language_model.", "model.")
        found[key] = tensor[:rows].clone() if key.endswith(("embed_tokens.weight", "lm_head.weight")) else tensor
    found["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    return found


@pytest.mark.parametrize(
    ("name", "connector", "total"),
    [
        ("llava-7b", 4_198_400, 7_045_793_792),
        ("llava-13b", 5_248_000, 13_324_292_096),
        ("llava-1.5-7b", 20_979_712, 7_062_902_784),
        ("llava-1.5-13b", 31_467_520, 13_350_839_296),
    ],
)
def test_published_sizes(name, connector, total, role_sizes):
    numbers = role_sizes("llava", name)
    assert (numbers["connector"], sum(numbers.values())) == (connector, total)


def test_the_copy_for_transformers_has_64_rows_more(role_sizes):
    """llava-hf/llava-1.5-7b-hf has 7 063 427 072 parameters."""
    assert sum(role_sizes("llava", "llava-1.5-7b").values()) + 64 * 2 * 4096 == 7_063_427_072


def test_tokens_of_a_picture_and_what_the_alignment_sees():
    for name, tokens in (("llava-7b", 256), ("llava-1.5-7b", 576)):
        plan = LLAVA.policy(LLAVA.presets[name].settings).plan(800, 600)
        assert (plan.tokens, len(plan.views)) == (tokens, 1)
    preset = LLAVA.presets["llava-1.5-7b"]
    align, instruct = preset.stages
    fits = [LLAVA.policy(at_stage(preset, stage).settings).fit for stage in (align, instruct)]
    assert fits == ["crop", "pad"]
    assert [at_stage(preset, stage).template for stage in (align, instruct)] == ["plain", "vicuna_v1"]


def test_the_prompt_and_what_is_learned():
    reader = build("llava").reader
    reading = reader.read(ASKED, [(80, 60), (30, 90)])
    text = reader.tokenizer.decode(reading.ids).replace("<image>" * 4, "<image>")
    assert text == (
        "<s>A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. USER: <image>\n<image>\nWhat is it? "
        "ASSISTANT: A dog.</s>"
    )
    assert reader.tokenizer.decode([label for label in reading.labels if label >= 0]) == " A dog.</s>"
    plain = at_stage(reader.preset, reader.preset.stages[0])
    aligned = type(reader)(reader.family, plain, reader.tokenizer).read(
        [Message("user", "Describe it.", (0,)), Message("assistant", "A dog.")], [(80, 60)]
    )
    assert reader.tokenizer.decode(aligned.ids) == "<s>" + "<image>" * 4 + "A dog.\n"
    assert reader.tokenizer.decode([label for label in aligned.labels if label >= 0]) == "A dog.\n"


@pytest.mark.parametrize("name", ["tiny", "tiny-v1"])
def test_a_saved_model_is_transformers_own(name, tmp_path):
    """Its class, and its processor from text and pictures on, give our logits; v1 crops and v1.5 pads."""
    vlm = build("llava", name, seed=3)
    vlm.save(tmp_path)
    theirs = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert type(theirs).__module__ == "transformers.models.llava.modeling_llava"
    assert theirs.config.architectures == ["LlavaForConditionalGeneration"]
    text = vlm.reader.template.render(ASKED, images=["<image>"] * 2).text
    inputs = AutoProcessor.from_pretrained(tmp_path)(text="<s>" + text, images=PICTURES, return_tensors="pt")
    ours = vlm.inputs([ASKED], [PICTURES])
    assert torch.equal(inputs["input_ids"], ours["input_ids"])
    assert torch.equal(inputs["pixel_values"], ours["pixel_values"])
    with torch.no_grad():
        expected = theirs(**{key: inputs[key] for key in ("input_ids", "attention_mask", "pixel_values")}).logits
        assert torch.equal(expected, vlm.model(**ours).logits)
        assert torch.equal(expected, load(tmp_path).model(**ours).logits)


def test_the_linear_projector_is_one_layer():
    vlm = build("llava", "tiny-v1")
    assert vlm.roles()["connector"] == [f"model.multi_modal_projector.linear_1.{part}" for part in ("weight", "bias")]
    projector, features = vlm.model.model.multi_modal_projector, torch.randn(2, 4, 32)
    layer = projector.linear_1
    assert torch.equal(projector(features), torch.nn.functional.linear(features, layer.weight, layer.bias))
    vlm.model(**vlm.inputs([ASKED], [PICTURES])).loss.backward()
    assert torch.equal(projector.linear_2.weight, torch.eye(32)) and projector.linear_2.weight.grad is None


def test_a_fresh_projector_is_drawn_as_torch_draws():
    layer = build("llava").model.model.multi_modal_projector.linear_1
    assert 0.15 < layer.weight.abs().max() <= 32**-0.5  # transformers: a normal deviation of 0.02
    assert layer.bias.abs().max() > 0


@pytest.mark.parametrize(
    ("name", "preset"), [("llava", "tiny"), ("llava", "tiny-v1"), ("llava_next", "tiny"), ("vip_llava", "tiny")]
)
def test_original_checkpoints(name, preset, tmp_path):
    vlm = build(name, preset, seed=5)
    tokenizer, rows = vlm.reader.tokenizer, len(vlm.reader.tokenizer) - 1
    state = published(vlm, rows)
    save_file(state, tmp_path / "model.safetensors")
    ours = load_original(tmp_path, name, preset, tokenizer=tokenizer).model.state_dict()
    for key, tensor in vlm.model.state_dict().items():
        if key.endswith(("embed_tokens.weight", "lm_head.weight")):
            assert torch.equal(ours[key][:rows], tensor[:rows])
            torch.testing.assert_close(ours[key][rows], tensor[:rows].mean(0))
        else:
            assert torch.equal(ours[key], tensor), key
    del state["model.layers.1.mlp.up_proj.weight"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(VistuneError, match=r"1 missing \(model\.language_model\.layers\.1\.mlp\.up_proj\.weight\)"):
        load_original(tmp_path, name, preset, tokenizer=tokenizer)
    save_file({**state, "model.mm_projector.9.weight": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(VistuneError, match=r"1 unexpected \(model\.mm_projector\.9\.weight\)"):
        load_original(tmp_path, name, preset, tokenizer=tokenizer)


def test_a_checkpoint_without_the_tower_takes_clips(tmp_path):
    vlm = build("llava", seed=5)
    state = published(vlm, len(vlm.reader.tokenizer) - 1)
    state = {key: tensor for key, tensor in state.items() if "vision_tower" not in key}
    (tmp_path / "llava").mkdir()
    save_file(state, tmp_path / "llava" / "model.safetensors")
    with pytest.raises(VistuneError, match=r"missing \(model\.vision_tower"):
        load_original(tmp_path / "llava", "llava", "tiny", tokenizer=vlm.reader.tokenizer)
    clip = CLIPVisionModel(CLIPVisionConfig(**vlm.model.config.vision_config.to_dict()))
    clip.save_pretrained(tmp_path / "clip")
    loaded = load_original(
        tmp_path / "llava", "llava", "tiny", tokenizer=vlm.reader.tokenizer, vision=str(tmp_path / "clip")
    )
    for key, tensor in clip.state_dict().items():
        assert torch.equal(loaded.model.model.vision_tower.state_dict()[key], tensor)
