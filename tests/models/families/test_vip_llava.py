"""ViP-LLaVA: marks on the picture, words for them, five states of the encoder. Its checkpoints: test_llava."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor

from vistune.boxcodec import NATIVE
from vistune.errors import VistuneError
from vistune.models import family
from vistune.models.families.vip_llava import DATA_SHAPES, mark, outlines, overlay
from vistune.models.overlay import COLORS, SHAPES, Overlay, VisualPrompt, name_prompt
from vistune.models.vlm import build
from vistune.records import Message, Region

VIP = family("vip_llava")
GREY = Image.new("RGB", (400, 300), (128, 128, 128))
REGIONS = [Region(box, "", "") for box in ((20, 30, 120, 130), (200, 100, 380, 280), (150, 10, 240, 90))]


@pytest.mark.parametrize(
    ("name", "connector", "total"),
    [("vip-llava-7b", 37_767_168, 7_079_690_240), ("vip-llava-13b", 52_449_280, 13_371_821_056)],
)
def test_published_sizes(name, connector, total, role_sizes):
    numbers = role_sizes("vip_llava", name)
    assert (numbers["connector"], sum(numbers.values())) == (connector, total)


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


BOX = (200.0, 100.0, 300.0, 200.0)
TEXT = NATIVE.encode(BOX, *GREY.size)


def asked(before: str, after: str = "?", answer: str = "A dog.", box: tuple[float, ...] = BOX, image: int = 0) -> Any:
    """Messages about a box, which stands between two texts, and its region."""
    start = len(before)
    region = Region(box, "dog", "7", image, (0, start, start + len(TEXT)))
    return [Message("user", before + TEXT + after, (0,)), Message("assistant", answer)], [region]


def named(prompt: VisualPrompt) -> str:
    """In words."""
    return name_prompt(prompt.shape, next((name for name, color in COLORS.items() if color == prompt.color), ""))


def test_boxes_in_questions_become_marks_and_words():
    reader = build("vip_llava").reader
    messages, regions = asked("What is in the region ")
    (question, answer), (drawn,) = overlay(messages, regions, 1)
    (prompt,) = drawn.prompts
    assert prompt.box == BOX and answer == messages[1]
    assert question.text == f"What is in the region {named(prompt)}?"
    reading = reader.read(messages, [GREY.size], regions=regions)
    plain = reader.read([question, answer], [GREY.size])
    assert (reading.ids, reading.labels, reading.overlays) == (plain.ids, plain.labels, (drawn,))
    assert reader.length(messages, [GREY.size], regions=regions) == reading.length
    started = reader.read(messages[:1], [GREY.size], regions=regions, prompt=True)
    assert started.overlays == reading.overlays and reading.ids[: len(started.ids)] == started.ids
    assert reader.read(messages, [GREY.size]).overlays == (), "without regions a box is text"


def test_marks_change_the_picture_where_they_are_and_nowhere_else():
    """Shapes stay within the box, but for their line, an ellipse (1.5 times as wide) and an arrow's shaft."""
    vlm, seen, n = build("vip_llava"), set(), 0
    grey = np.array(GREY)
    while seen != set(SHAPES):
        n += 1
        messages, regions = asked(f"Question {n}: what is in ")
        reading = vlm.reader.read(messages, [GREY.size], regions=regions)
        (drawn,) = reading.overlays
        shape = drawn.prompts[0].shape
        seen.add(shape)
        rows, columns = np.nonzero((np.array(drawn.on(GREY)) != grey).any(-1))
        outside = {"ellipse": 35, "arrow": 75, "point": 50}.get(shape, 15)
        assert 200 - outside <= columns.min() <= columns.max() <= 300 + outside, shape
        assert 100 - outside <= rows.min() <= rows.max() <= 200 + outside, shape
        (marked,) = vlm.reader.look(reading, [GREY])
        (plain,) = vlm.reader.look(reading, [GREY], overlays=[None])
        changed = (marked.views[0] != plain.views[0]).any(0)
        scale = 28 / 400  # the picture is padded to a square
        assert changed.any() and not changed[:, : int((200 - outside) * scale) - 2].any(), shape
    assert n < 60


def test_what_cannot_or_must_not_be_marked():
    messages, regions = asked("What is in ", answer=f"A dog, at {TEXT}.")
    given = replace(regions[0], mention=(1, 10, 10 + len(TEXT)))
    assert overlay(messages, [*regions, given], 1) == (messages, ()), "the mark would give the answer away"
    assert overlay(messages[:1], [*regions, given], 1) == (messages[:1], ()), "nor in its prompt"
    assert overlay(messages, [replace(regions[0], mention=())], 1) == (messages, ())
    name = [Message("user", "Is the dog here?", (0,)), Message("assistant", "yes")]
    assert overlay(name, [Region(BOX, "dog", "7", 0, (0, 7, 10))], 1) == (name, ())
    reader = build("vip_llava").reader
    with pytest.raises(VistuneError, match=r"has no area \(sample s7\)"):
        reader.read(messages, [GREY.size], regions=[replace(regions[0], box=(9.0, 9.0, 9.0, 20.0))], sample="s7")
    with pytest.raises(VistuneError, match=r"region 7 is mentioned at \(0, 5, 99\), outside its message \(sample s7\)"):
        reader.read(messages, [GREY.size], regions=[replace(regions[0], mention=(0, 5, 99))], sample="s7")


def test_marks_of_several_pictures_have_names_of_their_own():
    text = f"Compare {TEXT} with {TEXT} in the other, and with the box {TEXT} again."
    places = [match.span() for match in NATIVE.pattern.finditer(text)]
    regions = [Region(BOX, "dog", str(n), image, (0, *places[n])) for n, image in enumerate((0, 1, 0))]
    messages = [Message("user", text, (0, 1)), Message("assistant", "The same.")]
    (question, _), drawn = overlay(messages, regions, 3)
    assert [len(one.prompts) if one else 0 for one in drawn] == [1, 1, 0]
    first, second = (named(one.prompts[0]) for one in drawn[:2] if one)
    assert first != second
    assert question.text == (
        f"Compare the region {first} with the region {second} in the other, and with the box {first} again."
    )


def test_outlines_without_area_are_left_out():
    region = Region(BOX, "", "", polygons=((0, 0, 1, 1), (0, 0, 5, 0, 9, 0), (0, 0, 5, 0, 9, 3)))
    assert outlines(region) == (((0, 0), (5, 0), (9, 3)),)


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
