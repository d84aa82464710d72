"""The whole stage: what it writes, when it stops, and that it does the same twice."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from PIL import Image

from vistune.errors import VistuneError
from vistune.files import files_under, read_json, tree_digest
from vistune.hashing import file_digest, merkle_root
from vistune.params import parse
from vistune.store import open_image, read_rejects, read_samples, write_samples
from vistune.validate import Params, suite
from vistune.validate.checks import VALUES, Tally
from vistune.validate.release import warnings


def test_clean_set_becomes_a_release_and_twice_the_same_bytes(world):
    """Zero rejects, the promised files, and equal bytes, pages included, although the first left rubbish behind."""
    summary = world.run(world.samples)
    assert summary["counts"] == {"in": 56, "out": 56, "rejected": {}}
    assert summary["details"]["warnings"] == []
    assert all(isinstance(v, float) for v in summary["metrics"].values())
    assert summary["metrics"]["presence_yes_share"] == 0.5
    json.dumps(summary)

    release = read_json(world.output / "release.json")
    assert (release["samples"], release["images"]) == (56, 8)
    assert release["by"]["split"] == {"train": 42, "validation": 14}
    assert release["by"]["task"] == {"caption": 8, "conversation": 8, "locate": 8, "presence": 32}
    assert release["by"]["method"] == {"adapt": 48, "self_instruct": 8}
    samples = list(read_samples(world.output))
    images = {i.path: i for s in samples for i in s.images}
    for path, image in images.items():
        assert path == f"images/{image.sha256[:2]}/{image.sha256}.png"
        assert file_digest(world.output / path) == image.sha256
        assert open_image(world.output, image).size == (image.width, image.height)
    shards = [(p.name, file_digest(p)) for p in world.output.glob("samples-*.parquet")]
    assert release["digest"] == merkle_root([*shards, *((p, i.sha256) for p, i in images.items())])
    credits = read_json(world.output / "attribution.json")
    assert credits == {path: {"licence": "CC BY 4.0", "attribution": "A. Painter"} for path in images}

    checks = read_json(world.output / "checks.json")["checks"]
    assert len(checks) > 40
    assert [c["name"] for c in checks if c["failed"]] == []

    first = tree_digest(world.output)
    (world.output / "samples-00009.parquet").write_bytes(b"half")
    (world.output / ".release.json.x.tmp").write_text("{")
    (world.output / "images/ff").mkdir(exist_ok=True)
    (world.output / "images/ff/left.png").write_bytes(b"left over")
    for path in files_under(world.output / "images")[:2]:
        path.unlink()
        path.write_bytes(b"cut short")
    assert world.run(world.samples) == summary
    assert tree_digest(world.output) == first


def test_failed_critical_expectation_stops_naming_it_and_its_page_names_the_rows(world, monkeypatch):
    """A task that the row checks were made blind to is caught by the suite; the pages say so, and no more."""
    target = world.pick("caption")
    known = VALUES["task"]
    monkeypatch.setitem(VALUES, "task", known | {"captoin"})
    build = suite.expectations

    def strict(params, frame):
        monkeypatch.setitem(VALUES, "task", known)
        return build(params, frame)

    monkeypatch.setattr(suite, "expectations", strict)
    with pytest.raises(VistuneError) as error:
        world.run(world.change(target, task="captoin"), min_samples=57, yes_share_low=0.6, yes_share_high=0.7)
    message = str(error.value)
    assert "breaks 2 of" in message
    assert f"task is a known value (expect_column_values_to_be_in_set(task)): {target.id}" in message
    assert "57 or more samples (expect_table_row_count_to_be_between): observed 56" in message

    pages = {p.name: p.read_text(encoding="utf-8") for p in files_under(world.output / "data_docs")}
    assert set(pages) == {"index.html", "suite.html"}
    assert "Between 60% and 70% of the presence questions are answered yes." in pages["index.html"]
    assert target.id in pages["index.html"]
    assert "captoin" in pages["index.html"]
    assert "Samples of one picture stay in one split." in pages["suite.html"]
    for page in pages.values():
        assert str(world.folder) not in page
        assert "/tmp" not in page
        assert "<script" not in page
        assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)
        assert not re.search(r"url\(|@import", page)
        assert not re.search(r"\d{8}T\d{6}|20\d\d-\d\d-\d\d", page)
        assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-", page)


def test_warnings_are_those_above_their_share():
    tallies = [
        Tally("rare", "warning", "no few", 1000, 5, ["a"]),
        Tally("common", "warning", "no many", 1000, 6, ["a", "b"]),
        Tally("suite", "warning", "the share is fair", 1, 1, ["observed 0.7"]),
        Tally("hard", "hard", "rejected elsewhere", 10, 10, ["c"]),
    ]
    assert warnings(Params(), tallies) == [
        "common: 6 of 1,000 do not pass 'no many' (a, b).",
        "suite: 'the share is fair' fails (observed 0.7).",
    ]


def test_too_many_defective_rows_stop_the_run_and_leave_the_rejects(world, no_suite):
    bad = [s.id for s in world.samples if s.task == "caption"]
    rows = [replace(s, licence="") if s.id in bad else s for s in world.samples]
    with pytest.raises(VistuneError) as error:
        world.run(rows)
    assert "8 of 56 rows (14.3%) are defective, more than validate.max_quarantined_share = 5.0%" in str(error.value)
    assert f"licence_missing 8 ({', '.join(sorted(bad))})" in str(error.value)
    assert sorted(r.key for r in read_rejects(world.output)) == sorted(bad)
    summary = world.run(rows, max_quarantined_share=0.15)
    assert summary["counts"] == {"in": 56, "out": 48, "rejected": {"licence_missing": 8}}
    assert summary["metrics"]["quarantined_share"] == 8 / 56


def test_rows_that_the_user_excludes_are_no_quarantine(world, no_suite):
    half = [s.id for n, s in enumerate(world.samples) if n % 2]
    rows = [replace(s, licence="CC BY-NC 4.0") if s.id in half else s for s in world.samples]
    summary = world.run(rows, allow_licences=("cc by 4.0",))
    assert summary["counts"] == {"in": 56, "out": 28, "rejected": {"licence_not_allowed": 28}}


def test_empty_splits_are_named_with_what_emptied_them(world, no_suite):
    only = [s for s in world.samples if s.split == "validation"]
    with pytest.raises(
        VistuneError, match=r"split train is empty: no training sample entered \(found: validation 14\)"
    ):
        world.run(only)
    with pytest.raises(VistuneError, match=r"split train is empty: .* \(found: no rows at all\)"):
        world.run([])
    rows = [replace(s, licence="odd") if s.split == "validation" else s for s in world.samples]
    with pytest.raises(VistuneError) as error:
        world.run(rows, allow_licences=("CC BY 4.0",))
    assert "split validation is empty: all of its 14 rows were removed: licence_not_allowed 14 (" in str(error.value)
    assert "and 4 more)" in str(error.value)


def test_one_id_for_two_rows_stops_the_run(world, no_suite):
    adapted, dialogue = world.pick("caption"), world.pick("conversation")
    with pytest.raises(VistuneError) as error:
        world.run(world.change(dialogue, id=adapted.id))
    assert f"1 ids are used by more than one row: {adapted.id}." in str(error.value)


def test_undecodable_benchmark_image_stops_the_run(world, no_suite):
    path = world.sources / "presence_trained/images/1.png"
    Image.new("RGB", (96, 96), "red").save(path, "JPEG")  # a PNG cut short is refused when the benchmark is read
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(VistuneError, match=r"1 benchmark images .* presence_trained/images/1.png"):
        world.run(world.samples)


def test_samples_of_adapt_that_has_its_own_sources(world, no_suite):
    """`vistune adapt --source` keeps its images beside its samples."""
    shutil.copytree(world.sources, world.folder / "adapt/sources")
    shutil.rmtree(world.sources / "toys/images")
    rows = [s for s in world.samples if s.method == "adapt"]
    assert world.run(rows)["counts"] == {"in": 48, "out": 48, "rejected": {}}
    shutil.rmtree(world.folder / "adapt/sources")
    with pytest.raises(VistuneError, match="missing or changed"):
        world.run(rows)


def test_defects_of_all_kinds_at_once_add_up(world, no_suite):
    rows, expected = list(world.samples), {}
    presence = [n for n, s in enumerate(rows) if s.task == "presence" and s.split == "train"]
    plans = [
        ("special_token", {"response": "Yes <image>"}),
        ("polarity_mismatch", {"response": "No", "polarity": "yes"}),
        ("licence_missing", {"licence": ""}),
        ("known_values", {"split": "dev"}),
        ("image_reference", {"images": ()}),
    ]
    for n, (reason, change) in zip(presence, plans, strict=False):
        rows[n] = replace(rows[n], **{"choices": (), **change})
        expected[rows[n].id] = reason
    copy = next(s for s in rows if s.task == "caption")
    rows.append(replace(copy, id="vt1:zz"))
    expected["vt1:zz"] = "duplicate_exact"
    summary = world.run(rows, max_quarantined_share=0.2)
    assert {r.key: r.reason for r in read_rejects(world.output)} == expected
    table = summary["counts"]
    assert table["in"] == table["out"] + sum(table["rejected"].values()) == 57
    failed = {c["name"]: c["ids"] for c in read_json(world.output / "checks.json")["checks"] if c["failed"]}
    assert failed["duplicate_exact"] == ["vt1:zz"]
    assert {id for ids in failed.values() for id in ids} == set(expected)


def test_params_parse_strictly_and_importing_the_stage_is_light():
    assert parse(Params, {"near_duplicate_hamming": 4, "allow_licences": ["CC0"]}, "validate").allow_licences == (
        "CC0",
    )
    with pytest.raises(VistuneError, match=r"did you mean validate\.min_samples"):
        parse(Params, {"min_sample": 4}, "validate")
    code = "import sys, vistune.validate; print([m for m in ('numpy', 'PIL', 'pandas', 'pyarrow') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_unreadable_input_is_named(world, no_suite):
    write_samples(world.folder / "adapt", world.samples)
    shutil.rmtree(world.folder / "self_instruct", ignore_errors=True)
    (world.folder / "self_instruct").mkdir()
    from vistune.stages import Context
    from vistune.validate import run

    inputs = {name: world.folder / name for name in ("sources", "adapt", "self_instruct")}
    with pytest.raises(VistuneError, match=r"no samples-\*\.parquet in .*self_instruct"):
        run(Params(), inputs, world.output, Context(0, world.folder, world.folder))


@pytest.mark.slow
def test_release_does_not_depend_on_the_process(world):
    """Other processes with other hash seeds and folders write the same bytes, pages included."""
    world.run(world.samples)
    code = (
        "import sys, pathlib, vistune.validate as v; from vistune.stages import Context;"
        "w, out = map(pathlib.Path, sys.argv[1:]);"
        "inputs = {n: w / n for n in ('sources', 'adapt', 'self_instruct')};"
        "v.run(v.Params(), inputs, out, Context(0, w, w))"
    )
    for seed in ("1", "2"):
        output = world.folder / f"elsewhere-{seed}" / "deep"
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", code, world.folder, output], env=environment, check=True)
        assert tree_digest(output) == tree_digest(world.output)
