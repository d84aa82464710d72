"""What is said to train is what trains."""

from pathlib import Path

import pytest
import torch

from vistune.errors import VistuneError
from vistune.models import lora
from vistune.models.vlm import build
from vistune.stages import Context
from vistune.tune import Params, StageParams, run
from vistune.tune import engine as engines
from vistune.tune.engine import TorchEngine, groups
from vistune.tune.roles import Movement, lines, table


def stage(lora=None, **rates) -> StageParams:
    return StageParams(name="s", objective="instruct", steps=2, learning_rates=rates, lora=lora or {}, batch=2)


def train(release, folder, chosen, dtype="float32"):
    (folder / "out").mkdir(parents=True, exist_ok=True)
    params = Params(preset="tiny", dtype=dtype, threads=1, stages=(chosen,))
    run(params, {"validate": release}, folder / "out", Context(7, folder / "home", Path(__file__).parents[2]))


def test_table_counts_every_parameter_once(capsys):
    vlm = build("small", "tiny")
    chosen = stage(language=1e-3, connector=2e-3)
    groups(vlm, chosen)
    found = table(vlm.model, vlm.family, chosen)
    assert sum(row["parameters"] for row in found.values()) == sum(p.numel() for p in vlm.model.parameters())
    assert found["vision"]["trained"] == 0 and found["language"]["trained"] == found["language"]["parameters"]
    text = list(lines("s", found))
    assert "frozen" in next(line for line in text if "vision" in line)
    assert "0.002" in next(line for line in text if "connector" in line)


def test_table_with_lora_counts_the_updates_alone():
    vlm = build("small", "tiny")
    chosen = stage({"language": 4}, language=1e-3)
    plain = table(vlm.model, vlm.family, chosen)["language"]["parameters"]
    lora.attach(vlm, chosen.lora)
    groups(vlm, chosen)
    row = table(vlm.model, vlm.family, chosen)["language"]
    assert row["parameters"] == plain and 0 < row["trained"] < plain and row["lora"] == 4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_true_table_is_printed_and_passes(release, tmp_path, capsys, dtype):
    """In bfloat16 at a rate that a weight of this type does not show in one step."""
    train(release, tmp_path, stage(language=1e-3 if dtype == "float32" else 1e-9, connector=1e-3), dtype)
    out = capsys.readouterr().out
    assert out.count("tune s: role") == 1 and "parameters" in out


def test_lora_passes(release, tmp_path):
    train(release, tmp_path, stage({"language": 4}, language=1e-3))


def test_a_frozen_weight_in_the_optimiser_is_found(release, tmp_path, monkeypatch):
    """Planted: the connector's weights reach the optimiser with those of the language model."""
    real = engines.groups

    def planted(vlm, stage):
        found = real(vlm, stage)
        stray = vlm.model.connector.down.weight.requires_grad_(True)
        return [*found, {**found[0], "params": [stray]}]

    monkeypatch.setattr(engines, "groups", planted)
    with pytest.raises(VistuneError, match=r"step 0 moved connector\.down\.weight, of the frozen role connector"):
        train(release, tmp_path, stage(language=1e-3))


def test_a_weight_that_moves_past_the_optimiser_is_found():
    vlm = build("small", "tiny")
    chosen = stage(language=1e-3)
    groups(vlm, chosen)
    movement = Movement(vlm.model, vlm.family, chosen)
    with torch.no_grad():
        for parameter in vlm.model.language_model.model.layers.parameters():
            parameter.add_(1e-3)
        vlm.model.vision_tower.get_parameter(next(n for n, _ in vlm.model.vision_tower.named_parameters())).mul_(-1)
    with pytest.raises(VistuneError, match=r"step 3 moved vision_tower\.\S+, of the frozen role vision"):
        movement.check(3)


def test_a_role_that_rests_is_found(release, tmp_path, monkeypatch):
    """Planted: the connector is cut off, so no gradient reaches it."""
    real = TorchEngine.backward

    def cut(self, loss, last):
        real(self, loss, last)
        for group in self.optimizer.param_groups:
            if group["role"] == "connector":
                for parameter in group["params"]:
                    parameter.grad = None

    monkeypatch.setattr(TorchEngine, "backward", cut)
    with pytest.raises(VistuneError, match=r"role connector was to train at a rate of 0\.001, and step 0 moved none"):
        train(release, tmp_path, stage(language=1e-3, connector=1e-3))
