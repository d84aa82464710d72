"""Packed samples are as if alone: equal losses and gradients, for every family, with shared pictures computed once."""

import pytest
import torch
from PIL import Image

from vistune.models.labels import IGNORE
from vistune.models.vlm import build
from vistune.records import Message
from vistune.tune.attention import Segment, branches, packed_attention
from vistune.tune.loss import answer_losses, total_weight, weights
from vistune.tune.packed import packed, shared

PICTURES = [Image.radial_gradient("L").resize((70, 50)).convert("RGB"), Image.linear_gradient("L").convert("RGB")]


def ask(question, answer, *images):
    return [Message("user", question, images), Message("assistant", answer)]


def visits(reader):
    """Three questions about one picture, one without, one about two."""
    one = [PICTURES[0].size]
    asked = (("What is it?", "A dog"), ("What colour?", "red"), ("Hm", "no"))
    found = [
        [reader.read(ask(q, a, 0), one) for q, a in asked],
        [reader.read(ask("Hello", "Hi"), [])],
        [reader.read(ask("Compare", "same", 0, 1), [picture.size for picture in PICTURES])],
    ]
    shown = [PICTURES[:1], [], PICTURES]
    return found, [reader.look(readings[0], images) for readings, images in zip(found, shown, strict=True)]


def test_what_samples_share_is_computed_once():
    vlm = build("llava")
    found, pictures = visits(vlm.reader)
    common = shared(found[0])
    assert common >= found[0][0].spans[-1][1] > 0
    row = packed(vlm.reader, found, pictures)
    assert row.tokens == sum(r.length for each in found for r in each) - 2 * common
    assert len(row.inputs["pixel_values"]) == 3, "the picture of three questions once, and two more"
    assert row.owners.unique().tolist() == [0, 1, 2, 3, 4]
    assert shared(found[0][:1]) == 0 and shared(found[1] * 2) == 0


def test_a_beginning_that_is_learned_is_not_shared():
    """Qwen-VL's authors train on every <|im_start|>: shared, it would count once for all samples."""
    found, _ = visits(build("qwen_vl").reader)
    assert any(label != IGNORE for label in found[0][0].labels[: found[0][0].spans[-1][0]])
    assert shared(found[0]) == 0


def test_attention_sees_itself_and_the_beginning_it_shares():
    torch.manual_seed(0)
    q, k, v = torch.randn(1, 4, 9, 8), torch.randn(1, 2, 9, 8), torch.randn(1, 2, 9, 8)
    segments = [Segment(0, 6, branches(2, [1, 3])), Segment(6, 9)]
    got, _ = packed_attention(torch.nn.Module(), q, k, v, None, segments=segments)
    rows = ["100000000", "110000000", "111000000", "110100000", "110110000", "110111000"]
    rows += ["000000100", "000000110", "000000111"]
    sees = torch.tensor([[c == "1" for c in row] for row in rows])
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=sees, enable_gqa=True)
    assert torch.allclose(got, expected.transpose(1, 2), atol=1e-6)


@pytest.mark.parametrize("rows", [1, 3, 1000])
@pytest.mark.parametrize("head_learns", [True, False])
@pytest.mark.parametrize("bias", [True, False])  # a head with one goes the general way
def test_logits_in_pieces_give_the_same_loss_and_gradients(rows, head_learns, bias):
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 50, bias=bias).requires_grad_(head_learns)
    states, targets = torch.randn(10, 8, requires_grad=True), torch.randint(0, 50, (10,))
    factors = torch.rand(10)
    of = [states, head.weight] if head_learns else [states]
    expected = torch.nn.functional.cross_entropy(head(states), targets, reduction="none")
    wanted = torch.autograd.grad((expected * factors).sum(), of)
    got = answer_losses(states, targets, head, budget=4 * 50 * rows)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)
    for a, b in zip(torch.autograd.grad((got * factors).sum(), of), wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(answer_losses(states, targets, head, budget=200 * rows), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_logits_of_a_16_bit_head(scale):
    """Losses in float32 of logits in 16 bits, also where one logit is far above the others."""
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 50, bias=False, dtype=torch.bfloat16)
    states = (scale * torch.randn(10, 8)).bfloat16().requires_grad_()
    targets = torch.randint(0, 50, (10,))
    expected = torch.nn.functional.cross_entropy(head(states).float(), targets, reduction="none")
    got = answer_losses(states, targets, head, budget=600)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    of = [states, head.weight]
    wanted = torch.autograd.grad(expected.sum(), of)
    for a, b in zip(torch.autograd.grad(got.sum(), of), wanted, strict=True):
        torch.testing.assert_close(a, b, atol=2e-2, rtol=2e-2)


def test_only_a_plain_head_is_taken_apart():
    """One with hooks (DeepSpeed ZeRO-3 gathers its weight in them) is called, so that they run."""
    head, called = torch.nn.Linear(8, 50, bias=False), []
    head.register_forward_pre_hook(lambda *_: called.append(1))
    answer_losses(torch.randn(4, 8), torch.zeros(4, dtype=torch.long), head)
    assert called


@pytest.mark.parametrize("weighting", ["token", "sample", "square"])
def test_weights_add_up_to_what_the_plan_says(weighting):
    answers = [4, 1, 9]
    owners = torch.tensor([n for n, count in enumerate(answers) for _ in range(count)])
    assert float(weights(owners, weighting).sum()) == pytest.approx(total_weight(answers, weighting))
