"""Files are whole or absent, folders are replaced at once, and a broken file is named."""

import json
import os
import subprocess
import sys

import pytest

from vistune.errors import VistuneError
from vistune.files import (
    atomic,
    inside,
    link_tree,
    made_once,
    path_digest,
    read_json,
    read_lines,
    tree_digest,
    write_json,
    write_text,
)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"b": 1, "a": "ä"})
    assert path.read_bytes() == '{\n  "a": "ä",\n  "b": 1\n}\n'.encode()
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"a": "ä", "b": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_killed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    code = (
        "import os, signal, sys; from pathlib import Path; from vistune.files import atomic\n"
        "with atomic(Path(sys.argv[1])) as t:\n    t.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -9
    assert path.read_text() == "old"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "does not exist"),
        (b'{"a": 1', "is not valid JSON"),
        (b"\xff", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
    ],
)
def test_json_that_cannot_be_read_is_named(tmp_path, content, said):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VistuneError, match=said) as stopped:
        read_json(path)
    assert str(path) in str(stopped.value)


def test_json_reads_what_only_json_reads(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": Infinity, "a": 2}')
    assert read_json(path) == {"a": 2}
    assert read_json(path, pairs=list) == [("a", float("inf")), ("a", 2)]


def test_lines_are_objects_and_a_bad_one_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    assert read_lines(path) == []
    # U+2028 ends a line for str.splitlines, and not in JSON Lines.
    path.write_text(json.dumps({"a": "x\u2028y"}, ensure_ascii=False) + "\n" + '{"b": 2}\n', encoding="utf-8")
    assert read_lines(path) == [{"a": "x\u2028y"}, {"b": 2}]
    path.write_text('{"b": 2}\n{"c": ')
    with pytest.raises(VistuneError, match=r"a\.jsonl, line 2 is not JSON"):
        read_lines(path)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "out/x"])
def test_paths_stay_in_their_folder(tmp_path, name):
    root = tmp_path / "root"
    root.mkdir()
    (root / "out").symlink_to(tmp_path)
    assert inside(root, "a/b") == root / "a" / "b"
    with pytest.raises(VistuneError, match="leaves its folder"):
        inside(root, name)


def test_digests_see_names_and_contents_alone(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for root, names in ((one, ("a/x", "b")), (two, ("b", "a/x"))):
        for name in names:
            write_text(root / name, name)
    os.utime(two / "b", (0, 0))
    assert tree_digest(one) == tree_digest(two) == path_digest(two)
    assert tree_digest(one, exclude=("b",)) != tree_digest(one)
    (two / "b").rename(two / "c")
    assert tree_digest(one) != tree_digest(two)


def test_a_picture_of_a_folder_counts_by_its_size(tmp_path):
    write_text(tmp_path / "a.JPG", "1234")
    before = path_digest(tmp_path)
    write_text(tmp_path / "a.JPG", "5678")
    assert path_digest(tmp_path) == before
    write_text(tmp_path / "a.JPG", "56789")
    assert path_digest(tmp_path) != before


def test_a_tree_is_replaced_whole_and_shares_its_files(tmp_path):
    source, target = tmp_path / "source", tmp_path / "deep" / "target"
    write_text(source / "a" / "new", "1")
    write_text(target / "old", "2")
    write_text(target.with_name(".target.new") / "left", "by a kill")
    link_tree(source, target)
    assert [p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()] == ["a/new"]
    assert os.path.samefile(source / "a" / "new", target / "a" / "new")
    assert [p.name for p in target.parent.iterdir()] == ["target"]


def test_a_folder_is_made_once_and_whole_after_a_kill(tmp_path):
    folder = tmp_path / "cache" / "weights"
    code = (
        "import os, signal, sys; from pathlib import Path; from vistune.files import made_once\n"
        "def half(f): (f / 'half').write_text('h'); os.kill(os.getpid(), signal.SIGKILL)\n"
        "made_once(Path(sys.argv[1]), half)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(folder)], check=False).returncode == -9
    assert not folder.exists()
    made = []

    def fill(place):
        made.append(place)
        (place / "whole").write_text("w")

    assert made_once(folder, fill) == made_once(folder, fill) == folder
    assert [p.name for p in folder.iterdir()] == ["whole"] and len(made) == 1
    assert sorted(p.name for p in folder.parent.iterdir()) == ["weights", "weights.lock"]

    def fail(place):
        raise VistuneError("no space")

    with pytest.raises(VistuneError, match="no space"):
        made_once(tmp_path / "other", fail)
    assert not (tmp_path / "other").exists()
