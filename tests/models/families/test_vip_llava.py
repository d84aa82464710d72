"""ViP-LLaVA: marks on the picture, words for them, five states of the encoder. Its checkpoints: test_llava."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor

from vistune.errors import VistuneError
from vistune.models import family
from vistune.models.families.vip_llava import DATA_SHAPES, Region, mark
from vistune.models.overlay import COLORS, Overlay, VisualPrompt
from vistune.models.tiny import tokenizer_for
from vistune.models.vlm import build, drawn
from vistune.records import Message

VIP = family("vip_llava")
GREY = Image.new("RGB", (400, 300), (128, 128, 128))
REGIONS = [Region((20, 30, 120, 130)), Region((200, 100, 380, 280)), Region((150, 10, 240, 90))]


@pytest.mark.parametrize(
    ("name", "connector", "total"),
    [("vip-llava-7b", 37_767_168, 7_079_690_240), ("vip-llava-13b", 52_449_280, 13_371_821_056)],
)
def test_published_sizes(name, connector, total):
    preset = VIP.presets[name]
    with torch.device("meta"):
        model = drawn(VIP, preset, tokenizer_for(preset), preset.text)
    numbers = {key: tensor.numel() for key, tensor in model.named_parameters()}
    assert sum(numbers.values()) == total
    assert sum(number for key, number in numbers.items() if VIP.role(key) == "connector") == connector


def test_the_last_stage_is_a_hundred_times_slower():
    rates = [stage.rates["connector"] for stage in VIP.presets["vip-llava-7b"].stages]
    assert rates == [1e-3, 2e-5, 2e-7]


def test_marks_are_drawn_before_the_picture_is_fitted():
    """A red frame around the left half; the view shows it there, and the other half is as without it."""
    vlm = build("vip_llava")
    reading = vlm.reader.read([Message("user", "What?", (0,)), Message("assistant", "A dog.")], [GREY.size])
    overlay = Overlay((VisualPrompt("rectangle", (0, 0, 200, 300), (255, 0, 0), alpha=255, width=20),))
    (plain,), (marked,) = vlm.reader.look(reading, [GREY]), vlm.reader.look(reading, [GREY], overlays=[overlay])
    changed = (plain.views[0] != marked.views[0]).any(0)
    assert changed[:, :15].any() and not changed[:, 16:].any()
    assert np.array_equal(np.array(GREY), np.full((300, 400, 3), 128))
    asked = [[Message("user", "What?", (0,))]]
    assert len(vlm.generate(asked, [[GREY]], 4, overlays=[[overlay]])) == 1
    with torch.no_grad():
        logits = [
            vlm.model(**vlm.inputs(asked, [[GREY]], prompt=True, overlays=overlays)).logits
            for overlays in ((), [[overlay]], [[None]])
        ]
    assert torch.equal(logits[0], logits[2]) and not torch.equal(logits[0], logits[1])


def test_marks_are_drawn_from_their_seed_and_named_in_words():
    first, words = mark(REGIONS, 7)
    again, same = mark(REGIONS, 7)
    assert (first, words) == (again, same)
    assert np.array_equal(np.array(first.on(GREY)), np.array(again.on(GREY)))
    assert not np.array_equal(np.array(first.on(GREY)), np.array(GREY))
    kinds, named = set(), 0
    for seed in range(200):
        overlay, (word,) = mark(REGIONS[:1], seed)
        prompt = overlay.prompts[0]
        kinds.add(prompt.shape)
        assert word.endswith(prompt.shape)
        color = [name for name in COLORS if name in word.split()]
        named += bool(color)
        assert not color or COLORS[color[0]] == prompt.color
    assert kinds == set(DATA_SHAPES["refcocog"]) and len(kinds) == 8
    assert 70 < named < 130


def test_words_tell_marks_of_one_shape_apart():
    for seed in range(20):
        overlay, words = mark(REGIONS, seed, "v7w")
        assert len(set(words)) == 3
        assert all(prompt.shape == "rectangle" and prompt.constant for prompt in overlay.prompts)
        assert {word.split()[2] for word in words} <= set(COLORS)
    with pytest.raises(VistuneError, match="10 regions are marked with rectangle; 9 colours"):
        mark(REGIONS[:1] * 10, 0, "v7w")
    with pytest.raises(VistuneError, match="no shapes are known for 'coco'"):
        mark(REGIONS, 0, "coco")
    assert "point" not in DATA_SHAPES["vcr"]


def test_transformers_own_processor_gives_the_same_logits(tmp_path):
    vlm = build("vip_llava", seed=4)
    vlm.save(tmp_path)
    asked = [Message("user", "Compare", (0,)), Message("assistant", "same")]
    picture = Image.effect_noise((80, 60), 90).convert("RGB")
    text = vlm.reader.template.render(asked, images=["<image>"]).text
    assert text.startswith("A chat between a curious human and an artificial intelligence assistant.")
    theirs = AutoProcessor.from_pretrained(tmp_path)(text="<s>" + text, images=[picture], return_tensors="pt")
    ours = vlm.inputs([asked], [[picture]])
    assert torch.equal(theirs["input_ids"], ours["input_ids"])
    keys = ("input_ids", "attention_mask", "pixel_values")
    with torch.no_grad():
        assert torch.equal(vlm.model(**{key: theirs[key] for key in keys}).logits, vlm.model(**ours).logits)
