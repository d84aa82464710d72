"""A sweep: what its variants may change, and which of them is put forward."""

import importlib.util
import json
import math
from pathlib import Path

import pytest
from kfp import dsl

from vistune.errors import VistuneError
from vistune.evaluate.gate import Gate, Target
from vistune.variants import among, best, vary

ROOT = Path(__file__).parents[2]
TUNE, EVALUATE = {"seed": 3, "tune": {"family": "small"}}, {"seed": 3, "evaluate": {"suite": "demo"}}


def test_variants_change_training_alone():
    variants = ["seed=1", "tune.dtype=float32; seed=2", "tune.zero=2"]
    assert vary(TUNE, variants) == [
        {"seed": 1, "tune": {"family": "small"}},
        {"seed": 2, "tune": {"family": "small", "dtype": "float32"}},
        {"seed": 3, "tune": {"family": "small", "zero": 2}},
    ]
    assert among(EVALUATE, variants) == {"seed": 3, "evaluate": {"suite": "demo", "candidates": 3}}
    assert TUNE["tune"] == {"family": "small"}, "what was given is unchanged"


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        (["seed=1", "adapt.workers=2"], "'adapt.workers=2' is neither seed=N nor tune.key=value"),
        (["seed=1", "evaluate.limit=2"], "share their data and their evaluation"),
        (["seed=1", "tune.famly=x"], "did you mean tune.family"),
        (["seed=1", "seed=1"], "gives the same parameters as another one"),
        (["seed=1"], "at least 2 variants; given are 1"),
        ([], "given are 0"),
    ],
)
def test_what_is_no_variant_stops_before_anything_is_trained(variants, said):
    with pytest.raises(VistuneError) as stopped:
        vary(TUNE, variants)
    assert said in str(stopped.value)


def test_the_gate_is_stricter_for_the_best_of_several():
    gate = Gate(Target(("vqa",)), confidence=0.95)
    assert gate.among(1) is gate
    assert math.isclose(1 - gate.among(4).confidence, 0.05 / 4)


def outputs(base, *means, items=("a", "b")):
    """Models and scorecards of variants, of which each met the target so well."""
    made = []
    for number, mean in enumerate(means):
        pair = []
        for kind in ("model", "scorecard"):
            folder = base / f"{kind}-{number}"
            folder.mkdir()
            (folder / "which").write_text(str(number))
            pair.append(dsl.Artifact(kind, str(folder), {"digest": f"{kind}{number}"}))
        checks = [{"role": "target", "estimate": None if mean is None else {"mean": mean}}, {"role": "protected"}]
        (base / f"scorecard-{number}" / "verdict.json").write_text(json.dumps({"checks": checks}))
        asked = {
            "benchmark": "vqa",
            "image": "i",
            "question": "?",
            "gold": "yes",
            "model": "tuned",
            "condition": "image",
        }
        lines = [json.dumps({**asked, "item": item}) for item in (items if number == 0 else ("b", "a"))]
        (base / f"scorecard-{number}" / "answers.jsonl").write_text("\n".join(lines) + "\n")
        made.append(pair)
    return [list(column) for column in zip(*made, strict=True)]


@pytest.mark.parametrize(
    ("means", "number"), [((0.1, 0.3, 0.2), 1), ((0.2, 0.2), 0), ((None, 0.0), 1), ((float("nan"), -0.1), 1)]
)
def test_the_best_by_the_gates_target(tmp_path, capsys, means, number):
    models, scorecards = outputs(tmp_path, *means)
    model, score = dsl.Artifact("m", str(tmp_path / "best")), dsl.Artifact("s", str(tmp_path / "score"))
    variants = [f"seed={n}" for n in range(len(means))]
    path = ROOT / "components/best/component.py"
    spec = importlib.util.spec_from_file_location("component_best", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    given = {"variants": variants, "models": models, "scorecards": scorecards, "model": model, "scorecard": score}
    assert module.best.python_func(**given) == f"{number}: seed={number}"
    assert (tmp_path / "best" / "which").read_text() == (tmp_path / "score" / "which").read_text() == str(number)
    assert model.metadata == {"digest": f"model{number}", "variant": f"seed={number}"}
    assert f"* seed={number}: " in capsys.readouterr().out


def test_variants_that_cannot_be_compared(tmp_path):
    models, scorecards = outputs(tmp_path, 0.1, 0.2, items=("a", "c"))
    out = dsl.Artifact("m", str(tmp_path / "best"))
    with pytest.raises(VistuneError, match="not asked the same questions"):
        best(["x", "y"], models, scorecards, out, out)
    with pytest.raises(VistuneError, match="3 variants, 2 models"):
        best(["x", "y", "z"], models, scorecards, out, out)


def test_no_number_at_all_is_no_best(tmp_path):
    models, scorecards = outputs(tmp_path, None, None)
    out = dsl.Artifact("m", str(tmp_path / "best"))
    with pytest.raises(VistuneError, match="no variant has a number"):
        best(["x", "y"], models, scorecards, out, out)
    assert not (tmp_path / "best").exists()
