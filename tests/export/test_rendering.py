"""Boxes in text are rendered where a region vouches for them, and a sample is rendered whole or not at all."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vistune.boxcodec import CODECS, NATIVE, find
from vistune.errors import VistuneError
from vistune.export.rendering import NATIVE_WORDS, Tally, mentions, render
from vistune.records import ImageRef, Lineage, Message, Region, Sample

settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

WIDE = ImageRef("a" * 64, 640, 480, "png", "a.png")
LONG = ImageRef("b" * 64, 1000, 4, "png", "b.png")


def grounded(pieces, boxes, image=WIDE, **fields):
    """A sample whose answer is text, box, text, box, ... text, each box vouched for by a region."""
    text, regions = pieces[0], []
    for n, (box, after) in enumerate(zip(boxes, pieces[1:], strict=True)):
        written = NATIVE.encode(box, image.width, image.height)
        regions.append(Region(box, "cat", str(n), 0, (1, len(text), len(text) + len(written))))
        text += written + after
    made = Sample(
        id="s",
        dataset="d",
        split="train",
        task="locate",
        method="adapt",
        instruction="Where?",
        input="",
        response=text,
        messages=(Message("user", "Where?", (0,)), Message("assistant", text)),
        images=(image,),
        lineage=Lineage("d/1", (), (), "locate.en.01@1+box@1"),
        licence="CC0",
        group="g",
        regions=tuple(regions),
    )
    return replace(made, **fields)


def rendered(sample, name):
    tally = Tally()
    return render(sample, find(name), tally), tally


def test_golden():
    sample = grounded(["The cat is at ", "."], [(100, 60, 300, 420)])
    assert sample.response == "The cat is at [156, 125, 468, 874]."
    made, tally = rendered(sample, "qwen_vl")
    assert made.response == made.messages[1].text == "The cat is at <box>(156,125),(468,875)</box>."
    assert made.regions[0].mention == (1, 14, 44)
    assert vars(tally) | {"samples": 0, "samples_kept": 0} == {
        "samples": 0,
        "boxes": 1,
        "boxes_without_area": 0,
        "samples_with_boxes": 1,
        "samples_kept": 0,
    }
    assert tally.samples == {"train": 1} and not tally.samples_kept


boxes = st.tuples(*[st.floats(0, 1)] * 4).map(
    lambda f: (min(f[0], f[2]) * 640, min(f[1], f[3]) * 480, max(f[0], f[2]) * 640, max(f[1], f[3]) * 480)
)
plain = st.text(st.characters(exclude_characters="[]", exclude_categories=["Cs"]), max_size=8)


@given(st.lists(st.tuples(boxes, plain), min_size=1, max_size=4), plain, st.sampled_from(list(CODECS)[1:]))
def test_every_mention_is_rendered_and_still_points_at_its_box(parts, first, name):
    sample = grounded([first, *(after for _, after in parts)], [box for box, _ in parts])
    codec = find(name)
    made, tally = rendered(sample, name)
    if tally.samples_kept:  # the same numbers twice, from boxes that differ by less than a step
        assert made == sample and len({r.box for r in sample.regions}) > 1
        return
    text = made.messages[1].text
    for region in made.regions:
        number, start, end = region.mention
        assert number == 1
        assert text[start:end] == codec.encode(region.box, 640, 480)
    rest = text
    for region in sorted(made.regions, key=lambda r: -r.mention[1]):
        rest = rest[: region.mention[1]] + rest[region.mention[2] :]
    assert rest == "".join([first, *(after for _, after in parts)])
    assert made.response == text and tally.boxes == len(parts)


def test_the_release_format_changes_nothing():
    sample = grounded(["", ""], [(1, 2, 3, 4)])
    made, tally = rendered(sample, "vistune")
    assert made is sample and (tally.boxes, tally.samples_with_boxes) == (1, 1)


def test_a_box_without_mention_keeps_the_whole_sample():
    sample = grounded(["It is at ", ", or [1, 2, 3, 4]."], [(100, 60, 300, 420)])
    made, tally = rendered(sample, "llava")
    assert made is sample and tally.samples_kept == {"box_without_mention": 1} and tally.boxes == 0
    lost = replace(sample, regions=(replace(sample.regions[0], mention=()),))
    assert rendered(lost, "llava")[1].samples_kept == {"box_without_mention": 1}


def test_a_box_that_is_not_the_one_of_its_region_keeps_the_sample():
    sample = grounded(["", ""], [(100, 60, 300, 420)])
    (region,) = sample.regions
    nudged = replace(sample, regions=(replace(region, box=(100.5, 60.4, 300, 420)),))
    assert rendered(nudged, "llava")[1].boxes == 1, "within a step of the text"
    moved = replace(sample, regions=(replace(region, box=(200, 60, 300, 420)),))
    made, tally = rendered(moved, "llava")
    assert made is moved and tally.samples_kept == {"box_differs": 1}


def test_four_numbers_in_other_text_are_no_box():
    sample = grounded(["Sum of [1, 2, 3, 4]?"], [], lineage=Lineage("d/1", (), ()))
    assert rendered(sample, "llava")[1].samples_kept == {}
    assert rendered(grounded(["A year: [1999, 2000, 2001, 2002]"], []), "llava")[1].samples_kept == {}


def test_a_mention_of_a_name_is_left_alone():
    sample = grounded(["the ", ""], [(100, 60, 300, 420)])
    text = "the cat"
    region = replace(sample.regions[0], mention=(1, 4, 7))
    named = replace(sample, regions=(region,), response=text, messages=(sample.messages[0], Message("assistant", text)))
    assert mentions(named) == {}
    made, tally = rendered(named, "shikra")
    assert made.messages == named.messages and tally.boxes == 0


def test_an_image_that_the_consumer_refuses_keeps_its_sample():
    sample = grounded(["", ""], [(0, 0, 10, 4)], LONG)
    made, tally = rendered(sample, "qwen25_vl")
    assert made is sample and tally.samples_kept == {"image_refused": 1}


def test_boxes_thinner_than_a_step_are_counted():
    _, tally = rendered(grounded(["", ""], [(100, 60, 101, 420)]), "minigpt_v2")
    assert (tally.boxes, tally.boxes_without_area) == (1, 1)
    _, tally = rendered(grounded(["", ""], [(100, 60, 101, 420)]), "shikra")
    assert (tally.boxes, tally.boxes_without_area) == (1, 0)


def test_the_same_numbers_in_images_of_two_sizes_are_ambiguous():
    sample = grounded(["", " and ", ""], [(0, 0, 640, 480), (0, 0, 640, 480)])
    first, second = sample.regions
    tall = ImageRef("c" * 64, 100, 400, "png", "c.png")
    both = replace(
        sample,
        images=(WIDE, tall),
        regions=(first, replace(second, image=1, box=(0, 0, 100, 400))),
        messages=(replace(sample.messages[0], images=(0, 1)), sample.messages[1]),
    )
    assert rendered(both, "llava")[1].samples_kept == {"box_ambiguous": 1}
    assert rendered(both, "qwen_vl")[1].boxes == 2, "here both are written alike"


def test_question_choices_places_and_triple_follow():
    here, there = NATIVE.encode((100, 60, 300, 420), 640, 480), NATIVE.encode((0, 0, 64, 48), 640, 480)
    text = f"Which is it, {here} or {there}?"
    spans = [(0, text.index(b), text.index(b) + len(b)) for b in (here, there)]
    sample = grounded(
        ["the first"],
        [],
        instruction="Which is it?",
        input=f"{here} or {there}",
        choices=(here, there),
        images=(WIDE, WIDE),
        messages=(Message("user", text, (0, 1), (0, len(text))), Message("assistant", "the first")),
        regions=(Region((100, 60, 300, 420), "cat", "1", 0, spans[0]), Region((0, 0, 64, 48), "cat", "2", 1, spans[1])),
    )
    made, _ = rendered(sample, "ferret")
    assert made.messages[0].text == "Which is it, [156, 125, 468, 875] or [0, 0, 100, 100]?"
    assert made.messages[0].places == (0, len(made.messages[0].text))
    assert made.input == "[156, 125, 468, 875] or [0, 0, 100, 100]"
    assert made.choices == ("[156, 125, 468, 875]", "[0, 0, 100, 100]")


WORDS = {
    "en": ["Where is it? A box is [x1, y1, x2, y2] in integers from 0 to 999. Answer with the box only."],
    "zh": ["它在哪里？方框写作[x1, y1, x2, y2]，用0到999的整数。只回答方框。"],
}


@pytest.mark.parametrize(("language", "asked"), [(code, text) for code, texts in WORDS.items() for text in texts])
def test_instructions_speak_of_the_format_that_is_written(language, asked):
    sample = grounded(["", ""], [(100, 60, 300, 420)], language=language, instruction=asked)
    sample = replace(sample, messages=(Message("user", asked, (0,)), sample.messages[1]))
    made, _ = rendered(sample, "minigpt_v2")
    words = find("minigpt_v2").words(language)
    assert made.instruction == made.messages[0].text and words in made.instruction
    assert "999" not in made.instruction and "[x1" not in made.instruction
    imported = replace(sample, lineage=Lineage("d/1", (), ()))
    assert rendered(imported, "minigpt_v2")[0].messages[0].text == asked, "only our own templates are rewritten"


def test_our_templates_call_the_format_by_words_that_are_found():
    """Should a template state the scale otherwise, its samples would contradict themselves after an export."""
    from vistune.adapt.phrasing import FOLDER

    lines = [line for file in sorted(FOLDER.rglob("*.yaml")) for line in file.read_text(encoding="utf-8").splitlines()]
    stated = [line for line in lines if "999" in line and not line.lstrip().startswith("#")]
    assert not [line for line in stated if "999" in NATIVE_WORDS.sub("", line)]


@pytest.mark.parametrize("mention", [(2, 0, 1), (1, 5, 5), (1, 0, 99), (-1, 0, 1)])
def test_a_mention_outside_its_message(mention):
    sample = grounded(["", ""], [(1, 2, 3, 4)])
    broken = replace(sample, regions=(replace(sample.regions[0], mention=mention),))
    with pytest.raises(VistuneError, match=r"sample s: region 0 is mentioned at .* outside its messages"):
        rendered(broken, "llava")


@pytest.mark.parametrize("name", CODECS)
def test_through_a_whole_export(tiny, exported, name):
    folder = exported("llava", boxes=name)
    rows = [row for split in ("train", "validation") for row in json.loads((folder / f"{split}.json").read_text())]
    codec = find(name)
    found = {row["vistune"]["task"]: [turn["value"] for turn in row["conversations"]] for row in rows}
    assert found["locate"][1] == f"The cat is at {codec.encode((10, 20, 110, 45), 120, 50)}."
    assert codec.encode((0, 0, 30, 90), 30, 90) in found["name_region"][0]
    assert found["zh"][1] == codec.encode((40, 10, 60, 40), 80, 60)
    assert codec.words("en") in found["locate"][0] and codec.words("zh") in found["zh"][0]
    triples = {row["vistune"]["task"]: row["vistune"] for row in rows}
    assert triples["name_region"]["input"] == f"Region: {codec.encode((0, 0, 30, 90), 30, 90)}"
    manifest = json.loads((folder / "export.json").read_text())
    assert (manifest["boxes"], manifest["samples_kept"]) == (3, {})
    assert manifest["box_format"] == name
