"""What holds for every task: limits, names in the language, slots for its templates, the order of annotations."""

from dataclasses import fields, replace

import pytest

from vistune.adapt import Params, PerImage
from vistune.adapt.language import CHINESE, ENGLISH
from vistune.adapt.slots import SLOTS
from vistune.adapt.tasks import TASKS
from vistune.records import AnnotatedImage

IN_ENGLISH_ONLY = {
    *("caption_detailed", "region_caption", "phrase_grounding", "vqa", "vqa_sentence", "vqa_choice"),
    *("question_generation", "extractive_qa", "science_choice", "science_reasoning"),
}
"""Tasks that find in `everything` nothing that can be said in Chinese."""


def test_the_tables_agree():
    assert list(TASKS) == list(SLOTS) == [f.name for f in fields(PerImage)]
    assert len(TASKS) >= 24


def test_every_need_is_a_field_of_an_image():
    known = {f.name for f in fields(AnnotatedImage)}
    assert all(task.needs and known.issuperset(task.needs) for task in TASKS.values())


@pytest.mark.parametrize("task", TASKS)
def test_every_task_finds_something_with_the_slots_of_its_templates(ask, everything, task):
    seen = set()
    for language in (ENGLISH, CHINESE):
        for key in range(12):
            for c in ask(task, everything, language, key=str(key))[0]:
                seen.add((language.code, c.kind))
                kind = SLOTS[task][c.kind]
                given = set(c.slots) | ({"options"} if c.choices else set())
                for slot in (*kind.asks, *kind.answers):
                    names = set(language.slots(slot))
                    if slot not in ("letter", "option", "marked"):  # the choices give these
                        assert names <= given, (task, c.kind, slot)
                assert bool(c.choices) == kind.chooses
                assert c.evidence and all(c.evidence)
                assert len(c.boxes) <= len(c.regions)
    assert {code for code, _ in seen} == ({"en"} if task in IN_ENGLISH_ONLY else {"en", "zh"})


@pytest.mark.parametrize("task", TASKS)
def test_a_task_finds_nothing_without_what_it_needs(ask, everything, task):
    empty = dict.fromkeys(TASKS[task].needs, ())
    for language in (ENGLISH, CHINESE):
        assert ask(task, replace(everything, **empty), language) == ([], [])


@pytest.mark.parametrize("task", ["caption", "presence", "counting", "name_region", "locate", "listing", "area_share"])
def test_a_thing_without_a_name_in_the_language_is_refused(ask, picture, task):
    image = picture(("kite", (0, 0, 20, 60)), ("kite" if task == "counting" else "dog", (50, 0, 90, 40)))
    _, refused = ask(task, image, CHINESE)
    assert [r.reason for r in refused] == ["name_missing"]
    assert refused[0].detail == "'kite' has no name in zh."


@pytest.mark.parametrize("task", TASKS)
def test_zero_leaves_a_task_out_and_limits_hold(ask, everything, task):
    none = Params(per_image=PerImage(**{task: 0}))
    assert ask(task, everything, params=none) == ([], [])
    assert ask(task, replace(everything, captions=()), params=none) == ([], [])
    for limit in (1, 2, 3):
        some = Params(per_image=PerImage(**{task: limit}))
        assert len(ask(task, everything, params=some)[0]) <= limit


@pytest.mark.parametrize("task", TASKS)
def test_the_order_of_annotations_does_not_matter(ask, everything, task):
    kinds = ("objects", "captions", "questions", "vocabulary", "labels", "relations", "phrases", "lines", "tables")
    turned = replace(everything, **{kind: getattr(everything, kind)[::-1] for kind in kinds})
    for language in (ENGLISH, CHINESE):
        assert ask(task, turned, language, Params()) == ask(task, everything, language, Params())
