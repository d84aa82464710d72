"""Out of memory: which part is the largest, and what to change."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vistune.errors import VistuneError
from vistune.stages import Context
from vistune.tune import Params, StageParams, run
from vistune.tune.engine import TorchEngine
from vistune.tune.shortage import REMEDIES, told

STAGE = StageParams(name="s", objective="instruct", steps=2, learning_rates={"language": 1e-3}, batch=2)
CPU = "[enforce fail at alloc_cpu.cpp:127] data. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 B"


def train(release, folder, stage=STAGE):
    (folder / "out").mkdir(parents=True, exist_ok=True)
    params = Params(preset="tiny", dtype="float32", threads=1, stages=(stage,))
    run(params, {"validate": release}, folder / "out", Context(7, folder / "home", Path(__file__).parents[2]))


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), MemoryError(), RuntimeError(CPU)]
)
def test_a_step_without_memory_says_what_to_change(release, tmp_path, monkeypatch, error):
    def refuse(*_):
        raise error

    monkeypatch.setattr(TorchEngine, "backward", refuse)
    with pytest.raises(VistuneError, match="stage s ran out of memory") as raised:
        train(release, tmp_path)
    text = str(raised.value)
    assert raised.value.__cause__ is error
    assert "logits are the largest part" in text  # of a model of a few thousand parameters
    assert f"To shrink them {REMEDIES['logits']}; now max_tokens is 320" in text


def test_other_errors_stay_as_they_are(release, tmp_path, monkeypatch):
    def refuse(*_):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(TorchEngine, "backward", refuse)
    with pytest.raises(RuntimeError, match=r"^shapes differ$"):
        train(release, tmp_path)


@pytest.mark.parametrize("part", REMEDIES)
def test_each_part_has_its_remedy(part):
    parts = {**dict.fromkeys(REMEDIES, 1.0 * 2**30), part: 3.0 * 2**30}
    text = told(parts, replace(STAGE, max_patches=7), MemoryError())
    verb = "is" if part == "optimiser" else "are"
    others = len(REMEDIES) - 1
    assert f"{part} {verb} the largest part of {others + 3}.00 GiB ({part} 3.00, " in text
    assert REMEDIES[part] in text and "max_patches 7" in text and "(MemoryError)" in text
