"""Packed trees: one row gives exactly what separate forwards give."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vistune.evaluate import engine
from vistune.evaluate.packing import PAD, Ask, batches, lay_out, split, visible

tokens = st.lists(st.integers(5, 250), min_size=1, max_size=4).map(tuple)
asks = st.lists(st.builds(Ask, tokens, st.lists(tokens, min_size=1, max_size=3).map(tuple)), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(prefix=st.lists(st.integers(5, 250), min_size=1, max_size=5), asks=asks)
def test_every_answer_sees_its_own_line_and_nothing_else(prefix: list[int], asks: list[Ask]) -> None:
    row = lay_out(prefix, asks)
    assert len(row.ids) == len(prefix) + sum(a.tokens for a in asks)
    mask = visible(torch.tensor([row.question]), torch.tensor([row.answer]))[0, 0]
    ids, places = torch.tensor(row.ids), torch.tensor(row.places)
    reads = iter(row.reads)
    for ask in asks:
        for answer in ask.answers:
            line = [*prefix, *ask.question, *answer]
            for n, target in enumerate(answer):
                token, wanted = next(reads)
                assert wanted == target
                seen = mask[token].nonzero().flatten()
                # What the predicting token sees, in order, is the text so far, at positions 0, 1, 2, ...
                assert ids[seen].tolist() == line[: len(prefix) + len(ask.question) + n]
                assert places[seen].tolist() == list(range(len(seen)))
    assert next(reads, None) is None
    assert row.lengths == [len(a) for ask in asks for a in ask.answers]


def test_padding_sees_the_prefix_and_is_not_seen() -> None:
    question, answer = torch.tensor([[0, 1, PAD, PAD]]), torch.tensor([[0, 0, PAD, PAD]])
    mask = visible(question, answer)[0, 0]
    assert mask[:2].tolist() == [[True, False, False, False], [True, True, False, False]]
    assert mask[2:, 0].all()


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 100))
def test_batches_hold_each_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    groups = batches(lengths, budget)
    assert sorted(n for group in groups for n in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[n] for n in group) <= budget


@given(st.integers(0, 20), st.lists(st.integers(1, 40), max_size=30), st.integers(1, 100))
def test_split_keeps_order_and_budget(prefix: int, sizes: list[int], most: int) -> None:
    rows = split(prefix, sizes, most)
    assert [n for row in rows for n in row] == list(range(len(sizes)))
    for row in rows:
        assert len(row) == 1 or prefix + sum(sizes[n] for n in row) <= most


def alone(model: Any, prefix: list[int], question: list[int], answer: list[int], features: Any) -> tuple[float, bool]:
    """Log-probability of one answer by a plain causal forward without packing, mask or padding."""
    ids = torch.tensor([[*prefix, *question, *answer]])
    with torch.inference_mode():
        logits = model(input_ids=ids, image_features=features).logits[0]
    start = len(prefix) + len(question) - 1
    logprobs = logits.log_softmax(-1)[start:-1]
    wanted = torch.tensor(answer)
    return float(logprobs.gather(1, wanted[:, None]).sum()), bool((logprobs.argmax(-1) == wanted).all())


@pytest.mark.parametrize("images", [0, 1])
def test_packed_scores_equal_separate_forwards(tiny_model: Any, images: int) -> None:
    chat = tiny_model.chat
    generator = torch.Generator().manual_seed(0)
    prefix = chat.prefix(images=images)
    features = torch.randn(3, 4, 32, generator=generator) if images else None
    texts = [
        [("Is there a cat?", ["yes", "no"]), ("What is it?", ["a cat", "a red fire engine", "x"])],
        [("How many?", ["1", "2", "3"])],
        [("Which one is it, a cat or a dog?", ["cat", "dog"]), ("", ["yes"]), ("Colour?", [""])],
    ]
    trees = [
        [Ask(tuple(chat.question(q)), tuple(tuple(chat.answer(a)) for a in given)) for q, given in t] for t in texts
    ]
    packed = engine.score(tiny_model, [lay_out(prefix, tree) for tree in trees], features)
    expected = [
        (
            *alone(tiny_model, prefix, chat.question(q), chat.answer(a), features[n : n + 1] if images else None),
            len(chat.answer(a)),
        )
        for n, tree in enumerate(texts)
        for q, given in tree
        for a in given
    ]
    for (total, greedy, length), (wanted, wanted_greedy, wanted_length) in zip(packed, expected, strict=True):
        assert total == pytest.approx(wanted, abs=1e-4)
        assert (greedy, length) == (wanted_greedy, wanted_length)


def test_the_head_is_exact_when_the_model_is_not(tiny_model: Any, tmp_path: Any) -> None:
    tiny_model.save(tmp_path)
    rounded = engine.load(tmp_path, "bfloat16")
    assert rounded.get_input_embeddings().weight.dtype == torch.bfloat16
    out = rounded(input_ids=torch.tensor([rounded.chat.prefix(0)])).logits
    assert out.dtype == torch.float32
    # Logits that went through bfloat16 would all be representable in it.
    assert (out != out.bfloat16().float()).float().mean() > 0.5
