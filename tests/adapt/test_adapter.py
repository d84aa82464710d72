"""Samples of one image: places of boxes in the text, choices, several turns, and nothing the release checks refuse."""

import re
from collections import Counter
from dataclasses import replace

import pytest

from vistune.adapt import Params, PerImage
from vistune.adapt.adapter import Adapter
from vistune.adapt.choices import STYLES, letter, mark
from vistune.adapt.geometry import box_text
from vistune.adapt.tasks import TASKS
from vistune.adapt.turns import DIALOGUE, MULTI_TURN
from vistune.adapt.vocabulary import Statistics
from vistune.boxcodec import CODECS
from vistune.errors import VistuneError
from vistune.export.rendering import Tally, render
from vistune.licences import Allowed
from vistune.records import Annotation, Question, Relation, sample_id
from vistune.validate import checks

BOTH = {"en": 1.0, "zh": 1.0}
BOX = re.compile(r"\[\d+, \d+, \d+, \d+\]")
ALL = PerImage(**dict.fromkeys(TASKS, 4))


def samples(image, seed=0, statistics=None, **params):
    return list(Adapter(Params(**{"languages": BOTH, **params}), seed, statistics).samples(image))


def many(image, seeds=12, **params):
    return [s for seed in range(seeds) for s in samples(image, seed, **params)]


def test_every_task_comes_out_and_is_known_to_validation(everything):
    found = Counter(s.task for s in many(everything, per_image=ALL))
    assert set(found) == set(TASKS)
    assert set(checks.TASKS["adapt"]) == {*TASKS, DIALOGUE, MULTI_TURN}
    assert len(checks.TASKS["adapt"]) == len(TASKS) + 2


def test_samples_are_accepted_by_every_check_of_a_release(everything):
    rules = checks.Rules(frozenset(("en", "zh")), Allowed(), 1.0, 400, {})
    found = many(everything, per_image=ALL) + many(everything, per_image=ALL, merge_turns=True)
    kept, rejects, tallies = checks.check_rows(found, rules)
    assert [(r.reason, r.detail) for r in rejects] == []
    assert len(kept) == len(found) > 1000
    assert {t.name: t.failed for t in tallies if t.failed} == {}
    # The checks had something to look at.
    evaluated = {t.name: t.evaluated for t in tallies}
    assert min(evaluated[name] for name in ("box_text", "answer_not_in_choices", "polarity_mismatch")) > 100


def test_every_box_in_the_text_is_mentioned_by_its_region(everything):
    boxed = Counter()
    for s in many(everything, per_image=ALL):
        written = {(n, *m.span()) for n, message in enumerate(s.messages) for m in BOX.finditer(message.text)}
        assert {r.mention for r in s.regions if r.mention} == written
        for r in s.regions:
            if r.mention:
                n, start, end = r.mention
                assert s.messages[n].text[start:end] == box_text(r.box, 200, 100)
                boxed[s.task] += 1
        assert ("+frame." in s.lineage.template) == (bool(written) or s.task == "refer_absent")
        assert ("999" in s.instruction) == ("+frame." in s.lineage.template)
    assert set(boxed) >= {
        *("name_region", "locate", "extremes", "attribute", "triplet_check", "region_caption"),
        *("phrase_grounding", "refer", "refer_describe", "transcription"),
    }


def test_an_export_can_write_every_box_in_its_own_way(everything):
    found = many(everything, 4, per_image=ALL) + many(everything, 4, per_image=ALL, merge_turns=True)
    for name in ("llava", "minigpt_v2", "qwen25_vl"):
        tally = Tally()
        rendered = [render(s, CODECS[name], tally) for s in found]
        assert tally.samples_kept == {}
        assert tally.boxes == sum(bool(r.mention) for s in found for r in s.regions) > 200
        assert not any("0 to 999" in m.text or "0到999" in m.text for s in rendered for m in s.messages)


def test_two_regions_with_the_same_numbers_share_the_places(picture):
    # Half a pixel apart in an image of 200: both are [50, 200, 300, 799].
    image = picture(
        ("dog", (10, 20, 60, 80)), ("dog", (120, 5, 160, 45)), ("cat", (10.01, 20, 60, 80)), ("cat", (170, 0, 190, 20))
    )
    image = replace(image, relations=(Relation("r1", "1", "on", "3"),))
    for s in many(image, per_image=PerImage(**{**dict.fromkeys(TASKS, 0), "triplet_check": 2})):
        (a, b) = s.regions
        assert a.mention[1] < b.mention[1]
        assert {a.box, b.box} == {(10, 20, 60, 80), (10.01, 20, 60, 80)}
        named = s.messages[0].text[a.mention[1] - 20 : a.mention[1]].lower()
        assert a.label in named or "狗" in s.messages[0].text or "猫" in s.messages[0].text


def test_a_box_said_twice_is_mentioned_twice(picture):
    image = picture(
        ("dog", (10, 20, 60, 80)),
        ("dog", (120, 5, 160, 45)),
        ("apple", (80, 40, 100, 55)),
        relations=(Relation("r1", "1", "near", "3"),),
    )
    only = PerImage(**{**dict.fromkeys(TASKS, 0), "relation": 1})
    twice = [s for s in many(image, 40, per_image=only) if "sentence" in s.lineage.template]
    assert twice
    for s in twice:
        assert sorted(r.mention[0] for r in s.regions if r.mention) == [0, 1]
        assert {r.box for r in s.regions if r.mention} == {(10, 20, 60, 80)}


def quiz(picture):
    """Samples of 1500 questions with four listed choices, the answer always first."""
    only = PerImage(**{**dict.fromkeys(TASKS, 0), "vqa_choice": 6})
    adapter = Adapter(Params(languages={"en": 1.0}, per_image=only), 3)
    options = ("red bus", "blue car", "green van", "grey tram")
    question = Question("q", "What drives by?", options[0], options[:1] * 3, options)
    images = (picture(number=n, questions=(question,), background=False) for n in range(1500))
    return [s for image in images for s in adapter.samples(image)]


def test_letters_are_uniform_and_answers_are_right_in_every_format(picture):
    found = quiz(picture)
    places, formats = Counter(), Counter()
    for s in found:
        place = s.choices.index("red bus")
        places[place] += 1
        assert [s.choices[s.permutation.index(n)] for n in range(4)] == [
            "red bus",
            "blue car",
            "green van",
            "grey tram",
        ]
        assert s.choice_style in STYLES
        for n, choice in enumerate(s.choices):
            assert f"{mark(s.choice_style, n)} {choice}" in s.messages[0].text.split("\n")
        right = letter(s.choice_style, place)
        form = s.lineage.template.split("+")[1].split("@")[0]
        formats[form] += 1
        assert (
            s.response
            == {
                "letter": right,
                "directly": right,
                "marked": f"{mark(s.choice_style, place)} red bus",
                "option": "red bus",
                "sentence": f"The right option is {right}.",
            }[form]
        )
        if form in ("letter", "directly", "marked", "sentence"):
            assert ("letter" in s.instruction) == ("A" in s.choice_style)
            assert ("number" in s.instruction) == ("1" in s.choice_style)
        assert s.input and s.input in s.messages[0].text
    assert len(found) == 1500
    assert sum((places[n] - 375) ** 2 / 375 for n in range(4)) < 16.27  # chi-square, 3 degrees of freedom, p = 0.001
    assert set(formats) == {"letter", "directly", "marked", "option", "sentence"}
    assert abs(formats["letter"] / 1500 - 5 / 12) < 0.05


def test_made_up_choices_have_no_permutation_and_closed_questions_no_style(everything):
    for s in many(everything):
        if s.task in ("caption_choice", "image_label"):
            assert s.permutation == ()
            assert bool(s.choice_style) == bool(s.choices)
        if s.task in ("presence", "relative_position", "area_share", "triplet_check"):
            assert s.permutation == () and s.choice_style == ""
            assert not s.choices or s.response in s.choices
        if s.task in ("science_choice", "science_reasoning"):
            assert sorted(s.permutation) == [0, 1, 2]


def test_reasoning_ends_with_the_answer(everything):
    found = [s for s in many(everything) if s.task == "science_reasoning"]
    for s in found:
        *reasons, last = s.response.split("\n")
        assert reasons == ["Cats hunt animals, so they eat meat."]
        place = s.choices.index("meat")
        assert last in (
            f"Answer: {letter(s.choice_style, place)}",
            "Answer: meat",
            f"Answer: {mark(s.choice_style, place)} meat",
        )
    assert {s.lineage.template.split("+")[1] for s in found} == {"letter@1", "marked@1", "option@1"}


def test_the_order_of_annotations_does_not_matter(everything):
    kinds = ("objects", "captions", "questions", "vocabulary", "labels", "relations", "phrases", "lines", "tables")
    turned = replace(everything, **{kind: getattr(everything, kind)[::-1] for kind in kinds})
    assert samples(turned) == samples(everything)
    assert samples(everything, 1) != samples(everything)


def test_triplet_checks_are_balanced(everything):
    found = Counter(s.polarity for s in many(everything, 30) if s.task == "triplet_check")
    assert found["yes"] == found["no"] == 60


def test_several_turns_are_one_conversation_per_language(everything):
    single = samples(everything, 5)
    found = samples(everything, 5, merge_turns=True)
    assert [(s.task, s.language) for s in found] == [(MULTI_TURN, "en"), (MULTI_TURN, "zh")]
    for s in found:
        parts = [p for p in single if p.language == s.language]
        assert s.messages[0].images == (0,)
        assert all(m.images == () for m in s.messages[1:])
        assert [m.role for m in s.messages] == ["user", "assistant"] * len(parts)
        turns = {(a.text, b.text) for a, b in zip(s.messages[::2], s.messages[1::2], strict=True)}
        assert turns == {(p.messages[0].text, p.response) for p in parts}
        assert sorted(s.lineage.template.split()) == sorted(p.lineage.template for p in parts)
        assert set(s.lineage.annotation_ids) == {id for p in parts for id in p.lineage.annotation_ids}
        assert (s.instruction, s.response) == (s.messages[-2].text, s.messages[-1].text)
        assert s.input.count("User: ") == s.input.count("Assistant: ") == len(parts) - 1
        assert s.input.startswith(f"User: {s.messages[0].text}\nAssistant: {s.messages[1].text}")
        assert (s.polarity, s.choices, s.permutation, s.choice_style) == ("", (), (), "")
        assert s.id == sample_id(MULTI_TURN, s.lineage, 5)
        written = {(n, *m.span()) for n, message in enumerate(s.messages) for m in BOX.finditer(message.text)}
        assert {r.mention for r in s.regions if r.mention} == written
        for r in s.regions:
            if r.mention:
                assert s.messages[r.mention[0]].text[r.mention[1] : r.mention[2]] == box_text(r.box, 200, 100)
    # The order of the turns is a draw, not the order of the tasks.
    assert any(s.messages[0].text != samples(everything, 5)[0].messages[0].text for s in found)


def test_merged_candidates_add_up(everything, picture):
    for image in (everything, picture(("kite", (0, 0, 50, 50))), picture(background=False)):
        adapter = Adapter(Params(languages=BOTH, merge_turns=True), 0)
        found = list(adapter.samples(image, ("caption", "presence", "locate")))
        assert adapter.candidates == len(found) + len(adapter.rejects)


def test_images_that_lack_a_category_have_a_vocabulary_of_their_own(picture, category):
    """A refused object takes its category out of the image's vocabulary; other images keep theirs."""
    adapter = Adapter(Params(languages={"en": 1.0}), 0)
    whole = picture(("dog", (10, 20, 60, 80)), number=1)
    lacking = picture(("dog", (10, 20, 60, 80)), number=2, vocabulary=(category("cat"), category("boat")))
    for image in (whole, lacking, whole, lacking):
        found = {s.task for s in adapter.samples(image)}
        assert ("locate" in found) == (image is whole)


def test_statistics_are_looked_up_by_data_set(picture):
    image = picture(("dog", (10, 20, 60, 80)))
    params = {"negatives": {"adversarial": 1.0}, "languages": {"en": 1.0}}
    seen = {"toys": Statistics.of([["dog", "kite"]] * 3), "others": Statistics.of([["dog", "boat"]])}
    only = PerImage(**{**dict.fromkeys(TASKS, 0), "presence": 2})
    for seed in range(10):
        _, no = samples(image, seed, seen, per_image=only, **params)
        assert "kite" in no.instruction


@pytest.mark.parametrize(
    ("negatives", "problem"),
    [
        ({"randon": 1.0}, r"did you mean adapt\.negatives\.random"),
        ({"random": -0.1}, r"adapt\.negatives\.random is -0\.1; expected a share of at least 0"),
        ({"random": float("nan")}, "expected a share"),
        ({"random": 0.0}, "no share above 0"),
        ({}, "no share above 0"),
    ],
)
def test_bad_shares_of_negatives(negatives, problem):
    with pytest.raises(VistuneError, match=problem):
        Adapter(Params(negatives=negatives), 0)


def test_languages_are_drawn_per_image_and_task(picture):
    boxes = [("dog", (10, 20, 60, 80)), ("apple", (120, 55, 160, 95))]
    adapter = Adapter(Params(languages={"en": 0.5, "zh": 0.2}), 0)
    found = [s for n in range(300) for s in adapter.samples(picture(*boxes, number=n))]
    images = {(s.language, s.task, s.group) for s in found}
    counts = Counter((language, task) for language, task, _ in images)
    assert counts["en", "caption"] == 300  # of the first language: the alignment stage reads its regions
    assert 30 <= counts["zh", "caption"] <= 90
    assert 120 <= counts["en", "locate"] <= 180
    assert 30 <= counts["zh", "locate"] <= 90
    both = {g for lang, task, g in images if (lang, task) == ("en", "locate")} & {
        g for lang, task, g in images if (lang, task) == ("en", "listing")
    }
    assert 50 <= len(both) <= 100  # tasks are drawn apart


def test_objects_with_one_id_keep_their_own_boxes(picture):
    image = picture(("dog", (10, 20, 60, 80)))
    double = Annotation("1", replace(image.objects[0].category, label="cup", names={}), (100, 0, 140, 40))
    image = replace(image, objects=(*image.objects, double), vocabulary=(*image.vocabulary, double.category))
    only = PerImage(**{**dict.fromkeys(TASKS, 0), "locate": 2})
    for s in samples(image, per_image=only, languages={"en": 1.0}):
        assert all(r.mention for r in s.regions)
