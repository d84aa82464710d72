import subprocess
import sys
import threading
import time

import pytest

from vistune.errors import VistuneError
from vistune.exchange import Reply, Request
from vistune.ledger import Ledger, ledger_path
from vistune.self_instruct.facts import Facts


@pytest.fixture
def request_of(make):
    facts = Facts(make(1, [("cat", (0, 0, 9, 9))]))
    message = ({"role": "user", "content": "Objects:\ncat ..."},)
    return lambda id: Request(id, "detail", "detail@1", message, {}, 0, facts, 0)


def test_what_is_recorded_is_read_back(tmp_path, request_of):
    path = ledger_path(tmp_path, "a/model:7b")
    assert path.parent == tmp_path / "ledger" and "/" not in path.name.removesuffix(".jsonl")
    assert ledger_path(tmp_path, "a-model-7b") != path
    replies = [Reply("r1", "ok", "héllo\n“x”", 10, 3), Reply("r2", "length", "cut"), Reply("r3", "ok", "")]
    with Ledger(path) as ledger:
        for reply in replies:
            ledger.record(request_of(reply.request), reply)
        ledger.record(request_of("r1"), Reply("r1", "ok", "another"))  # the first answer stays
    with Ledger(path) as ledger:
        assert [ledger.get(r.request) for r in replies] == replies
        assert ledger.get("r4") is None and len(ledger) == 3


@pytest.mark.parametrize("cut", [1, 5, 40, 150])
def test_a_last_line_cut_short_is_dropped(tmp_path, request_of, cut):
    path = tmp_path / "l.jsonl"
    with Ledger(path) as ledger:
        for id in ("r1", "r2"):
            ledger.record(request_of(id), Reply(id, "ok", "text"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with Ledger(path) as ledger:
        kept = cut == 1  # only the line end is missing: the answer is there
        assert (ledger.get("r2") is not None) == kept and ledger.get("r1") is not None
        ledger.record(request_of("r2"), Reply("r2", "ok", "text"))
    assert path.read_bytes() == whole


def test_damage_elsewhere_is_no_matter_for_guessing(tmp_path, request_of):
    path = tmp_path / "l.jsonl"
    with Ledger(path) as ledger:
        for id in ("r1", "r2"):
            ledger.record(request_of(id), Reply(id, "ok", "text"))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0][:30] + b"\n" + lines[1])
    with pytest.raises(VistuneError, match="damaged at line 1"), Ledger(path):
        pass
    path.write_bytes(b"[1]\n" + lines[1])
    with pytest.raises(VistuneError, match="damaged at line 1"), Ledger(path):
        pass


def test_threads_write_whole_lines(tmp_path, request_of):
    path = tmp_path / "l.jsonl"
    with Ledger(path) as ledger:

        def write(thread):
            for i in range(20):
                ledger.record(request_of(f"{thread}-{i}"), Reply(f"{thread}-{i}", "ok", "x" * 500))

        threads = [threading.Thread(target=write, args=(t,)) for t in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with Ledger(path) as ledger:
        assert len(ledger) == 80


def test_one_process_at_a_time(tmp_path):
    """A second run waits: two at once would pay twice for the same request."""
    path = tmp_path / "l.jsonl"
    hold = (
        "from pathlib import Path; from vistune.ledger import Ledger; "
        f"ledger = Ledger(Path({str(path)!r})); ledger.__enter__(); print('held', flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "held\n"
        opened = threading.Event()

        def enter():
            with Ledger(path):
                opened.set()

        waiter = threading.Thread(target=enter, daemon=True)
        waiter.start()
        time.sleep(0.2)
        assert not opened.is_set()
        holder.kill()  # a killed run lets go
        assert opened.wait(10)
        waiter.join()
    finally:
        holder.kill()
        holder.communicate()
