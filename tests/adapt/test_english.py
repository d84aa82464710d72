"""English of the labels that occur: COCO's and the emoji names, a table of the awkward ones."""

import pytest

from vistune.adapt.english import amount, forms, number, number_word, plural, with_article
from vistune.adapt.language import CHINESE, ENGLISH


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dog", "dogs"),
        ("bus", "buses"),
        ("bench", "benches"),
        ("toothbrush", "toothbrushes"),
        ("wine glass", "wine glasses"),
        ("fox", "foxes"),
        ("person", "people"),
        ("mouse", "mice"),
        ("computer mouse", "computer mice"),
        ("goose", "geese"),
        ("ox", "oxen"),
        ("wolf", "wolves"),
        ("giraffe", "giraffes"),
        ("kitchen knife", "kitchen knives"),
        ("scarf", "scarves"),
        ("maple leaf", "maple leaves"),
        ("sheaf of rice", "sheaves of rice"),
        ("loaf of bread", "loaves of bread"),
        ("game die", "game dice"),
        ("cactus", "cacti"),
        ("octopus", "octopuses"),
        ("hippopotamus", "hippopotamuses"),
        ("rhinoceros", "rhinoceroses"),
        ("sheep", "sheep"),
        ("deer", "deer"),
        ("moose", "moose"),
        ("tropical fish", "tropical fish"),
        ("jellyfish", "jellyfish"),
        ("aircraft", "aircraft"),
        ("tomato", "tomatoes"),
        ("mosquito", "mosquitoes"),
        ("volcano", "volcanoes"),
        ("avocado", "avocados"),
        ("kangaroo", "kangaroos"),
        ("yo-yo", "yo-yos"),
        ("cherry", "cherries"),
        ("butterfly", "butterflies"),
        ("donkey", "donkeys"),
        ("snowman", "snowmen"),
        ("ottoman", "ottomans"),
        ("nest with eggs", "nests with eggs"),
        ("bottle with popping cork", "bottles with popping cork"),
        ("map of Japan", "maps of Japan"),
        ("leaf fluttering in wind", "leaves fluttering in wind"),
        ("magnifying glass tilted left", "magnifying glasses tilted left"),
        ("bow and arrow", "bows and arrows"),
        ("T-Rex", "T-Rexes"),
        ("watch", "watches"),
        ("battery", "batteries"),
        ("ice cream", "ice creams"),
    ],
)
def test_plural(name, expected):
    assert number(name) == "singular"
    assert plural(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("apple", "an apple"),
        ("dog", "a dog"),
        ("umbrella", "an umbrella"),
        ("unicorn", "a unicorn"),
        ("utility pole", "a utility pole"),
        ("ukulele", "a ukulele"),
        ("urn", "an urn"),
        ("euro banknote", "a euro banknote"),
        ("ewe", "a ewe"),
        ("one-piece swimsuit", "a one-piece swimsuit"),
        ("onion", "an onion"),
        ("hourglass", "an hourglass"),
        ("horse", "a horse"),
        ("x-ray", "an x-ray"),
        ("T-shirt", "a T-shirt"),
        ("e-mail", "an e-mail"),
        ("SUV", "an SUV"),
        ("UFO", "a UFO"),
        ("8 ball", "an 8 ball"),
        ("18 wheeler", "an 18 wheeler"),
        ("1st place medal", "a 1st place medal"),
        ("ice cream", "an ice cream"),
    ],
)
def test_article(name, expected):
    assert with_article(name) == expected


@pytest.mark.parametrize(
    ("name", "kind", "spoken"),
    [
        ("grapes", "plural", "grapes"),
        ("scissors", "plural", "scissors"),
        ("skis", "plural", "skis"),
        ("french fries", "plural", "french fries"),
        ("broccoli", "mass", "broccoli"),
        ("cooked rice", "mass", "cooked rice"),
        ("ice", "mass", "ice"),
        ("Statue of Liberty", "proper", "the Statue of Liberty"),
        ("mount fuji", "proper", "mount fuji"),
    ],
)
def test_names_that_are_not_counted(name, kind, spoken):
    assert number(name) == kind
    assert with_article(name) == spoken
    assert plural(name) == name
    assert amount(name, 2) == spoken


def test_forms_agree_in_number():
    assert forms("dog") == {"name": "dog", "a_name": "a dog", "plural": "dogs", "is": "is", "Is": "Is"}
    assert forms("grapes") == {"name": "grapes", "a_name": "grapes", "plural": "grapes", "is": "are", "Is": "Are"}
    assert forms("bread")["is"] == "is"


def test_amounts_and_lists():
    assert (
        ENGLISH.enumerate([amount("mouse", 3), amount("owl", 1), amount("bread", 1)]) == "three mice, an owl and bread"
    )
    assert CHINESE.enumerate([CHINESE.amount("猫", 2), CHINESE.amount("狗", 1), CHINESE.amount("马", 12)]) == (
        "两个猫、一个狗和12个马"
    )
    assert number_word(12) == "twelve"
    assert number_word(13) == "13"


@pytest.mark.parametrize(("parts", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a and b")])
def test_short_lists(parts, text):
    assert ENGLISH.enumerate(parts) == text
