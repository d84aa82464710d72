"""Qwen2-VL: native sizes, positions in three axes, transformers' own class and processor."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from talks import UNLIKE as PICTURES
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from vistune.errors import VistuneError
from vistune.models.families.base import Picture
from vistune.models.families.qwen2_vl import FAMILY, processor
from vistune.models.reader import Reader
from vistune.models.tiny import byte_tokenizer, tiny_text
from vistune.models.vlm import build, empty, load, load_original
from vistune.records import Message

ONE = [Message("user", "What is it?", (0,)), Message("assistant", "A dog.")]
TWO = [Message("user", "Compare.", (0, 1)), Message("assistant", "Same.")]
TEXT = [Message("user", "Hello"), Message("assistant", "Hi")]


@pytest.fixture(scope="module")
def tiny():
    return build("qwen2_vl")


@pytest.mark.parametrize(
    ("size", "authors", "transformers"),
    [((224, 224), 64, 64), ((800, 600), 609, 609), ((1920, 1080), 2691, 2691), ((13, 300), 11, 10), ((20, 20), 4, 4)],
)
def test_tokens_of_a_picture(size, authors, transformers):
    settings = FAMILY.presets["qwen2-vl-7b"].settings
    assert FAMILY.policy(settings).plan(*size).tokens == authors
    assert FAMILY.policy(replace(settings, transformers=True)).plan(*size).tokens == transformers


def test_too_thin_pictures_are_an_error(tiny):
    with pytest.raises(VistuneError, match=r"differ 201\.0 times; the limit is 200"):
        tiny.reader.length(ONE, [(201, 1)])


def test_prompt_and_labels(tiny):
    reading = tiny.reader.read(TWO, [picture.size for picture in PICTURES])
    ids = [token for token in reading.ids if token != tiny.reader.placeholder]
    assert tiny.reader.tokenizer.decode(ids) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        "<|vision_start|><|vision_end|><|vision_start|><|vision_end|>Compare.<|im_end|>\n"
        "<|im_start|>assistant\nSame.<|im_end|>\n"
    )
    assert tiny.reader.tokenizer.decode([x for x in reading.labels if x >= 0]) == "Same.<|im_end|>"


def test_positions_are_those_of_transformers_on_either_side(tiny):
    for side in ("left", "right"):
        batch = tiny.inputs([ONE, TEXT, TWO], [PICTURES[:1], [], PICTURES], side=side)
        kinds = (batch["input_ids"] == tiny.reader.placeholder).int()
        mask = batch["attention_mask"]
        expected, _ = tiny.model.model.get_rope_index(
            batch["input_ids"], kinds, batch["image_grid_thw"], attention_mask=mask
        )
        assert batch["position_ids"].shape == (3, *mask.shape)
        assert torch.equal(batch["position_ids"] * mask, expected * mask)
    grids = batch["image_grid_thw"].tolist()
    assert grids == [
        [1, *plan.views[0].patches] for plan in [tiny.reader.plan(*p.size) for p in (PICTURES[0], *PICTURES)]
    ]


def test_generation_goes_on_behind_the_largest_position(tiny):
    """Greedy steps with a cache choose what a whole forward pass chooses, in a batch padded on the left."""
    asked, shown = [ONE[:1], TEXT[:1], TWO[:1]], [PICTURES[:1], [], PICTURES]
    batch = tiny.inputs(asked, shown, prompt=True, side="left")
    batch.pop("labels")
    length = batch["input_ids"].shape[1]
    steps = tiny.model.generate(**batch, do_sample=False, max_new_tokens=4, eos_token_id=None, pad_token_id=0)
    for n, (turns, pictures) in enumerate(zip(asked, shown, strict=True)):
        row = tiny.inputs([turns], [pictures], prompt=True)
        row.pop("labels")
        for token in steps[n, length:]:
            assert tiny.model(**row).logits[0, -1].argmax() == token
            row["input_ids"] = torch.cat([row["input_ids"], token.reshape(1, 1)], dim=1)
            row["attention_mask"] = torch.ones_like(row["input_ids"])
            row["position_ids"] = torch.cat([row["position_ids"], row["position_ids"][..., -1:] + 1], dim=-1)


def test_the_same_as_transformers_processor(tiny):
    """Their processor expands the picture's token and makes the pixels; the text is ours."""
    preset = replace(tiny.preset, settings=replace(tiny.preset.settings, transformers=True))
    reader = Reader(FAMILY, preset, tiny.reader.tokenizer)
    theirs = processor(preset, tiny.reader.tokenizer)
    text = reader.template.render(TWO).text
    expected = theirs(text=[text], images=PICTURES, return_tensors="pt")
    reading = reader.read(TWO, [picture.size for picture in PICTURES])
    own = reader.batch([reading], [reader.look(reading, PICTURES)])
    for key in ("input_ids", "pixel_values", "image_grid_thw"):
        assert torch.equal(own[key], expected[key]), key
    own.pop("labels")
    with torch.no_grad():
        assert torch.equal(tiny.model(**own).logits, tiny.model(**expected).logits)


def test_published_parameters():
    for name, parameters in (
        ("qwen2-vl-2b", 2_208_985_600),
        ("qwen2-vl-7b", 8_291_375_616),
        ("qwen2-vl-72b", 73_405_560_320),
    ):
        model = empty("qwen2_vl", name).model
        assert sum(p.numel() for p in model.parameters()) == parameters
        if name == "qwen2-vl-7b":
            merger = sum(p.numel() for p in model.model.visual.merger.parameters())
            assert round(merger / 1e6, 1) == 44.6
            assert round(sum(p.numel() for p in model.model.visual.parameters()) / 1e6) == 676


def test_a_language_model_of_one_axis_gets_three(tmp_path):
    """Text has the same positions on all axes, so the language model answers as it did alone."""
    torch.manual_seed(2)
    config = AutoConfig.for_model(**tiny_text("qwen2", vocab_size=300, rope_parameters={"rope_theta": 5e4}))
    alone = AutoModelForCausalLM.from_config(config).eval()
    alone.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    joined = build("qwen2_vl", language=str(tmp_path))
    rope = joined.model.config.text_config.rope_parameters
    assert (rope["mrope_section"], rope["rope_theta"]) == ([1, 1, 2], 5e4)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        torch.testing.assert_close(joined.model(input_ids=ids).logits[..., :300], alone(ids).logits)
    published = FAMILY.presets["qwen2-vl-7b"]
    rope = FAMILY.model(published.settings, published.text, 7)[1].text_config.rope_parameters
    assert (rope["mrope_section"], rope["rope_theta"]) == ([16, 24, 24], 1e6)


@pytest.mark.parametrize("tied", [False, True])
def test_the_published_checkpoint(tmp_path, tied):
    """Names from before the encoder and the language model moved below `model`; a tied head is not in the file."""
    source = build("qwen2_vl", seed=3, text={"tie_word_embeddings": tied})
    own = source.model.state_dict()
    names = {
        key: key.replace("model.language_model.", "model.").replace("model.visual.", "visual.")
        for key in own
        if not (tied and key == "lm_head.weight")
    }
    state = {name: own[key] for key, name in names.items()}
    converted = FAMILY.original(dict(state), source.model.config)
    assert converted.keys() == own.keys()
    assert all(torch.equal(converted[key], own[key]) for key in own)
    save_file({**state, "model.rotary.extra": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(VistuneError, match=r"model\.rotary\.extra"):
        load_original(tmp_path, "qwen2_vl", "tiny", tokenizer=source.reader.tokenizer)


def test_a_saved_model_is_transformers_own(tmp_path, tiny):
    tiny.save(tmp_path)
    theirs = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    batch = tiny.inputs([TWO], [PICTURES])
    with torch.no_grad():
        assert torch.equal(theirs(**batch).logits, tiny.model(**batch).logits)
    assert load(tmp_path).preset == tiny.preset


def test_patches_of_all_pictures_lie_in_one_row(tiny):
    plans = [tiny.reader.plan(*picture.size) for picture in PICTURES]
    views = [FAMILY.look(tiny.preset.settings, plan, p) for plan, p in zip(plans, PICTURES, strict=True)]
    inputs = FAMILY.inputs(tiny.preset.settings, [Picture(p, v) for p, v in zip(plans, views, strict=True)])
    assert inputs["pixel_values"].shape == (4 * sum(plan.tokens for plan in plans), 3 * 2 * 4 * 4)
