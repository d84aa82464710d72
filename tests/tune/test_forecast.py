"""The plan screen says what the plan holds, and the memory estimate adds up by parts."""

import pytest

from vistune.models.vlm import build
from vistune.tune import Params, StageParams
from vistune.tune.forecast import forecast, lines, memory, read, span
from vistune.tune.operations import PEAKS
from vistune.tune.rows import Batches, Builder

RATES = {"connector": 1e-3, "language": 1e-3, "head": 1e-3}


def stage(**over) -> StageParams:
    return StageParams(**{"name": "s", "objective": "instruct", "learning_rates": RATES, "epochs": 1.0, **over})


def planned(release, tmp_path, chosen, processes=2, **over):
    params = Params(**{"preset": "tiny", "dtype": "float32", "stages": (chosen,), **over})
    return forecast(params, chosen, read(release), 0, tmp_path, processes)


def test_the_screen(release, tmp_path):
    own = [length.tokens - length.common for length in planned(release, tmp_path, stage()).lengths.known.values()]
    found = planned(release, tmp_path, stage(longest=max(own) - 1, alpha=0.5))
    screen = list(lines("s", found, 2, chosen=2))
    text, shown = "\n".join(screen), found.plan.describe()
    refused = next(iter(found.plan.left_out))
    assert f"    {refused}: " in text and f"{len(found.plan.left_out)} left out" in text
    packs = sum(1 for step in found.plan.steps for one in step if one)
    assert f"  steps         {shown['steps']} of 4 packs, {packs} in all, of up to " in text and "no padding" in text
    assert f"  tokens        {shown['tokens']:,}, " in text
    assert f"  longest       {shown['longest_sample']} tokens" in text
    assert f"  epochs        d {shown['epochs_by_dataset']['d']:g}" in text and "  vision tokens up to " in text
    assert f"  operations    {found.operations:.3g}" in text and "lengths" not in text
    time = next(line for line in screen if line.startswith("  time"))
    assert all(f"{device} {span(found.operations / peak / 0.4 / 2)}" in time for device, peak in PEAKS.items())
    assert [line[:16] for line in screen if "chosen" in line] == ["  ZeRO 2, chosen"]


def test_padding_of_samples_that_cannot_share_a_row(release, tmp_path):
    """As the rows that would be read have it."""
    chosen = stage(batch=2, max_tokens=600)
    found = planned(release, tmp_path, chosen, 1, family="cogagent")
    vlm = build("cogagent", "tiny")
    builder = Builder(vlm.reader, release, chosen)
    rows = [builder.batch(found.plan, packs).row for _, packs, _ in Batches(builder, found.plan, 0, 1).passes]
    real, places = sum(row.tokens for row in rows), sum(row.places for row in rows)
    assert 0 < found.padding == pytest.approx(1 - real / places, abs=1e-9)
    assert f"{found.padding:.1%} padding, as samples cannot share a row" in "\n".join(lines("s", found, 1))


def test_memory_by_zero_stage():
    vlm, processes = build("small", "tiny"), 4
    roles = {"vision": (1000, 0), "language": (5000, 5000)}
    found = memory(vlm, roles, stage(), processes, 64)
    parts = {name: [found[zero][name] for zero in range(4)] for name in found[0]}
    assert parts["weights"] == [12000, 12000, 12000, 3000]
    assert parts["gradients"] == [10000, 10000, 2500, 2500]
    assert parts["optimiser"] == [60000, 15000, 15000, 15000]
    assert all(len(set(parts[name])) == 1 for name in ("activations", "logits", "vision features"))
    offloaded = memory(vlm, roles, stage(), processes, 64, offload=True)
    assert [offloaded[zero]["optimiser"] for zero in range(4)] == [60000, 0, 0, 0]
    light = memory(vlm, roles, stage(gradient_checkpointing=True), processes, 64)
    assert light[0]["activations"] < found[0]["activations"]
