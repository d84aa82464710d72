"""Packing changes nothing: packed loss and gradient equal those of the samples alone."""

import dataclasses

import pytest
import torch

from vistune import store
from vistune.models.families import small
from vistune.tune import StageParams
from vistune.tune.batch import collate, losses, total_weight, weight
from vistune.tune.features import Features
from vistune.tune.rows import Packer, Row, select

STAGE = StageParams(
    name="s",
    objective="instruct",
    steps=1,
    learning_rates={"connector": 1e-3},
    mixture={"vqa": 2, "presence": 1, "caption": 1},
)


@pytest.fixture(scope="module")
def setting(release):
    model = small.tiny(seed=1).eval()
    by_image = select(store.read_samples(release), STAGE, 0)
    packer = Packer(by_image, model.chat, STAGE, seed=0)
    rows = [packer.row(image, 0) for image in list(by_image)[:4]]
    features = Features(model, release, [], None)
    return model, features, rows


def alone(rows):
    return [Row(row.image, row.prefix, (s,)) for row in rows for s in row.segments]


def loss_and_gradients(model, features, rows, batch, weighting="square"):
    model.zero_grad()
    total = total_weight(rows, weighting)
    value = 0.0
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        b = collate(part, model.chat.end_id, weighting)
        loss = (losses(model, b, features([r.image for r in part])) * b.weights).sum() / total
        loss.backward()
        value += float(loss.detach())
    return value, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("weighting", ["token", "sample", "square"])
def test_packed_equals_single(setting, weighting):
    model, features, rows = setting
    packed, packed_gradients = loss_and_gradients(model, features, rows, 4, weighting)
    single, single_gradients = loss_and_gradients(model, features, alone(rows), 1, weighting)
    assert packed == pytest.approx(single, abs=1e-6)
    assert packed_gradients.keys() == single_gradients.keys()
    worst = max(float((packed_gradients[n] - g).abs().max()) for n, g in single_gradients.items())
    assert worst < 1e-6


@pytest.mark.parametrize("batch", [1, 2])
def test_gradient_does_not_depend_on_the_split_into_micro_batches(setting, batch):
    model, features, rows = setting
    whole, a = loss_and_gradients(model, features, rows, 4)
    split, b = loss_and_gradients(model, features, rows, batch)
    assert whole == pytest.approx(split, abs=1e-6)
    assert max(float((a[n] - b[n]).abs().max()) for n in a) < 1e-6


def test_segments_cannot_see_each_other(setting):
    """Changing the first sample of a row must not move the logits of the second."""
    model, features, rows = setting
    row = rows[0]
    first, second = row.segments[:2]
    other = dataclasses.replace(first, ids=[i + 1 if 40 < i < 200 else i for i in first.ids])
    image = features([row.image])
    logits = []
    for lead in (first, other):
        b = collate([Row(row.image, row.prefix, (lead, second))], model.chat.end_id, "token")
        out = model(
            input_ids=b.input_ids, image_features=image, attention_mask=b.attention_mask, position_ids=b.position_ids
        )
        logits.append(out.logits[0, -len(second.ids) :])
    assert torch.equal(*logits)


def test_padding_and_masks(setting):
    _, _, rows = setting
    b = collate(rows, 0, "token")
    assert b.attention_mask.diagonal(dim1=-2, dim2=-1).all(), "an empty softmax row gives NaN"
    assert not b.attention_mask.triu(1).any()
    assert b.tokens == sum(r.length for r in rows)
    assert int(b.predicts.sum()) == len(b.targets) == len(b.tasks)


def test_weights_sum_as_promised(setting):
    _, _, rows = setting
    for weighting in ("token", "sample", "square"):
        b = collate(rows, 0, weighting)
        assert float(b.weights.sum()) == pytest.approx(total_weight(rows, weighting), rel=1e-6)
    assert total_weight(rows, "sample") == pytest.approx(sum(len(r.segments) for r in rows))
    assert weight(9, "square") == pytest.approx(1 / 3)
