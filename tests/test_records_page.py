"""docs/records.md: every command and every line of Python on it runs."""

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from vistune import cli, store
from vistune.imageshards import ShardedImages
from vistune.records import Lineage, Sample, conversation
from vistune.stages import repository

TEXT = (repository() / "docs/records.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.M | re.S)


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A release of one sample, which is the one that the page speaks of."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs/validate"
    Image.new("RGB", (40, 30), (1, 2, 3)).save(tmp_path / "1.png")
    image = store.add_image(folder, tmp_path / "1.png", store.describe_image(tmp_path, "1.png"))
    lineage = Lineage("coco/1", ("1768",), (), "presence.en.03@1+plain@1")
    sample = Sample(
        *("vt1:6mh3abc", "coco", "train", "presence", "adapt", "Is there a dog?", "", "yes"),
        conversation([("Is there a dog?", "yes")]),
        *((image,), lineage, "CC0", image.sha256),
    )
    store.write_samples(folder, [sample])
    return folder


def test_commands(release):
    lines = [line.partition("#")[0].strip() for kind, block in BLOCKS if not kind for line in block.splitlines()]
    assert len(lines) == 4
    for line in lines:
        program, *arguments = shlex.split(line)
        done = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
        assert program == "vistune" and done.exit_code == 0 and "vt1:6mh3abc" in done.output


def test_python(release):
    code = "\n".join(block for kind, block in BLOCKS if kind == "python")
    found: dict = {}
    exec(compile(code, "docs/records.md", "exec"), found)
    assert found["picture"].size == (40, 30)
    assert [ref.sha256 for ref in ShardedImages(Path("build/images"))] == [found["sample"].images[0].sha256]
    assert len(found["root"]) == 64
