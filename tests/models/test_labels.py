"""Which tokens are learned, with any tokenizer."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from vistune.errors import VistuneError
from vistune.models.families.small import byte_tokenizer
from vistune.models.labels import IGNORE, Encoded, encode, fit, joined, label, learned
from vistune.models.templates_table import TEMPLATES
from vistune.models.token_types import TokenTypes
from vistune.records import Message

TOKENIZER = byte_tokenizer()
IMAGE = TOKENIZER.convert_tokens_to_ids("<image>")
TURNS = [Message("user", "one?", (0,)), Message("assistant", "two"), Message("user", "3?"), Message("assistant", "四")]


def texts(name: str, turns: list[Message], parity: bool = False) -> list[str]:
    rendering = TEMPLATES[name].render(turns)
    return [rendering.text[a:b] for a, b in learned(rendering, TEMPLATES[name].policy, parity)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vicuna_v1", [" two</s>", " 四</s>"]),
        ("mistral_instruct", [" two </s>", " 四 </s>"]),
        ("chatml_direct", ["two<|im_end|>", "四<|im_end|>"]),
        ("internvl2_5", ["two<|im_end|>", "四<|im_end|>"]),
        ("sphinx", ["two\n###", "四\n###"]),
        ("minicpm_v_2", ["two", "四</s>"]),
        ("cogvlm_chat", ["two", "四</s>"]),
    ],
)
def test_answers_are_learned_with_their_ends(name, expected):
    assert texts(name, TURNS) == expected


def test_qwen_vl_learns_what_marks_turns_but_not_who_speaks():
    marks = ["<|im_start|>", "<|im_end|>\n<|im_start|>", "<|im_end|>\n<|im_start|>"]
    assert texts("qwen_vl", TURNS[:2]) == [*marks, "two<|im_end|>\n"]


def test_control_tokens_in_the_words_of_a_question_are_learned_only_by_oversight():
    turns = [Message("user", "a\nb"), Message("assistant", "c")]
    assert texts("qwen_1_5", turns)[3] == "\n"
    assert len(texts("qwen_1_5", turns, parity=True)) == len(texts("qwen_1_5", turns)) + 1


@given(st.lists(st.integers(1, 4), min_size=1, max_size=20), st.data())
def test_a_token_is_learned_when_it_covers_a_learned_character(lengths, data):
    bounds = [sum(lengths[:n]) for n in range(len(lengths) + 1)]
    chosen = data.draw(st.sets(st.integers(0, bounds[-1] - 1)))
    offsets = list(pairwise(bounds))
    labels = label(range(len(lengths)), offsets, joined([(n, n + 1) for n in chosen]))
    expected = [n if chosen & set(range(*offset)) else IGNORE for n, offset in enumerate(offsets)]
    assert labels == expected


def test_a_token_that_swallows_the_blank_before_an_answer_is_learned():
    """As SentencePiece has it: the blank is the first character of the next word."""
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "▁two": 1, "</s>": 2}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")
    rendering = TEMPLATES["vicuna_v1"].render(TURNS[:2])
    got = encode(tokenizer, rendering, learned(rendering, TEMPLATES["vicuna_v1"].policy), [[9, 9]], begin=[7])
    assert got.ids[-2:] == (1, 2) and [n for n in got.labels if n != IGNORE] == [1, 2]
    start, end = got.images[0]
    assert got.ids[start:end] == (9, 9) and got.ids[0] == 7


def test_the_demos_conversation_is_chatml_and_its_answers_are_learned():
    rendering = TEMPLATES["chatml"].render(TURNS)
    got = encode(TOKENIZER, rendering, learned(rendering, TEMPLATES["chatml"].policy), [[IMAGE] * 4])
    assert TOKENIZER.decode(got.ids) == (
        "<|im_start|>user\n<image><image><image><image>\none?<|im_end|>\n<|im_start|>assistant\ntwo<|im_end|>"
        "\n<|im_start|>user\n3?<|im_end|>\n<|im_start|>assistant\n四<|im_end|>"
    )
    assert TOKENIZER.decode([n for n in got.labels if n != IGNORE]) == "two<|im_end|>四<|im_end|>"
    assert all(label in (IGNORE, token) for token, label in zip(got.ids, got.labels, strict=True))
    assert got.images == ((5 + 1, 5 + 1 + 4),)


def test_a_shared_prefix_is_a_part_of_the_conversation():
    rendering = TEMPLATES["chatml"].render(TURNS)
    start = next(span.start for span in rendering.spans if span.part == "words")
    halves = [rendering.part(0, start), rendering.part(start, len(rendering.text))]
    policy = TEMPLATES["chatml"].policy
    encoded = [encode(TOKENIZER, half, learned(half, policy), [[IMAGE]] * (not n)) for n, half in enumerate(halves)]
    whole = encode(TOKENIZER, rendering, learned(rendering, policy), [[IMAGE]])
    assert (*encoded[0].ids, *encoded[1].ids) == whole.ids
    assert (*encoded[0].labels, *encoded[1].labels) == whole.labels


@given(st.text(max_size=20))
def test_no_text_becomes_a_control_token(text):
    turns = [Message("user", text + "<|im_end|>"), Message("assistant", "<image>" + text)]
    rendering = TEMPLATES["chatml"].render(turns)
    got = encode(TOKENIZER, rendering, learned(rendering, TEMPLATES["chatml"].policy))
    assert [TOKENIZER.decode([n]) for n in got.ids if n >= 256] == ["<|im_start|>", "<|im_end|>"] * 2
    assert TOKENIZER.decode([n for n in got.labels if n != IGNORE]) == f"<image>{text}<|im_end|>"


def test_what_stands_around_a_text_is_not_learned():
    rendering = TEMPLATES["chatml"].render(TURNS[2:])
    got = encode(TOKENIZER, rendering, learned(rendering, TEMPLATES["chatml"].policy), begin=[1], finish=[2])
    assert (got.ids[0], got.ids[-1], got.labels[0], got.labels[-1]) == (1, 2, IGNORE, IGNORE)


def test_another_number_of_images_is_refused():
    rendering = TEMPLATES["chatml"].render(TURNS)
    with pytest.raises(VistuneError, match=r"shows 1 images, features of 2 are given \(sample s\)"):
        encode(TOKENIZER, rendering, [], [[1], [2]], sample="s")


SAMPLE = Encoded((7, 9, 9, 9, 1, 2, 3), (IGNORE,) * 4 + (1, 2, 3), ((1, 4),))


def test_a_too_long_conversation_is_refused_or_cut_behind_its_images():
    assert fit(SAMPLE, 7) is SAMPLE
    with pytest.raises(VistuneError, match=r"has 7 tokens, the limit is 6 \(sample s\)"):
        fit(SAMPLE, 6, "s")
    assert fit(SAMPLE, 6, cut=True).ids == (7, 9, 9, 9, 1, 2)
    kept = fit(SAMPLE, 6, cut=True, keep=[3])
    assert kept.ids == (7, 9, 9, 9, 1, 3) and kept.labels[-2:] == (1, 3)
    with pytest.raises(VistuneError, match="limit of 3 tokens cuts image 0, tokens 1 to 4 of 7"):
        fit(SAMPLE, 3, cut=True)
    with pytest.raises(VistuneError, match="none of 4 tokens are to be learned"):
        fit(SAMPLE, 4, cut=True)


def test_patches_share_a_position_and_the_end_is_text():
    types = TokenTypes(9, ((1, 5), (5, 8)))
    assert types.embedded == [0, 1, 1, 1, 1, 1, 1, 1, 0]
    assert types.expert == [0, 1, 1, 1, 0, 1, 1, 0, 0]
    assert types.patches == [0, 0, 1, 1, 0, 0, 1, 0, 0]
    assert types.positions == [0, 1, 2, 2, 3, 4, 5, 6, 7]
