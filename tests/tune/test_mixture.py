"""Epochs of several data sets: shares by a power of their sizes, caps, and no item twice before all came once."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vistune.errors import VistuneError
from vistune.tune.mixture import draw, quotas

SIZES = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 60), min_size=1)


def parts(sizes):
    return {name: [(name, n) for n in range(size)] for name, size in sizes.items()}


@settings(max_examples=100, deadline=None)
@given(sizes=SIZES, alpha=st.sampled_from([0.0, 0.5, 1.0]), cap=st.integers(1, 70), epoch=st.integers(0, 2))
def test_an_epoch_is_as_large_as_its_data_and_repeats_evenly(sizes, alpha, cap, epoch):
    caps = {min(sizes): cap}
    drawn = draw(parts(sizes), alpha, caps, 0, "s", epoch)
    capped = {name: min(size, caps.get(name, size)) for name, size in sizes.items()}
    assert abs(len(drawn) - sum(capped.values())) <= len(sizes), "rounded"
    counts = Counter(item for item, _ in drawn)
    for name in sizes:
        mine = [count for (of, _), count in counts.items() if of == name]
        assert len(mine) <= capped[name]
        assert max(mine, default=0) - min(mine, default=0) <= 1
        assert not mine or max(mine) == 1 or len(mine) == capped[name], "none again before all came"
    assert drawn == draw(parts(sizes), alpha, caps, 0, "s", epoch)


def test_as_they_are_every_item_comes_once():
    drawn = draw(parts({"a": 30, "b": 4}), 1.0, {}, 0, "s", 0)
    assert sorted(item for item, again in drawn if again == 0) == sorted(
        [("a", n) for n in range(30)] + [("b", n) for n in range(4)]
    )
    assert [item for item, _ in drawn] != sorted(item for item, _ in drawn)


def test_small_sets_are_read_again_and_large_ones_in_part():
    drawn = draw(parts({"a": 900, "b": 100}), 0.5, {}, 0, "s", 0)
    assert Counter(item[0] for item, _ in drawn) == {"a": 750, "b": 250}
    assert Counter(again for item, again in drawn if item[0] == "b") == {0: 100, 1: 100, 2: 50}


def test_a_cap_keeps_others_in_each_epoch():
    first, second = ({item for item, _ in draw(parts({"a": 90}), 1.0, {"a": 9}, 0, "s", epoch)} for epoch in (0, 1))
    assert len(first) == len(second) == 9 and first != second


def test_a_cap_on_what_is_not_there_is_an_error():
    with pytest.raises(VistuneError, match="a cap on coko, but the stage reads coco only"):
        quotas({"coco": 5}, 1.0, {"coko": 3})
