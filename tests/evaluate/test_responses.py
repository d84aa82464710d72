"""The response log after crashes of every kind."""

import json
from pathlib import Path

import pytest

from vistune.evaluate.responses import ResponseLog


def fill(path: Path, count: int = 3) -> list[bytes]:
    with ResponseLog(path) as log:
        for n in range(count):
            log.add(f"batch{n}", [[-1.5 - n, True, 2], [-0.1, False, 3]])
    return path.read_bytes().splitlines(keepends=True)


def test_answers_come_back_exactly(tmp_path: Path) -> None:
    fill(tmp_path / "a" / "log.jsonl")
    with ResponseLog(tmp_path / "a" / "log.jsonl") as log:
        assert log.get("batch2", 2) == [[-3.5, True, 2], [-0.1, False, 3]]
        assert log.get("batch9", 2) is None
        assert log.get("batch2", 3) is None, "an entry with another number of answers is not this batch"


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_last_line_is_dropped_and_written_again(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "log.jsonl"
    whole = path.write_bytes(b"".join(fill(path))) and path.read_bytes()
    path.write_bytes(whole[:-cut])
    with ResponseLog(path) as log:
        assert set(log.batches) == {"batch0", "batch1"}
        log.add("batch2", [[-3.5, True, 2], [-0.1, False, 3]])
    assert path.read_bytes() == whole


@pytest.mark.parametrize("damage", [b"\0" * 40 + b"\n", b"{}\n", b'{"batch": 1, "answers": []}\n', b"[1]\n", b"\xff\n"])
def test_nothing_after_damage_is_trusted(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "log.jsonl"
    lines = fill(path)
    path.write_bytes(lines[0] + damage + lines[2])
    with ResponseLog(path) as log:
        assert set(log.batches) == {"batch0"}
    assert path.read_bytes() == lines[0]


def test_every_line_is_complete_when_add_returns(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with ResponseLog(path) as log:
        log.add("a", ["text"])
        assert [json.loads(line) for line in path.read_text().splitlines()] == [{"batch": "a", "answers": ["text"]}]
