"""What the search for contamination takes at the size of VQAv2: 214,354 questions about 40,504 pictures, against a
release of 665,000 rows about 600,000. Prints one JSON line.

Fingerprints are made up, as decoding a million pictures is a matter of their number: hashes and thumbnails are drawn,
and of some of the benchmark's pictures the release holds the same pixels, a near copy, or the mirror image, which must
all be found, and nothing else. `decode_ms` is what one real picture of COCO's size costs beside it.
"""

import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from parts.timing import peak_mb

from vistune.evaluate.contamination import Asked, Match, Rows, matched
from vistune.fingerprints import Fingerprint, scan
from vistune.records import ImageRef, Lineage, Sample, conversation
from vistune.store import describe_image

ROWS, TRAINED, ASKED, PICTURES = 665_000, 600_000, 214_354, 40_504
PLANTED = 1_000
"""Pictures of the benchmark that the release holds in each of three ways."""

PHOTOS = 64


def main() -> None:
    scale = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    print(json.dumps(measure(*(round(n * scale) for n in (ROWS, TRAINED, ASKED, PICTURES, PLANTED)))))


def measure(rows: int, trained: int, asked: int, pictures: int, planted: int) -> dict[str, Any]:
    drawn = np.random.default_rng(0)
    looks = {image(f"b{n}"): look(drawn, f"b{n}", mirror=True) for n in range(pictures)}
    release = {image(f"r{n}"): look(drawn, f"r{n}") for n in range(trained)}
    copies = dict(zip(list(release)[: 3 * planted], list(looks.values()), strict=False))
    for n, (name, one) in enumerate(copies.items()):
        how = n // planted
        thumb = one.thumb[:, ::-1] if how == 2 else one.thumb
        hash = {0: one.hash, 1: one.hash ^ 0b101 << n % 60, 2: one.mirrored}[how]
        release[name] = Fingerprint(one.pixels if how == 0 else release[name].pixels, hash, thumb)
    known, wanted = list(release), list(looks)
    samples = (row(n, known[n % trained]) for n in range(rows))
    items = [Asked(f"q{n}", "vqav2", f"Is there a thing {n}?", (wanted[n % pictures],)) for n in range(asked)]
    begun = time.process_time()
    about = Rows(samples)
    read = time.process_time() - begun
    found = matched(items, about, release, looks)
    spent = time.process_time() - begun
    check(found, wanted, items, planted)
    return {
        "questions": asked,
        "pictures": pictures,
        "release_rows": rows,
        "release_pictures": trained,
        "contaminated_items": len(found),
        "cpu_s": {"rows": round(read, 1), "matching": round(spent - read, 1)},
        "peak_mb": peak_mb(),
        "decode_ms": round(decoding(), 1),
    }


def check(found: dict[str, Match], wanted: list[ImageRef], items: list[Asked], planted: int) -> None:
    expected = {name: ("pixels", "near", "mirrored")[n // planted] for n, name in enumerate(wanted[: 3 * planted])}
    true = {item.id: expected[item.images[0]] for item in items if item.images[0] in expected}
    assert {name: match.how for name, match in found.items()} == true, Counter(match.how for match in found.values())


def image(name: str) -> ImageRef:
    return ImageRef(name, 640, 480, "jpeg", f"{name}.jpg")


def look(drawn: np.random.Generator, name: str, mirror: bool = False) -> Fingerprint:
    thumb = drawn.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    hash, mirrored = (int(n) for n in drawn.integers(0, 1 << 63, 2))
    return Fingerprint(name, hash, thumb, mirrored if mirror else None)


def row(n: int, about: ImageRef) -> Sample:
    text = f"What is {n % 1000} in the picture?"
    words = {"instruction": text, "input": "", "response": "It.", "messages": conversation([(text, "It.")])}
    fixed = {"dataset": "d", "split": "train", "task": "vqa", "method": "adapt", "licence": "CC0", "group": "g"}
    return Sample(id=f"vt1:{n}", images=(about,), lineage=Lineage("d/1", (), ()), **words, **fixed)


def decoding() -> float:
    """Milliseconds of processor time for the fingerprint of a JPEG of 640 x 480."""
    from PIL import Image

    drawn = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as made:
        for n in range(PHOTOS):
            coarse = Image.fromarray(drawn.integers(0, 256, (48, 64, 3), dtype=np.uint8))
            coarse.resize((640, 480)).save(Path(made) / f"{n}.jpg", quality=90)
        images = [describe_image(Path(made), f"{n}.jpg") for n in range(PHOTOS)]
        begun = time.process_time()
        scan(Path(made), images, "pictures", mirror=True)
        return 1000 * (time.process_time() - begun) / PHOTOS


if __name__ == "__main__":
    main()
