"""Duplicate rows: found about one picture, never across pictures, the first by id kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vistune.records import conversation
from vistune.store import read_rejects, read_samples
from vistune.validate.duplicates import remove_exact, remove_near, rouge_l

LONG = "The picture shows a cat next to a bus on a quiet street in the early morning."


def twin(sample, id, question=None, answer=None, **fields):
    turns = [(question or sample.instruction, answer or sample.response)]
    return replace(sample, id=id, instruction=turns[0][0], response=turns[0][1], messages=conversation(turns), **fields)


def pixels(samples):
    return {i.sha256: i.sha256 for s in samples for i in s.images}


def near(samples, threshold=0.9, words=8):
    kept, rejects, _ = remove_near(samples, pixels(samples), threshold, words)
    return [s.id for s in kept], {r.key: r.detail for r in rejects}


def test_exact_duplicates_in_the_stage_name_the_row_they_repeat(world, no_suite):
    target = world.pick("caption")
    copies = [
        twin(target, "vt1:zz1", "  DESCRIBE the picture ", target.response.upper()),
        twin(target, "vt1:00a", method="self_instruct", lineage=world.pick("conversation").lineage, task="detail"),
    ]
    copies[1] = replace(copies[1], lineage=replace(copies[1].lineage, annotated_image=target.lineage.annotated_image))
    copies[1] = replace(copies[1], lineage=replace(copies[1].lineage, annotation_ids=target.lineage.annotation_ids))
    summary = world.run([*world.samples, *copies])
    assert summary["counts"]["rejected"] == {"duplicate_exact": 2}
    found = {r.key: r.detail for r in read_rejects(world.output)}
    assert found == dict.fromkeys((target.id, "vt1:zz1"), "same text and picture as vt1:00a.")
    assert "vt1:00a" in {s.id for s in read_samples(world.output)}


def test_equal_text_about_another_picture_is_no_duplicate(world):
    target = world.pick("caption")
    other = next(s.images for s in world.samples if s.images != target.images)
    rows = [target, twin(target, "vt1:zz", images=other)]
    assert remove_exact(rows, pixels(rows)) == (sorted(rows, key=lambda s: s.id), [])
    long = [twin(target, "a", answer=LONG), twin(target, "b", answer=LONG, images=other)]
    assert near(long) == (["a", "b"], {})


def test_equal_pixels_in_two_files_are_one_picture(world):
    target = world.pick("caption")
    other = next(s.images for s in world.samples if s.images != target.images)
    rows = [twin(target, "a"), twin(target, "b", images=other)]
    kept, rejects = remove_exact(rows, {i.sha256: "same" for s in rows for i in s.images})
    assert [s.id for s in kept] == ["a"]
    assert [(r.key, r.reason) for r in rejects] == [("b", "duplicate_exact")]


def test_punctuation_alone_is_no_text_to_compare(world):
    target = world.pick("caption")
    rows = [twin(target, "a", answer="?!"), twin(target, "b", answer="...")]
    assert remove_exact(rows, pixels(rows))[1] == []


def test_reworded_long_response_is_a_near_duplicate(world):
    target = world.pick("caption")
    rows = [
        twin(target, "b", "What can you see?", LONG.replace("quiet", "calm")),
        twin(target, "a", answer=LONG),
        twin(target, "c", answer="A cat waits where a bus will pass, before the town is awake."),
    ]
    kept, rejects = near(rows)
    assert kept == ["a", "c"]
    assert rejects == {"b": "its response has ROUGE-L 0.94 to that of a."}


@pytest.mark.parametrize(
    ("old", "new"),
    [("bus", "owl"), ("next to a", "left of the"), ("a cat", "2 cat"), ("early", "early cold grey wet windy dark")],
)
def test_another_fact_is_no_duplicate(world, old, new):
    """One name, side or number of sixteen words differs; or simply too many words do."""
    target = world.pick("caption")
    label = [replace(target.regions[0], label=name) for name in ("bus", "owl", "cat")]
    rows = [
        twin(target, "a", answer=LONG, regions=tuple(label)),
        twin(target, "b", answer=LONG.replace(old, new), regions=tuple(label)),
    ]
    assert near(rows, 0.89)[0] == ["a", "b"]


def test_a_word_that_the_question_asks_for_makes_the_answers_differ(world):
    """Negatives about things that are not there: their names are no regions, and plural at that."""
    target = world.pick("caption")

    def about(id, thing):
        text = f"There are no {thing} in this picture. It shows two tractors."
        return twin(target, id, f"What are the {thing} doing?", text, task="negative")

    rows = [about("a", "mice"), about("b", "keys")]
    assert near(rows)[0] == ["a", "b"]
    same = twin(rows[1], "c", rows[0].instruction)  # an answer that its question does not ask for
    assert near([rows[1], same])[1] == {"c": "its response has ROUGE-L 1.00 to that of b."}


def test_short_answers_are_never_near_duplicates(world):
    target = world.pick("presence")
    rows = [
        twin(target, "a", "Is the cat on the left asleep in the sun?", "Yes, it is."),
        twin(target, "b", "Is the cat on the left awake in the sun?", "Yes, it is."),
    ]
    assert near(rows, 0.1)[0] == ["a", "b"]


def test_near_duplicates_stay_within_task_language_and_split(world):
    target = world.pick("caption")
    rows = [
        twin(target, "a", answer=LONG),
        twin(target, "b", answer=LONG, task="detail"),
        twin(target, "c", answer=LONG, language="zh"),
        twin(target, "d", answer=LONG, images=()),
        twin(target, "e", answer=LONG, images=()),
    ]
    assert near(rows)[0] == ["a", "b", "c", "d", "e"]


def test_a_row_is_compared_with_rows_that_stay(world):
    """b repeats a, c repeats b but not a: with b gone, c stays."""
    words = [f"w{n}" for n in range(20)]

    def text(start):
        return " ".join(["x"] * start + words[start:])

    target = world.pick("caption")
    rows = [twin(target, id, answer=text(start)) for id, start in (("a", 0), ("b", 2), ("c", 4))]
    kept, rejects = near(rows, 0.85)
    assert kept == ["a", "c"]
    assert list(rejects) == ["b"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from("abcd"), max_size=12), st.lists(st.sampled_from("abcd"), max_size=12))
def test_rouge_l_equals_its_definition(a, b):
    """Longest common subsequence by the textbook recurrence."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    common = table[-1][-1]
    expected = 1.0 if not a and not b else 0.0
    if common:
        recall, precision = common / len(b), common / len(a)
        expected = 2 * recall * precision / (recall + precision)
    assert rouge_l(a, b) == pytest.approx(expected)
    assert rouge_l(a, b) == rouge_l(b, a)
