"""What the authors' scripts learn, where it is not what they meant."""

import pytest

from vistune.boxcodec import CODECS
from vistune.errors import VistuneError
from vistune.models.labels import IGNORE, learned
from vistune.models.original_boxes import RULES, cogvlm_groups, minigpt_numbers, points, qwen_boxes, write
from vistune.models.original_labels import COUNTING, cogvlm_limit, completion, counted, headed, searched, shifted
from vistune.models.templates import marked
from vistune.models.templates_table import TEMPLATES


def spans(text: str, rule: str, legacy: bool = True) -> tuple[list[str], bool]:
    """With one token a character, a BOS, and `</s>` as three characters fewer."""
    short = text.replace("</s>", "\0")
    result = counted(
        text, 1 + len(short), COUNTING[rule], lambda piece: 1 + len(piece.replace("</s>", "\0")), legacy=legacy
    )
    found = "".join(c if keep else "\n" for c, keep in zip(short, result.learned[1:], strict=True))
    return [piece.replace("\0", "</s>") for piece in found.split("\n") if piece], result.matches


def test_counting_agrees_with_spans_where_nothing_is_odd():
    turns = [marked("user", "a?"), marked("assistant", "b c"), marked("user", "d?"), marked("assistant", "e")]
    rendering = TEMPLATES["vicuna_v1"].render(turns)
    expected = [rendering.text[a:b] for a, b in learned(rendering, TEMPLATES["vicuna_v1"].policy)]
    assert spans(rendering.text, "vicuna") == (expected, True)
    assert spans(rendering.text, "vicuna", legacy=False)[1] is False


def test_an_answer_with_the_separator_in_it_loses_the_conversation():
    rendering = TEMPLATES["vicuna_v1"].render([marked("user", "a?"), marked("assistant", "I said ASSISTANT: b")])
    assert spans(rendering.text, "vicuna") == ([], False)
    assert learned(rendering, TEMPLATES["vicuna_v1"].policy)


def test_sphinx_learns_the_first_match():
    assert searched([5, 6, 7, 5, 6], [[5, 6]]) == [5, 6, 0, 0, 0]
    assert searched([1, 5, 6, 7, 5, 6], [[6], [6]]) == [0, 0, 6, 0, 0, 6]
    with pytest.raises(ValueError, match="answer of 1 tokens is not among the 2 tokens"):
        searched([1, 2], [[3]])


def test_minicpm_shifts_and_forces_ends():
    assert shifted([1, 2, 3, 4], [IGNORE, 2, 3, IGNORE], end=9) == [2, 3, 9, IGNORE]
    assert headed([8, 1, 9, 8, 2, 3, 9], [8], end=9) == [False, True, True, False, True, True, True]
    assert headed([8, 9, 5, 9], [8], end=9) == [False, True, True, True]


def test_owl_ends_an_answer_inside_an_answer():
    found = completion("s\nHuman: q\nAI: a AI: b", 3, 99, lambda text: [ord(c) for c in text], bos=0, eos=1)
    text = "".join("$" if n == 1 else chr(n) for n in found.ids[1:])
    assert text == "s\nHuman: q\nAI: a $AI: b$"
    assert "".join(c for c, keep in zip(text, found.learned[1:], strict=True) if keep) == "a $b$"


def test_cogvlm_needs_room_for_an_answer():
    assert cogvlm_limit(8, 1, 4, 40) == 37
    with pytest.raises(VistuneError, match="question of 31 tokens"):
        cogvlm_limit(31, 1, 4, 40)


@pytest.mark.parametrize("name", RULES)
def test_boxes_as_the_authors_write_them_differ_only_at_the_far_edge(name):
    box, size = (13.0, 7.0, 64.0, 48.0), (64, 48)
    ours, theirs = CODECS[name].encode(box, *size), write(name, box, *size)
    cut = {"minigpt_v2": "100", "cogvlm": "999"}.get(name, "1000")
    assert cut in theirs and (ours == theirs) == (cut != "1000")


def test_boxes_are_read_as_the_evaluations_read_them():
    assert minigpt_numbers("{<1><2><3><4>}</s>") == (True, [1, 2, 3, 4])
    assert minigpt_numbers("a {<1><2>}") == (False, [])
    boxes = "<ref> a cat</ref><box>(1,2),(3,4)</box><box>(5,6),(7,8)</box>"
    assert qwen_boxes(boxes) == [("a cat", [1, 2, 3, 4]), ("", [5, 6, 7, 8])]
    assert cogvlm_groups("x[[001,002,003,004;a,b]] y [[010,020]]") == [[[1, 2, 3, 4]], [[10, 20]]]
    assert points([10, 20, 500], 1000, 200, 100) == [2.0, 2.0, 100.0]
