"""An export folder is whole or absent, replaces only exports, and errors say what to do."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from vistune import cli
from vistune.errors import VistuneError
from vistune.export import VIEWS, export
from vistune.records import Message


def names(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_an_export_replaces_an_export_and_nothing_else(tiny, tmp_path):
    out = tmp_path / "out"
    release = tiny.write()
    export(release, "hf", out)
    assert export(release, "llava", out)["view"] == "llava"
    assert "train.json" in names(out) and not list(out.glob("*.parquet"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "release", "source"], "nothing is left beside it"

    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    with pytest.raises(VistuneError, match=r"mine exists and is no export \(it has no export.json\)"):
        export(release, "llava", mine)
    assert names(mine) == ["thesis.tex"]
    (tmp_path / "empty").mkdir()
    assert export(release, "llava", tmp_path / "empty")["images"] == 3


def test_a_failure_leaves_the_earlier_export(tiny, tmp_path):
    out = tmp_path / "out"
    export(tiny.write(), "llava", out)
    before = {name: (out / name).read_bytes() for name in names(out)}
    wide = tiny.images["wide.png"]
    (tiny.folder / wide.path).write_bytes(b"something else")  # hard links: the export's copy changes with it
    with pytest.raises(VistuneError, match=f"changed: expected sha256 {wide.sha256[:12]}"):
        export(tiny.folder, "llava", out)
    assert {n: b for n, b in before.items() if "images" not in n} == {
        n: (out / n).read_bytes() for n in names(out) if "images" not in n
    }
    assert not list(tmp_path.glob(".out.*"))


@pytest.mark.parametrize("view", VIEWS)
def test_a_killed_export_is_never_seen_and_leaves_nothing_for_long(tiny, tmp_path, view):
    """SIGKILL while rows are written: no output; the next export clears what was left."""
    release, out = tiny.write(), tmp_path / "out"
    code = (
        "import sys, time, pathlib, vistune.export as e\n"
        "def slowly(sample, codec, tally, render=e.render):\n"
        "    if tally.samples.total() == 2:\n"
        "        print('stuck', flush=True); time.sleep(60)\n"
        "    return render(sample, codec, tally)\n"
        "e.render = slowly\n"
        "e.export(pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3]))\n"
    )
    command = [sys.executable, "-c", code, str(release), view, str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "stuck\n"
        os.kill(child.pid, signal.SIGKILL)
    assert not out.exists() and (tmp_path / ".out.new").is_dir()
    (tmp_path / ".out.new" / "leftover").write_text("of the killed one")
    export(release, view, out)
    assert not (tmp_path / ".out.new").exists()
    assert "leftover" not in names(out) and "export.json" in names(out)


def test_one_split(tiny, tmp_path):
    manifest = export(tiny.write(), "sharegpt", tmp_path / "out", split="validation")
    assert manifest["samples"] == {"validation": 1} and manifest["images"] == 1
    assert list(json.loads((tmp_path / "out" / "dataset_info.json").read_text())) == ["vistune_validation"]
    assert len([n for n in names(tmp_path / "out") if n.startswith("images/")]) == 1
    with pytest.raises(VistuneError, match=r"has no split 'test'. It has train, validation"):
        export(tiny.folder, "sharegpt", tmp_path / "out", split="test")


def test_a_folder_that_is_no_release(tmp_path):
    with pytest.raises(VistuneError, match=r"is no release \(it has no release.json\)"):
        export(tmp_path, "llava", tmp_path / "out")


def test_unknown_names(tiny, tmp_path):
    release = tiny.write()
    with pytest.raises(VistuneError, match=r"there is no view 'lava'. Choose one of llava, sharegpt"):
        export(release, "lava", tmp_path / "out")
    with pytest.raises(VistuneError, match=r"there is no box format 'qwen'"):
        export(release, "llava", tmp_path / "out", boxes="qwen")
    assert not (tmp_path / "out").exists()


DAMAGE = {
    "roles": (lambda s: (s.messages[0],), r"expected user and assistant in turn, found user\."),
    "order": (lambda s: s.messages[::-1], r"expected user and assistant in turn, found assistant, user"),
    "nothing": (lambda s: (), r"found none"),
    "hidden": (
        lambda s: (replace(s.messages[0], images=()), s.messages[1]),
        r"has 1 images, and its messages show numbers \[\]",
    ),
    "dangling": (lambda s: (replace(s.messages[0], images=(0, 1)), s.messages[1]), r"show numbers \[0, 1\]"),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_sample_that_no_trainer_could_read(tiny, tmp_path, view, damage):
    change, message = DAMAGE[damage]
    locate = tiny.samples["locate"]
    tiny.samples["locate"] = replace(locate, messages=change(locate), regions=())
    with pytest.raises(VistuneError, match=f"sample {locate.id}: .*{message}"):
        export(tiny.write(), view, tmp_path / "out")


@pytest.mark.parametrize("view", ["llava", "sharegpt", "alpaca", "internvl"])
def test_a_marker_in_the_text_would_be_read_as_an_image(tiny, tmp_path, view):
    talk = tiny.samples["talk"]
    said = (talk.messages[0], Message("assistant", "It writes <image> tags."), *talk.messages[2:])
    tiny.samples["talk"] = replace(talk, messages=said)
    with pytest.raises(VistuneError, match=f"sample {talk.id}: its text holds <image>"):
        export(tiny.write(), view, tmp_path / "out")
    assert export(tiny.folder, "messages", tmp_path / "out")["samples"]["train"] == 5, "blocks need no marker"


def test_a_sharded_image_store_is_read_alike(tiny, tmp_path):
    imageshards = pytest.importorskip("vistune.imageshards")
    release = tiny.write()
    export(release, "llava", tmp_path / "loose")
    files = [(image, tiny.folder / image.path) for image in tiny.images.values()]
    imageshards.ShardedImages(release).add(files)
    for _, path in files:
        path.unlink()
    export(release, "llava", tmp_path / "sharded")
    assert names(tmp_path / "loose") == names(tmp_path / "sharded")
    for name in names(tmp_path / "loose"):
        assert (tmp_path / "loose" / name).read_bytes() == (tmp_path / "sharded" / name).read_bytes()


def test_the_command(tiny, tmp_path):
    release, out = tiny.write(), tmp_path / "out"
    arguments = ["export", str(release), "--as", "llava", "--output", str(out), "--boxes", "shikra", "--split", "train"]
    done = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert done.output == (
        "export llava: train 5 samples · 3 images, 1 of them turned upright\n"
        "  boxes as shikra: 2 in 2 samples\n"
        f"  in {out}\n"
    )
    lost = tiny.samples["locate"]
    tiny.samples["locate"] = replace(lost, regions=(replace(lost.regions[0], mention=()),))
    tiny.write()
    done = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert "  boxes as shikra: 1 in 1 samples\n  as in the release: 1 samples (box_without_mention 1)\n" in done.output


def test_the_help_lists_views_and_formats():
    text = CliRunner().invoke(cli.app, ["export", "--help"]).output
    for name in (*VIEWS, "qwen25_vl", "minigpt_v2"):
        assert f"\n  {name} " in text
