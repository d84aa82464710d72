"""The stage end to end on a tiny model: it learns, it resumes, it repeats."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from vistune.errors import VistuneError
from vistune.files import tree_digest
from vistune.models import family
from vistune.models.vlm import build, load
from vistune.stages import Context
from vistune.tune import Params, StageParams, launch, run


def stages(steps=30, objective="embedding", **over):
    rates = {"connector": 5e-3}
    align = StageParams(
        name="align", objective=objective, steps=20, learning_rates=rates, batch=16 if objective == "embedding" else 2
    )
    tune = {"name": "instruct", "objective": "instruct", "steps": steps, "batch": 2, "checkpoint_every": 10}
    tune["learning_rates"] = {"connector": 2e-3, "language": 5e-3, "head": 2e-2}
    return (align, StageParams(**{**tune, **over}))


def train(release, folder, params, log=lambda metrics, step: None):
    context = Context(7, folder / "home", Path(__file__).parents[2], log)
    output = folder / "out"
    output.mkdir(parents=True, exist_ok=True)
    return run(params, {"validate": release}, output, context), output


def history(output):
    return [json.loads(line) for line in (output / "history.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("objective", ["embedding", "caption"])
def test_learns_and_writes_what_it_promises(release, tmp_path, objective):
    logged = []
    params = Params(preset="tiny", dtype="float32", threads=1, stages=stages(40, objective))
    summary, output = train(release, tmp_path, params, lambda metrics, step: logged.append((step, metrics)))
    entries = [e for e in history(output) if e["stage"] == "instruct"]
    assert [e["step"] for e in entries] == list(range(40))
    first, last = (sum(e["loss"] for e in part) / 5 for part in (entries[:5], entries[-5:]))
    assert last < 0.6 * first
    assert "validation_loss" in entries[-1]
    assert len(logged) == 60
    assert {p.name for p in output.iterdir()} >= {"base", "model", "plan.json", "roles.json", "history.jsonl"}
    assert summary["metrics"]["instruct/final_loss"] == entries[-1]["loss"]
    answers = json.loads((output / "answers" / f"instruct-{entries[-1]['step'] + 1:06d}.json").read_text())
    assert len(answers) == 4 and {row["id"] for row in answers} <= {f"vt1:007{n}" for n in range(4)}
    assert {row["wanted"] for row in answers if row["task"] == "presence"} == {"Yes"}
    roles = json.loads((output / "roles.json").read_text())
    assert roles["align"]["language"]["learning_rate"] == 0.0
    assert not (output / "checkpoints").exists()


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "cogagent"])
def test_any_family_trains(release, tmp_path, family):
    """Transformers' own class, positions of three axes, and a family whose samples cannot share a row."""
    rates = {"connector": 5e-3, "language": 1e-2, "head": 1e-2}
    two = (
        StageParams("align", "caption", {"connector": 5e-3}, steps=2, batch=2, max_tokens=600),
        StageParams("instruct", "instruct", rates, steps=12, batch=2, max_tokens=600, lora={}),
    )
    _, output = train(release, tmp_path, Params(family=family, preset="tiny", dtype="float32", threads=1, stages=two))
    losses = [e["loss"] for e in history(output) if e["stage"] == "instruct"]
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    start, base, final = build(family, "tiny", seed=7), load(output / "base"), load(output / "model")
    moved = [changed(start, base), changed(base, final)]
    assert moved[0] == {"connector"} and {"connector", "language", "head"} >= moved[1] >= {"language"}


def changed(a, b):
    """Roles whose weights differ."""
    before, after = a.model.state_dict(), b.model.state_dict()
    return {a.family.role(n) for n, _ in a.model.named_parameters() if not torch.equal(before[n], after[n])}


def test_lora_trains_little_and_leaves_a_plain_model(release, tmp_path):
    stage = StageParams("s", "instruct", {"language": 1e-2}, steps=6, batch=2, lora={"language": 2})
    params = Params(family="small", preset="tiny", dtype="float32", threads=1, stages=(stage,))
    _, output = train(release, tmp_path, params)
    start, final = build("small", "tiny", seed=7), load(output / "model")
    assert changed(start, final) == {"language"}
    assert final.model.state_dict().keys() == start.model.state_dict().keys()
    key = "language_model.model.layers.0.self_attn.q_proj.weight"
    update = final.model.state_dict()[key] - start.model.state_dict()[key]
    assert torch.linalg.matrix_rank(update, atol=1e-6) == 2
    norm = "language_model.model.layers.0.input_layernorm.weight"
    assert torch.equal(final.model.state_dict()[norm], start.model.state_dict()[norm])


def test_alignment_changes_the_connector_only(release, tmp_path):
    _, output = train(release, tmp_path, Params(preset="tiny", dtype="float32", threads=1, stages=stages(2)))
    start, base = build("small", "tiny", seed=7).model.state_dict(), load(output / "base").model.state_dict()
    changed = {k.split(".")[0] for k in start if not torch.equal(start[k], base[k])}
    assert changed == {"connector"}


def test_the_last_stages_template_stays_with_the_model(release, tmp_path):
    first, last = stages(1)
    own = family("small").preset("tiny").template
    params = Params(preset="tiny", dtype="float32", threads=1, stages=(first, replace(last, template="plain")))
    _, output = train(release, tmp_path, params)
    assert own != "plain"
    assert load(output / "model").preset.template == "plain"
    assert load(output / "base").preset.template == own


def test_embedding_alignment_names_the_cells(release, tmp_path):
    summary, _ = train(release, tmp_path, Params(preset="tiny", dtype="float32", threads=1, stages=stages(1)))
    assert summary["details"]["plan"]["align"]["names"] == 4
    assert summary["metrics"]["align/cell_accuracy"] > 0.5  # chance is 0.25


def test_two_runs_are_byte_identical(release, tmp_path):
    digests = []
    for n in range(2):
        _, output = train(
            release, tmp_path / str(n), Params(preset="tiny", dtype="bfloat16", threads=1, stages=stages(6))
        )
        digests.append(tree_digest(output))
    assert digests[0] == digests[1]


def test_features_are_computed_once(release, tmp_path, monkeypatch):
    from vistune.models.modeling import VistuneForConditionalGeneration as Model

    quiet = tuple(replace(stage, answers=0) for stage in stages(2))
    params = Params(preset="tiny", dtype="float32", threads=1, stages=quiet)
    train(release, tmp_path, params)

    seen = []
    see = Model.see
    monkeypatch.setattr(Model, "see", lambda self, pictures: seen.extend(pictures) or see(self, pictures))
    (tmp_path / "out").rename(tmp_path / "before")
    train(release, tmp_path, params)
    looked = [view for picture in seen for view in picture.views if not view.is_meta]
    assert not any(view.any() for view in looked), "only a blank one, to learn what the tower gives"


KILLED = """
import sys
from pathlib import Path
from vistune.params import parse
from vistune.stages import Context
from vistune.tune import Params, run
import json
release, folder, params = sys.argv[1:]
folder = Path(folder); (folder / "out").mkdir(parents=True, exist_ok=True)
run(parse(Params, json.loads(params), "tune"), {"validate": Path(release)}, folder / "out",
    Context(7, folder / "home", Path(%r), lambda m, s: print("step", s, flush=True)))
"""


@pytest.mark.slow
def test_kill_and_rerun_equals_an_uninterrupted_run(release, tmp_path):

    params = Params(preset="tiny", dtype="bfloat16", threads=1, stages=stages(30))
    text = json.dumps(asdict(params))
    script = KILLED % str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(release), str(tmp_path / "killed"), text],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    for line in process.stdout:
        if line.strip() == "step 17" and (tmp_path / "killed/out/checkpoints/instruct/step-000010").exists():
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "out" / "model").exists()
    train(release, tmp_path / "killed", params)
    train(release, tmp_path / "whole", params)
    assert tree_digest(tmp_path / "killed" / "out") == tree_digest(tmp_path / "whole" / "out")


def test_no_stages_and_uneven_batches_are_refused(release, tmp_path):
    with pytest.raises(VistuneError, match=r"no recipe of small \(small-smollm2-135m\) is published"):
        train(release, tmp_path, Params())
    with pytest.raises(VistuneError, match="batch 2 cannot be dealt evenly to 3 processes"):
        train(release, tmp_path, Params(processes=3, stages=stages(1)))


def test_what_started_processes_measure_reaches_the_tracker(tmp_path):
    """Each step once, as it was taken last; a line that a kill cut short spoils no other."""
    file, seen = tmp_path / launch.LOGGED, []
    launch._keep(file, {"align/loss": 3.0}, 1)
    launch._keep(file, {"instruct/loss": 2.5}, 1)
    with open(file, "a") as f:
        f.write('\n{"step": 2, "metr')
    launch._keep(file, {"instruct/loss": 2.0, "instruct/tokens_per_second": 9.0}, 1)
    context = Context(7, tmp_path, tmp_path, lambda metrics, step: seen.append((step, metrics)))
    launch._log(file, context)
    assert seen == [(1, {"align/loss": 3.0}), (1, {"instruct/loss": 2.0, "instruct/tokens_per_second": 9.0})]
    assert not file.exists()
    launch._log(file, context)
    assert len(seen) == 2, "nothing is left to tell"


@pytest.mark.slow
@pytest.mark.parametrize("zero", [2, 3])
def test_two_ranks_match_one(release, tmp_path, zero):
    """The same plan on two gloo processes under ZeRO gives the losses and gradient norms of one process without it."""
    entries = {}
    for name, over in (("one", {"processes": 1}), ("two", {"processes": 2, "zero": zero})):
        rates = {"language": 5e-3, "head": 2e-2}  # the connector drops out at random, by each process's own rows
        params = Params(preset="tiny", dtype="float32", threads=1, stages=stages(8, learning_rates=rates), **over)
        script = KILLED % str(Path(__file__).parents[2])
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-c", script, str(release), str(tmp_path / name), json.dumps(asdict(params))],
            check=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert time.monotonic() - began < 300
        entries[name] = [e for e in history(tmp_path / name / "out") if e["stage"] == "instruct"]
    assert [e.keys() for e in entries["two"]] == [e.keys() for e in entries["one"]]
    for one, two in zip(entries["one"], entries["two"], strict=True):
        for key in one.keys() - {"stage"}:
            assert two[key] == pytest.approx(one[key], abs=2e-4 if key == "loss" else 1e-2), key
    models = [load(tmp_path / name / "out/model").model.state_dict() for name in entries]
    assert all(torch.allclose(a, b, atol=5e-3) for a, b in zip(*(m.values() for m in models), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("zero", "first", "then"), [(2, 2, 1), (3, 1, 2)])
def test_goes_on_with_another_number_of_processes(release, tmp_path, zero, first, then):
    """Stopped after some steps on so many processes, the rest on others: the losses of a run on those alone."""
    rates = {"language": 5e-3, "head": 2e-2}
    stage = replace(stages(12)[-1], learning_rates=rates, checkpoint_every=4, weight_decay=0.1)

    def started(name, processes):
        params = Params(preset="tiny", dtype="float32", threads=1, stages=(stage,), processes=processes, zero=zero)
        given = [str(release), str(tmp_path / name), json.dumps(asdict(params))]
        command = [sys.executable, "-c", KILLED % str(Path(__file__).parents[2]), *given]
        return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True)

    def losses(name):
        return [entry["loss"] for entry in history(tmp_path / name / "out")]

    stopped = started("changed", first)
    recorded = tmp_path / "changed/out/history.jsonl"
    while stopped.poll() is None and not (recorded.exists() and recorded.read_text().count("\n") >= 5):
        time.sleep(0.01)
    stopped.send_signal(signal.SIGTERM)
    stopped.communicate()
    assert stopped.returncode != 0
    assert 5 <= len(losses("changed")) < 12
    for name in ("changed", "alone"):
        process = started(name, then)
        said, _ = process.communicate()
        assert process.returncode == 0
        assert ("another number of processes" in said) == (name == "changed")
    assert losses("changed") == pytest.approx(losses("alone"), abs=1e-5)
