"""Promotions in several processes at once, and processes that die while they write the log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vistune import tracking
from vistune.errors import VistuneError
from vistune.promote import turn as turns
from vistune.promote.journal import Journal

ROUNDS = 3

PROMOTE = """
import json, sys, time
from pathlib import Path
from vistune import lineage, promote, tracking
from vistune.errors import VistuneError
from vistune.promote import registry
from vistune.stages import Context, home

given = json.loads(sys.argv[1])
lineage.ids = lambda: {"git.sha": "c" * 40, "git.dirty": "false"}
tracking.log_vlm = lambda *a, **k: given["uri"]  # registering is the point here, not the upload
turn = registry.turn

def together(name):
    if given["meet"]:  # both have decided to move the alias, and go on at the same moment
        (Path(given["meet"]) / f"{name}-{given['who']}").touch()
        late = time.monotonic() + 60
        while len(list(Path(given["meet"]).glob(f"{name}-*"))) < 2:
            assert time.monotonic() < late, "the other process never came to move the alias"
            time.sleep(0.001)
    return turn(name)

registry.turn = together
inputs = {stage: Path(folder) for stage, folder in given["inputs"].items()}
for name in given["names"]:
    output = Path(given["output"]) / name
    output.mkdir(parents=True)
    try:
        context = Context(seed=7, home=home(), root=output, run_id=given["run"])
        promote.run(promote.Params(name, require_clean_git=False), inputs, output, context)
        print(json.dumps([name, "moved"]))
    except VistuneError as error:
        print(json.dumps([name, str(error)]))
"""


@pytest.fixture
def start(tmp_path, run_id, store, warm):
    """start(who, names, inputs, home, meet) -> a process that promotes `inputs` under each of the names."""
    model = tmp_path / "upload"
    model.mkdir()
    (model / "model.safetensors").write_text("w")
    code = tmp_path / "code.py"
    code.write_text("from vistune import tracking\ntracking.serve(None)\n")
    uri = tracking.log_vlm(model, code, run_id)

    def begin(who: str, names: list[str], inputs: dict[str, Path], home: str, meet: bool) -> subprocess.Popen[str]:
        given = {"who": who, "names": names, "uri": uri, "run": run_id, "output": str(tmp_path / f"out-{who}")}
        given |= {"inputs": {k: str(v) for k, v in inputs.items()}, "meet": str(tmp_path) if meet else ""}
        environment = {**os.environ, "VISTUNE_HOME": str(tmp_path / home), "VISTUNE_USER": who}
        command = [sys.executable, "-c", PROMOTE, json.dumps(given)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    return begin


def said(process: subprocess.Popen[str]) -> dict[str, str]:
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return dict(json.loads(line) for line in out.splitlines() if line.startswith("["))


def champion(name: str) -> tracking.Version:
    found = tracking.get_alias(name, "champion")
    assert found is not None
    return found


@pytest.mark.slow
def test_of_two_machines_that_promote_at_once_one_is_refused(make, start):
    """Each has a log and a lock of its own, and both have found version 1 to be the champion."""
    names = [f"race-{n}" for n in range(ROUNDS)]
    said(start("first", names, make(model="a"), "home-first", False))
    pair = [start(who, names, make(model=who), f"home-{who}", True) for who in ("ann", "ben")]
    ann, ben = map(said, pair)
    for name in names:
        outcomes = sorted([ann[name], ben[name]], key=len)
        assert outcomes[0] == "moved", outcomes
        assert f"the champion of {name} changed from version 1 to" in outcomes[1]
        assert champion(name).tags["champion.replaced"] == "1"
        assert not [k for k in tracking.model_tags(name) if k.startswith(turns.CLAIM)]


@pytest.mark.slow
def test_two_processes_of_one_machine_wait_for_each_other(make, start, tmp_path):
    name = "queue"
    said(start("first", [name], make(model="a"), "home", False))
    pair = [start(who, [name], make(model=who), "home", False) for who in ("ann", "ben")]
    assert [said(p)[name] for p in pair] == ["moved", "moved"]
    moves = [e for e in Journal(tmp_path / "home/promotions.jsonl").events(name) if e["event"] == "promote"]
    assert [(e["previous"], e["version"]) for e in moves] == [
        ("", "1"),
        ("1", moves[1]["version"]),
        (moves[1]["version"], champion(name).version),
    ]
    assert {e["who"] for e in moves} == {"first", "ann", "ben"}


def test_a_claim_of_another_stops_a_move_until_it_lapses(make, go, monkeypatch):
    go(make(model="a"), "claimed")
    tracking.set_model_tag("claimed", f"{turns.CLAIM}x", f"{turns.time.time():.0f} ann")
    monkeypatch.setattr(turns, "TRIES", 2)
    with pytest.raises(VistuneError, match="ann is promoting another version of claimed; nothing was moved"):
        go(make(model="b"), "claimed")
    assert champion("claimed").version == "1"
    tracking.set_model_tag("claimed", f"{turns.CLAIM}x", f"{turns.time.time() - 601:.0f} ann")
    assert go(make(model="c"), "claimed")["champion"] == "3"


WRITE = """
import os, signal, sys
from pathlib import Path
from vistune.promote import journal

log = journal.Journal(Path(sys.argv[1]))
for n in range(int(sys.argv[2])):
    log.append({"event": "promote", "name": "m", "version": str(n)})
    print(n, flush=True)
if sys.argv[3] == "half":
    open(log.path, "ab").write(b'{"after":"half a l')
else:
    os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
    log.append({"event": "promote", "name": "m", "version": "last"})
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("how", ["half", "fsync"])
def test_the_log_survives_kill_9(tmp_path, how):
    path = tmp_path / "log.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(path), "3", how], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split()) == (-9, ["0", "1", "2"])
    log = Journal(path)
    versions = [e["version"] for e in log.events()]
    assert versions[:3] == ["0", "1", "2"]
    log.append({"event": "promote", "name": "m", "version": "4"})
    assert [e["version"] for e in log.events()] == [*versions, "4"]
    assert path.read_bytes().endswith(b"}\n")
