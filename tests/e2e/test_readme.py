"""The README's commands do what it says, in both languages."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = (ROOT / name for name in ("README.md", "README.zh-CN.md"))


def blocks(readme: Path) -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```", readme.read_text(encoding="utf-8"), re.M | re.S)


def commands(block: str) -> list[str]:
    """Lines without comments, and without what stands for an address."""
    lines = [re.sub(r"\s+#.*", "", line).rstrip() for line in block.splitlines()]
    return [re.sub(r"<[^<>]+>", "<...>", line) for line in lines if line]


def test_both_languages_show_the_same_commands() -> None:
    assert [commands(b) for b in blocks(ENGLISH)] == [commands(b) for b in blocks(CHINESE)]


def test_both_languages_state_the_same_figures() -> None:
    figures = [re.findall(r"\d+(?:\.\d+)?", readme.read_text(encoding="utf-8")) for readme in (ENGLISH, CHINESE)]
    assert sorted(figures[0]) == sorted(figures[1])


def test_links_lead_somewhere() -> None:
    for readme in (ENGLISH, CHINESE):
        for target in re.findall(r"\]\(([^)#:]+)\)", readme.read_text(encoding="utf-8")):
            assert (ROOT / target).exists(), f"{readme.name}: {target}"


@pytest.mark.slow
def test_own_data_in_five_lines(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    names = ["cat", "dog", "cup"]
    images, annotations = [], []
    for n in range(6):
        picture = Image.new("RGB", (160, 120), (20 * n, 100, 200 - 20 * n))
        ImageDraw.Draw(picture).rectangle([10, 10 + n, 50, 60], fill=(200, 20 * n, 0))
        picture.save(tmp_path / "photos" / f"{n}.jpg")
        images.append({"id": n, "file_name": f"{n}.jpg", "width": 160, "height": 120})
        annotations.append({"id": n, "image_id": n, "category_id": n % 3, "bbox": [10, 10 + n, 40, 50 - n]})
    categories = [{"id": n, "name": name, "supercategory": "thing"} for n, name in enumerate(names)]
    data = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "instances.json").write_text(json.dumps(data))

    (lines,) = [b for b in blocks(ENGLISH) if "vistune sources --source" in b]
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "VISTUNE_HOME": str(tmp_path / "home"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
    }
    done = subprocess.run(
        ["bash", "-euc", lines], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(commands(lines)) == 5
    assert "Sample(id='vt1:" in done.stdout and "licence='CC-BY-4.0'" in done.stdout
    assert (tmp_path / "outputs" / "validate" / "release.json").is_file()
