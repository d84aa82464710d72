"""Tokenizers from files of ranks."""

import base64

import pytest

from vistune.errors import VistuneError
from vistune.models.families.qwen_vl import tokenizer

TOKENS = [bytes([byte]) for byte in range(256)] + [b"he", b"ll", b"hell", b"hello", b" w", b"or", b" wor"]


def written(folder, lines):
    (folder / "qwen.tiktoken").write_text("\n".join(lines))
    return folder


def line(token, rank):
    return f"{base64.b64encode(token).decode()} {rank}"


def test_tokens_are_joined_in_order_of_rank(tmp_path):
    read = tokenizer(written(tmp_path, [line(token, rank) for rank, token in enumerate(TOKENS)]))
    ids = read("hello world<|im_end|> 狗<img>").input_ids
    assert ids == [259, 262, 108, 100, 265, 32, *"狗".encode(), 477]
    assert read.decode(ids) == "hello world<|im_end|> 狗<img>"
    # Behind the published 151643 ranks, the picture's tokens are 151857 to 151859.
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<ref>", "<img>", "</img>", "<imgpad>"]
    ids = read.convert_tokens_to_ids(names)
    assert [n - len(TOKENS) + 151643 for n in ids] == [151643, 151644, 151645, 151851, 151857, 151858, 151859]


@pytest.mark.parametrize(
    ("lines", "message"),
    [(["YQ== 0", "Yg"], "line 2"), (["YQ== 0", "!! 1"], "line 2"), (["YQ== 0", "Yg== 2"], "2 tokens")],
)
def test_a_broken_file_is_an_error(tmp_path, lines, message):
    with pytest.raises(VistuneError, match=message):
        tokenizer(written(tmp_path, lines))


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(VistuneError, match=r"qwen\.tiktoken is missing"):
        tokenizer(tmp_path)
