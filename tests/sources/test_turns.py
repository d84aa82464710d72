"""Turns of talk and images inside rows, as all readers of instruction data treat them."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vistune.records import Message
from vistune.sources import Tally
from vistune.sources import turns as module
from vistune.sources.rows import Listing, Refused
from vistune.sources.turns import IMAGE, arrange, decode, image_file, mark, question, unmark

ASK, SAY = ("user", "What is it?"), ("assistant", "A cat.")
PIECES = st.lists(st.sampled_from(["a", " ", "\n", "é", "<", "<|im_start|>", IMAGE]), max_size=12).map("".join)


def _refusal(*turns: tuple[str, str], images: int = 0) -> str:
    with pytest.raises(Refused) as refused:
        arrange(turns, images)
    return refused.value.reason


@given(PIECES)
def test_markers_can_be_put_back_at_the_same_character(text: str) -> None:
    bare, places = unmark(text)
    again = mark(bare, places)
    assert unmark(again) == (bare, places)
    assert again.count(IMAGE) == text.count(IMAGE)
    # Nothing but white space beside the outermost markers and at the ends is lost, and nothing inside.
    assert "".join(again.split()) == "".join(text.split())
    inner = text.strip().removeprefix(IMAGE).removesuffix(IMAGE)
    if inner == inner.strip() and not inner.startswith(IMAGE) and not inner.endswith(IMAGE):
        assert again == text.strip()


@given(PIECES, PIECES)
def test_a_question_is_its_instruction_and_its_input(instruction: str, input: str) -> None:
    asked, first, second = question(instruction, input)
    bare, places = unmark(asked)
    assert bare == (f"{first}\n{second}" if second else first)
    assert len(places) == instruction.count(IMAGE) + input.count(IMAGE)
    assert first or not second


def test_turns_become_messages_with_images_at_their_places() -> None:
    turns = [("system", "Be brief."), ("user", f"{IMAGE}\nFirst?"), SAY, ("user", f"Is {IMAGE} like {IMAGE}?"), SAY]
    assert arrange(turns, 3) == (
        Message("system", "Be brief."),
        Message("user", "First?", (0,)),
        Message("assistant", "A cat."),
        Message("user", "Is  like ?", (1, 2), (3, 9)),
        Message("assistant", "A cat."),
    )


def test_images_without_markers_come_first_only_where_the_format_says_so() -> None:
    expected = (Message("user", "What is it?", (0, 1)), Message("assistant", "A cat."))
    assert arrange([ASK, SAY], 2, unmarked_first=True) == expected
    with_system = arrange([("system", "Be brief."), ASK, SAY], 1, unmarked_first=True)
    assert [m.images for m in with_system] == [(), (0,), ()]
    assert _refusal(ASK, SAY, images=2) == "image_count"
    with pytest.raises(Refused, match="1 markers <image> but 2 images"):
        arrange([("user", f"{IMAGE}?"), SAY], 2, unmarked_first=True)


def test_control_tokens_spelled_out_stay_text() -> None:
    text = "Say <|im_start|>system\nand </s>, twice: <s>."
    assert arrange([("user", text), SAY], 0)[0].text == text


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ((), "turns_missing"),
        ((("system", "Be brief."),), "turns_missing"),
        ((SAY, ASK), "roles_not_alternating"),
        ((ASK, ASK, SAY), "roles_not_alternating"),
        ((ASK, SAY, ("system", "Be brief."), ASK, SAY), "roles_not_alternating"),
        ((ASK, SAY, ASK), "answer_missing"),
        ((("user", " \n"), SAY), "text_empty"),
        ((ASK, ("assistant", "")), "text_empty"),
        ((("system", IMAGE), ASK, SAY), "text_empty"),
        ((ASK, ("assistant", f"See {IMAGE}")), "image_in_answer"),
        ((("user", "half \ud83d"), SAY), "text_encoding"),
        ((("user", "a" * (module.MAX_CHARACTERS + 1)), SAY), "text_too_long"),
        ((("user", f"{IMAGE}?"), SAY), "image_count"),
    ],
)
def test_each_defect_of_turns_has_its_reason(turns: Any, reason: str) -> None:
    assert _refusal(*turns) == reason


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("A cat.", "en"),
        ("Une très belle fête.", "en"),
        ("图中有一只猫。", "zh"),
        ("猫がいます。", "ja"),
        ("What is 猫 in English?", "en"),
    ],
)
def test_the_language_is_what_the_script_says(text: str, language: str) -> None:
    assert module._language([Message("user", text), Message("assistant", text)]) == language


def _listing(embed: Any = None) -> Listing:
    return Listing("d", "adapt", [], Tally(), embed=embed)


def test_bytes_of_an_image_are_handed_on_and_named_by_their_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    held: dict[str, bytes] = {}
    file = image_file(b"abc", _listing(held.__setitem__))
    assert file == "embedded/ba/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    for same in ({"bytes": b"abc", "path": "x.png"}, f"data:image/png;base64,{base64.b64encode(b'abc').decode()}"):
        assert image_file(same, _listing(held.__setitem__)) == file
    assert held == {file: b"abc"}
    assert image_file({"bytes": None, "path": "a/x.png"}, _listing()) == "a/x.png"
    monkeypatch.setattr(module, "MAX_EMBEDDED_BYTES", 2)
    with pytest.raises(Refused) as refused:
        image_file(b"abc", _listing(held.__setitem__))
    assert refused.value.reason == "image_too_large"


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (None, "image_empty"),
        ("", "image_empty"),
        (b"", "image_empty"),
        (7, "image_empty"),
        ({"bytes": None, "path": None}, "image_empty"),
        ("https://example.org/a.png", "image_remote"),
        ("S3://bucket/a.png", "image_remote"),
        ("data:image/png;base64,@@", "image_encoding"),
        ("data:image/png", "image_empty"),
    ],
)
def test_an_image_that_is_not_there_is_refused(image: Any, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        image_file(image, _listing())
    assert refused.value.reason == reason


@given(st.binary(max_size=100))
def test_base64_may_be_broken_into_lines(data: bytes) -> None:
    assert decode(base64.encodebytes(data).decode()) == data
