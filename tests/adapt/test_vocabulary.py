"""Names: which could be said of the same thing, where a text mentions them, and what is seen together."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vistune.adapt.language import CHINESE, ENGLISH
from vistune.adapt.vocabulary import COMPANIONS, Names, Statistics, Vocabulary, confusable
from vistune.records import Category


def test_confusable_names():
    def pair(a, b):
        assert confusable(b, a) == confusable(a, b)
        return confusable(a, b)

    assert pair(Category("dog"), Category("guide dog"))
    assert pair(Category("House"), Category("houses"))
    assert pair(Category("bell with slash"), Category("bell"))
    assert pair(Category("boat", names={"zh": "船"}), Category("ship", names={"zh": "船"}))
    assert pair(Category("cat", names={"zh": "猫"}), Category("owl", names={"zh": "猫头鹰"}))
    assert not pair(Category("red apple"), Category("green apple"))
    assert not pair(Category("cat"), Category("caterpillar"))
    assert not pair(Category("dog", names={"zh": "狗"}), Category("wolf", names={"zh": "狼"}))
    assert not pair(Category("dog", names={"zh": ""}), Category("wolf", names={"zh": "狼"}))


LABELS = ("dog", "hot dog", "mouse", "computer mouse", "sheep", "wine glass", "T-shirt")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A dog, two dogs", [("dog", "dog", "name"), ("dog", "dogs", "plural")]),
        ("HOT DOGS here", [("hot dog", "HOT DOGS", "plural")]),
        ("a hot  dog", [("hot dog", "hot  dog", "name")]),
        ("mice by a computer mouse", [("mouse", "mice", "plural"), ("computer mouse", "computer mouse", "name")]),
        ("some sheep", [("sheep", "sheep", "name")]),
        ("dogma, the dog's hotdog", []),
        ("wine glasses and a T-shirt", [("wine glass", "wine glasses", "plural"), ("T-shirt", "T-shirt", "name")]),
        ("", []),
    ],
)
def test_mentions(text, found):
    names = Names(map(Category, LABELS), ENGLISH)
    assert [(m.label, text[m.start : m.end], m.form) for m in names.mentions(text)] == found


def test_mentions_in_chinese_are_the_longest():
    names = Names(
        [Category("cat", names={"zh": "猫"}), Category("owl", names={"zh": "猫头鹰"}), Category("x")], CHINESE
    )
    text = "一只猫头鹰和猫"
    assert [(m.label, text[m.start : m.end]) for m in names.mentions(text)] == [("owl", "猫头鹰"), ("cat", "猫")]


@given(st.lists(st.sampled_from(["hot", "dog", "dogs", "computer", "mouse", "T-shirt", "wine", ",", "x"]), max_size=9))
def test_every_mention_is_a_name_and_none_overlap(words):
    text, names = " ".join(words), Names(map(Category, LABELS), ENGLISH)
    found = names.mentions(text)
    assert all(a.end < b.start for a, b in pairwise(found))
    for m in found:
        assert text[m.start : m.end].lower() == ENGLISH.forms(m.label)[m.form].lower()


@given(st.text("aBz9 '-_,.\t\x1f", max_size=40))
def test_words_are_the_same_however_they_are_split(text):
    """ASCII without apostrophes and hyphens is split without the pattern, and by position where names are found."""
    assert ENGLISH.words_of(text) == tuple(word.lower() for word in ENGLISH.words.findall(text))
    names = Names([Category("a"), Category("b z"), Category("9")], ENGLISH)
    assert names.mentions(text) == names.mentions(text + " é")  # a word that names nothing, and is no ASCII


def test_statistics():
    images = [["dog", "ball"], ["dog", "ball", "dog"], ["dog", "cat"], ["bee"]]
    found = Statistics.of(images)
    assert found.popular == ("dog", "ball", "bee", "cat")
    assert dict(found.companions) == {"dog": ("ball", "cat"), "ball": ("dog",), "cat": ("dog",)}
    many = Statistics.of([["a", *map(str, range(90))]])
    assert len(many.companions["a"]) == COMPANIONS
    assert Statistics.of([map(str, range(200))]).companions == {}


@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=5), max_size=12), st.randoms())
def test_statistics_do_not_depend_on_any_order(images, random):
    turned = [random.sample(labels, len(labels)) for labels in images]
    random.shuffle(turned)
    assert Statistics.of(turned) == Statistics.of(images)


def test_a_vocabulary_knows_its_names():
    vocabulary = Vocabulary([Category("b", "g", {"zh": "乙"}), Category("a", "h")])
    assert [c.label for c in vocabulary.named("en")] == ["a", "b"]
    assert [c.label for c in vocabulary.named("en", "h")] == ["a"]
    assert [c.label for c in vocabulary.named("zh")] == ["b"]
    assert "a" in vocabulary and "c" not in vocabulary
    assert vocabulary.names(ENGLISH) is vocabulary.names(ENGLISH)
