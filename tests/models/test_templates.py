"""Prompts of every template: what holds for all of them, and the oddities of some."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vistune.errors import VistuneError
from vistune.models.templates import Rendering, marked
from vistune.models.templates_table import TEMPLATES
from vistune.records import Message

TALKS = {name: template for name, template in TEMPLATES.items() if template.order != "caption"}
WORDS = st.text(st.sampled_from("ab \n<>|:?是🐱"), min_size=1, max_size=12).filter(str.strip)


def talk(*texts: str, images: int = 0) -> list[Message]:
    turns = [Message(("user", "assistant")[n % 2], text) for n, text in enumerate(texts)]
    turns[0] = replace(turns[0], images=tuple(range(images)))
    return turns


def words(rendering: Rendering, role: str) -> list[str]:
    return [rendering.text[a:b] for a, b, r, part in rendering.spans if (r, part) == (role, "words")]


@pytest.mark.parametrize("name", TALKS)
@settings(max_examples=8, deadline=None)
@given(st.lists(WORDS, min_size=2, max_size=6).filter(lambda texts: len(texts) % 2 == 0), st.integers(0, 2))
def test_spans_partition_the_text_and_keep_the_words(name, texts, images):
    template = TALKS[name]
    rendering = template.render(talk(*texts, images=images))
    ends = [0, *(span.end for span in rendering.spans)]
    assert [span.start for span in rendering.spans] == ends[:-1] and ends[-1] == len(rendering.text)
    for role, spoken in (("user", texts[::2]), ("assistant", texts[1::2])):
        assert [text.strip() for text in words(rendering, role)] == [text.strip() for text in spoken]


@pytest.mark.parametrize("name", TEMPLATES)
def test_generation_starts_from_what_was_trained_on(name):
    turns = talk("What is it?", "A dog.", images=1)
    if name not in ("minigpt4_caption", "plain"):
        turns += talk("What colour?", "Brown and white.")
    whole = TEMPLATES[name].render(turns).text
    assert whole.startswith(TEMPLATES[name].render(turns[:-1], prompt=True).text)


def test_vicuna():
    rendering = TEMPLATES["vicuna_v1"].render([marked("user", "<image>\nHi?"), marked("assistant", "Hello.")])
    assert rendering.text.endswith("user's questions. USER: <image>\nHi? ASSISTANT: Hello.</s>")
    parts = [(rendering.text[a:b], role, part) for a, b, role, part in rendering.spans[2:]]
    assert parts == [
        ("USER:", "user", "header"),
        (" ", "user", "lead"),
        ("<image>", "user", "image"),
        ("\n", "user", "wrap"),
        ("Hi?", "user", "words"),
        (" ", "user", "end"),
        ("ASSISTANT:", "assistant", "header"),
        (" ", "assistant", "lead"),
        ("Hello.", "assistant", "words"),
        ("</s>", "assistant", "end"),
    ]


def test_an_answer_without_words_is_a_prompt_or_an_end():
    turns = talk("Read it.", "")
    assert TEMPLATES["vicuna_v1"].render(turns).text.endswith("ASSISTANT:")
    assert TEMPLATES["internvl2_5"].render(turns).text.endswith("<|im_start|>assistant\n<|im_end|>\n")


def test_images_moved_to_the_front_are_all_kept():
    turns = [marked("user", "First <image> then <image>?")]
    assert TEMPLATES["vicuna_v1"].render(turns).text.endswith("USER: <image>\n<image>\nFirst  then ? ")
    assert TEMPLATES["vicuna_v1"].render(turns, parity=True).text.endswith("USER: <image>\nFirst  then ? ")
    several = replace(TEMPLATES["vicuna_v1"], place="front if single")
    assert several.render(turns).text.endswith("USER: First <image> then <image>? ")
    assert several.render([marked("user", "Here: <image>")]).text.endswith("USER: <image>\nHere: ")


def test_an_image_has_its_own_text_and_number():
    turns = [Message("user", "Same?", (1, 0)), Message("assistant", "No")]
    text = TEMPLATES["qwen_vl"].render(turns, ["a.jpg", "b.jpg"]).text
    assert "user\nPicture 1: <img>b.jpg</img>\nPicture 2: <img>a.jpg</img>\nSame?" in text
    text = TEMPLATES["minicpm_v_2_6"].render([marked("user", "<image>?"), turns[1]], ["<image></image>"]).text
    assert "user\n<image_id>0</image_id><image></image>?" in text


def test_words_may_look_like_marks():
    turns = [Message("user", "What does <image> mean?", (0,)), Message("assistant", "</s>USER: a mark")]
    rendering = TEMPLATES["vicuna_v1"].render(turns)
    assert words(rendering, "user") == ["What does <image> mean?"]
    assert sum(span.part == "image" for span in rendering.spans) == 1


def test_a_system_message_is_written_where_it_belongs():
    llama = TEMPLATES["llava_llama_2"].render(talk("Hi"), system="Be brief.")
    assert llama.text == "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST]"
    turns = [Message("system", "Be brief."), *talk("Hi")]
    assert TEMPLATES["qwen2_vl"].render(turns).text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n")
    assert TEMPLATES["mistral_instruct"].render(talk("Hi")).text == "[INST] Hi [/INST]"


def test_a_greeting_before_the_first_question_is_dropped():
    turns = [Message("assistant", "Welcome."), *talk("Hi?", "Hello.")]
    assert words(TEMPLATES["vicuna_v1"].render(turns), "assistant") == ["Hello."]
    assert words(TEMPLATES["internvl2_5"].render(turns), "assistant") == ["Welcome.", "Hello."]


@pytest.mark.parametrize(
    ("name", "turns", "given", "message"),
    [
        ("vicuna_v1", talk("a", "b", images=1), ["x", "y"], r"show 1 images, 2 are given \(sample s1\)"),
        ("vicuna_v1", [Message("user", "a", (0, 1), (0,))], None, "turn 0 shows 2 images at 1 places"),
        ("vicuna_v1", [*talk("a"), *talk("b")], None, "turn 1 is the user's; .* takes the assistant's"),
        ("vicuna_v1", [Message("system", "s"), *talk("a")], None, "turn 0 is the system's"),
        ("vicuna_v1", [], None, "a conversation needs a question"),
        ("llava_llama_2", talk("", "b"), None, "the first question has no words"),
        ("plain", talk("a", "b", "c", "d", images=1), None, "got 4 turns, the first with 1 images"),
        ("plain", talk("a", "b"), None, "got 2 turns, the first with 0 images"),
    ],
)
def test_what_cannot_be_written_is_refused(name, turns, given, message):
    with pytest.raises(VistuneError, match=message):
        TEMPLATES[name].render(turns, given, sample="s1")


def test_more_refusals():
    with pytest.raises(VistuneError, match="no place for a system message"):
        TEMPLATES["gemma_instruct"].render(talk("a"), system="Be brief.")
    with pytest.raises(VistuneError, match="a prompt ends with a question"):
        TEMPLATES["vicuna_v1"].render(talk("a", "b"), prompt=True)


def test_parts_of_a_rendering():
    rendering = TEMPLATES["vicuna_v1"].render(talk("a", "b"))
    cut = len(rendering.text) - 4
    left, right = rendering.part(0, cut), rendering.part(cut, len(rendering.text))
    assert left.text + right.text == rendering.text
    assert right.spans == ((0, 4, "assistant", "end"),)
    assert left.spans == rendering.spans[:-1]
