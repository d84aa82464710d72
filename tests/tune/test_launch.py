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
@pytest.mark.usefixtures("warm")
def test_kill_and_rerun_equals_an_uninterrupted_run(release, tmp_path):
    params = Params(preset="tiny", dtype="bfloat16", threads=1, stages=stages(16, checkpoint_every=5))
    process = started(release, tmp_path / "killed", params)
    for line in process.stdout:
        if line.strip() == "step 12" and (tmp_path / "killed/out/checkpoints/instruct/step-000010").exists():
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


def shared(**over):
    """For one process and for several: the connector, which drops out by each process's own rows, does not train."""
    rates = {"language": 5e-3, "head": 2e-2}
    steps = stages(10, learning_rates=rates, checkpoint_every=4, weight_decay=0.1)
    return Params(preset="tiny", dtype="float32", threads=1, stages=steps, **over)


def started(release, folder, params):
    command = [sys.executable, "-c", KILLED % str(Path(__file__).parents[2]), str(release), str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*command, json.dumps(asdict(params))], env=environment, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def one(release, tmp_path_factory):
    """What one process without ZeRO leaves."""
    return train(release, tmp_path_factory.mktemp("one"), shared())[1]


def instructed(output):
    return [entry for entry in history(output) if entry["stage"] == "instruct"]


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("zero", [2, 3])
def test_two_ranks_match_one(release, tmp_path, one, zero):
    """The same plan on two gloo processes under ZeRO gives the losses and gradient norms of one process without it."""
    train(release, tmp_path, shared(processes=2, zero=zero))
    for expected, found in zip(instructed(one), instructed(tmp_path / "out"), strict=True):
        assert found.keys() == expected.keys()
        for key in expected.keys() - {"stage"}:
            assert found[key] == pytest.approx(expected[key], rel=1e-4, abs=1e-5), key
    models = [load(output / "model").model.state_dict() for output in (one, tmp_path / "out")]
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(*(m.values() for m in models), strict=True))


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize(("zero", "first", "then"), [(2, 2, 1), (3, 1, 2)])
def test_goes_on_with_another_number_of_processes(release, tmp_path, one, zero, first, then):
    """Stopped after some steps on so many processes, the rest on others: the losses of a run that nothing stopped."""
    recorded = tmp_path / "out/history.jsonl"
    stopped = started(release, tmp_path, shared(processes=first, zero=zero))
    while stopped.poll() is None and not (recorded.exists() and recorded.read_text().count('"instruct"') >= 5):
        time.sleep(0.01)
    stopped.send_signal(signal.SIGTERM)
    stopped.communicate()
    assert stopped.returncode != 0
    assert 5 <= len(instructed(tmp_path / "out")) < 10
    again = started(release, tmp_path, shared(processes=then, zero=zero))
    said, _ = again.communicate()
    assert again.returncode == 0
    assert "converting the checkpoint for another number of processes" in said
    losses = [[entry["loss"] for entry in instructed(output)] for output in (one, tmp_path / "out")]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
