import pytest

from vistune.self_instruct.mentions import Names, sentences

LABELS = ["cat", "black cat", "dog", "hot dog", "orange", "watch", "glass", "glasses", "teacup without handle", "ox"]


def found(text, labels=LABELS):
    return [m.label for s in sentences(text) for m in Names(labels).find(s)]


@pytest.mark.parametrize(
    "text, labels",
    [
        ("Two black cats and a Dog.", ["black cat", "dog"]),
        ("A hot dog, no dog at all", ["hot dog", "dog"]),
        ("The catalogue is underdog material", []),
        ("There are two oxen here", ["ox"]),
        ("An orange cat watches you", ["cat"]),
        ("There is an orange on the plate", ["orange"]),
        ("Is the background orange?", []),
        ("You can watch it closely", []),
        ("A watch and a cat", ["watch", "cat"]),
        ("A pair of glasses", ["glasses"]),
        ("one glass", ["glass"]),
    ],
)
def test_names_are_found_as_whole_words(text, labels):
    assert found(text) == labels


def test_what_is_named_bare_needs_no_word_before_it():
    assert found("There is snow on the wood", ["snow", "wood"]) == ["snow", "wood"]


@pytest.mark.parametrize(
    "text, number",
    [
        ("three cats", 3),
        ("3 cats", 3),
        ("two big cats", 2),
        ("both cats", 2),
        ("the cats", None),
        ("one of the cats", None),
        ("2024 cats", None),
    ],
)
def test_number_before_a_name(text, number):
    assert Names(["cat"]).find(text)[0].number == number


@pytest.mark.parametrize(
    "text, denied, absent",
    [
        ("There is a cat", False, False),
        ("There is no cat", True, True),
        ("There isn't any cat", True, True),
        ("I do not see a cat", True, False),
        ("The cat is not in the picture", True, True),
        ("The cat is missing", True, True),
        ("The cat is not on the left", False, False),
        ("no other cat", True, False),
        ("a teacup without handle and a cat", False, False),
    ],
)
def test_denial(text, denied, absent):
    mention = Names(LABELS).find(text)[-1]
    assert mention.label == "cat"
    assert (mention.denied, mention.absent) == (denied, absent)


def test_a_denial_ends_with_its_clause():
    said = [(m.label, m.denied) for s in sentences("No, there is no dog, but a cat.") for m in Names(LABELS).find(s)]
    assert said == [("dog", True), ("cat", False)]
    said = [(m.label, m.denied) for m in Names(LABELS).find("Without the dog there would be a cat")]
    assert said == [("dog", True), ("cat", False)]


def test_the_answer_no_denies_nothing_by_itself():
    assert [m.denied for s in sentences("No, the cat is on the left.") for m in Names(LABELS).find(s)] == [False]
