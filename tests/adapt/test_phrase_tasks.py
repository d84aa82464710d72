"""Regions and the words for them: in both directions, and of what is not there."""

from dataclasses import replace

import pytest

from vistune.adapt.language import CHINESE
from vistune.records import Caption, Phrase

DOG, CAT, OTHER = (10, 20, 60, 80), (120, 5, 160, 45), (120, 55, 160, 95)
DOG_TEXT, CAT_TEXT, OTHER_TEXT = "[50, 200, 300, 799]", "[599, 50, 799, 450]", "[599, 549, 799, 949]"


@pytest.fixture
def described(dog_and_cats):
    def described(*phrases, **fields):
        return replace(dog_and_cats, phrases=phrases, **fields)

    return described


def test_region_caption(ask, described):
    image = described(
        Phrase("p1", " a brown  dog", (DOG,), "description", ("1",)),
        Phrase("p2", "two cats", (CAT, OTHER), "description"),  # two boxes
        Phrase("p3", " ", (CAT,), "description"),
        Phrase("p4", "thin", ((*CAT[:3], 5.01),), "description"),  # no area as text
        Phrase("p5", "the dog", (DOG,), "referring"),
        Phrase("p6", "一只狗", (DOG,), "description", language="zh"),
    )
    (made,), refused = ask("region_caption", image)
    assert not refused
    assert (made.slots["description"], made.slots["box"], made.boxes) == ("a brown dog", DOG_TEXT, (DOG_TEXT,))
    assert (made.evidence, made.regions[0].box, made.regions[0].label) == (("p1",), DOG, "dog")
    assert made.regions[0].annotation_id == "p1"
    (chinese,), _ = ask("region_caption", image, CHINESE)
    assert chinese.slots["description"] == chinese.regions[0].label == "一只狗"  # it names no object


@pytest.mark.parametrize(
    ("phrase", "asked"),
    [
        (Phrase("p", "a brown dog", (DOG,), "description", ("1",)), True),
        (Phrase("p", "a cat", (CAT,), "description", ("2",)), False),  # there are two
        (Phrase("p", "a cat", (CAT,), "description", ("2",), unique=True), True),
        (Phrase("p", "something", (CAT,), "description"), False),  # nobody says of what it speaks
        (Phrase("p", "dog near cat", (DOG,), "description", ("1", "2")), False),
        (Phrase("p", "gone", (DOG,), "description", ("77",)), False),
    ],
)
def test_a_description_is_grounded_only_where_it_fits_one_region(ask, described, phrase, asked):
    made, _ = ask("phrase_grounding", described(phrase))
    assert [(c.kind, c.slots["box"]) for c in made] == ([("phrase", c.slots["box"]) for c in made] if asked else [])
    assert len(made) == asked
    double = replace(phrase, id="q", text=phrase.text.upper())
    assert ask("phrase_grounding", described(phrase, double)) == ([], [])


def test_a_phrase_of_a_caption_is_grounded_in_all_its_boxes(ask, described):
    phrase = Phrase("p1", "two cats", (CAT, OTHER), "caption_phrase", ("2", "3"), "c1", (10, 18))
    (made,), _ = ask("phrase_grounding", described(phrase))
    assert (made.kind, made.slots["phrase"], made.slots["caption"]) == ("caption", "two cats", "a dog and two cats")
    assert made.slots["box"] == f"{CAT_TEXT}, {OTHER_TEXT}"
    assert made.boxes == (CAT_TEXT, OTHER_TEXT)
    assert [r.box for r in made.regions] == [CAT, OTHER]
    assert made.evidence == ("p1", "c1")
    assert ask("phrase_grounding", described(replace(phrase, caption="lost"))) == ([], [])
    assert ask("phrase_grounding", described(replace(phrase, boxes=()))) == ([], [])


def test_refer_both_ways(ask, described):
    image = described(
        Phrase("p1", "the left one", (DOG,), "referring", ("1",)),
        Phrase("p2", "lower cat", (OTHER,), "referring", ("3",)),
        Phrase("p3", "cat", (CAT,), "referring", ("2",)),
        Phrase("p4", "Cat", (OTHER,), "referring", ("3",)),  # the same words for two boxes: both are out
    )
    made, _ = ask("refer", image)
    found = {c.slots["expression"]: (c.slots["box"], c.evidence, c.regions[0].label) for c in made}
    assert found == {"the left one": (DOG_TEXT, ("p1",), "dog"), "lower cat": (OTHER_TEXT, ("p2",), "cat")}
    back, _ = ask("refer_describe", image)
    assert {c.slots["box"]: c.slots["expression"] for c in back} == {DOG_TEXT: "the left one", OTHER_TEXT: "lower cat"}
    assert ask("refer", image, CHINESE) == ([], [])


def test_refer_absent_speaks_of_nothing_that_is_there(ask, described):
    image = described(Phrase("p1", "dog on the left", (DOG,), "referring", ("1",)))
    absent = {"wolf", "apple", "hourglass", "boat", "ship", "kite"}
    for key in range(30):
        made, _ = ask("refer_absent", image, key=str(key))
        assert made
        for c in made:
            name = c.slots["name"]
            assert c.slots["expression"] == f"{name} on the left" or c.slots["expression"] == f"the {name}"
            assert (c.polarity, c.framed, c.regions, c.boxes) == ("negative", True, (), ())
            assert c.evidence == ("1", "2", "3", "99")
        swapped = {c.slots["name"] for c in made if c.slots["expression"].endswith("on the left")}
        assert swapped and swapped <= absent
        assert len({c.slots["name"] for c in made}) == len(made)


def test_refer_absent_without_expressions_uses_names(ask, dog_and_cats):
    made, _ = ask("refer_absent", dog_and_cats)
    assert {c.slots["expression"] for c in made} == {
        *("the wolf", "the apple", "the hourglass", "the boat", "the ship", "the grapes", "the bread", "the kite")
    }
    chinese, _ = ask("refer_absent", dog_and_cats, CHINESE)
    assert {c.slots["expression"] for c in chinese} == {"狼", "苹果", "沙漏", "船", "葡萄", "面包"}
    assert all(c.slots["name"] == c.slots["expression"] for c in chinese)


def test_captions_are_needed_only_for_their_own_phrases(ask, described):
    other = Caption("c9", "另一个", "zh")
    image = described(Phrase("p1", "一个", (DOG,), "caption_phrase", (), "c9", language="zh"), captions=(other,))
    (made,), _ = ask("phrase_grounding", image, CHINESE)
    assert made.slots["caption"] == "另一个"
    assert ask("phrase_grounding", image) == ([], [])
