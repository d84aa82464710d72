"""What every family promises, held over the table of families at their `tiny` presets."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vistune.errors import VistuneError
from vistune.models import FAMILIES
from vistune.models.families.base import Composed
from vistune.models.flops import Shape, flops
from vistune.models.vlm import Vlm, build, load
from vistune.records import Message

NAMES = [n for n, module in FAMILIES.items() if importlib.util.find_spec(module)]
LOADS = ("llava", "cogagent", "moai", "auto")
"""Families whose adapters are read again: of transformers' own class, composed with roles of its own, with adapters of
its own, and any other model; nothing in reading them depends on the family."""

SIZES = ((1, 1), (3000, 7), (7, 3000), (800, 600), (33, 47), (336, 336), (1000, 999))


def picture(width: int, height: int) -> Image.Image:
    return Image.radial_gradient("L").resize((width, height)).convert("RGB")


SHOWN = [picture(80, 60), picture(30, 90)]
TALKS = [
    [Message("user", "What is it?", (0,)), Message("assistant", "A dog.")],
    [Message("user", "Hello"), Message("assistant", "Hi there")],
    [Message("user", "Compare", (0, 1)), Message("assistant", "same")],
]
IMAGES: list[list[Image.Image]] = [SHOWN[:1], [], SHOWN]
QUESTIONS = [talk[:-1] for talk in TALKS]


@pytest.fixture(scope="module", params=NAMES)
def vlm(request: pytest.FixtureRequest) -> Iterator[Vlm]:
    """Not to be changed by a test."""
    yield build(request.param)


def fresh(vlm: Vlm) -> Vlm:
    """A copy to be changed."""
    return Vlm(deepcopy(vlm.model), vlm.reader)


def answers(vlm: Vlm, batch: dict[str, Any]) -> list[torch.Tensor]:
    """Logits of each row's real tokens."""
    with torch.no_grad():
        logits = vlm.model(**batch).logits
    return [row[mask.bool()] for row, mask in zip(logits, batch["attention_mask"], strict=True)]


def test_no_family_is_missing() -> None:
    assert list(FAMILIES) == NAMES, f"no module yet for {sorted(set(FAMILIES) - set(NAMES))}"


def test_roles_partition_the_parameters(vlm: Vlm) -> None:
    owned = [name for names in vlm.roles().values() for name in names]
    assert sorted(owned) == sorted(name for name, _ in vlm.model.named_parameters())
    assert {"vision", "connector", "language", "head"} <= {role for role, names in vlm.roles().items() if names}
    for stage in vlm.preset.stages:
        assert {*stage.rates, *stage.lora} <= set(vlm.family.roles)


def test_length_needs_no_pixels(vlm: Vlm) -> None:
    lengths = {}
    for width, height in SIZES:
        try:
            lengths[width, height] = vlm.reader.length(TALKS[0], [(width, height)])
        except VistuneError as error:
            assert f"{width}x{height}" in str(error) or "tokens, the limit is" in str(error), "it says its numbers"
    seen = set()
    for size, length in lengths.items():
        if (shape := Shape.of(vlm.reader.plan(*size))) in seen:
            assert length in {lengths[other] for other in lengths if other != size}
            continue
        seen.add(shape)
        batch = vlm.inputs(TALKS[:1], [[picture(*size)]])
        assert batch["input_ids"].shape == (1, length)
        assert len(answers(vlm, batch)[0]) == length, "the model takes as many visual tokens as there are placeholders"
    assert len(lengths) >= 3


def test_batches_and_padding_change_nothing(vlm: Vlm) -> None:
    alone = [answers(vlm, vlm.inputs([talk], [shown]))[0] for talk, shown in zip(TALKS, IMAGES, strict=True)]
    for side in ("right", "left"):
        together = answers(vlm, vlm.inputs(TALKS, IMAGES, side=side))
        for one, other in zip(alone, together, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_generation_does_not_depend_on_the_batch(vlm: Vlm) -> None:
    together = vlm.generate(QUESTIONS, IMAGES, 4)
    assert together == [vlm.generate([q], [shown], 4)[0] for q, shown in zip(QUESTIONS, IMAGES, strict=True)]


def test_saved_models_are_equal_bit_for_bit(vlm: Vlm, tmp_path: Path) -> None:
    vlm.save(tmp_path)
    again = load(tmp_path)
    state, read = vlm.model.state_dict(), again.model.state_dict()
    assert state.keys() == read.keys()
    assert all(torch.equal(tensor, read[key]) for key, tensor in state.items())
    assert list(tmp_path.glob("*.safetensors"))
    batch = vlm.inputs(TALKS, IMAGES)
    assert all(map(torch.equal, answers(vlm, batch), answers(again, again.inputs(TALKS, IMAGES))))
    if not isinstance(vlm.family, Composed):
        from transformers import AutoModelForImageTextToText

        theirs = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
        assert type(theirs).__module__.startswith("transformers.")
        assert all(map(torch.equal, answers(vlm, batch), answers(Vlm(theirs, vlm.reader), batch)))


def test_checkpointing_gives_the_same_gradients(vlm: Vlm) -> None:
    batch = vlm.inputs(TALKS, IMAGES)
    model = fresh(vlm).model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable()
        model.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        model(**batch).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-6, msg=name)


def test_lora_on_any_role(vlm: Vlm, tmp_path: Path) -> None:
    from vistune.models import lora

    batch = vlm.inputs(TALKS, IMAGES)
    before = answers(vlm, batch)
    able = [role for role in vlm.family.roles if lora.linear_layers(vlm, role)]
    for role in set(vlm.family.roles) - set(able):
        with pytest.raises(VistuneError, match="no linear layers"):
            lora.attach(vlm, {role: 2})
    amended = fresh(vlm)
    ranks = {role: 2 + n for n, role in enumerate(able)}
    names = lora.attach(amended, ranks)
    assert all(map(torch.equal, before, answers(amended, batch))), "adapters start as no change"
    trainable = {n for n, p in amended.model.named_parameters() if p.requires_grad}
    for role in able:
        assert any(".lora_" in name for name in amended.roles()[role] if name in trainable)
    assert all(".lora_" in name for name in trainable if vlm.family.role(name) in able)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in amended.model.named_parameters():
        if ".lora_B." in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05
    changed = answers(amended, batch)
    lora.save_adapters(amended, tmp_path)
    if vlm.family.name in LOADS:
        other = fresh(vlm)
        assert sorted(lora.load_adapters(other, tmp_path)) == sorted(names)
        assert all(map(torch.equal, changed, answers(other, batch)))
    lora.merge(amended)
    assert list(amended.model.state_dict()) == list(vlm.model.state_dict())
    for one, two in zip(changed, answers(amended, batch), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-4)


def test_images_and_their_marks_must_match(vlm: Vlm) -> None:
    with pytest.raises(VistuneError, match=r"show 2 images, 1 are given \(sample s7\)"):
        vlm.reader.read(TALKS[2], [(80, 60)], sample="s7")
    with pytest.raises(VistuneError, match=r"show 1 images, 0 are given \(sample s8\)"):
        vlm.reader.length(TALKS[0], [], sample="s8")


def test_too_long_samples_are_refused(vlm: Vlm) -> None:
    long = [Message("user", "What is it?", (0,)), Message("assistant", "word " * vlm.preset.limit)]
    with pytest.raises(VistuneError, match=rf"\d+ tokens, the limit is {vlm.preset.limit} \(sample s9\)"):
        vlm.reader.read(long, [(80, 60)], sample="s9")


def test_flops_are_those_that_torch_counts(vlm: Vlm) -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    routed = isinstance(vlm.family, Composed) and vlm.family.types is not None
    for talk, shown in [
        (TALKS[2], IMAGES[2]),
        *([(TALKS[1], IMAGES[1])] if routed else []),
    ]:  # else text costs the same
        batch = vlm.inputs([talk], [shown])
        reading = vlm.reader.read(talk, [image.size for image in shown])
        # torch has no formula for the CPU's fused attention, but for the two products that it is
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            vlm.model(**batch)
        assert flops(vlm, [reading]) == pytest.approx(counter.get_total_flops(), rel=0.005)
