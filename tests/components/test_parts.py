"""Data stages in parts: whatever their number, the release is the same, byte for byte."""

import importlib.util
import json
from pathlib import Path

import pytest
from kfp import dsl

from vistune.adapt import chunks
from vistune.errors import VistuneError
from vistune.files import tree_digest
from vistune.stages import EXECUTION, Settings, execute, receipt

ROOT = Path(__file__).parents[2]
SETTINGS = {"seed": 5, "self_instruct": {"images": 9, "reasks": 1}, "adapt": {"languages": {"en": 1.0, "zh": 0.5}}}


def component(folder, name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "components" / folder / "component.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name).python_func


@pytest.fixture
def sources(tiny_sources, tmp_path, monkeypatch):
    """The tiny corpus, finished as a stage, in chunks small enough that every part gets some."""
    monkeypatch.setattr(chunks, "ROWS", 3)
    target = tmp_path / "sources"
    import shutil

    from vistune.stages import Receipt, _seal

    shutil.copytree(tiny_sources, target)
    _seal(target, Receipt("sources", tree_digest(target), {"counts": {}}), data=True)
    return target


def run(stage, parts, sources, base, tree=SETTINGS):
    """The output of a data stage that ran in so many parts; 0: in one piece. As the pipeline calls the components."""
    settings = json.dumps({key: tree[key] for key in ("seed", stage) if key in tree})
    given = {"settings": settings, "sources": dsl.Dataset("sources", str(sources))}
    made = []

    def call(name, place, **more):
        output = dsl.Dataset("samples", str(base / place))
        component(stage, name)(**given, samples=output, metrics=dsl.Metrics("m", str(base / "m")), **more)
        made.append(output)

    if not parts:
        call(stage, f"{stage}-whole")
        return Path(made[-1].path)
    for part in range(parts):
        call(f"{stage}_part", f"{stage}-{part}-of-{parts}", part=part, parts=parts)
    call(f"{stage}_merge", f"{stage}-of-{parts}", parts=made[::-1])
    return Path(made[-1].path)


def own_home(monkeypatch, tmp_path, name):
    """Nothing that another way of running has left is found again."""
    monkeypatch.setenv("VISTUNE_HOME", str(tmp_path / f"home-{name}"))


@pytest.mark.slow
def test_the_release_is_the_same_for_any_number_of_parts(sources, tmp_path, monkeypatch):
    digests, receipts = {}, {}
    for parts in (0, 1, 2, 5):
        own_home(monkeypatch, tmp_path, parts)
        made = {stage: run(stage, parts, sources, tmp_path / f"n{parts}") for stage in ("adapt", "self_instruct")}
        if parts in (0, 5):  # equal samples make an equal release: once is enough to see it
            release = tmp_path / f"release-{parts}"
            execute("validate", Settings.parse(SETTINGS), {"sources": sources, **made}, release)
            digests[parts] = tree_digest(release, (EXECUTION,))
        receipts[parts] = {stage: receipt(folder) for stage, folder in made.items()}
    assert len(set(digests.values())) == 1, digests
    for parts in (1, 2, 5):
        for stage, whole in receipts[0].items():
            merged = receipts[parts][stage]
            assert (merged.digest, merged.key, merged.stage) == (whole.digest, whole.key, stage)
            assert merged.summary == whole.summary and merged.measured == whole.measured
    assert receipts[0]["adapt"].summary["counts"]["out"] > 50, "there is something to compare"


def test_parts_share_the_work(sources, tmp_path):
    run("adapt", 2, sources, tmp_path)
    made = [receipt(tmp_path / f"adapt-{part}-of-2").summary["counts"]["out"] for part in (0, 1)]
    whole = receipt(tmp_path / "adapt-of-2").summary["counts"]["out"]
    assert sum(made) == whole and min(made) > 0.25 * whole


def test_a_part_is_no_output_of_its_stage(sources, tmp_path):
    run("adapt", 2, sources, tmp_path)
    parts = [tmp_path / f"adapt-{part}-of-2" for part in (0, 1)]
    settings = Settings.parse(SETTINGS)
    for wrong, said in (
        ([parts[0], parts[0]], r"adapt is merged from adapt\[0/2\], adapt\[0/2\]; expected each of"),
        ([parts[1]], r"expected each of adapt\[0/1\]"),
    ):
        with pytest.raises(VistuneError, match=said):
            execute("adapt", settings, {"sources": sources}, tmp_path / "out", parts=wrong)
    other = Settings.parse({**SETTINGS, "seed": 6})
    with pytest.raises(VistuneError, match="was made from other inputs, parameters or code"):
        execute("adapt", other, {"sources": sources}, tmp_path / "out", parts=parts)
    given = {"sources": sources, "adapt": parts[0], "self_instruct": parts[1]}
    with pytest.raises(VistuneError, match=r"is only part adapt\[0/2\] of stage adapt. Merge all parts first"):
        execute("validate", settings, given, tmp_path / "out")
    with pytest.raises(VistuneError, match="stage sources runs in one piece"):
        execute("sources", settings, {}, tmp_path / "out", part=(0, 2))


def test_a_budget_that_could_run_out_is_refused_in_parts(sources, tmp_path, capsys):
    """Which dialogues are asked for again would depend on the number of parts."""
    tree = {"seed": 5, "self_instruct": {"images": 9, "reasks": 2, "max_requests": 40}}
    run("self_instruct", 0, sources, tmp_path, tree)
    with pytest.raises(SystemExit):
        run("self_instruct", 2, sources, tmp_path, tree)
    assert "In parts the budget must cover all of them" in capsys.readouterr().out
