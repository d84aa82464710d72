"""Every planted defect ends in exactly the expected reject, and nothing else does."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest

from vistune.licences import Allowed
from vistune.records import Category, Lineage, Message, Region, SourceFile, conversation
from vistune.validate.checks import CHECKS, Rules, check_rows
from vistune.validate.evidence import Names, read_evidence

OTHER_FILE = (SourceFile("toys/instances.json", "0" * 64),)
UNSIGNED = (SourceFile("toys/instances.json", ""),)


@pytest.fixture(scope="module")
def world(made):
    """These tests change nothing on disk."""
    return made


@cache
def read(sources):
    return read_evidence(sources)


def rules(world, **changes):
    evidence = read(world.sources)
    both = {"adapt": evidence, "self_instruct": evidence}
    return replace(Rules(frozenset(("en", "zh")), Allowed(), 1.0, 400, both), **changes)


def said(sample, response):
    turns = [(sample.messages[0].text, response)]
    return {"response": response, "messages": conversation(turns), "choices": ()}


def chosen(sample, response, style):
    return {**said(sample, response), "choices": ("on the left", "on the right"), "choice_style": style}


def moved(sample, box, **fields):
    return {"regions": (replace(sample.regions[0], box=box, **fields),)}


def made(sample, **fields):
    return {"lineage": replace(sample.lineage, **fields)}


# reason -> (task, what to change in a clean sample of it)
DEFECTS = {
    "known_values": [
        ("caption", lambda s: {"split": "dev"}),
        ("caption", lambda s: {"task": "captoin"}),
        ("caption", lambda s: {"language": "fr"}),
        ("conversation", lambda s: {"method": "imported"}),
    ],
    "empty_text": [
        ("caption", lambda s: said(s, " \n")),
        ("conversation", lambda s: {"messages": (*s.messages[:-1], Message("assistant", ""))}),
    ],
    "control_character": [
        ("caption", lambda s: said(s, "A cat\ufffd on paper.")),
        ("caption", lambda s: said(s, "A\0")),
    ],
    "special_token": [
        ("caption", lambda s, token=token: said(s, f"A cat {token} on paper."))
        for token in ("<image>", "<|im_start|>", "<s>", "</s>", "[INST]", "<image_1>", "<|endoftext|>", "<</SYS>>")
    ],
    "roles": [
        ("caption", lambda s: {"messages": s.messages[:1]}),
        ("conversation", lambda s: {"messages": s.messages[:3]}),
        ("conversation", lambda s: {"messages": (s.messages[0], *s.messages[2:], s.messages[1])}),
        ("caption", lambda s: {"messages": ()}),
    ],
    "image_reference": [
        ("caption", lambda s: {"images": ()}),
        ("caption", lambda s: {"images": s.images * 2}),
        ("caption", lambda s: {"messages": (replace(s.messages[0], images=(1,)), s.messages[1])}),
        ("caption", lambda s: {"messages": (s.messages[0], replace(s.messages[1], images=(0,)))}),
        ("caption", lambda s: moved(s, s.regions[0].box, image=1)),
    ],
    "box_degenerate": [
        ("caption", lambda s: moved(s, (10.0, 10.0, math.nan, 20.0))),
        ("caption", lambda s: moved(s, (10.0, 10.0, math.inf, 20.0))),
        ("caption", lambda s: moved(s, (20.0, 10.0, 10.0, 20.0))),
        ("caption", lambda s: moved(s, (10.0, 20.0, 20.0, 20.0))),
    ],
    "box_outside": [
        ("caption", lambda s: moved(s, (10.0, 10.0, 97.5, 20.0))),
        ("caption", lambda s: moved(s, (-1.5, 10.0, 20.0, 20.0))),
        ("caption", lambda s: moved(s, (10.0, 10.0, 20.0, 400.0))),
    ],
    "box_text": [("locate", lambda s: said(s, "[1, 2, 3, 4]"))],
    "answer_not_in_choices": [
        ("presence", lambda s: {**said(s, "Yes"), "choices": ("left", "right")}),
        ("presence", lambda s: {**said(s, "C"), "choices": ("Yes", "No")}),
        ("caption", lambda s: chosen(s, "3", "1.")),
        ("caption", lambda s: chosen(s, "B", "(1)")),
        ("caption", lambda s: chosen(s, "The cat sits there.\nAnswer: C", "A.")),
        ("caption", lambda s: chosen(s, "on the right\nas one sees", "A.")),
    ],
    "response_is_instruction": [("caption", lambda s: said(s, "describe the picture"))],
    "language_mismatch": [
        ("caption", lambda s: {"language": "zh"}),
        ("caption", lambda s: said(s, "图中有一只猫和一个苹果，背景是浅色的。")),
        ("caption", lambda s: {"language": "zh", "task": "transcription"}),
    ],
    "polarity_mismatch": [
        ("presence", lambda s: {**said(s, "No"), "polarity": "yes"}),
        ("presence", lambda s: {**said(s, "There is no such thing here."), "polarity": "yes"}),
        ("presence", lambda s: {"polarity": ""}),
        ("caption", lambda s: {"task": "triplet_check"}),
        ("conversation", lambda s: {**said(s, "Yes, it is red."), "polarity": "negative", "task": "negative"}),
    ],
    "personal_data": [
        ("caption", lambda s: said(s, "A cat; write to jane.doe@example.org for more.")),
        ("caption", lambda s: said(s, "A cat, call +44 20 7946 0958 now.")),
    ],
    "licence_missing": [("caption", lambda s: {"licence": " "})],
    "lineage_incomplete": [
        ("caption", lambda s: made(s, annotation_ids=())),
        ("caption", lambda s: made(s, template="caption.en.01")),
        ("caption", lambda s: made(s, files=())),
        ("caption", lambda s: made(s, files=UNSIGNED)),
        ("conversation", lambda s: made(s, prompt="")),
        ("conversation", lambda s: made(s, teacher="")),
        ("conversation", lambda s: made(s, request="")),
        ("caption", lambda s: {"lineage": Lineage("", (), ())}),
        ("caption", lambda s: {"group": ""}),
    ],
    "lineage_dangling": [
        ("caption", lambda s: made(s, annotated_image="toys/99")),
        ("caption", lambda s: made(s, annotation_ids=("100", "9999"))),
        ("caption", lambda s: made(s, files=OTHER_FILE)),
        ("caption", lambda s: {"split": "test"}),
        ("caption", lambda s: moved(s, s.regions[0].box, annotation_id="555")),
    ],
}
CASES = [(reason, n, *case) for reason, cases in DEFECTS.items() for n, case in enumerate(cases)]


def test_clean_samples_break_no_check_and_every_check_looks_at_some(world):
    kept, rejects, tallies = check_rows(world.samples, rules(world, licences=Allowed(("cc by 4.0",))))
    assert rejects == []
    assert kept == world.samples
    assert {t.name: t.failed for t in tallies} == dict.fromkeys((c.name for c in CHECKS), 0)
    assert all(t.evaluated for t in tallies)


@pytest.mark.parametrize(("reason", "n", "task", "change"), CASES, ids=[f"{c[0]}-{c[1]}" for c in CASES])
def test_planted_defect_is_found_alone(world, reason, n, task, change):
    target = world.pick(task)
    samples = world.change(target, **change(target))
    kept, rejects, tallies = check_rows(samples, rules(world))
    assert [(r.stage, r.key, r.reason) for r in rejects] == [("validate", target.id, reason)]
    assert rejects[0].detail
    assert len(kept) == len(samples) - 1
    found = next(t for t in tallies if t.name == reason)
    assert (found.failed, found.ids) == (1, [target.id])


def test_all_defects_have_a_case():
    beyond = {"contradicted", "licence_not_allowed"}  # tested below
    assert set(DEFECTS) | beyond == {c.name for c in CHECKS if c.level != "warning"}


def test_reject_names_the_other_broken_checks(world):
    target = world.pick("caption")
    samples = world.change(target, **said(target, "<image> \ufffd"), licence="")
    _, rejects, _ = check_rows(samples, rules(world))
    assert rejects[0].reason == "control_character"
    assert rejects[0].detail.endswith("also special_token, licence_missing.")


def test_presence_is_held_against_the_annotations(world):
    """A "no" about something annotated, and a "yes" about something that is not, are refused; "hot dog" is no dog."""
    yes = world.pick("presence")
    no = next(s for s in world.samples if s.polarity == "no" and s.language == "en" and s.group == yes.group)
    label = yes.regions[0].label if yes.regions else ""
    swapped = [
        replace(s, instruction=other.instruction, messages=conversation([(other.instruction, s.response)]))
        for s, other in ((yes, no), (no, yes))
    ]
    _, rejects, _ = check_rows(swapped, rules(world))
    assert {r.key: r.reason for r in rejects} == {yes.id: "contradicted", no.id: "contradicted"}
    assert label in "".join(r.detail for r in rejects)

    names = Names()
    for label in ("dog", "hot dog", "bus"):
        names.add(Category(label, names={"zh": {"dog": "狗", "hot dog": "热狗", "bus": "公交车"}[label]}))
    assert [set(f) for f in names.mentioned("Are there hot dogs beside the buses?")] == [{"hot dog"}, {"bus"}]
    assert [set(f) for f in names.mentioned("图中有热狗吗？")] == [{"hot dog"}]


def test_what_is_right_is_not_flagged(world):
    """Near misses of the checks: each is sound."""
    presence, locate, caption = world.pick("presence"), world.pick("locate"), world.pick("caption")
    region = locate.regions[0]
    bins = [int(v * 999 / 96) for v in region.box]
    sound = [
        replace(presence, choices=("Yes", "No"), response="yes."),
        replace(caption, regions=(replace(caption.regions[0], box=(10.0, 10.0, 96.9, 20.0)),)),  # within a pixel
        replace(locate, response=f"It is at [{bins[0] + 1}, {bins[1]}, {bins[2]}, {bins[3] + 1}]."),  # within a bin
        replace(caption, response="A sign says <b>5 < 6</b> [1].", regions=()),
        replace(caption, response="It costs 1 234 567 890 yen, from 12:30 to 14:00."),
        replace(caption, **said(caption, "The sign says 停车场.")),
        *(replace(caption, **chosen(caption, text, "(A)")) for text in ("b", "(B) on the right", "on the right")),
        replace(caption, **chosen(caption, "The right option is 2.", "1)")),
        replace(caption, **chosen(caption, "It sits where the sun sets.\nAnswer: (B) on the right", "(A)")),
        replace(caption, task="transcription", language="zh", messages=conversation([("写着什么？", "to let " * 15)])),
        replace(caption, messages=conversation([("这是 iPhone 吗？", "这是 iPhone 15 Pro Max。")]), language="zh"),
        replace(
            presence,
            polarity="yes",
            response="There is a no entry sign.",
            choices=(),
            regions=(Region(region.box, "no entry sign", region.annotation_id),),
        ),
    ]
    kept, rejects, _ = check_rows(sound, replace(rules(world), evidence={}))
    assert rejects == []
    assert len(kept) == len(sound)


def test_licence_outside_the_list_is_policy_and_spelled_in_any_case(world):
    target = world.pick("caption")
    samples = world.change(target, licence="CC BY-NC 4.0")
    _, rejects, _ = check_rows(samples, rules(world, licences=Allowed(("cc by 4.0",))))
    assert [(r.key, r.reason) for r in rejects] == [(target.id, "licence_not_allowed")]


@pytest.mark.parametrize(
    ("name", "task", "change"),
    [
        ("meta_phrase", "conversation", lambda s: said(s, "According to the provided captions, a cat sits there.")),
        ("refusal", "caption", lambda s: said(s, "I'm sorry, I cannot see it.")),
        ("untrimmed_text", "caption", lambda s: said(s, " A cat on paper.")),
        ("long_response", "caption", lambda s: said(s, "very " * 401 + "long")),
    ],
)
def test_warnings_are_counted_and_kept(world, name, task, change):
    target = world.pick(task)
    samples = world.change(target, **change(target))
    kept, rejects, tallies = check_rows(samples, rules(world))
    assert rejects == []
    assert len(kept) == len(samples)
    assert {t.name: t.ids for t in tallies if t.failed} == {name: [target.id]}
