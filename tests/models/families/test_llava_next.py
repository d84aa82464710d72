"""LLaVA-NeXT: canvases, newlines, and transformers' class, which decides as we plan."""

import random

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor
from transformers.models.llava_next.modeling_llava_next import get_anyres_image_grid_shape, unpad_image

from vistune.models import family
from vistune.models.families.llava_next import Settings
from vistune.models.layout import visual_tokens
from vistune.models.tiny import tokenizer_for
from vistune.models.views_tiles import PINPOINTS, AnyRes
from vistune.models.vlm import build
from vistune.records import Message

NEXT = family("llava_next")
POLICY = NEXT.policy(NEXT.presets["llava-1.6-vicuna-7b"].settings)


@pytest.mark.parametrize(
    ("name", "connector", "total"),
    [
        ("llava-1.6-vicuna-7b", 20_983_808, 7_062_906_880),
        ("llava-1.6-vicuna-13b", 31_472_640, 13_350_844_416),
        ("llava-1.6-mistral-7b", 20_983_808, 7_566_223_360),
        ("llava-1.6-34b", 58_741_760, 34_751_166_464),
        ("llava-next-llama3-8b", 20_983_808, 8_354_752_512),
        ("llava-next-qwen1.5-72b", 75_522_048, 72_666_949_632),
    ],
)
def test_published_sizes(name, connector, total, role_sizes):
    numbers = role_sizes("llava_next", name)
    assert (numbers["connector"], sum(numbers.values())) == (connector, total)


@pytest.mark.parametrize(
    ("size", "grid", "tokens"),
    [
        ((336, 336), (1, 2), 1176),
        ((448, 448), (2, 2), 2928),
        ((640, 480), (2, 2), 2340),
        ((800, 600), (2, 2), 2340),
        ((1024, 512), (2, 1), 1752),
        ((448, 1344), (1, 3), 2376),
        ((1280, 720), (2, 2), 1948),
        ((3000, 500), (3, 1), 1452),
    ],
)
def test_tokens(size, grid, tokens):
    plan = POLICY.plan(*size)
    assert (plan.grid, plan.tokens) == (grid, tokens)
    assert AnyRes().plan(*size).tokens == tokens
    assert plan.views[0].kind == "overview" and plan.views[0].whole  # stretched, not padded


def test_transformers_class_decides_as_we_plan():
    """Where the authors round otherwise, too; and with its own list, pictures of up to 336 pixels lie on their side."""
    turned = [[height, width] for width, height in PINPOINTS]
    draws = random.Random(0)
    for width, height in [(88, 55), (352, 748), (336, 336), (5, 900)] + [
        (draws.randint(1, 1200), draws.randint(1, 1200)) for _ in range(300)
    ]:
        plan = POLICY.plan(width, height)
        rows, columns = get_anyres_image_grid_shape((height, width), turned, 336)
        kept = unpad_image(torch.empty(1, rows * 24, columns * 24), (height, width))
        assert plan.grid == (columns, rows)
        assert plan.tokens == 576 + kept.shape[1] * (kept.shape[2] + 1)
    assert (POLICY.plan(88, 55).tokens, AnyRes().plan(88, 55).tokens) == (976, 926)
    theirs = NEXT.policy(Settings(canvases=tuple((height, width) for width, height in PINPOINTS)))
    assert (POLICY.plan(300, 200).grid, theirs.plan(300, 200).grid) == ((1, 2), (2, 1))
    assert theirs == AnyRes(transformers=True)


PICTURES = [Image.effect_noise(size, 90).convert("RGB") for size in ((80, 60), (20, 20), (300, 31))]


def test_the_class_lays_out_as_our_block():
    vlm = build("llava_next", seed=2)
    vlm.model.eval()
    asked = [Message("user", "Compare", (0, 1, 2)), Message("assistant", "same")]
    reading = vlm.reader.read(asked, [picture.size for picture in PICTURES])
    seen = vlm.reader.look(reading, PICTURES)
    inputs = vlm.family.inputs(vlm.preset.settings, seen)
    with torch.no_grad():
        found = vlm.model.get_image_features(**inputs, return_dict=True).pooler_output
        for picture, tokens in zip(seen, found, strict=True):
            states = vlm.model.model.vision_tower(torch.stack(picture.views), output_hidden_states=True).hidden_states
            features = vlm.model.model.multi_modal_projector(states[-2][:, 1:])
            plan = picture.plan
            newline = vlm.model.model.image_newline
            expected = visual_tokens(plan.layout, list(features), plan.grid, plan.features, newline)
            assert len(tokens) == plan.tokens
            torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-6)


def test_transformers_own_processor_gives_the_same_logits(tmp_path):
    vlm = build("llava_next", seed=4)
    vlm.save(tmp_path)
    asked = [Message("user", "Compare", (0, 1, 2)), Message("assistant", "same")]
    text = vlm.reader.template.render(asked, images=["<image>"] * 3).text
    theirs = AutoProcessor.from_pretrained(tmp_path)(text="<s>" + text, images=PICTURES, return_tensors="pt")
    ours = vlm.inputs([asked], [PICTURES])
    assert torch.equal(theirs["input_ids"], ours["input_ids"])
    assert torch.equal(theirs["image_sizes"], ours["image_sizes"])
    counts = [len(vlm.reader.plan(*picture.size).views) for picture in PICTURES]
    views = [view for views, count in zip(theirs["pixel_values"], counts, strict=True) for view in views[:count]]
    assert torch.equal(torch.stack(views), ours["pixel_values"])
    keys = ("input_ids", "attention_mask", "pixel_values", "image_sizes")
    with torch.no_grad():
        assert torch.equal(vlm.model(**{key: theirs[key] for key in keys}).logits, vlm.model(**ours).logits)


def test_templates_of_the_language_models():
    texts = {}
    for name in ("llava-1.6-mistral-7b", "llava-1.6-34b", "llava-next-qwen1.5-72b", "llava-next-llama3-8b"):
        preset = NEXT.presets[name]
        vlm = build("llava_next", tokenizer=tokenizer_for(preset))
        reader = type(vlm.reader)(NEXT, preset, tokenizer_for(preset))
        reading = reader.read([Message("user", "Hi"), Message("assistant", "Red")])
        texts[name] = reader.tokenizer.decode(reading.ids)
        assert reader.stop in texts[name].partition("Red")[2]
    assert texts["llava-1.6-mistral-7b"] == "<s>[INST] Hi [/INST] Red </s>"
    assert texts["llava-1.6-34b"] == (
        "<|im_start|>system\nAnswer the questions.<|im_end|><|im_start|>user\nHi<|im_end|>"
        "<|im_start|>assistant\nRed<|im_end|>"
    )
    assert texts["llava-next-qwen1.5-72b"].startswith("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n")
    assert texts["llava-next-llama3-8b"].startswith("<|begin_of_text|><|start_header_id|>system")
