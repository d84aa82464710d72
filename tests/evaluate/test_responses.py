"""The response log after crashes of every kind."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vistune.evaluate.responses import ResponseLog

ANSWER = [-1.5, True, 2]


def fill(path: Path, count: int = 3) -> list[bytes]:
    with ResponseLog(path) as log:
        for n in range(count):
            log.add({f"{n}a": [-1.5 - n, True, 2], f"{n}b": ["text", "stop"]})
    return path.read_bytes().splitlines(keepends=True)


def test_answers_come_back_exactly(tmp_path: Path) -> None:
    fill(tmp_path / "a" / "log.jsonl")
    with ResponseLog(tmp_path / "a" / "log.jsonl") as log:
        assert (log.get("2a"), log.get("2b"), log.get("9a")) == ([-3.5, True, 2], ["text", "stop"], None)
        assert len(log) == 6


@pytest.mark.parametrize("cut", range(1, 50, 7))
def test_a_torn_last_line_is_dropped_as_a_whole_and_written_again(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "log.jsonl"
    whole = b"".join(fill(path))
    path.write_bytes(whole[:-cut])
    with ResponseLog(path) as log:
        assert set(log.answers) == {"0a", "0b", "1a", "1b"}
        log.add({"2a": [-3.5, True, 2], "2b": ["text", "stop"]})
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "damage", [b"\0" * 40 + b"\n", b"{}\n", b'{"batch": "old", "answers": []}\n', b"[1]\n", b"\xff\n"]
)
def test_nothing_after_damage_is_trusted(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "log.jsonl"
    lines = fill(path)
    path.write_bytes(lines[0] + damage + lines[2])
    with ResponseLog(path) as log:
        assert set(log.answers) == {"0a", "0b"}
    assert path.read_bytes() == lines[0]


def test_every_line_is_complete_when_add_returns(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with ResponseLog(path) as log:
        log.add({"a": ANSWER})
        assert [json.loads(line) for line in path.read_text().splitlines()] == [{"answers": {"a": ANSWER}}]


def test_several_may_append_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with ResponseLog(path) as one, ResponseLog(path) as other:
        one.add({"a": ANSWER})
        other.add({"b": ANSWER})
        with open(path, "ab") as file:
            file.write(b'{"answers": {"torn"')  # of a third that was killed
        one.add({"c": ANSWER})
        other.refresh()
        assert set(one.answers) == set(other.answers) == {"a", "b", "c"}
    assert len(path.read_bytes().splitlines()) == 3


WRITER = """
import sys
from pathlib import Path
from vistune.evaluate.responses import ResponseLog
with ResponseLog(Path(sys.argv[1])) as log:
    for n in range(int(sys.argv[2])):
        if log.get(f"{n}a") is None:
            log.add({f"{n}a": [float(n), True, 1], f"{n}b": ["x" * 4000, "stop"]})
            print(n, flush=True)  # whoever reads this relies on it
"""


def test_killed_at_any_moment_nothing_is_lost_and_nothing_done_twice(tmp_path: Path) -> None:
    path, count = tmp_path / "log.jsonl", 400
    drawn = random.Random(0)
    done: list[int] = []
    kills = 0
    while True:
        command = [sys.executable, "-c", WRITER, str(path), str(count)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        if kills < 4:
            done.append(int(writer.stdout.readline()))
            time.sleep(drawn.uniform(0.0, 0.02))
            os.kill(writer.pid, signal.SIGKILL)
            kills += 1
        done += [int(line) for line in writer.stdout.read().splitlines() if line]
        if writer.wait() == 0:
            break
    with ResponseLog(path) as log:
        assert set(log.answers) == {f"{n}{part}" for n in range(count) for part in "ab"}
    # A batch may be on disk whose writer died before it could say so; none is said, and so used, twice.
    assert len(done) == len(set(done)) and len(done) >= count - kills
    assert kills == 4
