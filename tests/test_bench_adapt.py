"""The benchmark of adapt runs."""

import json
import subprocess
import sys

import pytest

from vistune.stages import repository

BENCH = repository() / "bench"


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))


def test_one_measurement_is_one_line_of_json():
    command = [sys.executable, str(BENCH / "adapt.py"), "--only", "header"]
    (line,) = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    found = json.loads(line)
    assert (found["bench"], found["measure"]) == ("adapt", "header")
    assert found["pillow_ms"] > found["ours_ms"] > 0


def test_what_is_measured_looks_like_coco(parts):
    from parts.coco_like import CATEGORIES, annotated

    images = list(annotated(300))
    assert len(set(CATEGORIES)) == 80
    assert 6 < sum(len(i.objects) for i in images) / 300 < 8
    assert 2 < sum(len({o.category.label for o in i.objects}) for i in images) / 300 < 3.5
    assert all(
        0 <= x1 < x2 <= 640 and 0 <= y1 < y2 <= 480 for i in images for x1, y1, x2, y2 in (o.box for o in i.objects)
    )
    assert images[:5] == list(annotated(5))
