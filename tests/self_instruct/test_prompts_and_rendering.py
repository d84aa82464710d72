import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vistune.exchange import request_id
from vistune.records import Annotation, Caption, Category
from vistune.self_instruct import render
from vistune.self_instruct.facts import Facts
from vistune.self_instruct.filters import Pool
from vistune.self_instruct.parse import parse
from vistune.self_instruct.prompts import KINDS, MAX_ABSENT, absentees, load, user_message

LINE = re.compile(r"^(.+): \[(\d\.\d{3}), (\d\.\d{3}), (\d\.\d{3}), (\d\.\d{3})\]$")


def test_an_image_as_text(make):
    image = make(3, [("cat", (0, 0, 160, 120)), ("owl", (160, 60, 320, 240))], captions=["A cat\nand an owl."])
    assert render.captions_objects(image) == (
        "Captions:\n- A cat and an owl.\n- The background is light blue.\n\n"
        "Objects:\nowl: [0.500, 0.250, 1.000, 1.000]\ncat: [0.000, 0.000, 0.500, 0.500]"
    )


def test_crowds_other_languages_and_stuff(make):
    image = make(3, [("cat", (0, 0, 160, 120))], background="")
    sky = Annotation("9", Category("grass", "ground"), (0.0, 0.0, 320.0, 240.0), thing=False)
    ants = Annotation("8", Category("ant", "animal-bug"), (0.0, 120.0, 320.0, 240.0), crowd=True)
    changes = {"objects": (*image.objects, sky, ants), "captions": (Caption("1", "一只猫", "zh"),)}
    text = render.captions_objects(replace(image, **changes))
    assert "猫" not in text
    assert "- There is grass in the background." in text
    assert "ant (a group, not counted): [0.000, 0.500, 1.000, 1.000]" in text


def test_what_is_left_out_is_counted(make):
    many = [("ant", (i, 0, i + 2 + i % 5, 5)) for i in range(render.MAX_OBJECTS + 7)]
    text = render.captions_objects(make(1, many))
    assert (
        len(LINE.findall(text)) == 0 and sum(bool(LINE.match(line)) for line in text.split("\n")) == render.MAX_OBJECTS
    )
    assert "(7 smaller objects are not listed)" in text


def test_rendering_ignores_the_order_of_annotations(images):
    for image in images[:20]:
        turned = replace(image, objects=image.objects[::-1])
        assert render.captions_objects(turned) == render.captions_objects(image)


@given(st.integers(1, 5000), st.integers(1, 5000), st.tuples(*[st.floats(0, 1)] * 4))
def test_boxes_round_to_half_a_thousandth(width, height, corners):
    x1, x2 = sorted(corners[:2])
    y1, y2 = sorted(corners[2:])
    thing = Annotation("1", Category("a: b"), (x1 * width, y1 * height, x2 * width, y2 * height))
    label, *numbers = LINE.match(render.object_line(thing, width, height)).groups()
    assert label == "a: b"
    for said, true in zip(map(float, numbers), (x1, y1, x2, y2), strict=True):
        assert abs(said - true) <= 0.0005 + 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_examples_of_a_prompt_are_what_the_stage_would_keep(make, kind):
    """The worked examples parse, and pass every filter on the image they describe."""
    prompt = load(kind)
    assert prompt.key == f"{kind}@1" and len(prompt.sha256) == 64
    for user, reply in prompt.examples:
        rows = [LINE.match(line) for line in user.split("\n") if LINE.match(line)]
        boxes = [[float(n) for n in row.groups()[1:]] for row in rows]
        objects = [
            (row[1], (x1 * 320, y1 * 240, x2 * 320, y2 * 240))
            for row, (x1, y1, x2, y2) in zip(rows, boxes, strict=True)
        ]
        background = re.search(r"The background is (.*)\.", user)
        absent = re.search(r"Verified absent: (.*)", user)
        image = make(1, objects, background[1] if background else "", re.findall(r"^- (.*)$", user, re.MULTILINE))
        vocabulary = [Category(label) for label, _ in objects]
        vocabulary += [Category(label) for label in absent[1].split(", ")] if absent else []
        facts = Facts(replace(image, vocabulary=tuple(vocabulary)))
        assert render.captions_objects(facts.image).split("\n\n")[-1] in user
        pairs = parse(reply)
        assert Pool(facts).filter(kind, pairs) == [("", "")] * len(pairs)


def test_the_fixed_part_of_a_prompt_comes_first(images):
    """So that a server's prompt cache serves all images."""
    for kind in KINDS:
        a, b = (load(kind).messages(user_message(kind, Facts(image), 0)) for image in images[:2])
        assert a[:-1] == b[:-1] and a[-1] != b[-1]
        assert [m["role"] for m in a] == ["system", *["user", "assistant"] * len(load(kind).examples), "user"]


def test_only_negatives_name_absent_things(images):
    for image in images[:30]:
        facts = Facts(image)
        names = absentees(facts, 0)
        assert 0 < len(names) == len(set(names)) <= MAX_ABSENT
        assert set(names) <= set(facts.absent)
        assert user_message("negative", facts, 0).endswith("Verified absent: " + ", ".join(names))
        assert "absent" not in user_message("conversation", facts, 0)
        groups = {o.category.group for o in image.objects}
        near = [n for n in facts.absent if facts.absent[n].group in groups]
        assert len([n for n in names if n in near]) >= min(len(near), MAX_ABSENT // 2)


def test_request_id_covers_what_shapes_the_answer():
    base = {"prompt": "p@1", "messages": [{"role": "user", "content": "x"}], "model": "m", "sampling": {"seed": 1}}
    ids = {request_id(**base, attempt=0)}
    for change in ({"prompt": "p@2"}, {"messages": []}, {"model": "n"}, {"sampling": {"seed": 2}}):
        ids.add(request_id(**{**base, **change}, attempt=0))
    ids.add(request_id(**base, attempt=1))
    assert len(ids) == 6
    assert request_id(**base, attempt=0) in ids
