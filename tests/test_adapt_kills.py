"""`vistune adapt`, killed with all its processes at any moment and started again, ends with the bytes of a run that
nobody disturbed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from vistune.files import tree_digest, write_json
from vistune.stages import EXECUTION
from vistune.store import verify

IMAGES = 300
LABELS = ("dog", "cat", "bird", "kite", "bench", "car")
TURNS = [
    ("*.partial", 0.3),
    ("*.partial/.samples*", 0.0),
    ("*.partial/records.json", 0.0),
    ("*.partial/receipt.json", 0.0),
]
"""What the stage has made when it is killed, and seconds after it."""


def vistune(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "vistune.cli", *map(str, arguments)]


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """The output of the sources stage: pictures with boxes, two of them bad."""
    rng = random.Random(7)
    rows = []
    for n in range(1, IMAGES + 1):
        (tmp_path / "own").mkdir(exist_ok=True)
        Image.new("RGB", (64, 48), (n % 256, n // 256, 9)).save(tmp_path / f"own/{n}.png")
        for _ in range(rng.randint(1, 5)):
            box = [rng.randint(0, 40), rng.randint(0, 30), rng.randint(5, 24), rng.randint(5, 18)]
            rows.append({"image_id": n, "category_id": rng.randint(1, len(LABELS)), "bbox": box, "iscrowd": 0})
    (tmp_path / "own/9.png").write_bytes(b"")
    rows[5]["bbox"] = [60, 0, 30, 9]
    images = [{"id": n, "file_name": f"{n}.png", "width": 64, "height": 48} for n in range(1, IMAGES + 1)]
    kinds = [{"id": n, "name": name} for n, name in enumerate(LABELS, start=1)]
    rows = [{"id": n, **row} for n, row in enumerate(rows, start=1)]
    write_json(tmp_path / "boxes.json", {"images": images, "annotations": rows, "categories": kinds})
    source = f"coco_instances:{tmp_path}/boxes.json,images={tmp_path}/own,name=own,licence=CC0"
    subprocess.run(
        vistune("sources", "--source", source, "--output", tmp_path / "sources"), check=True, cwd=tmp_path, timeout=120
    )
    return tmp_path / "sources"


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "turns"), [(1, TURNS), (2, TURNS[:2])], ids=["one process", "two processes"])
def test_the_stage_survives_kills_at_each_turn(sources, tmp_path, workers, turns, monkeypatch):
    def command(output: Path) -> list[str]:
        given = ("--set", f"adapt.workers={workers}", "--input", f"sources={sources}", "--output", output)
        return vistune("adapt", *given)

    subprocess.run(command(tmp_path / "plain"), check=True, cwd=tmp_path, timeout=300)
    home, output, caught = tmp_path / "another home", tmp_path / "out", 0
    monkeypatch.setenv("VISTUNE_HOME", str(home))  # or the finished result would be found
    for turn, later in turns:
        process = subprocess.Popen(command(output), cwd=tmp_path, start_new_session=True)
        while process.poll() is None and not list(home.glob(f"stages/adapt/{turn}")):
            time.sleep(0.0005)
        time.sleep(later)
        caught += process.poll() is None
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
        process.wait()
        if output.is_dir():  # put in place in one step, so it is whole; the next attempt begins anew
            verify(output)
            for finished in (home / "stages/adapt").iterdir():
                finished.rename(tmp_path / f"{finished.name}.{len(list(tmp_path.iterdir()))}")
            output.rename(tmp_path / f"out.{len(list(tmp_path.iterdir()))}")
    assert caught >= len(turns) / 2
    subprocess.run(command(output), check=True, cwd=tmp_path, timeout=300)
    assert verify(output) == verify(tmp_path / "plain")
    assert tree_digest(output, (EXECUTION,)) == tree_digest(tmp_path / "plain", (EXECUTION,))
