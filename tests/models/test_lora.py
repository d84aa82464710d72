"""What LoRA costs, and that its start depends on nothing but the seed. That it fits any family: test_families.py."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vistune.models import lora
from vistune.models.flops import Meter
from vistune.models.vlm import build
from vistune.records import Message
from vistune.tune import StageParams
from vistune.tune.engine import groups
from vistune.tune.operations import Operations

TALK = [Message("user", "Say it again and again"), Message("assistant", "It, again and again")]


@pytest.mark.parametrize("ranks", [{"language": 4}, {"language": 4, "head": 3}])
def test_operations_are_those_that_torch_counts(ranks):
    """Of a step that trains updates alone; all logits at once, as the counted model makes them."""
    vlm = build("small")
    reading = vlm.reader.read(TALK, [])
    batch = vlm.inputs([TALK], [[]])
    del batch["labels"]
    expected = Meter(vlm, ranks, ranks=ranks)(reading)
    assert expected < 0.95 * Meter(vlm, ranks)(reading), "weights that rest need no gradient"
    stage = StageParams("s", "instruct", dict.fromkeys(ranks, 1e-3), lora=ranks)
    operations = Operations(vlm, stage)
    lora.attach(vlm, ranks)
    groups(vlm, stage)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        vlm.model(**batch).logits.sum().backward()
    assert expected == pytest.approx(counter.get_total_flops(), rel=0.005)
    rows, columns = vlm.model.get_output_embeddings().weight.shape
    rank = ranks.get("head", 0)
    head = 2 * rows * columns * 2 + 2 * rank * 3 * (rows + columns)
    assert operations.logits == head
    assert operations(reading) + head * reading.length == pytest.approx(expected)


def test_first_matrices_depend_on_the_seed_alone():
    """Not on what was drawn before: a stage that starts again draws the same."""
    found = []
    for seed, drawn in ((1, 0), (1, 5), (2, 0)):
        vlm = build("small")
        torch.rand(drawn)
        name = lora.attach(vlm, {"language": 2}, seed=seed)[0]
        found.append(vlm.model.get_submodule(name).lora_A[lora.ADAPTER].weight)
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_sizes_are_the_same_with_adapters():
    vlm = build("small")
    before = lora.sizes(vlm, "language")
    lora.attach(vlm, {"language": 2})
    assert lora.sizes(vlm, "language") == before
    layers = vlm.model.get_submodule("language_model.model.layers")
    assert sum(rows * columns for rows, columns in before) == sum(
        p.numel() for n, p in layers.named_parameters() if ".lora_" not in n and p.dim() == 2
    )
