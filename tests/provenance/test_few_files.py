"""A release of many images is a few files: what DVC, an object store or a copy pays for each of."""

from __future__ import annotations

import pytest
from PIL import Image

from vistune import store
from vistune.explain import explain
from vistune.files import files_under
from vistune.fingerprints import scan
from vistune.records import Lineage, Sample, conversation
from vistune.validate.release import _place_images, describe
from vistune.validate.suite import flatten

IMAGES = 60


def made(folder) -> list[Sample]:
    """A sample for each of `IMAGES` images in `folder`."""
    rows = []
    for n in range(IMAGES):
        Image.new("RGB", (8, 6), (n, 2 * n, 90)).save(folder / f"{n}.png")
        image, lineage = store.describe_image(folder, f"{n}.png"), Lineage(f"d/{n}", (str(n),), (), "t@1")
        text = ("caption", "adapt", "Say.", "", "A blot.", conversation([("Say.", "A blot.")]))
        rows.append(Sample(f"vt1:{n:02d}", "d", "train", *text, (image,), lineage, "CC0-1.0", str(n)))
    return rows


def test_more_images_than_a_folder_should_hold_lie_in_shards(tmp_path, monkeypatch):
    sources, digests = tmp_path / "sources", []
    sources.mkdir()
    rows = made(sources)
    for limit, files in [(IMAGES, IMAGES), (IMAGES - 1, 2)]:  # loose; one shard and its index
        monkeypatch.setattr(store, "LOOSE", limit)
        release = tmp_path / f"release-{limit}"
        placed = _place_images(rows, {"adapt": sources}, release)
        store.write_samples(release, placed)
        assert len(files_under(release / "images")) == files
        assert len(files_under(release)) <= files + 2
        assert flatten(placed, release)["missing_images"].sum() == 0
        assert store.open_image(release, placed[7].images[0]).getpixel((0, 0)) == (7, 14, 90)
        prints = scan(release, {s.images[0] for s in placed}, "test")
        assert not [p for p in prints.values() if p.damage or p.defect]
        assert "kept        in" in explain(release, "vt1:07")
        digests.append(describe(placed, release)["digest"])
    assert digests[0] == digests[1], "where the images lie is not part of what a release is"
    shard = next((release / "images").glob("*.tar"))
    shard.write_bytes(shard.read_bytes().replace(b"IDAT", b"IDAX"))
    prints = scan(release, {s.images[0] for s in placed}, "test").values()
    assert all(p.damage == "changed" and shard.name in p.detail for p in prints)


@pytest.mark.parametrize("sharded", [True, False])
def test_a_missing_image_is_missing_in_both(tmp_path, monkeypatch, sharded):
    sources = tmp_path / "sources"
    sources.mkdir()
    rows = made(sources)
    monkeypatch.setattr(store, "LOOSE", 0 if sharded else IMAGES)
    placed = _place_images(rows[1:], {"adapt": sources}, tmp_path / "release")
    assert flatten([*placed, rows[0]], tmp_path / "release")["missing_images"].tolist() == [0] * (IMAGES - 1) + [1]
