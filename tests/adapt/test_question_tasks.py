"""Questions that people asked: short, in sentences, with choices, from text, from passages, and turned around."""

from dataclasses import replace

import pytest

from vistune.adapt.choices import STYLES
from vistune.adapt.language import CHINESE
from vistune.records import Question

SCIENCE = Question(
    "s1",
    "Which of these is a mammal?",
    "dog",
    ("dog",),
    ("fish", "dog", "fly"),
    context="Mammals feed their young with milk.",
    rationales=("A dog feeds its young with milk.",),
)


@pytest.fixture
def asked(picture):
    def asked(*questions, **fields):
        return picture(questions=questions, **fields)

    return asked


def test_vqa(ask, dog_and_cats):
    made, _ = ask("vqa", dog_and_cats)
    found = {c.slots["question"]: (c.slots["answer"], c.kind, c.polarity, c.evidence) for c in made}
    assert found == {
        "What color is the dog?": ("brown", "short", "", ("q1",)),
        "Is it outside?": ("no", "short", "no", ("q2",)),
    }
    assert ask("vqa", dog_and_cats, CHINESE) == ([], [])


def test_vqa_refuses_empty_and_repeated_questions_and_knows_long_answers(ask, picture):
    image = picture(
        questions=(
            Question("q1", "Why?", "because the dog chased all of the cats", ()),
            Question("q2", "why? ", "no idea", ()),
            Question("q3", " ", "yes", ()),
            Question("q4", "Where?", " ", ()),
            Question("q5", "这是什么？", "一只狗", (), language="zh"),
        )
    )
    (made,), refused = ask("vqa", image)
    assert (made.slots["question"], made.kind) == ("Why?", "long")
    assert [(r.reason, r.detail.split()[1]) for r in refused] == [
        ("question_duplicate", "q2"),
        ("question_empty", "q3"),
        ("question_empty", "q4"),
    ]
    (chinese,), _ = ask("vqa", image, CHINESE)
    assert chinese.slots == {"question": "这是什么？", "answer": "一只狗"}


def test_questions_that_need_their_choices_a_passage_or_text_are_not_open(ask, asked):
    image = asked(
        SCIENCE,
        Question("a1", "Which of these is round?", "ball", ("ball",), ("ball", "box")),
        Question("a2", "What is he doing?", "riding", ("riding",) * 9 + ("sitting",), ("riding", "eating")),
        Question("t1", "What does the sign say?", "stop", ("stop",), extractive=True),
    )
    assert [c.evidence for c in ask("vqa", image)[0]] == [("a2",)]
    assert [c.evidence for c in ask("extractive_qa", image)[0]] == [("t1",)]
    assert {c.evidence for c in ask("vqa_choice", image)[0]} == {("a1",), ("a2",)}
    assert [c.evidence for c in ask("science_choice", image)[0]] == [("s1",)]
    assert {c.evidence for c in ask("question_generation", image)[0]} == {("a2",), ("t1",)}


def test_the_same_question_with_other_choices_is_another_question(ask, asked):
    one = Question("a1", "Which?", "ball", ("ball",), ("ball", "box"))
    image = asked(one, replace(one, id="a2", choices=("ball", "bat")), replace(one, id="a3"))
    assert {c.evidence for c in ask("vqa_choice", image)[0]} == {("a1",), ("a2",)}
    _, refused = ask("vqa", image)
    assert [(r.reason, r.detail.split()[1]) for r in refused] == [("question_duplicate", "a3")]


def test_sentences(ask, asked):
    image = asked(
        Question("q1", "Is it day?", "yes", ("yes",), sentence=" Yes, it is  day"),
        Question("q2", "Who?", "he", ("he",), sentence="He."),  # one word is no sentence
        Question("q3", "What?", "dog", ("dog",)),
        Question("q4", "是白天吗？", "是", ("是",), language="zh", sentence="是的，是白天"),
    )
    (made,), _ = ask("vqa_sentence", image)
    assert made.slots == {"question": "Is it day?", "answer": "Yes, it is day."}
    (chinese,), _ = ask("vqa_sentence", image, CHINESE)
    assert chinese.slots["answer"] == "是的，是白天。"


def test_listed_choices_keep_their_source_order_in_the_permutation(ask, asked):
    options = ("riding", "eating", "sleeping", "swimming")
    image = asked(Question("a1", "What is he doing?", "sleeping", ("sleeping",), options))
    letters, styles = set(), set()
    for key in range(200):
        (made,), _ = ask("vqa_choice", image, key=str(key))
        choices = made.choices
        assert made.listed
        assert sorted(choices.permutation) == [0, 1, 2, 3]
        assert choices.options == tuple(options[n] for n in choices.permutation)
        assert choices.options[choices.answer] == "sleeping"
        letters.add(choices.answer)
        styles.add(choices.style)
    assert letters == {0, 1, 2, 3}
    assert styles == set(STYLES)


@pytest.mark.parametrize(
    ("answer", "answers", "expected"),
    [
        ("yes", ("yes",) * 10, {"yes", "no"}),
        ("No", ("no",) * 9 + ("unsure",), {"yes", "no"}),
        ("yes", ("yes",) * 6 + ("no",) * 4, None),  # people disagree
        ("brown", ("brown",) * 10, None),  # who says that tan is wrong?
        ("three", ("three",) * 10, None),
        ("100", ("100",) * 10, None),
        ("2.5", ("2.5",), None),
    ],
)
def test_choices_that_the_answer_itself_proves_wrong(ask, asked, answer, answers, expected):
    made, _ = ask("vqa_choice", asked(Question("q1", "What?", answer, answers)))
    assert [set(c.choices.options) for c in made] == ([expected] if expected else [])
    assert all(not c.listed for c in made)
    assert all(c.choices.options[c.choices.answer] == answer.lower() for c in made)


def test_numbers_that_nobody_gave_are_wrong(ask, asked):
    image = asked(Question("q1", "How many?", "2", ("2",) * 7 + ("3",) * 3))
    seen = set()
    for key in range(60):
        (made,), _ = ask("vqa_choice", image, key=str(key))
        assert len(set(made.choices.options)) == 4
        assert made.choices.options[made.choices.answer] == "2"
        seen |= set(made.choices.options)
    assert seen == {"0", "1", "2", "4", "5", "6"}


@pytest.mark.parametrize("choices", [("dog",), ("fish", "fly"), ("dog", "dog"), (*"abcdefghij", "dog")], ids=str)
def test_choices_that_are_no_choice(ask, asked, choices):
    image = asked(replace(SCIENCE, choices=choices))
    for task in ("science_choice", "science_reasoning", "vqa_choice"):
        assert ask(task, image) == ([], [])


def test_question_generation_needs_a_telling_answer(ask, asked):
    image = asked(
        Question("q1", "Is it day?", "Yes", ("yes",)),
        Question("q2", "What is it?", "a dog", ("a dog",)),
        Question("q3", "Why?", "because " * 10, ("x",)),
    )
    (made,), _ = ask("question_generation", image)
    assert made.slots == {"question": "What is it?", "answer": "a dog"}


def test_science_with_and_without_a_passage(ask, asked):
    plain = replace(SCIENCE, id="s2", context="", text="Which one barks?")
    made, _ = ask("science_reasoning", asked(SCIENCE, plain))
    found = {c.evidence[0]: c for c in made}
    assert (found["s1"].kind, found["s1"].slots["context"]) == ("context", SCIENCE.context)
    assert (found["s2"].kind, "context" in found["s2"].slots) == ("plain", False)
    assert all(c.slots["rationale"] == SCIENCE.rationales[0] and c.listed for c in made)
    (choice,), _ = ask("science_choice", asked(SCIENCE, plain))
    assert (choice.evidence, choice.slots["context"]) == (("s1",), SCIENCE.context)
    assert choice.choices.options[choice.choices.answer] == "dog"
    silent = replace(SCIENCE, rationales=(" ",))
    assert ask("science_reasoning", asked(silent)) == ([], [])
