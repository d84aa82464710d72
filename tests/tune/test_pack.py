"""Packs hold every sample once and respect both budgets; steps are balanced and full."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vistune.errors import VistuneError
from vistune.tune.pack import balance, deal, length_groups, pack, padding, schedule

SIZES = st.lists(st.tuples(st.integers(1, 50), st.sampled_from([0, 0, 4, 9, 16])), max_size=60)


def exhaustive_fewest(tokens, room):
    """The fewest packs possible, by trying all."""
    best = len(tokens)

    def place(n, packs):
        nonlocal best
        if len(packs) >= best:
            return
        if n == len(tokens):
            best = len(packs)
            return
        for k in range(len(packs)):
            if packs[k] + tokens[n] <= room:
                place(n + 1, [*packs[:k], packs[k] + tokens[n], *packs[k + 1 :]])
        place(n + 1, [*packs, tokens[n]])

    place(0, [])
    return best


@settings(max_examples=150, deadline=None)
@given(sizes=SIZES, room=st.integers(50, 120), views=st.sampled_from([0, 16, 40]), window=st.sampled_from([5, 4096]))
def test_every_sample_once_and_within_both_budgets(sizes, room, views, window):
    tokens, patches = [s[0] for s in sizes], [s[1] for s in sizes]
    packs = pack(tokens, patches, room, views, window)
    assert sorted(n for one in packs for n in one) == list(range(len(sizes)))
    for one in packs:
        assert sum(tokens[n] for n in one) <= room
        assert not views or sum(patches[n] for n in one) <= views
        assert max(one) // window == min(one) // window, "windows do not mix"
    assert packs == pack(tokens, patches, room, views, window)


@settings(max_examples=60, deadline=None)
@given(tokens=st.lists(st.integers(1, 30), min_size=1, max_size=8), room=st.integers(30, 60))
def test_near_the_best_possible(tokens, room):
    """Best fit decreasing needs at most 11/9 of the fewest packs, and 6/9 more (Dosa 2007, for first fit)."""
    packs = pack(tokens, [0] * len(tokens), room)
    assert len(packs) <= 11 / 9 * exhaustive_fewest(tokens, room) + 6 / 9


def test_text_fills_packs_that_have_no_room_for_pictures():
    assert pack([10, 10, 3, 3], [9, 9, 0, 0], 16, 9) == [[0, 2, 3], [1]]


def test_a_sample_over_a_budget_is_an_error_with_both_numbers():
    with pytest.raises(VistuneError, match="sample 1 has 9 tokens and 0 patches; a pack holds 8 tokens"):
        pack([1, 9], [0, 0], 8)
    with pytest.raises(VistuneError, match="sample 0 has 1 tokens and 5 patches; a pack holds 8 tokens and 4 patches"):
        pack([1], [5], 8, 4)
    with pytest.raises(VistuneError, match="sample 0 has 9 tokens; a batch holds 8"):
        length_groups([9], 8)


@settings(max_examples=100, deadline=None)
@given(
    costs=st.lists(st.floats(0.1, 100), max_size=50),
    processes=st.integers(1, 9),
    seed=st.integers(0, 3),
)
def test_steps_hold_every_pack_once_and_all_processes(costs, processes, seed):
    steps = deal(costs, processes, seed, "s")
    assert all(len(step) == processes for step in steps)
    assert sorted(n for step in steps for n in step if n >= 0) == list(range(len(costs)))
    assert sum(n < 0 for step in steps for n in step) < processes
    assert steps == deal(costs, processes, seed, "s")


def test_balanced_steps_beat_shuffled_packs():
    """1,000 packs whose costs differ tenfold, 8 processes: waiting falls from a third of the work to a hundredth."""
    costs = [1 + 9 * ((n * 7919) % 1000) / 1000 for n in range(1000)]
    shuffled = [costs[n : n + 8] for n in range(0, 1000, 8)]
    assert balance(shuffled).slowest > 1.3
    assert balance([[costs[n] for n in step] for step in deal(costs, 8, 0)]).slowest < 1.01


def by_room(window):
    return [[window[n] for n in one] for one in pack(window, [0] * len(window), 64)]


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 64), max_size=80),
    window=st.integers(1, 30),
    processes=st.integers(1, 5),
)
def test_only_the_last_step_of_all_windows_may_be_partly_empty(sizes, window, processes):
    windows = [sizes[n : n + window] for n in range(0, len(sizes), window)]
    steps = list(schedule(windows, by_room, sum, processes, 0, "s"))
    assert sorted(n for step in steps for one in step for n in one) == sorted(sizes)
    assert all(len(step) == processes for step in steps)
    assert all(sum(one) <= 64 for step in steps for one in step)
    assert sum([] in step for step in steps) <= 1
    assert sum(one == [] for step in steps for one in step) < processes


def test_windows_cost_no_empty_packs():
    """60 windows of 17 half-full packs for 8 processes: by themselves each would end in a step with seven idle."""
    sizes = [1 + (n * 7919) % 64 for n in range(1020)]
    windows = [sizes[n : n + 17] for n in range(0, 1020, 17)]
    steps = list(schedule(windows, by_room, sum, 8, 0))
    packs = sum(len(by_room(window)) for window in windows)
    assert len(steps) <= packs / 8 + 1
    assert balance([[*map(sum, step)] for step in steps]).slowest < 1.1


def test_the_order_of_steps_is_no_curriculum():
    steps = deal(list(range(1, 801)), 8, 0)
    firsts = [sum(max(n, 0) for n in step) for step in steps]
    assert firsts != sorted(firsts) and firsts != sorted(firsts, reverse=True)
    half = sum(firsts[:50]) / sum(firsts)
    assert 0.4 < half < 0.6


@settings(max_examples=100, deadline=None)
@given(tokens=st.lists(st.integers(1, 40), max_size=50), room=st.integers(40, 100))
def test_length_groups_hold_every_sample_within_the_budget(tokens, room):
    batches = length_groups(tokens, room, 16)
    assert sorted(n for batch in batches for n in batch) == list(range(len(tokens)))
    assert all(max(tokens[n] for n in batch) * len(batch) <= room for batch in batches)


def test_padding_is_what_nothing_fills():
    assert padding([5, 3], [[0], [1]], 8) == 0.5
