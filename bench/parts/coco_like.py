"""Annotations like COCO's, made from seeds: in memory, and as files."""

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COCO = (20_000, 140_000)
"""Images and boxes of the file that is loaded: a sixth of train2017."""

CATEGORIES = [
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "dining table",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
]
"""The names that COCO annotates, 80 of them."""


def boxes(rng: random.Random) -> list[tuple[int, list[float]]]:
    """Categories and boxes (x, y, width, height) of one image of 640x480: seven on average, of about three categories
    (COCO: 7.3 and 2.9)."""
    kinds = [rng.randrange(len(CATEGORIES)) for _ in range(rng.randint(1, 5))]
    found = []
    for _ in range(rng.randint(1, 13)):
        w, h = rng.uniform(12, 320), rng.uniform(12, 240)
        found.append(
            (rng.choice(kinds), [round(v, 2) for v in (rng.uniform(0, 640 - w), rng.uniform(0, 480 - h), w, h)])
        )
    return found


def sentences(rng: random.Random, kinds: list[int]) -> list[str]:
    """Five captions that name what is shown."""
    verbs, places = ("standing", "lying", "placed", "seen"), ("street", "table", "field", "room", "beach", "kitchen")
    return [
        f"A {CATEGORIES[rng.choice(kinds)]} {rng.choice(verbs)} near a {CATEGORIES[rng.choice(kinds)]} "
        f"in the {rng.choice(places)} on a {rng.choice(('sunny', 'cloudy', 'quiet', 'busy'))} day."
        for _ in range(5)
    ]


def annotated(count: int) -> Iterator[Any]:
    """Annotated images in memory, made as they are taken."""
    from vistune.records import AnnotatedImage, Annotation, Caption, Category, ImageRef, SourceFile

    vocabulary = tuple(Category(name, f"group {n % 12}") for n, name in enumerate(CATEGORIES))
    files = (SourceFile("instances.json", "a" * 64), SourceFile("captions.json", "b" * 64))
    for n in range(count):
        rng = random.Random(n)
        placed = boxes(rng)
        objects = tuple(
            Annotation(str(20 * n + k), vocabulary[kind], (x, y, x + w, y + h))
            for k, (kind, (x, y, w, h)) in enumerate(placed)
        )
        captions = [Caption(str(5 * n + k), t) for k, t in enumerate(sentences(rng, [kind for kind, _ in placed]))]
        sha256 = hashlib.sha256(str(n).encode()).hexdigest()
        image = ImageRef(sha256, 640, 480, "jpeg", f"images/{n:012d}.jpg")
        known = {"captions": tuple(captions), "objects": objects, "vocabulary": vocabulary, "files": files}
        yield AnnotatedImage(f"coco/{n}", "coco", "train", image, "CC BY 4.0", **known)


def _tables(images: int) -> dict[str, Any]:
    """What instances and captions files share, with all the fields of the published ones."""
    return {
        "info": {"description": "COCO-like", "url": "", "version": "1.0", "year": 2017, "contributor": ""},
        "licenses": [
            {"url": f"http://creativecommons.org/licenses/{n}/2.0/", "id": n, "name": f"CC BY {n}"} for n in range(1, 9)
        ],
        "images": [
            {
                "license": 1 + n % 8,
                "file_name": f"{n:012d}.jpg",
                "coco_url": f"http://images.cocodataset.org/train2017/{n:012d}.jpg",
                "height": 480,
                "width": 640,
                "date_captured": f"2013-11-{1 + n % 28:02d} {n % 24:02d}:{n % 60:02d}:{7 * n % 60:02d}",
                "flickr_url": f"http://farm{n % 9}.staticflickr.com/{n % 9000}/{7919 * n % 10**10}_{n:010x}_z.jpg",
                "id": n,
            }
            for n in range(1, images + 1)
        ],
    }


def captions_file(path: Path) -> Path:
    """Five captions for each image of `COCO`, in no order, as published."""
    rng, images = random.Random(0), COCO[0]
    rows = [
        {"image_id": n, "id": 5 * n + k, "caption": text}
        for n in range(1, images + 1)
        for k, text in enumerate(sentences(rng, [rng.randrange(len(CATEGORIES)) for _ in range(3)]))
    ]
    rng.shuffle(rows)
    path.write_text(json.dumps(_tables(images) | {"annotations": rows}))
    return path


def coco_file(path: Path) -> Path:
    """An instances file of `COCO` size, with outlines of eight corners, in no order, as published."""
    rng, images, total = random.Random(0), *COCO
    rows = []
    for n in range(1, total + 1):
        x, y, w, h = (
            round(v, 2) for v in (rng.uniform(0, 300), rng.uniform(0, 200), rng.uniform(12, 320), rng.uniform(12, 240))
        )
        corners = [round(v, 2) for _ in range(8) for v in (x + w * rng.random(), y + h * rng.random())]
        rows.append(
            {"segmentation": [corners], "area": round(w * h, 2), "iscrowd": 0, "image_id": 1 + n % images}
            | {"bbox": [x, y, w, h], "category_id": 1 + rng.randrange(80), "id": n}
        )
    rng.shuffle(rows)
    tree = _tables(images) | {
        "annotations": rows,
        "categories": [
            {"supercategory": f"group {n % 12}", "id": n, "name": name} for n, name in enumerate(CATEGORIES, start=1)
        ],
    }
    path.write_text(json.dumps(tree))
    return path
