"""Keyed choices: pinned, since every release depends on them, even over their keys, and independent of one another."""

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from vistune.hashing import canonical, choose, digest, file_digest, keyed, merkle_root, shuffled, uniform


def test_values_never_change():
    """Other numbers here would give other releases from the same seed."""
    assert canonical({"b": [1, 2.5, None], "a": "ä"}) == '{"a":"ä","b":[1,2.5,null]}'.encode()
    assert digest([]) == "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"
    assert keyed(1, "presence", "img7") == 2290458412802873120
    assert shuffled(range(6), 0, "order") == [1, 5, 0, 2, 4, 3]


def test_choices_are_even():
    count = Counter(choose("abcd", 0, "key", i) for i in range(8000))
    assert sum((n - 2000) ** 2 / 2000 for n in count.values()) < 16.3, "chi-squared, 3 degrees: one in a thousand"
    values = [uniform(5, i) for i in range(8000)]
    assert min(values) >= 0 and max(values) < 1
    assert math.isclose(sum(values) / len(values), 0.5, abs_tol=4 * math.sqrt(1 / 12 / 8000))
    firsts = Counter(tuple(shuffled("abc", 0, i)) for i in range(6000))
    assert len(firsts) == 6 and sum((n - 1000) ** 2 / 1000 for n in firsts.values()) < 20.5


@given(st.lists(st.integers()), st.integers(), st.text())
def test_a_shuffle_orders_by_the_keys_of_the_places(items, seed, key):
    order = sorted(range(len(items)), key=lambda i: keyed(seed, key, i).to_bytes(8, "big"))
    assert shuffled(items, seed, key) == [items[i] for i in order]


def test_files_and_sets_of_them(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    leaves = [("a", "1"), ("b", "2")]
    assert merkle_root(leaves) == merkle_root(reversed(leaves)) != merkle_root([("a", "2"), ("b", "1")])
