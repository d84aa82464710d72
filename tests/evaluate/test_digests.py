"""A model's digest is read from its files once, and again when they change."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from vistune.evaluate import digests
from vistune.evaluate.digests import model_digest
from vistune.files import tree_digest


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("model.safetensors", "config.json"):
        (folder / name).write_text(name)
    age(folder)
    return folder


def age(folder: Path, seconds: int = 60) -> None:
    for file in folder.iterdir():
        os.utime(file, (time.time() - seconds,) * 2)


@pytest.fixture
def reads(monkeypatch: Any) -> list[Path]:
    found: list[Path] = []
    monkeypatch.setattr(digests, "tree_digest", lambda folder: found.append(folder) or tree_digest(folder))
    return found


def test_files_that_did_not_change_are_read_once(model: Path, tmp_path: Path, reads: list[Path]) -> None:
    first = model_digest(model, tmp_path / "home")
    assert first == tree_digest(model) == model_digest(model, tmp_path / "home")
    assert len(reads) == 1
    (model / "config.json").write_text("config.jsom")  # of the same length
    age(model, 50)
    assert model_digest(model, tmp_path / "home") == tree_digest(model) != first
    os.replace(model / "model.safetensors", tmp_path / "aside")
    (model / "model.safetensors").write_text("model.safetensorz")
    os.utime(model / "model.safetensors", ns=(0, (tmp_path / "aside").stat().st_mtime_ns))
    assert model_digest(model, tmp_path / "home") == tree_digest(model), "another file, of the same length and time"
    assert len(reads) == 3


def test_what_may_change_within_a_tick_of_the_clock_is_not_kept(model: Path, tmp_path: Path, reads: list[Path]) -> None:
    age(model, 0)
    assert model_digest(model, tmp_path) == model_digest(model, tmp_path) == tree_digest(model)
    assert len(reads) == 2


def test_a_damaged_index_is_no_index(model: Path, tmp_path: Path, reads: list[Path]) -> None:
    model_digest(model, tmp_path)
    (kept,) = (tmp_path / "digests").iterdir()
    for text in ("", "{", "[1]", "{}"):
        kept.write_text(text)
        assert model_digest(model, tmp_path) == tree_digest(model)
    assert len(reads) == 5
