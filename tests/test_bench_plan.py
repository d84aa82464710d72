"""The benchmark of `vistune tune --plan` keeps what it measured, within what it and the plan state."""

import json
from itertools import islice

import pytest

from vistune.stages import repository

BENCH = repository() / "bench"


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))


def test_the_result_is_of_the_sizes_that_are_run(parts):
    import plan

    kept = json.loads((BENCH / "results" / "plan.json").read_text())
    assert kept["command"] == "python bench/plan.py" and kept["samples"] == plan.SAMPLES
    compared = kept["against_exact"]
    assert compared["samples"] == plan.EXACT and set(plan.COMPARED) < compared["errors"].keys()
    errors = compared["errors"]
    assert abs(errors["tokens"]) <= compared["stated_error"] < 0.01
    assert errors["left_out"] == errors["longest_sample"] == 0


def test_the_samples_are_the_same_each_time_and_mixed_as_said(parts):
    from parts.plan_data import TASKS, samples
    from parts.tune_data import WITH_IMAGE

    found = list(samples(2_000))
    assert list(islice(samples(2_000), 20)) == found[:20]
    assert abs(sum(bool(s.images) for s in found) / 2_000 - WITH_IMAGE) < 0.03
    assert {(s.dataset, s.task) for s in found} == {(d, task) for d, tasks in TASKS.items() for task in tasks}
    assert all(len(m.images) == len(s.images) for s in found for m in s.messages[:1])
