"""Reductions of the loss: what does not depend on how a step is split, and what each sample weighs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vistune.models.labels import IGNORE
from vistune.models.losses import POWERS, reduced, token_losses, token_weights


def rows(lengths: list[int], width: int = 8, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random logits, and labels of which each row's first `length` after the first are learned."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 5, (len(lengths), width), generator=draws)
    for row, length in zip(labels, lengths, strict=True):
        row[0], row[1 + length :] = IGNORE, IGNORE
    return torch.randn(len(lengths), width, 5, generator=draws), labels


def test_losses_lie_at_their_labels():
    logits, labels = rows([3, 0])
    expected = torch.nn.functional.cross_entropy(logits[0, 1], labels[0, 2])
    losses = token_losses(logits, labels)
    torch.testing.assert_close(losses[0, 2], expected)
    assert losses[1].abs().sum() == 0 and losses[:, 0].abs().sum() == 0


def test_a_mean_of_one_batch_is_that_of_transformers():
    logits, labels = rows([3, 6])
    expected = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    torch.testing.assert_close(reduced(token_losses(logits, labels), token_weights(labels)), expected)


@settings(max_examples=20)
@given(st.lists(st.integers(0, 7), min_size=2, max_size=6), st.integers(1, 5))
def test_a_mean_over_the_step_does_not_depend_on_its_micro_batches(lengths, size):
    logits, labels = rows(lengths)
    total = token_weights(labels).sum()
    whole = reduced(token_losses(logits, labels), token_weights(labels))
    parts = [
        reduced(token_losses(logits[n : n + size], labels[n : n + size]), token_weights(labels[n : n + size]), total)
        for n in range(0, len(lengths), size)
    ]
    torch.testing.assert_close(sum(parts), whole, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("weighting", POWERS)
def test_a_packed_row_weighs_as_its_samples_apart(weighting):
    logits, labels = rows([3, 6, 1])
    apart = token_weights(labels, weighting=weighting)
    packed = labels.reshape(1, -1)
    segments = torch.arange(3).repeat_interleave(8)[None]
    together = token_weights(packed, segments, weighting)
    torch.testing.assert_close(together, apart.reshape(1, -1))
    losses = token_losses(logits, labels)
    torch.testing.assert_close(
        reduced(token_losses(logits.reshape(1, -1, 5), packed), together), reduced(losses, apart), atol=1e-6, rtol=0
    )
    sums = apart.sum(1)
    sizes = torch.tensor([3.0, 6.0, 1.0])
    torch.testing.assert_close(sums, {"token": sizes, "sample": sizes**0, "square": sizes**0.5}[weighting])


def test_the_first_label_of_a_packed_sample_is_learned_only_by_oversight():
    labels, segments = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[0, 0, 1, 1]])
    assert token_weights(labels, segments).tolist() == [[0, 1, 0, 1]]
    assert token_weights(labels, segments, parity=True).tolist() == [[0, 1, 1, 1]]
    assert token_weights(labels, segments, "sample", parity=True).tolist() == [[0, 0.5, 0.5, 0.5]]


def test_a_batch_with_nothing_to_learn_has_no_loss_and_no_gradient():
    logits, labels = rows([0, 0])
    logits.requires_grad_(True)
    loss = reduced(token_losses(logits, labels), token_weights(labels))
    loss.backward()
    assert loss == 0 and logits.grad.abs().sum() == 0
