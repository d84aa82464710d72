"""Steps, frozen roles, and state that survives."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vistune.errors import VistuneError
from vistune.models.vlm import build
from vistune.records import Message
from vistune.tune import Params, StageParams, checkpoint
from vistune.tune.engine import TorchEngine, groups
from vistune.tune.engine import build as build_engine
from vistune.tune.packed import packed
from vistune.tune.schedule import cosine


def stage(**rates) -> StageParams:
    return StageParams(name="s", objective="instruct", steps=4, learning_rates=rates)


def tiny(seed=0):
    return build("small", "tiny", seed=seed)


def step(engine, vlm, n=0, factor=1.0):
    reading = vlm.reader.read(question(n))
    row = packed(vlm.reader, [[reading]], [[]])
    engine.backward(engine(row).mean(), last=True)
    return engine.step(factor)["grad_norm"]


def question(n):
    return [Message("user", f"what {n}?"), Message("assistant", "this")]


def moved(before, model):
    after = model.state_dict()
    return {
        name.split(".")[0] + "." + name.split(".")[1] for name in before if not torch.equal(before[name], after[name])
    }


def test_only_trained_roles_move():
    vlm = tiny()
    model = vlm.model
    before = {k: v.clone() for k, v in model.state_dict().items()}
    engine = TorchEngine(vlm, stage(language=1e-2))
    step(engine, vlm)
    assert moved(before, model) == {"language_model.model"}
    assert torch.equal(before["language_model.lm_head.weight"], model.state_dict()["language_model.lm_head.weight"])
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad]
    assert {n.split(".")[0] for n in frozen} == {"vision_tower", "connector", "language_model"}


def test_unknown_role_and_nothing_to_train():
    with pytest.raises(VistuneError, match="no role 'tower'; roles are vision, connector, language, head"):
        groups(tiny(), stage(tower=1.0))
    with pytest.raises(VistuneError, match="trains nothing"):
        groups(tiny(), stage(language=0.0))


def test_lower_layers_of_the_encoder_learn_more_slowly():
    vlm = build("llava", "tiny", seed=0)
    names = {id(p): name for name, p in vlm.model.named_parameters()}
    made = groups(vlm, replace(stage(vision=1.0, language=1.0), layer_decay=0.5))
    rates = {names[id(p)]: group["peak"] for group in made for p in group["params"]}
    assert all(rate == 1 for name, rate in rates.items() if "vision_tower" not in name)
    layers = len(vlm.model.model.vision_tower.encoder.layers)
    for name, rate in rates.items():
        if found := re.search(r"vision_tower.*layers\.(\d+)", name):
            assert rate == 0.5 ** (layers - int(found[1])), name
        elif "vision_tower" in name:
            assert rate == (1.0 if "post_layernorm" in name else 0.5 ** (layers + 1)), name
    alike = groups(vlm, stage(vision=1.0, language=1.0))
    assert set(rates) == {names[id(p)] for group in alike for p in group["params"]}


def test_matrices_decay_and_a_frozen_role_has_no_state():
    vlm = tiny()
    engine = TorchEngine(vlm, replace(stage(language=1e-2), weight_decay=0.1))
    step(engine, vlm)
    for group in engine.optimizer.param_groups:
        assert {p.dim() > 1 for p in group["params"]} == {group["weight_decay"] == 0.1}
    held = sum(p.numel() for p in engine.optimizer.state)
    assert held == sum(p.numel() for n, p in vlm.model.named_parameters() if vlm.family.role(n) == "language")
    assert {group["role"] for group in engine.optimizer.param_groups} == {"language"}


def test_what_is_offloaded_needs_zero(tmp_path):
    with pytest.raises(VistuneError, match=r"tune.offload takes what ZeRO 1, 2 or 3 divides; tune.zero is 0"):
        build_engine(tiny(), stage(language=1e-2), Params(offload=True), Path(__file__).parents[2])


def test_recomputed_layers_change_no_gradient():
    found = []
    for recomputed in (False, True):
        vlm = tiny()
        with torch.random.fork_rng():
            engine = build_engine(vlm, replace(stage(language=1e-2), gradient_checkpointing=recomputed), Params(), None)
            assert vlm.model.is_gradient_checkpointing == recomputed
            found.append(step(engine, vlm))
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_gradients_of_passes_add_up_in_float32_and_leave_no_copy():
    vlm = tiny()
    vlm.model.to(torch.bfloat16)
    engine = TorchEngine(vlm, stage(language=1e-2))
    rows = [packed(vlm.reader, [[vlm.reader.read(question(n))]], [[]]) for n in range(3)]
    for n, row in enumerate(rows):
        engine.backward(engine(row).mean(), last=n == 2)
    assert all(weight.grad is None for weight in engine.weights)
    together = [master.grad.clone() for master in engine.masters]
    engine.optimizer.zero_grad()
    alone = [torch.zeros_like(master) for master in engine.masters]
    for row in rows:
        engine.optimizer.zero_grad()
        engine.backward(engine(row).mean(), last=True)
        for whole, master in zip(alone, engine.masters, strict=True):
            whole += master.grad
    assert all(a.dtype == torch.float32 and torch.equal(a, b) for a, b in zip(together, alone, strict=True))


def test_bfloat16_weights_follow_float32_masters():
    """Steps smaller than bfloat16 can hold must add up in the master."""
    vlm = tiny()
    vlm.model.language_model.to(torch.bfloat16)
    engine = TorchEngine(vlm, stage(language=1e-6))
    start = [m.clone() for m in engine.masters]
    for n in range(3):
        step(engine, vlm, n)
    assert all(m.dtype == torch.float32 for m in engine.masters)
    assert any(not torch.equal(a, b) for a, b in zip(start, engine.masters, strict=True))
    assert all(torch.equal(w, m.to(w.dtype)) for w, m in zip(engine.weights, engine.masters, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_resume_is_bit_equal(tmp_path, dtype):
    def fresh():
        vlm = tiny(2)
        vlm.model.language_model.to(dtype)
        return vlm, TorchEngine(vlm, stage(language=1e-2, connector=1e-2))

    vlm, engine = fresh()
    for n in range(2):
        step(engine, vlm, n)
    engine.save(tmp_path)
    expected = [step(engine, vlm, n) for n in (2, 3)]
    other, resumed = fresh()
    resumed.load(tmp_path, {"engine": "torch"})
    assert [step(resumed, other, n) for n in (2, 3)] == expected
    states = (v.model.state_dict().values() for v in (vlm, other))
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_passes_of_a_step_add_up():
    """Two halves of a step give the gradient of the whole, in float32 whatever the weights' type."""
    norms = []
    for parts in ([(0, 1)], [(0,), (1,)]):
        vlm = tiny()
        engine = TorchEngine(vlm, stage(language=1e-2))
        for part in parts:
            readings = [[vlm.reader.read(question(n))] for n in part]
            losses = engine(packed(vlm.reader, readings, [[] for _ in part]))
            engine.backward(losses.sum() / 10, last=part is parts[-1])
        norms.append(engine.step(1.0))
    assert norms[0]["grad_norm"] == pytest.approx(norms[1]["grad_norm"], rel=1e-5)
    assert set(norms[0]) == {"grad_norm", "grad_norm/language"}


def test_clipping_bounds_the_update():
    a, b = tiny(), tiny()
    loose, tight = (
        StageParams(name="s", objective="instruct", steps=1, learning_rates={"language": 1.0}, clip=c)
        for c in (0.0, 1e-9)
    )
    step(TorchEngine(a, loose), a, factor=1e-3)
    norm = step(TorchEngine(b, tight), b, factor=1e-3)
    assert norm > 1e-3, "the reported norm is the one before clipping"


def test_checkpoints_newest_valid_wins(tmp_path, capsys):
    for step in (10, 20, 30):
        partial = checkpoint.begin(tmp_path, step)
        (partial / "w").write_text(str(step))
        checkpoint.commit(partial, {"step": step})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000020", "step-000030"], "older ones are removed"
    checkpoint.begin(tmp_path, 40)  # killed while writing
    assert checkpoint.newest(tmp_path)[1]["step"] == 30
    (tmp_path / "step-000030" / "w").write_text("3O")
    assert checkpoint.newest(tmp_path)[1]["step"] == 20
    said = capsys.readouterr().err
    assert "step-000030 is damaged" in said and "step-000020" not in said
    (tmp_path / "step-000020" / "manifest.json").write_text('{"step": 20')
    assert checkpoint.newest(tmp_path) is None
    assert "step-000020 is damaged" in capsys.readouterr().err


def test_cosine_rises_then_falls():
    values = [cosine(s, 100, 0.1) for s in range(100)]
    assert max(values) == 1.0
    assert values[:10] == sorted(values[:10])
    assert values[10:] == sorted(values[10:], reverse=True)
    assert 0 < values[0] <= 0.1
    assert values[-1] < 0.01
