"""The benchmark of the engine runs, and says what it could not measure."""

import json
import os
import subprocess
import sys

import pytest

from vistune.stages import repository

BENCH = repository() / "bench"
NO_GPU = os.environ | {"CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))


def test_help_tells_how_to_install_the_peers():
    command = [sys.executable, str(BENCH / "tune.py"), "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "--trl PYTHON" in shown and "pip install --no-deps trl" in shown
    assert "--llamafactory PYTHON" in shown and "--ignore-installed llamafactory==" in shown


def test_every_measurement_has_a_result_kept_with_its_command_table_and_plot(parts):
    import tune
    from parts.tune_draw import table

    results = BENCH / "results" / "tune.json"
    kept = json.loads(results.read_text())
    assert [row["measure"] for row in kept] == list(tune.MEASURES)
    for row in kept:
        assert row["command"].startswith(f"python bench/tune.py --only {row['measure']}") and row["bench"] == "tune"
        assert row.keys() - {"bench", "measure", "command"}
    assert results.with_suffix(".md").read_text() == table({row["measure"]: row for row in kept})
    assert results.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("peer", ["trl", "llamafactory"])
def test_a_peer_that_is_not_there_is_said_aloud_and_gets_no_figure(parts, capsys, peer):
    from parts import tune_arms

    for python in ("", sys.executable, "/no/such/python"):
        assert getattr(tune_arms, peer)(python) == {"peer": "not installed"}
        assert f"has {peer}" in capsys.readouterr().err


def test_the_samples_are_mixed_as_said(parts):
    from parts.tune_data import MEDIAN, TEMPLATE, WITH_IMAGE, texts

    found = texts(2_000)
    lengths = sorted(len(question) + len(answer) + TEMPLATE for question, answer, _ in found)
    assert abs(lengths[1_000] - MEDIAN) <= 3
    assert abs(sum(shown for *_, shown in found) / 2_000 - WITH_IMAGE) < 0.02
    assert found[:9] == texts(9)


def test_a_dense_mask_isolates_samples_as_segments_do(parts):
    from parts.tune_batching import mask

    from vistune.tune.attention import Segment

    made = mask([Segment(0, 2), Segment(2, 3)])
    assert made[0, 0].tolist() == [[True, False, False], [True, True, False], [False, False, True]]


def test_balance_counts_every_pack_once(parts):
    from parts.tune_balance import SHAPES, simulate

    found = simulate(SHAPES["llava-next-7b"], 4)
    assert found["packs"] <= 4 * found["steps"]
    assert all(found[arm]["slowest"] >= 1 for arm in ("ours", "packs_shuffled", "samples_shuffled"))


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_without_a_gpu_nothing_is_claimed():
    done = subprocess.run(
        [sys.executable, str(BENCH / "gpu.py")], capture_output=True, text=True, check=True, env=NO_GPU
    )
    assert json.loads(done.stdout) == {"bench": "gpu", "measure": "none", "gpu": "none"}
    assert "NOT MEASURED" in done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("arm", ["full", "qlora"])
def test_the_gpu_bench_runs_at_tiny_sizes(arm):
    command = [sys.executable, str(BENCH / "gpu.py"), "--smoke", "--only", arm]
    row = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1])
    assert row["tokens_per_second"] > 0 and row["where"]["matrix products"] > 0.1
    assert sum(row["where"].values()) == pytest.approx(1, abs=0.01)
