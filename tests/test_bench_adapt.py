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


def test_every_measurement_has_a_result_kept_with_its_command(parts):
    import adapt

    kept = json.loads((BENCH / "results" / "adapt.json").read_text())
    assert [row["measure"] for row in kept] == list(adapt.MEASURES)
    for row in kept:
        assert row["command"].startswith(f"python bench/adapt.py --only {row['measure']}") and row["bench"] == "adapt"
        assert row.keys() - {"bench", "measure", "command"}


@pytest.mark.parametrize("peer", ["datumaro", "data_juicer"])
def test_a_peer_that_is_not_there_is_said_aloud_and_gets_no_figure(parts, monkeypatch, capsys, peer):
    from parts import coco_like, peers

    for module in (coco_like, peers):
        monkeypatch.setattr(module, "COCO", (3, 9))
    monkeypatch.setattr(peers, "IMAGES", 3)
    for python in ("", sys.executable):
        assert getattr(peers, peer)(python) == {"peer": "not installed"}
        assert "NOT MEASURED" in capsys.readouterr().err


def test_files_to_load_have_the_published_fields(parts, monkeypatch, tmp_path):
    from parts import coco_like

    monkeypatch.setattr(coco_like, "COCO", (3, 9))
    boxes = json.loads(coco_like.coco_file(tmp_path / "boxes.json").read_text())
    captions = json.loads(coco_like.captions_file(tmp_path / "captions.json").read_text())
    fields = {"license", "file_name", "coco_url", "height", "width", "date_captured", "flickr_url", "id"}
    assert all(set(image) == fields for tree in (boxes, captions) for image in tree["images"])
    assert [len(tree["annotations"]) for tree in (boxes, captions)] == [9, 15]
    assert {row["image_id"] for row in captions["annotations"]} == {1, 2, 3}
