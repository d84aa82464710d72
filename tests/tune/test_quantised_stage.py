"""A training stage whose language model rests in 4 bits."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vistune.errors import Interrupted, VistuneError
from vistune.files import tree_digest
from vistune.models import lora
from vistune.models.modeling import cast_language
from vistune.models.vlm import Vlm, build, empty, load
from vistune.stages import Context
from vistune.tune import Params, StageParams, run
from vistune.tune import engine as engines
from vistune.tune.forecast import memory

STAGE = StageParams(
    name="instruct",
    objective="instruct",
    learning_rates={"language": 2e-2},
    lora={"language": 4},
    quantised={"language": "nf4"},
    steps=12,
    batch=2,
    checkpoint_every=3,
)
PARAMS = Params(preset="tiny", dtype="float32", threads=1)


def train(release, folder, params=PARAMS, stage=STAGE, log=lambda metrics, step: None):
    (folder / "out").mkdir(parents=True, exist_ok=True)
    context = Context(7, folder / "home", Path(__file__).parents[2], log)
    run(replace(params, stages=(stage,)), {"validate": release}, folder / "out", context)
    return [json.loads(line)["loss"] for line in (folder / "out" / "history.jsonl").read_text().splitlines()]


def killed(release, folder, params=PARAMS):
    """Stopped after step 5, and started again."""

    def stop(metrics, step):
        if step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        train(release, folder, params, log=stop)
    return train(release, folder, params)


@pytest.fixture
def needed():
    pytest.importorskip(
        "bitsandbytes", reason="QLoRA is NOT TESTED: bitsandbytes is not installed (pip install 'vistune[qlora]')"
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_learns_resumes_bit_equal_and_leaves_a_plain_model(release, tmp_path, needed, capsys, dtype):
    params = replace(PARAMS, dtype=dtype)
    losses = train(release, tmp_path / "whole", params)
    assert sum(losses[-3:]) < 0.98 * sum(losses[:3]), "embeddings and head of random weights do not train"
    assert killed(release, tmp_path / "stopped", params) == losses
    assert "continues after step 5" in capsys.readouterr().out
    assert tree_digest(tmp_path / "stopped/out") == tree_digest(tmp_path / "whole/out")
    start, final = build("small", "tiny", seed=7), load(tmp_path / "whole/out/model")
    before, after = cast_language(start.model, getattr(torch, dtype)).state_dict(), final.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name].float(), after[name])}
    assert before.keys() == after.keys()
    assert moved <= {f"{name}.weight" for name in lora.linear_layers(start, "language")}
    row = json.loads((tmp_path / "whole/out/roles.json").read_text())["instruct"]["language"]
    plain = sum(p.numel() for n, p in start.model.named_parameters() if start.family.role(n) == "language")
    updates = sum(4 * (rows + columns) for rows, columns in lora.sizes(start, "language"))
    assert row["parameters"] == plain and row["trained"] == updates and row["quantised"] == "nf4"


def test_the_optimiser_holds_the_updates_alone(needed):
    vlm = build("small", "tiny")
    lora.attach(vlm, STAGE.lora, quantised=STAGE.quantised)
    engine = engines.TorchEngine(vlm, STAGE)
    names = {n for n, p in vlm.model.named_parameters() if any(p is weight for weight in engine.weights)}
    assert names and all(".lora_" in name for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("zero", [1, 2])
def test_deepspeed_gives_the_same_losses_and_resumes(release, tmp_path, needed, zero):
    params = replace(PARAMS, zero=zero)
    losses = killed(release, tmp_path / "stopped", params)
    assert losses == train(release, tmp_path / "whole", params)
    assert losses == pytest.approx(train(release, tmp_path / "plain"), abs=1e-5)
    assert tree_digest(tmp_path / "stopped/out/model") == tree_digest(tmp_path / "whole/out/model")


@pytest.mark.parametrize(
    ("zero", "stage", "error"),
    [
        (3, STAGE, "LoRA runs with ZeRO 0 to 2 .* tune.zero is 3"),
        (0, replace(STAGE, objective="embedding", learning_rates={"connector": 1e-2}), "the objective embedding"),
        (0, replace(STAGE, lora={}), "language is quantised without LoRA"),
    ],
)
def test_what_cannot_be_is_refused(release, tmp_path, zero, stage, error):
    with pytest.raises(VistuneError, match=error):
        train(release, tmp_path, replace(PARAMS, zero=zero), stage)


def test_the_forecast_counts_4_127_bits_a_resting_weight():
    vlm: Vlm = empty("llava", "tiny")
    roles = {"language": (10**9, 10**6)}
    found = [memory(vlm, roles, stage, 1)[0]["weights"] for stage in (STAGE, replace(STAGE, quantised={}))]
    resting = sum(vlm.model.get_submodule(n).weight.numel() for n in lora.linear_layers(vlm, "language"))
    assert found[1] == 2 * (10**9 + 10**6)
    assert found[1] - found[0] == pytest.approx(resting * (16 - 4.126953125) / 8)
