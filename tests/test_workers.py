"""Work in one process or several gives the same results in the same order; failures are told, orphans leave."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vistune.errors import VistuneError
from vistune.workers import Workers, cores


class Square:
    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.done = 0

    def __call__(self, n: int) -> tuple[int, int]:
        self.done += 1
        if n == 13:
            raise VistuneError(f"13 is unlucky (after {self.offset}).")
        return n * n + self.offset, os.getpid()


SCRIPT = """
import os, sys, time
from vistune.errors import VistuneError
from vistune.workers import Workers

class Work:
    def __init__(self, offset):
        self.offset = offset
    def __call__(self, n):
        if n == 13:
            raise VistuneError(f"13 is unlucky (after {self.offset}).")
        if n == 14:
            os.kill(os.getpid(), 9)
        if n == 15:
            print("busy", os.getpid(), flush=True)
            time.sleep(60)
        return n * n + self.offset, os.getpid()

if __name__ == "__main__":
    with Workers(int(sys.argv[1]), Work, 100) as workers:
        try:
            found = list(workers.map(map(int, sys.argv[2:])))
            print([value for value, _ in found], len({pid for _, pid in found}), os.getpid() in {p for _, p in found})
        except VistuneError as error:
            print(error)
"""


@pytest.fixture
def script(tmp_path: Path):
    path = tmp_path / "work.py"
    path.write_text(SCRIPT)

    def run(count: int, *items: int) -> str:
        command = [sys.executable, str(path), str(count), *map(str, items)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    run.path = path
    return run


def test_one_process_works_here():
    with Workers(1, Square, 100) as workers:
        assert [value for value, _ in workers.map(range(5))] == [100, 101, 104, 109, 116]
        assert {pid for _, pid in workers.map([1, 2])} == {os.getpid()}
    with Workers(8, Square, 0) as workers:
        assert {pid for _, pid in workers.map([1, 2], apart=False)} == {os.getpid()}


def test_items_are_taken_as_they_are_needed():
    taken = []
    with Workers(1, Square, 0) as workers:
        results = workers.map(n for n in range(100) if taken.append(n) is None)
        next(results)
        assert len(taken) == 1


def test_several_processes_give_the_same_in_the_same_order(script):
    items = [7, 3, 9, 1, 0, 2, 8, 8]
    values, processes, here = script(2, *items).rsplit(" ", 2)
    assert values == str([n * n + 100 for n in items]) == script(1, *items).rsplit(" ", 2)[0]
    assert 1 <= int(processes) <= 2 and here == "False"


def test_an_error_in_a_process_is_the_callers(script):
    assert script(2, 1, 13, 2) == "13 is unlucky (after 100)."


def test_a_killed_process_is_an_error_with_advice(script):
    assert "one of 2 worker processes was killed, most likely because memory ran out" in script(2, 1, 14, 2)


def test_workers_leave_when_their_parent_is_killed(script):
    command = [sys.executable, str(script.path), "2", "15", "15"]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    pids = [int(parent.stdout.readline().split()[1]) for _ in range(2)]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(alive, pids))


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended may wait for whoever inherited it to take note."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("share", "expected"), [("max 100000", 8), ("350000 100000", 3), ("50000 100000", 1), (None, 8)]
)
def test_cores_are_those_this_process_may_use(tmp_path, monkeypatch, share, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr("vistune.workers.CPU_MAX", tmp_path / "cpu.max")
    if share:
        (tmp_path / "cpu.max").write_text(f"{share}\n")
    assert cores() == expected
