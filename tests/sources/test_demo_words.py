import pytest
from hypothesis import given
from hypothesis import strategies as st

from vistune.sources.demo.drawings import concepts
from vistune.sources.demo.words import a, article, count, listed, plural, sentence


@pytest.mark.parametrize(
    "name", ["apple", "owl", "hourglass", "X-ray", "SUV", "ID card", "umbrella", "urn", "ice cube", "honor"]
)
def test_names_that_take_an(name: str) -> None:
    assert article(name) == "an"


@pytest.mark.parametrize(
    "name",
    [
        "dog",
        "unicorn",
        "ewe",
        "euro banknote",
        "one-piece swimsuit",
        "T-shirt",
        "DNA strand",
        "yo-yo",
        "T-Rex",
        "uniform",
    ],
)
def test_names_that_take_a(name: str) -> None:
    assert article(name) == "a"


def test_the_article_of_every_concept() -> None:
    """Spelling decides, but for the names listed here."""
    spoken = {"unicorn": "a", "ewe": "a", "euro banknote": "a", "one-piece swimsuit": "a"}
    spoken |= {"hourglass": "an", "X-ray": "an", "SUV": "an"}
    names = [c.name for c in concepts()]
    assert set(spoken) <= set(names)
    for name in names:
        assert article(name) == spoken.get(name, "an" if name[0].lower() in "aeiou" else "a"), name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bus", "buses"),
        ("fox", "foxes"),
        ("torch", "torches"),
        ("cherry", "cherries"),
        ("key", "keys"),
        ("potato", "potatoes"),
        ("yo-yo", "yo-yos"),
        ("mouse", "mice"),
        ("wolf", "wolves"),
        ("snowman", "snowmen"),
        ("jellyfish", "jellyfish"),
        ("moose", "moose"),
        ("goose", "geese"),
        ("mongoose", "mongooses"),
        ("computer mouse", "computer mice"),
        ("kitchen knife", "kitchen knives"),
        ("pair of glasses", "pairs of glasses"),
        ("loaf of bread", "loaves of bread"),
        ("nest with eggs", "nests with eggs"),
        ("bow and arrow", "bows and arrows"),
        ("SUV", "SUVs"),
    ],
)
def test_plurals(name: str, expected: str) -> None:
    assert plural(name) == expected


def test_plurals_of_concepts_differ_from_the_names_and_from_each_other() -> None:
    names = [c.name for c in concepts()]
    plurals = [plural(n) for n in names]
    assert len(set(plurals)) == len(names)
    same = {n for n, p in zip(names, plurals, strict=True) if n == p}
    assert same == {
        "moose",
        "deer",
        "bison",
        "water buffalo",
        "tropical fish",
        "blowfish",
        "jellyfish",
        "shrimp",
        "squid",
    }


def test_numbers_lists_and_sentences() -> None:
    assert count(1, "owl") == a("owl") == "an owl"
    assert count(4, "box of popcorn") == "four boxes of popcorn"
    assert listed(["a cat", "two owls", "a bus"]) == "a cat, two owls and a bus"
    assert sentence("an owl") == "An owl."


@given(st.lists(st.text("abc", min_size=1), min_size=1, max_size=5))
def test_listed_keeps_every_part_in_order(parts: list[str]) -> None:
    assert listed(parts).replace(" and ", ", ").split(", ") == parts
