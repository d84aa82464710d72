"""Images under their digests: loose files and tar shards keep the same promises, and a killed writer loses nothing."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from PIL import Image

from vistune import store
from vistune.errors import VistuneError
from vistune.files import files_under, tree_digest
from vistune.imageshards import ShardedImages
from vistune.imagestore import ImageStore, LooseImages, open_store
from vistune.records import ImageRef

SHARD = 8_000  # bytes: a few images


@pytest.fixture
def pictures(tmp_path: Path) -> list[tuple[ImageRef, Path]]:
    """Twelve noisy pictures of different sizes and formats."""
    root = tmp_path / "incoming"
    root.mkdir()
    found = []
    for n in range(12):
        size, kind = (20 + 5 * n, 30), ("png", "jpeg", "webp")[n % 3]
        path = root / f"{n}.{kind}"
        Image.frombytes("RGB", size, random.Random(n).randbytes(3 * size[0] * size[1])).save(path, format=kind)
        found.append((store.describe_image(root, path.name), path))
    return found


def make(kind: str, folder: Path) -> ImageStore:
    return LooseImages(folder) if kind == "loose" else ShardedImages(folder, SHARD)


@pytest.fixture(params=["loose", "sharded"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def test_every_image_is_found_and_read_back(kind, pictures, tmp_path):
    images = make(kind, tmp_path / "store")
    assert images.add(pictures) == 12 and len(images) == 12
    digests = sorted(ref.sha256 for ref, _ in pictures)
    assert [ref.sha256 for ref in images] == digests
    for ref, path in pictures:
        assert ref.sha256 in images
        assert images.read(ref.sha256) == path.read_bytes()
    streamed = dict(images.stream())
    assert {ref.sha256: hashlib.sha256(data).hexdigest() for ref, data in streamed.items()} == dict(
        zip(digests, digests, strict=True)
    )
    described = {ref.sha256: (ref.width, ref.height, ref.format) for ref, _ in pictures}
    assert {ref.sha256: (ref.width, ref.height, ref.format) for ref in images} == described
    images.verify()


def test_what_it_does_not_have_it_says(kind, pictures, tmp_path):
    images = make(kind, tmp_path / "store")
    assert len(images) == 0 and list(images) == [] and "00" * 32 not in images
    images.add(pictures[:3])
    for absent in ("00" * 32, "ff" * 32, pictures[4][0].sha256, "no digest", "", "*", "../incoming/0"):
        assert absent not in images
    with pytest.raises(VistuneError, match=r"image 000000000000… is not among the images of"):
        images.read("00" * 32)


def test_paths_do_not_depend_on_the_kind_of_store(pictures, tmp_path):
    stores = [make(kind, tmp_path / kind) for kind in ("loose", "sharded")]
    for images in stores:
        images.add(pictures)
    assert list(stores[0]) == list(stores[1])
    assert [ref.path for ref in stores[0]] == [f"images/{r.sha256[:2]}/{r.sha256}.{r.format}" for r in stores[1]]


def test_bytes_do_not_depend_on_the_order(kind, pictures, tmp_path):
    digests = set()
    for n in range(3):
        mixed = pictures * 2
        random.Random(n).shuffle(mixed)
        images = make(kind, tmp_path / str(n))
        assert images.add(mixed) == 12
        digests.add(tree_digest(tmp_path / str(n)))
    assert len(digests) == 1


def test_appending_keeps_the_shards_that_are_there(pictures, tmp_path):
    images = make("sharded", tmp_path)
    images.add(pictures[:6])
    before = {p: p.stat().st_ino for p in tmp_path.glob("images/*.tar")}
    assert images.add(pictures) == 6 and images.add(pictures) == 0
    assert before.items() <= {p: p.stat().st_ino for p in tmp_path.glob("images/*.tar")}.items()
    again = open_store(tmp_path)
    assert [again.read(ref.sha256) for ref, _ in pictures] == [path.read_bytes() for _, path in pictures]
    assert [r.sha256 for r in again] == sorted(r.sha256 for r, _ in pictures)


def test_shards_are_plain_tar_files_of_the_planned_size(pictures, tmp_path):
    make("sharded", tmp_path).add(pictures)
    shards = sorted(tmp_path.glob("images/shard-*.tar"))
    assert len(shards) > 2
    held = {}
    for shard in shards:
        with tarfile.open(shard) as tar:
            members = tar.getmembers()
            assert len(members) == 1 or sum(512 + -(-m.size // 512) * 512 for m in members) <= SHARD
            assert {(m.mtime, m.uid, m.mode) for m in members} == {(0, 0, 0o644)}
            held |= {m.name: tar.extractfile(m).read() for m in members}
    assert held == {f"{ref.sha256}.{ref.format}": path.read_bytes() for ref, path in pictures}


def test_garbage_is_what_no_record_names(kind, pictures, tmp_path):
    images = make(kind, tmp_path)
    images.add(pictures)
    used = [ref.sha256 for ref, _ in pictures[::2]]
    size = sum(p.stat().st_size for p in files_under(tmp_path))
    assert images.collect_garbage([*used, "00" * 32]) == 6
    assert [ref.sha256 for ref in images] == sorted(used)
    assert sum(p.stat().st_size for p in files_under(tmp_path)) < size
    images.verify()
    assert images.collect_garbage(used) == 0
    assert images.collect_garbage([]) == 6 and len(open_store(tmp_path)) == 0
    assert not list(tmp_path.glob("images/*.tar"))


def test_garbage_leaves_untouched_shards_alone(pictures, tmp_path):
    images = make("sharded", tmp_path)
    images.add(pictures)
    before = {p.name: p.stat().st_ino for p in tmp_path.glob("images/*.tar")}
    first = next(iter(images)).sha256
    images.collect_garbage([ref.sha256 for ref in images if ref.sha256 != first])
    after = {p.name: p.stat().st_ino for p in tmp_path.glob("images/*.tar")}
    assert len(before.items() - after.items()) == 1


def test_verify_finds_a_flipped_bit_and_a_lost_file(kind, pictures, tmp_path):
    images = make(kind, tmp_path)
    images.add(pictures)
    path = max((p for p in files_under(tmp_path) if p.suffix != ".arrow"), key=lambda p: p.stat().st_size)
    data = bytearray(path.read_bytes())
    data[600] ^= 1  # behind a tar header
    path.write_bytes(bytes(data))
    with pytest.raises(VistuneError, match=r": 1 images are missing or not what their digests say: [0-9a-f]{12}…"):
        images.verify()


def test_a_lost_shard_is_found(pictures, tmp_path):
    images = make("sharded", tmp_path)
    images.add(pictures)
    min(tmp_path.glob("images/*.tar")).unlink()
    with pytest.raises(VistuneError, match="images are missing"):
        images.verify()


def test_a_file_that_changed_is_refused(kind, pictures, tmp_path):
    ref, path = pictures[0]
    path.write_bytes(b"something else")
    images = make(kind, tmp_path / "store")
    with pytest.raises(VistuneError, match=r"0\.png changed: expected sha256 "):
        images.add(pictures)
    assert ref.sha256 not in open_store(tmp_path / "store")
    assert not [p for p in files_under(tmp_path / "store") if p.name.endswith(".tmp")]


def test_open_image_reads_both_kinds(kind, pictures, tmp_path):
    images = make(kind, tmp_path / "store")
    images.add(pictures)
    for ref in images:
        assert store.open_image(tmp_path / "store", ref).size == (ref.width, ref.height)
    with pytest.raises(VistuneError):
        store.open_image(tmp_path / "store", ImageRef("00" * 32, 1, 1, "png", "images/00/0.png"))


def test_open_image_sees_images_that_were_added_since(pictures, tmp_path):
    images = make("sharded", tmp_path / "store")
    for ref, path in pictures[:4]:
        images.add([(ref, path)])
        shown = next(r for r in images if r.sha256 == ref.sha256)
        assert store.open_image(tmp_path / "store", shown).size == (ref.width, ref.height)


KILLED = """
import sys
from pathlib import Path
from vistune import store
from vistune.imageshards import ShardedImages
root = Path(sys.argv[1])
refs = [(store.describe_image(root, p.name), p) for p in sorted(root.iterdir())]
print("ready", flush=True)
for n in range(1000):
    images = ShardedImages(Path(sys.argv[2]), 4000)
    images.add(refs[: 4 + n % 9])
    images.collect_garbage([r.sha256 for r, _ in refs[n % 3 : 8]])
"""


def test_a_killed_writer_leaves_a_sound_store(pictures, tmp_path):
    target = tmp_path / "store"
    for delay in (0.01, 0.05, 0.12):
        writer = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path / "incoming"), str(target)], stdout=subprocess.PIPE
        )
        assert writer.stdout and writer.stdout.readline() == b"ready\n"
        time.sleep(delay)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        images = ShardedImages(target, SHARD)
        images.verify()
    images.add(pictures)
    assert len(images) == 12
    listed = {p.name for p in target.glob("images/shard-*.tar")}
    images.collect_garbage([r.sha256 for r in images])
    assert listed == {p.name for p in target.glob("images/shard-*.tar")}
    images.verify()
