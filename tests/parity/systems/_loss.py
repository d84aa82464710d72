"""The check of loss reductions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from harness import Case, Fixture, close
from torch import Tensor

from vistune.models.labels import IGNORE
from vistune.models.losses import POWERS, Weighting, reduced, token_losses, token_weights


def losses(fixture: Fixture) -> Iterator[Case]:
    kinds = {"micro_batches": micro_batches, "internvl_packed": packed, "internvl_packed_two_ranks": two_ranks}
    for name, case in fixture.cases.items():
        for key, (got, expected) in kinds[case["kind"]](fixture, name, case).items():
            yield close(f"{fixture.name} {name} {key}", got, torch.as_tensor(expected), fixture.tolerance)


def micro_batches(fixture: Fixture, name: str, case: dict[str, Any]) -> dict[str, tuple[Tensor, Any]]:
    given = fixture.under(f"in.{name}")
    names = sorted({key.split(".")[0] for key in given})
    batches = [(given[f"{n}.logits"], given[f"{n}.labels"]) for n in names]
    terms = [(token_losses(*batch), token_weights(batch[1])) for batch in batches]
    means = torch.stack([reduced(*term) for term in terms])
    counts = torch.stack([weights.sum() for _, weights in terms])
    whole = torch.stack([reduced(*term, total=counts.sum()) for term in terms]).sum()
    return {
        "mean of each micro-batch": (means, case["per_micro_batch_token_mean"]),
        "mean of means": (means.mean(), case["step_loss_mean_of_means"]),
        "tokens": (counts, [float(n) for n in case["n_target_tokens_shifted"]]),
        "mean over tokens": (whole, case["global_token_mean"]),
        "transformers 5": (whole, case["transformers5_num_items_in_batch_sum"]),
    }


def terms(fixture: Fixture, name: str, weighting: Weighting) -> tuple[Tensor, Tensor]:
    given = fixture.under(f"in.{name}")
    weights = token_weights(given["labels"], given["data_index"], weighting, parity=True)
    return token_losses(given["logits"], given["labels"]), weights


def packed(fixture: Fixture, name: str, case: dict[str, Any]) -> dict[str, tuple[Tensor, Any]]:
    found: dict[str, tuple[Tensor, Any]] = {}
    labels, segments = fixture.tensors[f"in.{name}.labels"], fixture.tensors[f"in.{name}.data_index"]
    for weighting in POWERS:
        found[weighting] = (reduced(*terms(fixture, name, weighting)), case["loss"][weighting])
        expected = fixture.tensors[f"out.{name}.{weighting}.loss_weight"].clone()
        expected[:, 0] = 0  # lost when the authors shift
        found[f"{weighting} weights"] = (terms(fixture, name, weighting)[1], expected)
    found["plain"] = (reduced(*terms(fixture, name, "token")), case["loss"]["plain_mean_of_original_forward"])
    changes = (segments[0, 1:] != segments[0, :-1]).nonzero()[:, 0] + 1
    bounds = [0, *changes.tolist(), segments.shape[1]]
    found["cu_seqlens"] = (torch.tensor(bounds), case["loss"]["cu_seqlens"])
    places = torch.cat([torch.arange(b - a) for a, b in pairwise(bounds)])[None]
    found["positions"] = (places, fixture.tensors[f"out.{name}.position_ids"])
    counts = [int((labels[0, a:b] != IGNORE).sum()) for a, b in pairwise(bounds)]
    found["learned tokens"] = (torch.tensor(counts), case["n_effective_tokens"])
    return found


def two_ranks(fixture: Fixture, name: str, case: dict[str, Any]) -> dict[str, tuple[Tensor, Any]]:
    """Each rank divides by the mean of the ranks' weights, so that their mean is the mean over all."""
    found: dict[str, tuple[Tensor, Any]] = {}
    for weighting in POWERS:
        ranks = [terms(fixture, rank, weighting) for rank in case["ranks"]]
        total = torch.stack([weights.sum() for _, weights in ranks]).mean()
        got = torch.stack([reduced(*rank, total=total) for rank in ranks])
        found[weighting] = (got, case["per_rank_loss"][weighting])
    return found
