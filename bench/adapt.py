"""How fast and in how much memory annotations become instruction data, and beside whom.

Prints one JSON line for each measurement and writes all of them to bench/results/adapt.json. Each measurement runs in
a process of its own. Rates are by processor time of one core, the best of several repeats, so that other work on the
machine counts little; what a person waits for is given in wall time too. `--only NAME` runs one. Peers are measured if
`--datumaro PYTHON` and `--data-juicer PYTHON` (or DATUMARO_PYTHON and DATA_JUICER_PYTHON) name interpreters that have
them (`pip install datumaro` and `pip install py-data-juicer` in scratch environments).
"""

import argparse
import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from parts.coco_like import CATEGORIES, COCO, annotated, boxes, captions_file, coco_file
from parts.peers import data_juicer, datumaro
from parts.timing import best, peak_mb

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "adapt.json"

IMAGES = 2_000  # of the measurements in memory
MILLION = 1_000_000


def adapter() -> Any:
    from vistune.adapt import Params
    from vistune.adapt.adapter import Adapter
    from vistune.adapt.vocabulary import Statistics

    statistics = Statistics.of([o.category.label for o in i.objects] for i in annotated(IMAGES))
    return Adapter(Params(languages={"en": 1.0}), 0, {"coco": statistics})


def in_memory() -> dict[str, Any]:
    """Samples made from images in memory: tasks, templates, ids, lineage; nothing is written."""
    from vistune.collection import no_collection

    images, made = list(annotated(IMAGES)), adapter()
    count = sum(1 for image in images for _ in made.samples(image))
    with no_collection():  # as the stage's processes work
        seconds, text_only = (
            best(lambda: [None for image in images for _ in made.samples(image)], 30),
            only_text(images),
        )
    loop = best(lambda: [n + 1 for n in range(1_000_000)], 9)
    return {
        "samples_per_s": round(count / seconds),
        "samples_per_image": round(count / IMAGES, 1),
        "text_only_samples_per_s": text_only,
        "tasks": len({s.task for image in images[:200] for s in made.samples(image)}),
        "rejected": len(made.rejects),
        "core": {"list_of_a_million_ints_ms": round(1000 * loop, 1)},  # how fast this core is
        "target": {"samples_per_s": 20_000},
    }


def only_text(images: list[Any]) -> int:
    """Samples a second of the task kinds whose texts hold no box."""
    from dataclasses import replace

    from vistune.adapt import Params, PerImage
    from vistune.adapt.adapter import Adapter

    boxed = dict.fromkeys(("name_region", "locate", "extremes"), 0)
    made = Adapter(Params(languages={"en": 1.0}, per_image=replace(PerImage(), **boxed)), 0)
    count = sum(1 for image in images for _ in made.samples(image))
    return round(count / best(lambda: [None for image in images for _ in made.samples(image)], 9))


def each_task() -> dict[str, Any]:
    """Microseconds for a sample of each task alone, the work on the image that tasks share included."""
    from dataclasses import replace

    from vistune.adapt import Params, PerImage
    from vistune.adapt.adapter import Adapter

    images, plain = list(annotated(500)), PerImage()
    none = PerImage(**dict.fromkeys(vars(plain), 0))
    found = {}
    for name, limit in vars(plain).items():
        made = Adapter(Params(languages={"en": 1.0}, per_image=replace(none, **{name: limit})), 0)
        count = sum(1 for image in images for _ in made.samples(image))
        if count:
            found[name] = round(1e6 * best(lambda m=made: [None for i in images for _ in m.samples(i)], 3) / count, 1)
    return {"us_per_sample": found}


def to_parquet() -> dict[str, Any]:
    """The same, written: columns, sort, zstd, digests. One process."""
    from vistune.store import write_samples

    images, made = list(annotated(IMAGES)), adapter()
    count = sum(1 for image in images for _ in made.samples(image))
    samples = [s for image in images for s in made.samples(image)]
    with tempfile.TemporaryDirectory() as folder:
        whole = best(lambda: write_samples(Path(folder), (s for i in images for s in made.samples(i))), 3)
        write = best(lambda: write_samples(Path(folder), samples), 3)
    return {"samples_per_s": round(count / whole), "write_alone_samples_per_s": round(count / write)}


def million() -> dict[str, Any]:
    """A million samples from images made on the way to sorted shards; then one is explained, and the way back."""
    from itertools import islice

    from vistune.store import read_samples, verify, write_samples

    made = adapter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "records"
        start = time.monotonic()
        count = write_samples(folder, islice((s for i in annotated(MILLION) for s in made.samples(i)), MILLION))
        wrote, peak = time.monotonic() - start, peak_mb()
        verify(folder)
        sample = next(islice(read_samples(folder), 777_777, None))
        asked = {
            "id": [sample.id],
            "prefix": [sample.id[4:14]],
            "annotation": ["--annotation", sample.lineage.annotation_ids[0]],
            "template": ["--template", sample.lineage.template.split("+")[0]],
            "source": ["--source", "coco"],
        }
        seconds = {name: explain([*question, "--release", str(folder)]) for name, question in asked.items()}
        size = sum(p.stat().st_size for p in folder.iterdir())
    return {
        "samples": count,
        "peak_mb": peak,
        "seconds": round(wrote),
        "bytes_per_sample": round(size / count),
        "explain_s": seconds,
        "limits": {"peak_mb": 1000, "explain_s": 1.0},
    }


def explain(arguments: list[str]) -> dict[str, float]:
    """Best wall time and processor time of `vistune explain` as a command of its own."""
    command = [sys.executable, "-m", "vistune.cli", "explain", *arguments]
    wall, cpu = [], []
    for _ in range(5):
        start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        wall.append(time.monotonic() - start)
        cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {"wall": round(min(wall), 2), "cpu": round(min(cpu), 2)}


def coco_load() -> dict[str, Any]:
    """Reading COCO files into checked rows, against `json.load` of the same file; turn by turn. What is read is let go
    off the clock. Records are made when the image of theirs is opened; `records_s` is how long that takes for all."""
    from vistune.collection import no_collection
    from vistune.sources import AnnotationFile, Dataset, Tally
    from vistune.sources.join import list_rows

    found: dict[str, Any] = {"limit": 1.2}
    for kind, write in {"instances": coco_file, "captions": captions_file}.items():
        with tempfile.TemporaryDirectory() as folder:
            path = write(Path(folder) / f"{kind}.json")
            dataset = Dataset("coco", "train", "images", (AnnotationFile(f"coco_{kind}", path.name),))

            def plain(path: Path = path) -> Any:
                with open(path, encoding="utf-8") as f:
                    return json.load(f)

            def ours(folder: str = folder, dataset: Any = dataset) -> Any:
                rejects: list[Any] = []
                listing = list_rows(Path(folder), dataset, rejects, "sources", Tally())
                assert len(listing.images) == COCO[0] and not rejects
                return listing

            times = [(best(plain, 1), best(ours, 1)) for _ in range(7)]
            json_s, ours_s = min(t[0] for t in times), min(t[1] for t in times)
            listing, rows = ours(), {"instances": "object", "captions": "caption"}[kind]
            with no_collection():
                records = best(lambda kept=listing, kind=rows: [e.rows[kind] for e in kept.images.values()], 1)
            found[kind] = {
                "json_s": round(json_s, 3),
                "ours_s": round(ours_s, 3),
                "ratio": round(ours_s / json_s, 2),
                "records_s": round(records, 3),
                "file_mb": round(path.stat().st_size / 1e6),
            }
    return found


def workers() -> dict[str, Any]:
    """The whole stage on image files, decoded once each to check them, in one process and in two."""
    from PIL import Image

    from vistune.adapt import Params
    from vistune.adapt.build import build
    from vistune.sources import AnnotationFile, Dataset, Manifest, write_manifest

    with tempfile.TemporaryDirectory() as name:
        root, listed, rows = Path(name) / "sources", [], []
        (root / "images").mkdir(parents=True)
        for n in range(1, IMAGES + 1):
            rng = random.Random(n)
            noise = Image.frombytes("RGB", (32, 24), rng.randbytes(32 * 24 * 3))
            noise.resize((640, 480), Image.Resampling.BICUBIC).save(root / f"images/{n}.jpg", quality=90)
            listed.append({"id": n, "file_name": f"{n}.jpg", "width": 640, "height": 480, "license": 1})
            rows += [{"image_id": n, "category_id": 1 + kind, "bbox": box, "iscrowd": 0} for kind, box in boxes(rng)]
        kinds = [{"id": n, "name": c, "supercategory": f"group {n % 12}"} for n, c in enumerate(CATEGORIES, start=1)]
        tree = {"images": listed, "categories": kinds, "licenses": [{"id": 1, "name": "CC0"}]}
        tree["annotations"] = [{"id": n, **row} for n, row in enumerate(rows, start=1)]
        (root / "boxes.json").write_text(json.dumps(tree))
        file = AnnotationFile("coco_instances", "boxes.json")
        write_manifest(root, Manifest((Dataset("coco", "train", "images", (file,)),)))
        seconds: dict[int, float] = {}
        for count in (1, 2, 1, 2):
            output = Path(name) / f"out {count}"
            output.mkdir(exist_ok=True)
            start = time.monotonic()
            build(Params(languages={"en": 1.0}, workers=count), root, output, 0)
            seconds[count] = min(seconds.get(count, 1e9), time.monotonic() - start)
    rate = {f"images_per_s_{count}": round(IMAGES / s) for count, s in seconds.items()}
    return {**rate, "speed_up": round(seconds[1] / seconds[2], 2), "cores": os.cpu_count()}


def images() -> dict[str, Any]:
    """Both image stores on 4,000 files of 59 kB, in a warm cache: the mean size of a COCO photograph."""
    from vistune.imageshards import ShardedImages
    from vistune.imagestore import LooseImages
    from vistune.records import ImageRef

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        root, listed = Path(name), []
        (root / "in").mkdir()
        for n in range(4_000):
            data = random.Random(n).randbytes(59_000)
            (root / "in" / str(n)).write_bytes(data)
            listed.append((ImageRef(hashlib.sha256(data).hexdigest(), 640, 480, "jpeg", str(n)), root / "in" / str(n)))
        for kind, store in {"loose": LooseImages(root / "a"), "sharded": ShardedImages(root / "b", 64 << 20)}.items():
            start = time.monotonic()
            store.add(listed)
            write = time.monotonic() - start
            digests = random.Random(0).sample([ref.sha256 for ref, _ in listed], 2_000)
            once = best(lambda s=store, d=digests: [s.read(x) for x in d], 3)
            found[kind] = {"add_per_s": round(4_000 / write), "random_read_per_s": round(2_000 / once)}
            if kind == "sharded":
                found[kind]["stream_per_s"] = round(4_000 / best(lambda s=store: [None for _ in s.stream()], 3))
    return found


def header() -> dict[str, Any]:
    """What `describe_image` costs beside the digest, against asking Pillow for EXIF, for a PNG of 640x480."""
    from PIL import Image

    from vistune.imagefile import read_header

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.png"
        noise = Image.frombytes("RGB", (64, 48), random.Random(0).randbytes(64 * 48 * 3))
        noise.resize((640, 480), Image.Resampling.BICUBIC).save(path)

        def pillow() -> None:
            with Image.open(path) as image:
                image.getexif()

        plain, ours = best(pillow, 20), best(lambda: read_header(path, "x.png"), 20)
    return {"pillow_ms": round(1e3 * plain, 2), "ours_ms": round(1e3 * ours, 2), "ratio": round(plain / ours, 1)}


ALONE = (in_memory, each_task, to_parquet, million, coco_load, workers, images, header)
BESIDE = (datumaro, data_juicer)
MEASURES = {f.__name__: f for f in (*ALONE, *BESIDE)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(MEASURES))
    for peer in BESIDE:
        option = f"--{peer.__name__.replace(chr(95), chr(45))}"
        parser.add_argument(option, default=os.environ.get(f"{peer.__name__.upper()}_PYTHON", ""), metavar="PYTHON")
    given = parser.parse_args()
    if given.only:
        peers = (getattr(given, given.only),) if MEASURES[given.only] in BESIDE else ()
        print(json.dumps({"bench": "adapt", "measure": given.only, **MEASURES[given.only](*peers)}), flush=True)
        return
    lines = []
    for name in MEASURES:
        command = [sys.executable, __file__, "--only", name, *sys.argv[1:]]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        print(done.stdout, end="", flush=True)
        peer = f" --{name.replace('_', '-')} PYTHON" if MEASURES[name] in BESIDE else ""
        lines.append({"command": f"python bench/adapt.py --only {name}{peer}", **json.loads(done.stdout)})
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(lines, indent=1) + "\n")


if __name__ == "__main__":
    main()
