"""English of the labels that occur: COCO's, the demo's and other emoji names, a table of the awkward ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vistune.adapt.language import CHINESE, ENGLISH
from vistune.english import (
    amount,
    article,
    be,
    is_counted,
    join,
    number,
    number_word,
    plural,
    sentence,
    with_article,
)
from vistune.sources.demo.drawings import concepts

COCO_NAMES = """
person; bicycle; car; motorcycle; airplane; bus; train; truck; boat; traffic light; fire hydrant; stop sign;
parking meter; bench; bird; cat; dog; horse; sheep; cow; elephant; bear; zebra; giraffe; backpack; umbrella;
handbag; tie; suitcase; frisbee; skis; snowboard; sports ball; kite; baseball bat; baseball glove; skateboard;
surfboard; tennis racket; bottle; wine glass; cup; fork; knife; spoon; bowl; banana; apple; sandwich; orange;
broccoli; carrot; hot dog; pizza; donut; cake; chair; couch; potted plant; bed; dining table; toilet; tv;
laptop; mouse; remote; keyboard; cell phone; microwave; oven; toaster; sink; refrigerator; book; clock; vase;
scissors; teddy bear; hair drier; toothbrush
"""
COCO = [" ".join(name.split()) for name in COCO_NAMES.split(";")]
DEMO = [c.name for c in concepts()]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dog", "dogs"),
        ("key", "keys"),
        ("toy", "toys"),
        ("bus", "buses"),
        ("bench", "benches"),
        ("toothbrush", "toothbrushes"),
        ("wine glass", "wine glasses"),
        ("hourglass", "hourglasses"),
        ("fox", "foxes"),
        ("person", "people"),
        ("mouse", "mice"),
        ("computer mouse", "computer mice"),
        ("goose", "geese"),
        ("mongoose", "mongooses"),
        ("ox", "oxen"),
        ("wolf", "wolves"),
        ("thief", "thieves"),
        ("giraffe", "giraffes"),
        ("kitchen knife", "kitchen knives"),
        ("pocketknife", "pocketknives"),
        ("scarf", "scarves"),
        ("maple leaf", "maple leaves"),
        ("sheaf of rice", "sheaves of rice"),
        ("loaf of bread", "loaves of bread"),
        ("die", "dice"),
        ("game die", "game dice"),
        ("dice", "dice"),
        ("cactus", "cactuses"),
        ("octopus", "octopuses"),
        ("hippopotamus", "hippopotamuses"),
        ("rhinoceros", "rhinoceroses"),
        ("Christmas", "Christmases"),
        ("sheep", "sheep"),
        ("deer", "deer"),
        ("moose", "moose"),
        ("bison", "bison"),
        ("fish", "fish"),
        ("tropical fish", "tropical fish"),
        ("jellyfish", "jellyfish"),
        ("aircraft", "aircraft"),
        ("potato", "potatoes"),
        ("tomato", "tomatoes"),
        ("mosquito", "mosquitoes"),
        ("volcano", "volcanoes"),
        ("avocado", "avocados"),
        ("flamingo", "flamingos"),
        ("kangaroo", "kangaroos"),
        ("yo-yo", "yo-yos"),
        ("cherry", "cherries"),
        ("Cherry", "Cherries"),
        ("butterfly", "butterflies"),
        ("donkey", "donkeys"),
        ("snowman", "snowmen"),
        ("human", "humans"),
        ("ottoman", "ottomans"),
        ("glass of milk", "glasses of milk"),
        ("pair of scissors", "pairs of scissors"),
        ("nest with eggs", "nests with eggs"),
        ("bottle with popping cork", "bottles with popping cork"),
        ("map of Japan", "maps of Japan"),
        ("leaf fluttering in wind", "leaves fluttering in wind"),
        ("magnifying glass tilted left", "magnifying glasses tilted left"),
        ("bow and arrow", "bows and arrows"),
        ("fork and knife with plate", "forks and knives with plate"),
        ("SUV", "SUVs"),
        ("DNA strand", "DNA strands"),
        ("T-Rex", "T-Rexes"),
        ("watch", "watches"),
        ("battery", "batteries"),
        ("ice cream", "ice creams"),
        ("Christmas tree", "Christmas trees"),
        ("one-piece swimsuit", "one-piece swimsuits"),
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
        ("uniform", "a uniform"),
        ("utility pole", "a utility pole"),
        ("ukulele", "a ukulele"),
        ("urn", "an urn"),
        ("urinal", "a urinal"),
        ("euro banknote", "a euro banknote"),
        ("ewe", "a ewe"),
        ("one-piece swimsuit", "a one-piece swimsuit"),
        ("onion", "an onion"),
        ("hourglass", "an hourglass"),
        ("honor", "an honor"),
        ("horse", "a horse"),
        ("yo-yo", "a yo-yo"),
        ("x-ray", "an x-ray"),
        ("X-ray", "an X-ray"),
        ("T-shirt", "a T-shirt"),
        ("T-Rex", "a T-Rex"),
        ("e-mail", "an e-mail"),
        ("SUV", "an SUV"),
        ("UFO", "a UFO"),
        ("ID card", "an ID card"),
        ("DNA strand", "a DNA strand"),
        ("8 ball", "an 8 ball"),
        ("18 wheeler", "an 18 wheeler"),
        ("1st place medal", "a 1st place medal"),
        ("ice cube", "an ice cube"),
        ("ice cream", "an ice cream"),
        ("leaf fluttering in wind", "a leaf fluttering in wind"),
        ("pair of scissors", "a pair of scissors"),
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
        ("tennis", "mass", "tennis"),
        ("Statue of Liberty", "proper", "the Statue of Liberty"),
        ("mount fuji", "proper", "mount fuji"),
    ],
)
def test_names_that_are_not_counted(name, kind, spoken):
    assert number(name) == kind
    assert with_article(name) == spoken
    assert plural(name) == name
    assert amount(name, 2) == spoken
    assert be(name, 2) == ("are" if kind == "plural" else "is")


def test_coco_names():
    """All by the rule, but for the names listed here."""
    kinds = {name: number(name) for name in COCO if not is_counted(name)}
    assert kinds == {"skis": "plural", "scissors": "plural", "broccoli": "mass"}
    odd = {n: plural(n) for n in COCO if n not in kinds and plural(n) not in (f"{n}s", f"{n}es")}
    assert odd == {"person": "people", "sheep": "sheep", "knife": "knives", "mouse": "mice"}
    assert {n for n in COCO if plural(n) == f"{n}es"} == {
        *("bus", "bench", "wine glass", "sandwich", "couch", "toothbrush")
    }
    assert all(article(n) == ("an" if n[0] in "aeiou" else "a") for n in COCO)


def test_every_concept_of_the_demo_is_counted():
    """So that a caption may say how many, and a question ask."""
    assert [name for name in DEMO if not is_counted(name)] == []


def test_the_article_of_every_concept():
    """Spelling decides, but for the names listed here."""
    spoken = {"unicorn": "a", "ewe": "a", "euro banknote": "a", "one-piece swimsuit": "a"}
    spoken |= {"hourglass": "an", "X-ray": "an", "SUV": "an"}
    assert set(spoken) <= set(DEMO)
    for name in DEMO:
        assert article(name) == spoken.get(name, "an" if name[0].lower() in "aeiou" else "a"), name


def test_plurals_of_concepts_differ_from_the_names_and_from_each_other():
    plurals = {n: plural(n) for n in DEMO}
    assert len(set(plurals.values())) == len(DEMO)
    same = "moose, deer, bison, water buffalo, tropical fish, blowfish, jellyfish, shrimp, squid"
    assert {n for n, many in plurals.items() if n == many} == set(same.split(", "))


def test_what_is_not_counted_is_named_without_its_number():
    assert [amount(n, 2) for n in ("grapes", "bread", "owl")] == ["grapes", "bread", "two owls"]
    assert amount("owl", 1) == "an owl"
    assert amount("box of popcorn", 4) == "four boxes of popcorn"
    assert [be(n, 2) for n in ("grapes", "bread", "owl")] == ["are", "is", "are"]


def test_forms_agree_in_number():
    forms = ENGLISH.forms
    assert forms("dog") == {"name": "dog", "a_name": "a dog", "plural": "dogs", "is": "is", "Is": "Is"}
    assert forms("grapes") == {"name": "grapes", "a_name": "grapes", "plural": "grapes", "is": "are", "Is": "Are"}
    assert forms("bread")["is"] == "is"


def test_amounts_and_lists():
    things = [amount("mouse", 3), amount("owl", 1), amount("bread", 1)]
    assert ENGLISH.enumerate(things) == join(things) == "three mice, an owl and bread"
    assert CHINESE.enumerate([CHINESE.amount("猫", 2), CHINESE.amount("狗", 1), CHINESE.amount("马", 12)]) == (
        "两个猫、一个狗和12个马"
    )
    assert [number_word(n) for n in (1, 12, 13)] == ["one", "twelve", "13"]
    assert sentence("an owl.") == "An owl."


@pytest.mark.parametrize(("parts", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a and b")])
def test_short_lists(parts, text):
    assert join(parts) == text


@given(st.lists(st.text("abc", min_size=1), min_size=1, max_size=5))
def test_a_list_keeps_every_part_in_order(parts):
    assert join(parts).replace(" and ", ", ").split(", ") == parts


@given(st.text(max_size=30))
def test_any_name_can_be_spoken_of(name):
    """Names come from files: whatever they are, nothing is raised."""
    assert isinstance(amount(name, 3), str)
    assert isinstance(with_article(name), str)
    assert be(name) in ("is", "are")
