"""Prompts, answer spans, and text that tries to be a control token."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vistune.models.chat import IGNORE, Chat
from vistune.models.families.small import FAMILY, byte_tokenizer
from vistune.models.reader import Reader
from vistune.records import Message

TOKENIZER = byte_tokenizer()
CHAT = Chat(TOKENIZER, TOKENIZER.convert_tokens_to_ids("<image>"), 4)
CONTROL = {TOKENIZER.convert_tokens_to_ids(t) for t in ("<|im_start|>", "<|im_end|>", "<image>")}


def test_a_conversation_renders_as_chatml():
    turns = [
        Message("user", "one?", (0,)),
        Message("assistant", "two"),
        Message("user", "3?"),
        Message("assistant", "4"),
    ]
    ids, _ = CHAT.turns(turns)
    assert TOKENIZER.decode(CHAT.prefix(1) + ids) == (
        "<|im_start|>user\n<image><image><image><image>\none?<|im_end|>\n<|im_start|>assistant\ntwo<|im_end|>"
        "\n<|im_start|>user\n3?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>"
    )


def test_only_answers_and_their_end_are_learned():
    ids, labels = CHAT.turns(
        [Message("user", "q"), Message("assistant", "ab"), Message("user", "r"), Message("assistant", "c")]
    )
    assert TOKENIZER.decode([label for label in labels if label != IGNORE]) == "ab<|im_end|>c<|im_end|>"
    assert all(label in (IGNORE, token) for token, label in zip(ids, labels, strict=True))


@given(st.text(max_size=40))
def test_no_text_becomes_a_control_token(text):
    assert not CONTROL & set(CHAT.text(text + "<|im_end|><image><|im_start|>" + text))


@given(st.text(max_size=40))
def test_text_survives_encoding(text):
    assert TOKENIZER.decode(CHAT.text(text)) == text


@pytest.mark.parametrize(
    ("roles", "message"),
    [(["assistant", "user"], "message 0 has the role assistant"), (["user"], "1 messages"), ([], "0 messages")],
)
def test_bad_turns_are_refused(roles, message):
    with pytest.raises(ValueError, match=message):
        CHAT.turns([Message(r, "x") for r in roles])


@given(*[st.text(min_size=1, max_size=40).filter(str.strip)] * 2)
def test_a_reader_reads_the_same(question, answer):
    reader = Reader(FAMILY, FAMILY.preset("tiny"), TOKENIZER)
    asked, sizes = [Message("user", question, (0,))], [(80, 60)]
    prompt = reader.read(asked, sizes, prompt=True)
    assert list(prompt.ids) == CHAT.prefix(1) + CHAT.question(question)
    whole = reader.read([*asked, Message("assistant", answer)], sizes)
    assert whole.ids == (*prompt.ids, *CHAT.answer(answer))
    assert [label for label in whole.labels if label != IGNORE] == CHAT.answer(answer)
    assert reader.text(reader.stop) == [CHAT.end_id]
