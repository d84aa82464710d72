"""Multiple choice: every order and style, letters and numbers, and no favourite letter."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vistune.adapt.choices import LETTERED, NUMBERED, STYLES, letter, mark, shuffle
from vistune.adapt.draws import Draws

CRITICAL = {1: 10.83, 2: 13.82, 3: 16.27, 4: 18.47, 6: 22.46}
"""Chi-square beyond which a fair draw lies once in a thousand times, by degrees of freedom."""


def chi_square(counts, expected):
    return sum((n - expected) ** 2 / expected for n in counts)


@pytest.mark.parametrize("options", [2, 3, 4, 5])
def test_the_right_letter_is_uniform_whatever_the_source_order(options):
    names = [f"option {n}" for n in range(options)]
    for answer in (0, options - 1):
        found = Counter(shuffle(names, answer, Draws(0, f"item {n}")).answer for n in range(4000))
        assert set(found) == set(range(options))
        assert chi_square(found.values(), 4000 / options) < CRITICAL[options - 1]


def test_styles_are_uniform_and_independent_of_the_answer():
    found = [shuffle(("ab", "cd", "ef", "gh"), 0, Draws(0, f"item {n}")) for n in range(7000)]
    assert chi_square(Counter(c.style for c in found).values(), 1000) < CRITICAL[6]
    for style in STYLES:
        answers = Counter(c.answer for c in found if c.style == style)
        assert chi_square(answers.values(), sum(answers.values()) / 4) < CRITICAL[3]


@given(st.lists(st.text(min_size=1), min_size=2, max_size=10, unique=True), st.data(), st.text())
def test_the_answer_is_byte_equal_to_an_option_and_the_permutation_leads_back(options, data, key):
    answer = data.draw(st.integers(0, len(options) - 1))
    found = shuffle(options, answer, Draws(0, key))
    assert sorted(found.permutation) == list(range(len(options)))
    assert [found.options[found.permutation.index(n)] for n in range(len(options))] == options
    slots = found.slots
    assert slots["option"] == options[answer] == found.options[found.answer]
    assert slots["marked"] == f"{mark(found.style, found.answer)} {options[answer]}"
    assert slots["options"].count("\n") == len(options) - 1 + "".join(options).count("\n")
    assert slots["letter"] in mark(found.style, found.answer)
    assert found.lettered == slots["letter"].isalpha()


def test_a_mark_is_never_another_option():
    for n in range(60):
        assert shuffle(("3", "4 cats"), 0, Draws(0, f"item {n}")).style in LETTERED
        assert shuffle(("B", "none"), 0, Draws(0, f"item {n}")).style in NUMBERED
        assert shuffle(("B", "2"), 0, Draws(0, f"item {n}")).style in LETTERED


def test_marks():
    assert [mark("A.", n) for n in range(3)] == ["A.", "B.", "C."]
    assert [mark("(1)", n) for n in (0, 1, 9)] == ["(1)", "(2)", "(10)"]
    assert [letter(style, 1) for style in STYLES] == ["B"] * 4 + ["2"] * 3
