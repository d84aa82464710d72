"""Steps, frozen roles, and state that survives."""

import pytest
import torch

from vistune.errors import VistuneError
from vistune.models.families import small
from vistune.tune import StageParams, checkpoint
from vistune.tune.engine import TorchEngine, groups
from vistune.tune.schedule import cosine


def stage(**rates) -> StageParams:
    return StageParams(name="s", objective="instruct", steps=4, learning_rates=rates)


def loss_of(model, n=0):
    ids = torch.tensor([model.chat.question(f"what {n}?")])
    return model(input_ids=ids, labels=ids).loss


def moved(before, model):
    after = model.state_dict()
    return {
        name.split(".")[0] + "." + name.split(".")[1] for name in before if not torch.equal(before[name], after[name])
    }


def test_only_trained_roles_move():
    model = small.tiny()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    engine = TorchEngine(model, stage(language=1e-2))
    engine.step(loss_of(model), 1.0)
    assert moved(before, model) == {"language_model.model"}
    assert torch.equal(before["language_model.lm_head.weight"], model.state_dict()["language_model.lm_head.weight"])
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad]
    assert {n.split(".")[0] for n in frozen} == {"vision_tower", "connector", "language_model"}


def test_unknown_role_and_nothing_to_train():
    with pytest.raises(VistuneError, match="no role 'tower'; roles are vision, connector, language, head"):
        groups(small.tiny(), stage(tower=1.0))
    with pytest.raises(VistuneError, match="trains nothing"):
        groups(small.tiny(), stage(language=0.0))


def test_bfloat16_weights_follow_float32_masters():
    """Steps smaller than bfloat16 can hold must add up in the master."""
    model = small.tiny()
    model.language_model.to(torch.bfloat16)
    engine = TorchEngine(model, stage(language=1e-6))
    start = [m.clone() for m in engine.masters]
    for n in range(3):
        engine.step(loss_of(model, n), 1.0)
    assert all(m.dtype == torch.float32 for m in engine.masters)
    assert any(not torch.equal(a, b) for a, b in zip(start, engine.masters, strict=True))
    assert all(torch.equal(w, m.to(w.dtype)) for w, m in zip(engine.weights, engine.masters, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_resume_is_bit_equal(tmp_path, dtype):
    def fresh():
        model = small.tiny(seed=2)
        model.language_model.to(dtype)
        return model, TorchEngine(model, stage(language=1e-2, connector=1e-2))

    model, engine = fresh()
    for n in range(2):
        engine.step(loss_of(model, n), 1.0)
    engine.save(tmp_path)
    expected = [engine.step(loss_of(model, n), 1.0) for n in (2, 3)]
    other, resumed = fresh()
    resumed.load(tmp_path)
    assert [resumed.step(loss_of(other, n), 1.0) for n in (2, 3)] == expected
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


def test_clipping_bounds_the_update():
    a, b = small.tiny(), small.tiny()
    loose, tight = (
        StageParams(name="s", objective="instruct", steps=1, learning_rates={"language": 1.0}, clip=c)
        for c in (0.0, 1e-9)
    )
    TorchEngine(a, loose).step(loss_of(a), 1e-3)
    norm = TorchEngine(b, tight).step(loss_of(b), 1e-3)
    assert norm > 1e-3, "the reported norm is the one before clipping"


def test_checkpoints_newest_valid_wins(tmp_path, capsys):
    for step in (10, 20):
        partial = checkpoint.begin(tmp_path, step)
        (partial / "w").write_text(str(step))
        checkpoint.commit(partial, {"step": step})
    assert [p.name for p in tmp_path.iterdir()] == ["step-000020"], "older ones are removed"
    checkpoint.begin(tmp_path, 30)  # killed while writing
    assert checkpoint.newest(tmp_path)[1]["step"] == 20
    (tmp_path / "step-000020" / "w").write_text("2O")
    assert checkpoint.newest(tmp_path) is None
    assert "step-000020 is damaged" in capsys.readouterr().err


def test_cosine_rises_then_falls():
    values = [cosine(s, 100, 0.1) for s in range(100)]
    assert max(values) == 1.0
    assert values[:10] == sorted(values[:10])
    assert values[10:] == sorted(values[10:], reverse=True)
    assert 0 < values[0] <= 0.1
    assert values[-1] < 0.01
