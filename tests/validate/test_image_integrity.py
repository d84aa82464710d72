"""Images: what is damaged, what is defective, and what the fingerprints see."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image

from vistune.errors import VistuneError
from vistune.fingerprints import scan, similar
from vistune.hashing import file_digest


def changed_image(world, image):
    """The clean samples with their first image replaced by `image` in every sample that shows it."""
    old = world.samples[0].images[0]
    rows = [replace(s, images=(image,)) if s.images == (old,) else s for s in world.samples]
    return rows, sorted(s.id for s in rows if s.images == (image,))


def test_missing_and_changed_files_stop_the_run_naming_files_and_rows(world, no_suite):
    first, second = sorted({s.images[0] for s in world.samples}, key=lambda i: i.path)[:2]
    (world.sources / first.path).unlink()
    Image.new("RGB", (96, 96), "red").save(world.sources / second.path)
    rows = sorted(s.id for s in world.samples if s.images[0] in (first, second))
    with pytest.raises(VistuneError) as error:
        world.run(world.samples)
    message = str(error.value)
    assert message.startswith("2 images are missing or changed")
    assert f"{first.path} is not in the sources folder" in message
    assert f"{second.path} has sha256" in message
    assert f"{len(rows)} rows: {', '.join(rows[:10])} and {len(rows) - 10} more" in message


def test_undecodable_image_with_the_right_digest_costs_only_its_rows(world, no_suite):
    old = world.samples[0].images[0]
    path = world.sources / old.path
    data = path.read_bytes()
    cut = world.sources / "toys/images/cut.png"
    cut.write_bytes(data[: len(data) - 60])
    image = replace(old, sha256=file_digest(cut), path="toys/images/cut.png")
    rows, ids = changed_image(world, image)
    summary = world.run(rows, max_quarantined_share=0.5)
    assert summary["counts"]["rejected"] == {"image_undecodable": len(ids)}
    assert summary["details"]["rejects"]["image_undecodable"]["examples"][0]["id"] == ids[0]
    assert not (world.output / f"images/{image.sha256[:2]}/{image.sha256}.png").exists()


def test_wrong_declared_size_is_found_against_the_decoded_upright_picture(world, no_suite):
    old = world.samples[0].images[0]
    world.samples = [s for s in world.samples if s.task != "locate"]  # whose box text would also be wrong
    rows, ids = changed_image(world, replace(old, width=97))
    summary = world.run(rows, max_quarantined_share=0.5)
    assert summary["counts"]["rejected"] == {"image_size": len(ids)}
    assert "is 96x96 upright, declared 97x96" in summary["details"]["rejects"]["image_size"]["examples"][0]["detail"]


def test_size_is_that_after_exif_rotation(world):
    turned = Image.new("RGB", (40, 30), "teal")
    exif = Image.Exif()
    exif[0x0112] = 6
    image = world.add_image(turned, "toys/images/turned.jpg", exif=exif)
    assert (image.width, image.height) == (30, 40)
    assert scan(world.sources, [image], "t")[image].defect == ""
    sideways = replace(image, width=40, height=30)
    assert scan(world.sources, [sideways], "t")[sideways].defect == "image_size"


def test_hostile_paths_are_missing_files(world):
    image = world.samples[0].images[0]
    for path in ("../outside.png", "/etc/hostname", "a\0b.png", "toys/images"):
        found = scan(world.sources, [replace(image, path=path)], "t")
        assert [f.damage for f in found.values()] == ["missing"], path


def test_same_pixels_in_two_files_share_a_digest(world):
    picture = Image.open(world.sources / world.samples[0].images[0].path).convert("RGB")
    plain = world.add_image(picture, "a.png", compress_level=1)
    bmp = world.add_image(picture, "b.bmp")
    lossy = world.add_image(picture, "c.jpg", quality=80)
    prints = scan(world.sources, [plain, bmp, lossy], "t")
    assert plain.sha256 != bmp.sha256
    assert prints[plain].pixels == prints[bmp].pixels != prints[lossy].pixels
    names = sorted((prints[plain].pixels, prints[lossy].pixels))
    assert similar(prints.values(), 8, 0.2) == [tuple(names)]


def test_scan_does_not_depend_on_the_number_of_threads(world, monkeypatch):
    images = {s.images[0] for s in world.samples}

    def seen(threads):
        monkeypatch.setattr("os.cpu_count", lambda: threads)
        return [(i.path, f.pixels, f.hash, f.thumb.tobytes()) for i, f in scan(world.sources, images, "t").items()]

    assert seen(1) == seen(5)
