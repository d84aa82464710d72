"""lm-eval's requests as questions."""

import pytest

from vistune.errors import VistuneError
from vistune.evaluate.questions import Question, asked, before, wanted, written
from vistune.records import ImageRef, Message

A, B = (ImageRef(name, 1, 1, "png", name) for name in "ab")


def test_pictures_without_marks_stand_before_the_words() -> None:
    found = asked("What?", [A, B], "t", "1")
    assert found.turns == (Message("user", "What?", (0, 1)),) and found.images == (A, B)


def test_marks_say_where_pictures_stand() -> None:
    assert asked("<image>\nWhat?", [A], "t", "1").turns == (Message("user", "What?", (0,)),)
    assert asked("<image> <image> c", [A, B], "t", "1").turns == (Message("user", "c", (0, 1)),)
    between = asked("Is <image> or <image> red?", [A, B], "t", "1").turns[0]
    assert between == Message("user", "Is  or  red?", (0, 1), (3, 7))
    assert asked("<image>What?", [None], "t", "1") == Question((Message("user", "What?"),), task="t", version="1")
    with pytest.raises(VistuneError, match="task t marks 2 pictures in a question and shows 1"):
        asked("<image> and <image>", [A], "t", "1")


def test_several_turns_go_through_one_text() -> None:
    chat = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hm?"}]
    chat += [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": "Why?"}]
    turns = asked(written(chat, True), [A], "t", "1").turns
    assert [(turn.role, turn.text) for turn in turns] == [(turn["role"], turn["content"]) for turn in chat]
    assert [turn.images for turn in turns] == [(), (), (), (0,)]
    assert written(chat[1:2], True) == "Hm?"
    for bad, more in ((chat[:1], True), (chat[:3], True), (chat, False), ([], True)):
        with pytest.raises(VistuneError, match="has to end with a question"):
            written(bad, more)


def test_generation_arguments_are_done_or_refused() -> None:
    question = asked("What?", [], "t", "1")
    assert wanted(question, {}).longest == 32
    found = wanted(question, {"until": "\n", "max_gen_toks": 5, "do_sample": False, "temperature": 0.7, "top_p": 0.9})
    assert (found.stops, found.longest, found.temperature) == (("\n",), 5, 0.0)
    assert wanted(question, {"do_sample": True}).temperature == 1.0
    assert wanted(question, {"until": ["", "."], "temperature": 0.2}).temperature == 0.2
    for bad in ({"num_beams": 3}, {"repetition_penalty": 1.2}, {"do_sample": True, "top_p": 0.5}):
        with pytest.raises(VistuneError, match=r"task t asks for .* which is not done"):
            wanted(question, bad)


def test_identity_is_what_an_answer_depends_on() -> None:
    base = wanted(asked("What?", [A], "t", "1"), {"max_gen_toks": 4})
    assert base.identity == wanted(asked("What?", [A], "other", "1"), {"max_gen_toks": 4}).identity
    others = [
        wanted(asked("What", [A], "t", "1"), {"max_gen_toks": 4}),
        wanted(asked("What?", [B], "t", "1"), {"max_gen_toks": 4}),
        wanted(asked("What?", [], "t", "1"), {"max_gen_toks": 4}),
        wanted(asked("What?", [A], "t", "2"), {"max_gen_toks": 4}),
        wanted(asked("What?", [A], "t", "1"), {"max_gen_toks": 5}),
        wanted(asked("What?", [A], "t", "1"), {"max_gen_toks": 4, "until": "."}),
        wanted(asked("What?", [A], "t", "1"), {"max_gen_toks": 4, "temperature": 1}),
    ]
    assert len({question.identity for question in [base, *others]}) == 1 + len(others)


def test_text_before_a_stop() -> None:
    assert before("a cat. No, a dog!", ["!", ". "]) == "a cat"
    assert before(" a cat ", []) == "a cat"
