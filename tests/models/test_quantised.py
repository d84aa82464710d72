"""Weights in 4 bits: exactly NF4 with double quantisation, and LoRA beside them as beside any other weights."""

import sys
from copy import deepcopy
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from vistune.errors import VistuneError
from vistune.models import FAMILIES, lora
from vistune.models.vlm import Vlm, build, load
from vistune.records import Message

bitsandbytes = pytest.importorskip(
    "bitsandbytes", reason="QLoRA is NOT TESTED: bitsandbytes is not installed (pip install 'vistune[qlora]')"
)
from vistune.models.quantised import BLOCK, Nf4Linear  # noqa: E402

NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""arXiv:2305.14314, appendix E."""
GAP = max(b - a for a, b in pairwise(NF4))
STEP = 0.0095
"""Half the widest step of the 8 bits that constants are kept in, over the largest of 256 of them."""

TALKS = [
    [Message("user", "What is it?", (0,)), Message("assistant", "A dog.")],
    [Message("user", "Hello"), Message("assistant", "Hi there")],
]
IMAGES = [[Image.radial_gradient("L").resize((80, 60)).convert("RGB")], []]


def linear(rows: int, columns: int, dtype=torch.float32, seed=0) -> nn.Linear:
    layer = nn.Linear(columns, rows, dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    layer.weight.data = torch.randn(rows, columns, generator=generator).to(dtype)
    return layer


def codes(layer: Nf4Linear) -> torch.Tensor:
    """int64, one a weight; the first of two in a byte is in its high bits."""
    packed = layer.weight.data.flatten()
    both = torch.stack([packed >> 4, packed & 15], 1).flatten().long()
    return both[: layer.out_features * layer.in_features]


def constants(layer: Nf4Linear) -> torch.Tensor:
    """float32, one a block, as its 8 bits say."""
    state = layer.weight.quant_state
    own = state.state2.code[state.absmax.long()]
    return own * state.state2.absmax.repeat_interleave(256)[: len(own)] + state.offset


def perturb(vlm: Vlm) -> None:
    """Updates that change what the model says."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in vlm.model.named_parameters():
        if ".lora_B." in name:
            parameter.data = (torch.randn(parameter.shape, generator=generator) * 0.05).to(parameter.dtype)


def logits(vlm: Vlm) -> torch.Tensor:
    with torch.no_grad():
        return vlm.model(**vlm.inputs(TALKS, IMAGES)).logits


def test_the_values_are_those_of_the_paper():
    """Equation 4: the mean of neighbouring quantiles of the normal distribution, eight below and nine above zero."""
    layer = linear(1, BLOCK)
    layer.weight.data = torch.tensor([NF4 * 4])
    assert codes(Nf4Linear(layer, "cpu")).tolist() == [*range(16)] * 4
    normal, edge = torch.distributions.Normal(0.0, 1.0), (1 - 1 / 32 + 1 - 1 / 30) / 2
    above = normal.icdf(torch.linspace(edge, 0.5, 9, dtype=torch.float64)[:-1])
    below = normal.icdf(torch.linspace(edge, 0.5, 8, dtype=torch.float64)[:-1])
    derived = torch.cat([-below, torch.zeros(1), above]).sort().values / above.max()
    torch.testing.assert_close(derived.float(), torch.tensor(NF4), rtol=0, atol=2e-4)


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 40), st.integers(1, 150), st.sampled_from([torch.float32, torch.bfloat16]), st.integers(0, 9))
def test_each_weight_becomes_the_nearest_value_of_its_block(rows, columns, dtype, seed):
    layer = linear(rows, columns, dtype, seed)
    weights, made = layer.weight.data.float().flatten(), Nf4Linear(layer, "cpu")
    blocks = nn.functional.pad(weights, (0, -len(weights) % BLOCK)).view(-1, BLOCK)
    largest = blocks.abs().amax(1)
    wanted = (blocks / largest[:, None])[..., None].sub(torch.tensor(NF4)).abs()
    near = wanted.flatten(0, 1)[: len(weights)]
    chosen = near.gather(1, codes(made)[:, None])[:, 0]
    assert (chosen - near.amin(1)).max() < 1e-6
    own = constants(made)
    assert (own - largest).abs().max() <= STEP * (largest - largest.mean()).abs().max() + 1e-6
    plain = made.plain().weight
    assert plain.dtype == dtype and plain.shape == layer.weight.shape
    value = torch.tensor(NF4)[codes(made)] * own.repeat_interleave(BLOCK)[: len(weights)]
    torch.testing.assert_close(plain.flatten(), value.to(dtype), rtol=1e-6 if dtype == torch.float32 else 8e-3, atol=0)
    bound = (GAP / 2 * largest + (own - largest).abs()).repeat_interleave(BLOCK)[: len(weights)]
    assert ((value - weights).abs() <= bound + 1e-6).all()


def test_a_weight_takes_4_127_bits_and_errs_by_a_tenth_of_the_spread():
    made = Nf4Linear(layer := linear(256, 256), "cpu")
    state = made.weight.quant_state
    held = 8 * (made.weight.nbytes + state.absmax.nbytes + state.state2.absmax.nbytes)
    assert held / layer.weight.numel() == lora.BITS["nf4"] == pytest.approx(4.127, abs=1e-4)
    error = float((made.plain().weight - layer.weight).detach().pow(2).mean().sqrt())
    assert error == pytest.approx(0.092, abs=0.002), "of normal weights, relative to their standard deviation"


def test_it_trains_as_lora_over_what_the_4_bits_stand_for():
    """Eight steps in float32: losses, gradients and updates; nothing else moves or has a state in the optimiser."""
    four = build("llava")
    plain = Vlm(deepcopy(four.model), four.reader)
    ranks = {"language": 4, "vision": 2}
    names = lora.attach(four, ranks, quantised={"language": "nf4", "vision": "nf4"}, seed=3)
    for name in names:
        base = four.model.get_submodule(name).get_base_layer()
        assert isinstance(base, Nf4Linear)
        plain.model.set_submodule(name, base.plain())
    lora.attach(plain, ranks, seed=3)
    resting = {n: p.clone() for n, p in four.model.named_parameters() if lora.at_rest(p)}
    assert len(resting) == len(names)
    runs = []
    for vlm in (four, plain):
        learned = {n: p for n, p in vlm.model.named_parameters() if p.requires_grad and lora_of(vlm, n)}
        optimiser = torch.optim.AdamW(learned.values(), lr=5e-2)
        batch, losses = vlm.inputs(TALKS, IMAGES), []
        vlm.model.train()
        for _ in range(8):
            optimiser.zero_grad()
            loss = vlm.model(**batch).loss
            loss.backward()
            losses.append(float(loss.detach()))
            if len(losses) == 2:  # the first step's updates are nothing yet, and so are the gradients of A
                gradients = {n: p.grad.clone() for n, p in learned.items() if p.grad is not None}
            optimiser.step()
        runs.append((losses, gradients))
    (losses, gradients), (wanted, expected) = runs
    assert losses == pytest.approx(wanted, abs=1e-6)
    assert losses[-1] < 0.97 * losses[0]
    assert gradients.keys() == expected.keys()
    assert {part for n in gradients for part in ("lora_A", "lora_B") if part in n} == {"lora_A", "lora_B"}
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)
    after = dict(four.model.named_parameters())
    assert all(torch.equal(after[n], p) for n, p in resting.items())


def lora_of(vlm: Vlm, name: str) -> bool:
    return ".lora_" in name and vlm.family.role(name) in ("language", "vision")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_merged_model_is_plain_and_answers_as_it_did(tmp_path, dtype):
    vlm = build("small")
    before = {n: p.dtype for n, p in vlm.model.to(dtype).state_dict().items()}
    names = lora.attach(vlm, {"language": 4}, quantised={"language": "nf4"})
    perturb(vlm)
    types = {p.dtype for n, p in vlm.model.named_parameters() if ".lora_" in n}
    assert types == {dtype}, "updates train in the weights' own type"
    amended, said = logits(vlm), vlm.generate([TALKS[0][:1]], IMAGES[:1], 8)
    key = f"{names[0]}.weight"
    layer = vlm.model.get_submodule(names[0])
    wanted = layer.get_base_layer().plain().weight + layer.get_delta_weight(lora.ADAPTER)
    lora.merge(vlm)
    assert torch.equal(vlm.model.state_dict()[key], wanted)
    vlm.save(tmp_path)
    read = load(tmp_path, dtype)
    assert {n: p.dtype for n, p in read.model.state_dict().items()} == before
    torch.testing.assert_close(logits(read), amended, rtol=0, atol=1e-5 if dtype == torch.float32 else 0.05)
    if dtype == torch.float32:
        assert read.generate([TALKS[0][:1]], IMAGES[:1], 8) == said


def test_saved_adapters_fit_a_model_that_rests_again(tmp_path):
    one, other = build("small"), build("small")
    for vlm in (one, other):
        lora.attach(vlm, {"language": 4}, quantised={"language": "nf4"})
    perturb(one)
    lora.save_adapters(one, tmp_path)
    state = {k: v for k, v in one.model.state_dict().items() if ".lora_" in k}
    other.model.load_state_dict(state, strict=False)
    assert torch.equal(logits(other), logits(one))
    plain = build("small")
    lora.load_adapters(plain, tmp_path)
    assert (logits(plain) - logits(one)).abs().max() < 0.2, "beside weights that do not rest they are nearly the same"


OFTEN = ("qwen2_vl", "cogagent", "auto")
"""Positions of three axes, experts, any other model."""


@pytest.mark.parametrize("name", [n if n in OFTEN else pytest.param(n, marks=pytest.mark.slow) for n in FAMILIES])
def test_any_family_rests_and_comes_back(name):
    vlm = build(name)
    types = {n: p.dtype for n, p in vlm.model.named_parameters()}
    keys, before = list(vlm.model.state_dict()), logits(vlm)
    able = [role for role in lora.QUANTISABLE if lora.linear_layers(vlm, role)]
    assert "language" in able
    names = set(lora.attach(vlm, dict.fromkeys(able, 2), quantised=dict.fromkeys(able, "nf4")))
    for key, parameter in vlm.model.named_parameters():
        if ".lora_" not in key:
            plain = key.replace(".base_layer", "")
            resting = plain.removesuffix(".weight") in names and plain.endswith(".weight")
            assert parameter.dtype == (torch.uint8 if resting else types[plain]), key
    assert (logits(vlm) - before).abs().max() < 0.25 * before.abs().max(), "4 bits change what is said a little"
    perturb(vlm)
    amended = logits(vlm)
    vlm.model.train().zero_grad()
    vlm.model(**vlm.inputs(TALKS, IMAGES)).loss.backward()
    learned = [p for n, p in vlm.model.named_parameters() if ".lora_" in n and p.grad is not None]
    assert learned and all(p.grad.isfinite().all() for p in learned)
    lora.merge(vlm)
    vlm.model.eval()
    assert list(vlm.model.state_dict()) == keys
    torch.testing.assert_close(logits(vlm), amended, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("ranks", "quantised", "error"),
    [
        ({"language": 2, "head": 2}, {"head": "nf4"}, "language and vision can rest, in nf4"),
        ({"connector": 2}, {"connector": "nf4"}, "quantised says connector: nf4"),
        ({"language": 2}, {"language": "int3"}, "quantised says language: int3"),
        ({"language": 2}, {"vision": "nf4"}, "vision is quantised without LoRA"),
    ],
)
def test_what_cannot_rest_is_refused(ranks, quantised, error):
    vlm = build("llava")
    with pytest.raises(VistuneError, match=error):
        lora.attach(vlm, ranks, quantised=quantised)
    assert not any(map(lora.at_rest, vlm.model.parameters()))


def test_without_bitsandbytes_it_is_said_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "vistune.models.quantised")
    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", None)
    vlm = build("small")
    with pytest.raises(VistuneError, match=r"4 bits need bitsandbytes .*pip install 'vistune\[qlora\]'"):
        lora.attach(vlm, {"language": 2}, quantised={"language": "nf4"})
