"""Packed trees: what is laid out behind a prefix, and how rows are grouped."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vistune.evaluate.packing import PAD, PREFIX, Ask, batches, lay_out, shared, split, visible

tokens = st.lists(st.integers(5, 250), min_size=1, max_size=4).map(tuple)
questions = st.lists(st.integers(5, 250), max_size=4).map(tuple)
asks = st.lists(st.builds(Ask, questions, st.lists(tokens, max_size=3).map(tuple)), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(asks=asks)
def test_every_answer_sees_its_own_line_and_nothing_else(asks: list[Ask]) -> None:
    row = lay_out(asks)
    assert len(row.ids) == sum(a.tokens for a in asks)
    ids, places = torch.tensor(row.ids), torch.tensor(row.places)
    mask = visible(torch.tensor([row.question]), torch.tensor([row.answer]))[0] if row.ids else None
    reads = iter(row.reads)
    for ask, last in zip(asks, row.lasts, strict=True):
        assert (last == PREFIX) == (not ask.question)
        assert last == PREFIX or row.ids[last] == ask.question[-1]
        for answer in ask.answers:
            line = [*ask.question, *answer]
            for n, target in enumerate(answer):
                token, wanted = next(reads)
                assert wanted == target
                if token == PREFIX:
                    assert not ask.question and n == 0
                    continue
                assert mask is not None
                seen = mask[token].nonzero().flatten()
                # What the predicting token sees, in order, is the text so far, at places 0, 1, 2, ...
                assert ids[seen].tolist() == line[: len(ask.question) + n]
                assert places[seen].tolist() == list(range(len(seen)))
    assert next(reads, None) is None
    assert row.lengths == [len(a) for ask in asks for a in ask.answers]


def test_padding_sees_itself_and_is_not_seen() -> None:
    question, answer = torch.tensor([[1, 1, PAD, PAD]]), torch.tensor([[0, 0, PAD, PAD]])
    mask = visible(question, answer)[0]
    assert mask[:2].tolist() == [[True, False, False, False], [True, True, False, False]]
    assert mask[2, 2] and mask[3, 3] and not mask[2:, :2].any()


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=30), st.integers(1, 200))
def test_batches_hold_each_row_once_within_the_budget(sizes: list[tuple[int, int]], budget: int) -> None:
    groups = batches(sizes, budget)
    assert sorted(n for group in groups for n in group) == list(range(len(sizes)))
    for group in groups:
        widest = max(sizes[n][0] for n in group) + max(sizes[n][1] for n in group)
        assert len(group) == 1 or len(group) * widest <= budget


@given(st.lists(st.integers(0, 40), max_size=30), st.integers(1, 100))
def test_split_keeps_order_and_budget(sizes: list[int], most: int) -> None:
    rows = split(sizes, most)
    assert [n for row in rows for n in row] == list(range(len(sizes)))
    for row in rows:
        assert len(row) == 1 or sum(sizes[n] for n in row) <= most


@given(st.lists(st.lists(st.integers(0, 2), max_size=6).map(tuple), min_size=1, max_size=6), st.integers(0, 6))
def test_shared_is_the_longest_common_beginning(prompts: list[tuple[int, ...]], most: int) -> None:
    length = shared(prompts, most)
    assert length <= most and len({prompt[:length] for prompt in prompts}) == 1
    assert all(len(prompt) >= length for prompt in prompts)
    longer = {prompt[: length + 1] for prompt in prompts}
    assert length == most or len(longer) > 1 or len(next(iter(longer))) == length
