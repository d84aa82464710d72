from typing import Any

import pytest

from vistune.errors import VistuneError


def test_questions_join_their_answers_on_the_images_of_the_coco_file(source: Any) -> None:
    first, second, third = source.read("coco_instances", "vqa")
    assert not source.rejects
    (question,) = first.questions
    assert (question.id, question.text, question.answer, question.kind) == ("100", "What is it?", "cat", "what is")
    assert second.questions[0].choices == ("yes", "no")
    assert third.questions == ()


def test_files_are_read_in_an_order_that_knows_the_images_first(source: Any) -> None:
    source.write()
    dataset = source.dataset("vqa", "coco_instances")
    assert dataset.files[0].format == "vqa"
    assert len(source.read("vqa", "coco_instances")) == 3
    assert not source.rejects


def test_without_coco_files_the_pattern_names_the_images(source: Any) -> None:
    source.questions["license"] = {"name": "CC BY 4.0"}
    images = source.read("vqa", image_pattern="{image_id:03d}.png")
    assert [i.image.path for i in images] == ["images/001.png", "images/002.png"]
    assert images[0].licence == "CC BY 4.0"
    assert source.read("vqa", image_pattern="{image_id:03d}.png", licence="CC0")[0].licence == "CC0"


def test_without_either_the_questions_are_rejected(source: Any) -> None:
    assert source.read("vqa") == []
    assert set(source.reasons().values()) == {"image_unknown"}


@pytest.mark.parametrize(
    "pattern", ["{image_id:03d}{x}.png", "{0}.png", "{image_id:q}.png", "{image_id", "{image_id.a}"]
)
def test_a_pattern_that_does_not_fit_is_an_error(source: Any, pattern: str) -> None:
    with pytest.raises(VistuneError, match="image_pattern"):
        source.read("vqa", image_pattern=pattern)


def test_the_majority_answers_when_no_agreed_answer_is_given(source: Any) -> None:
    answer = source.answers["annotations"][0]
    del answer["multiple_choice_answer"]
    answer["answers"] = [{"answer": a} for a in ("kitten", "cat", "cat")]
    question = source.read("coco_instances", "vqa")[0].questions[0]
    assert question.answer == "cat" and question.answers == ("kitten", "cat", "cat")


def test_every_answer_is_kept_and_the_first_of_a_tie_is_agreed(source: Any) -> None:
    answer = source.answers["annotations"][0]
    del answer["multiple_choice_answer"]
    given = ["kitten", "cat", "tabby", "cat", "kitten", "Cat ", "tom cat", "tom\ncat", "", "pet"]
    answer["answers"] = [{"answer": a, "answer_confidence": "yes", "answer_id": n} for n, a in enumerate(given, 1)]
    question = source.read("coco_instances", "vqa")[0].questions[0]
    assert question.answer == "kitten"
    kept = ("kitten", "cat", "tabby", "cat", "kitten", "Cat", "tom cat", "tom cat", "pet")
    assert question.answers == kept  # all but for the blank one, which says nothing
    assert not source.rejects


def test_one_id_that_does_not_fit_the_pattern_rejects_its_row_only(source: Any) -> None:
    source.questions["questions"][0]["image_id"] = source.answers["annotations"][0]["image_id"] = "a1"
    assert [i.id for i in source.read("vqa", image_pattern="{image_id:03d}.png")] == ["pets/2"]
    assert source.reasons() == {"pets/question/100": "row_malformed"}
    assert "image_pattern" in source.rejects[0].detail


@pytest.mark.parametrize(
    ("damage", "key", "reason"),
    [
        (lambda q, a: a.pop(0), "100", "question_unanswered"),
        (lambda q, a: a[0].update(image_id=2), "100", "image_mismatch"),
        (lambda q, a: a[1].update(multiple_choice_answer="maybe"), "101", "answer_not_among_choices"),
        (lambda q, a: q[0].update(question="  "), "100", "question_empty"),
        (lambda q, a: q[0].update(question=None), "100", "row_malformed"),
        (lambda q, a: q[1].update(multiple_choices=["yes", 3]), "101", "row_malformed"),
        (lambda q, a: q[1].update(multiple_choices=["yes", ""]), "101", "row_malformed"),
        (lambda q, a: q[1].update(multiple_choices=["no", "yes", " no"]), "101", "choices_repeated"),
        (lambda q, a: q[0].update(question="half \ud83d"), "100", "row_malformed"),
        (lambda q, a: q[0].update(image_id=9) or a[0].update(image_id=9), "100", "image_unknown"),
        (lambda q, a: q.append(dict(q[0])), "100", "duplicate_id"),
        (lambda q, a: a.append({**a[0]}), "answer-100", "duplicate_id"),
        (lambda q, a: q.pop(0), "100", "answer_unasked"),
        (lambda q, a: a.append({"question_id": 7}), "answer-7", "row_malformed"),
        (lambda q, a: a.append("oops"), "answer-#2", "row_malformed"),
        (lambda q, a: a.append({**a[0], "answers": [{"answer_id": 1}]}), "answer-100", "row_malformed"),
        (lambda q, a: a.append({**a[0], "answers": ["cat"]}), "answer-100", "row_malformed"),
        (lambda q, a: q.append({"question_id": 5, "image_id": 9, "question": "?"}), "5", "question_unanswered"),
    ],
)
def test_bad_rows_are_rejected_with_their_reason(source: Any, damage: Any, key: str, reason: str) -> None:
    damage(source.questions["questions"], source.answers["annotations"])
    source.read("coco_instances", "vqa")
    assert source.reasons().get(f"pets/question/{key}") == reason
    assert len(source.rejects) == 1


def test_an_answer_row_without_an_answer_also_rejects_its_question(source: Any) -> None:
    source.answers["annotations"][0].update(multiple_choice_answer="", answers=[])
    source.read("coco_instances", "vqa")
    assert source.reasons() == {
        "pets/question/answer-100": "row_malformed",
        "pets/question/100": "question_unanswered",
    }


@pytest.mark.parametrize("part", ["questions", "answers"])
@pytest.mark.parametrize("tree", [[], {}, {"questions": 3, "annotations": 3}])
def test_a_file_of_another_shape_is_an_error_that_names_it(source: Any, part: str, tree: Any) -> None:
    setattr(source, part, tree)
    with pytest.raises(VistuneError, match=rf"{part}\.json: expected"):
        source.read("coco_instances", "vqa")
