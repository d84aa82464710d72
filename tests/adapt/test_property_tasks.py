"""Attributes and relations, in both languages, and what makes a statement provably false."""

import pytest

from vistune.adapt.geometry import box_text
from vistune.adapt.language import CHINESE, ENGLISH
from vistune.records import Relation

DOG, CAT, OTHER = (10, 20, 60, 80), (120, 5, 160, 45), (120, 55, 160, 95)
BOXES = {"dog": "[50, 200, 300, 799]", "cat": "[599, 50, 799, 450]", "other": "[599, 549, 799, 949]"}


def test_box_texts_used_below():
    assert [box_text(box, 200, 100) for box in (DOG, CAT, OTHER)] == list(BOXES.values())


@pytest.mark.parametrize(
    ("attributes", "english", "chinese"),
    [
        (("Brown",), {("color", "brown")}, {("color", "棕色")}),
        (("wooden", "wood"), {("material", "wood")}, {("material", "木头")}),
        (("large", "old"), {("other", "large and old")}, {("other", "大和旧")}),
        (
            ("red", "plastic", "new"),
            {("color", "red"), ("material", "plastic")},
            {("color", "红色"), ("material", "塑料")},
        ),
        (("red", "blue"), {("other", "red and blue")}, {("other", "红色和蓝色")}),  # each is true of a part
        ((" ", "tall "), {("other", "tall")}, {("other", "高")}),
    ],
)
def test_attribute(ask, picture, attributes, english, chinese):
    image = picture(("dog", DOG), attributes={"dog": attributes})
    for language, expected in ((ENGLISH, english), (CHINESE, chinese)):
        found = set()
        for key in range(12):
            (made,), _ = ask("attribute", image, language, key=str(key))
            found.add((made.kind, made.slots["value"]))
            assert (made.evidence, made.boxes, made.regions[0].label) == (("1",), ("",), "dog")
        assert found == expected


def test_attributes_of_several_alike_are_asked_with_the_box(ask, picture):
    image = picture(("cat", CAT), ("cat", OTHER), attributes={"cat": ("red",)})
    made, _ = ask("attribute", image)
    assert {(c.slots["thing"], c.boxes) for c in made} == {
        (f"the cat in the box {BOXES['cat']}", (BOXES["cat"],)),
        (f"the cat in the box {BOXES['other']}", (BOXES["other"],)),
    }
    chinese, _ = ask("attribute", image, CHINESE)
    assert {c.slots["thing"] for c in chinese} == {f"方框{BOXES['cat']}里的猫", f"方框{BOXES['other']}里的猫"}
    assert ask("attribute", picture(("cat", CAT), ("cat", CAT), attributes={"cat": ("red",)})) == ([], [])


def test_a_class_that_is_not_complete_is_asked_with_the_box(ask, picture, category):
    image = picture(("dog", DOG), attributes={"dog": ("red",)}, vocabulary=(category("cat"),))
    assert ask("attribute", image)[0][0].boxes == (BOXES["dog"],)


def test_attributes_without_a_word_in_the_language_are_refused(ask, picture):
    image = picture(("dog", DOG), attributes={"dog": ("fluffy",)})
    assert ask("attribute", image)[0][0].slots["value"] == "fluffy"
    made, (refused,) = ask("attribute", image, CHINESE)
    assert (made, refused.reason, refused.detail) == ([], "attribute_untranslated", "'fluffy' has no word in zh.")
    assert ask("attribute", picture(("dog", DOG), attributes={"dog": (" ", "")})) == ([], [])
    _, (unnamed,) = ask("attribute", picture(("kite", DOG), attributes={"kite": ("red",)}), CHINESE)
    assert unnamed.reason == "name_missing"


def related(picture, *relations, objects=(("dog", DOG), ("apple", CAT))):
    given = tuple(Relation(f"r{n}", a, predicate, b) for n, (a, predicate, b) in enumerate(relations))
    return picture(*objects, relations=given)


def facts(ask, image, language=ENGLISH, keys=20):
    found = {}
    for key in range(keys):
        for c in ask("relation", image, language, key=str(key))[0]:
            found[c.kind] = c
    return found


def test_relation_is_asked_for_and_what_it_is_to(ask, picture):
    found = facts(ask, related(picture, ("1", "is Eating", "2")))
    assert set(found) == {"predicate", "object"}
    slots = found["predicate"].slots
    assert (slots["thing"], slots["other"], slots["predicate"]) == ("the dog", "the apple", "eating")
    assert slots["clause"] == "The dog is eating the apple."
    slots = found["object"].slots
    assert (slots["asked"], slots["name"], slots["clause"]) == (
        "What is the dog eating?",
        "apple",
        "The dog is eating an apple.",
    )
    assert found["object"].evidence == ("r0", "1", "2")
    assert [r.annotation_id for r in found["predicate"].regions] == ["1", "2"]


def test_relation_in_chinese(ask, picture):
    image = related(picture, ("1", "eating", "2"))
    found = facts(ask, image, CHINESE)
    assert found["predicate"].slots["clause"] == "狗在吃苹果。"
    assert (found["object"].slots["asked"], found["object"].slots["name"]) == ("狗在吃什么？", "苹果")
    made, (refused,) = ask("relation", related(picture, ("1", "dreaming of", "2")), CHINESE)
    assert (made, refused.reason) == ([], "predicate_untranslated")
    assert "'dreaming of'" in refused.detail


def test_a_predicate_that_makes_no_clause_is_only_named(ask, picture):
    (bare,) = facts(ask, related(picture, ("1", "of", "2"))).values()
    assert (bare.kind, bare.slots["predicate"]) == ("bare", "of")
    assert "clause" not in bare.slots


def test_what_has_several_answers_is_not_asked(ask, picture):
    objects = (("dog", DOG), ("apple", CAT), ("hourglass", OTHER))
    two_objects = related(picture, ("1", "near", "2"), ("1", "near", "3"), objects=objects)
    assert set(facts(ask, two_objects)) == {"predicate"}
    two_predicates = related(picture, ("1", "near", "2"), ("1", "eating", "2"))
    assert set(facts(ask, two_predicates)) == {"object"}


def test_relations_to_nothing_or_to_a_crowd_are_no_facts(ask, picture):
    image = related(picture, ("1", "on", "77"), ("1", "on", "1"), ("1", " ", "2"), ("1", "on", "99"))
    assert ask("relation", image) == ([], [])
    crowd = picture(("dog", DOG), ("apple", CAT), crowd=("apple",), relations=(Relation("r", "1", "on", "2"),))
    assert ask("relation", crowd) == ([], [])
    assert ask("triplet_check", crowd) == ([], [])


def test_triplet_check_turns_a_one_way_relation_around(ask, picture):
    (yes, no), _ = ask("triplet_check", related(picture, ("1", "Eating", "2")))
    dog, apple = f"dog in the box {BOXES['dog']}", f"apple in the box {BOXES['cat']}"
    assert (yes.kind, yes.polarity, yes.slots["statement"]) == ("yes", "yes", f"The {dog} is eating the {apple}.")
    assert (no.kind, no.polarity, no.slots["statement"]) == ("no", "no", f"The {apple} is eating the {dog}.")
    assert yes.boxes == (BOXES["dog"], BOXES["cat"]) == no.boxes[::-1]
    assert [r.label for r in no.regions] == ["apple", "dog"]
    assert yes.evidence == no.evidence == ("r0", "1", "2")
    (yes, no), _ = ask("triplet_check", related(picture, ("1", "on", "2")), CHINESE)
    assert yes.slots["statement"] == f"方框{BOXES['dog']}里的狗在方框{BOXES['cat']}里的苹果上面。"


@pytest.mark.parametrize("predicate", ["next to", "near", "touching", "in front of", "looking at", "with"])
def test_what_could_hold_both_ways_is_not_provably_false(ask, picture, predicate):
    assert ask("triplet_check", related(picture, ("1", predicate, "2"))) == ([], [])


def test_a_contradiction_in_the_source_proves_nothing(ask, picture):
    assert ask("triplet_check", related(picture, ("1", "on", "2"), ("2", "ON", "1"))) == ([], [])


def test_boxes_tell_two_alike_apart_but_not_two_in_one_place(ask, picture):
    objects = (("cat", CAT), ("cat", OTHER))
    (yes, _), _ = ask("triplet_check", related(picture, ("1", "above", "2"), objects=objects))
    assert yes.slots["statement"] == f"The cat in the box {BOXES['cat']} is above the cat in the box {BOXES['other']}."
    same = (("cat", CAT), ("cat", CAT))
    assert ask("triplet_check", related(picture, ("1", "above", "2"), objects=same)) == ([], [])


@pytest.mark.parametrize(
    ("name", "predicate", "statement", "question"),
    [
        ("man", "riding", "X is riding Y", "What is X riding?"),
        ("jeans", "on", "X are on Y", "What are X on?"),
        ("man", "holds", "X holds Y", "What does X hold?"),
        ("man", "has", "X has Y", "What does X have?"),
        ("jeans", "have", "X have Y", "What do X have?"),
        ("plate", "made of", "X is made of Y", "What is X made of?"),
        ("car", "parked on", "X is parked on Y", "What is X parked on?"),
    ],
)
def test_english_clauses(name, predicate, statement, question):
    clause = ENGLISH.clause(name, "X", predicate, "Y")
    assert (clause.statement, clause.question) == (statement, question)


@pytest.mark.parametrize(("name", "predicate"), [("man", "of"), ("man", "watches"), ("jeans", "covers"), ("man", "")])
def test_predicates_without_an_english_clause(name, predicate):
    assert ENGLISH.clause(name, "X", predicate, "Y") is None
