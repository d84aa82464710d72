"""References to weights."""

import pytest

from vistune.errors import VistuneError
from vistune.models import weights


def test_paths_and_hub_ids_pass_through(tmp_path):
    assert weights.resolve("org/model", tmp_path) == "org/model"


def test_unknown_package_names_the_known_ones(tmp_path):
    with pytest.raises(VistuneError, match="packaged here: smollm2-135m-instruct, efficientnet-lite0"):
        weights.resolve("package:gpt", tmp_path)


def test_conversion_happens_once_and_a_crash_leaves_nothing(tmp_path, monkeypatch):
    calls = []

    def convert(folder):
        calls.append(folder)
        (folder / "config.json").write_text("{}")
        if len(calls) == 1:
            raise RuntimeError("killed")

    monkeypatch.setitem(weights.PACKAGED, "toy", convert)
    with pytest.raises(RuntimeError):
        weights.resolve("package:toy", tmp_path)
    assert not (tmp_path / "weights" / "toy").exists()
    first = weights.resolve("package:toy", tmp_path)
    assert weights.resolve("package:toy", tmp_path) == first
    assert len(calls) == 2


def test_a_changed_file_is_refused(tmp_path, monkeypatch):
    package = tmp_path / "some_package"
    package.mkdir()
    (package / "w.bin").write_bytes(b"other")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(VistuneError, match="is not the file vistune knows"):
        weights._file("some_package", "*.bin", "0" * 64, "install it")
    with pytest.raises(VistuneError, match="Run `make setup`, or install it"):
        weights._file("absent_package", "*.bin", "0" * 64, "install it")
