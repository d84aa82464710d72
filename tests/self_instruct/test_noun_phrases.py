import pytest
from hypothesis import given
from hypothesis import strategies as st

from vistune.self_instruct import english


@pytest.mark.parametrize(
    "noun, many, one",
    [
        ("cat", "cats", "a cat"),
        ("bus", "buses", "a bus"),
        ("cherry", "cherries", "a cherry"),
        ("toy", "toys", "a toy"),
        ("knife", "knives", "a knife"),
        ("computer mouse", "computer mice", "a computer mouse"),
        ("snowman", "snowmen", "a snowman"),
        ("die", "dice", "a die"),
        ("glass of milk", "glasses of milk", "a glass of milk"),
        ("leaf fluttering in wind", "leaves fluttering in wind", "a leaf fluttering in wind"),
        ("pair of scissors", "pairs of scissors", "a pair of scissors"),
        ("scissors", "scissors", "scissors"),
        ("skis", "skis", "skis"),
        ("fish", "fish", "a fish"),
        ("cooked rice", "cooked rice", "some cooked rice"),
        ("ice cream", "ice creams", "an ice cream"),
        ("tennis", "tennis", "tennis"),
        ("unicorn", "unicorns", "a unicorn"),
        ("umbrella", "umbrellas", "an umbrella"),
        ("ewe", "ewes", "a ewe"),
        ("hourglass", "hourglasses", "an hourglass"),
        ("SUV", "SUVs", "an SUV"),
        ("DNA strand", "DNA strands", "a DNA strand"),
        ("X-ray", "X-rays", "an X-ray"),
        ("T-Rex", "T-Rexes", "a T-Rex"),
        ("one-piece swimsuit", "one-piece swimsuits", "a one-piece swimsuit"),
        ("octopus", "octopuses", "an octopus"),
        ("Christmas tree", "Christmas trees", "a Christmas tree"),
    ],
)
def test_plural_and_article(noun, many, one):
    assert english.plural(noun) == many
    assert english.indefinite(noun) == one


def test_what_is_not_counted_is_named_without_its_number():
    assert [english.several(n, 2) for n in ("grapes", "bread", "owl")] == ["grapes", "some bread", "two owls"]
    assert [english.be(n, 2) for n in ("grapes", "bread", "owl")] == ["are", "is", "are"]


@given(st.text(max_size=30))
def test_any_name_can_be_spoken_of(noun):
    """Names come from files: whatever they are, nothing is raised and the plural is stable in shape."""
    assert isinstance(english.several(noun, 3), str)
    assert isinstance(english.indefinite(noun), str)
    assert english.be(noun) in ("is", "are")


def test_lists_and_numbers():
    assert english.join(["a"]) == "a"
    assert english.join(["a", "b", "c"]) == "a, b and c"
    assert [english.number(n) for n in (1, 12, 13)] == ["one", "twelve", "13"]
