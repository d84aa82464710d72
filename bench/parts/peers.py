"""The same work by other tools, under an interpreter of an environment that has them."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from parts.coco_like import COCO, annotated, coco_file
from parts.timing import best

IMAGES = 2_000

DATUMARO = """
import json, sys, time
from datumaro import Dataset
found = 1e9
for _ in range(3):
    start = time.process_time()
    rows = sum(len(item.annotations) for item in Dataset.import_from(sys.argv[1], "coco_instances"))
    found = min(found, time.process_time() - start)
import datumaro
print(json.dumps({"seconds": found, "annotations": rows, "version": getattr(datumaro, "__version__", "")}))
"""


def datumaro(python: str) -> dict[str, Any]:
    """Its import of the file of `coco_load`, with all annotations listed, against ours."""
    from vistune.sources import AnnotationFile, Dataset, Tally
    from vistune.sources.join import list_rows

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "annotations"
        folder.mkdir()
        (Path(name) / "images" / "train").mkdir(parents=True)  # it looks for the folder, and reads no image
        path = coco_file(folder / "instances_train.json")
        peer = run_peer(python, DATUMARO, name)
        dataset = Dataset("coco", "train", "images", (AnnotationFile("coco_instances", path.name),))
        ours = best(lambda: list_rows(folder, dataset, [], "sources", Tally()), 3)
    if peer is None:
        return absent("datumaro", python)
    return {
        "version": peer["version"],
        "peer_s": round(peer["seconds"], 2),
        "ours_s": round(ours, 2),
        "ratio": round(peer["seconds"] / ours, 1),
        "annotations": {"file": COCO[1], "peer": peer["annotations"]},
    }


DATA_JUICER = """
import json, sys, time
from data_juicer.core.data import NestedDataset
from data_juicer.ops.base_op import Mapper
import data_juicer

class Row(Mapper):
    def process_single(self, row):
        row["text"], row["answer"] = "Is there a " + row["label"] + " in the picture?", "yes"
        return row

class Batch(Mapper):
    _batched_op = True
    def process_batched(self, rows):
        rows["text"] = ["Is there a " + label + " in the picture?" for label in rows["label"]]
        rows["answer"] = ["yes"] * len(rows["label"])
        return rows

rows = [json.loads(line) for line in open(sys.argv[1])]
found = {"version": data_juicer.__version__}
for kind, count, times in ((Row, 2_000, 1), (Batch, len(rows), 3)):
    best = 1e9
    for _ in range(times):
        data = NestedDataset.from_list(rows[:count])
        start = time.monotonic()
        data = kind(num_proc=1).run(data)
        best = min(best, time.monotonic() - start)
    assert data[0]["answer"] == "yes"
    found[kind.__name__] = count / best
print(json.dumps(found))
"""


def data_juicer(python: str) -> dict[str, Any]:
    """Its mapper, by rows and by batches, that phrases one presence question for each object, against our presence task
    on the same images (which also draws a proven absent one for each, a template, an id and a lineage)."""
    from dataclasses import replace

    from vistune.adapt import Params, PerImage
    from vistune.adapt.adapter import Adapter

    shown = list(annotated(IMAGES))
    rows = [{"text": "", "label": o.category.label, "image": i.image.path} for i in shown for o in i.objects]
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.write("\n".join(map(json.dumps, rows)))
        file.flush()
        peer = run_peer(python, DATA_JUICER, file.name)
    if peer is None:
        return absent("py-data-juicer", python)
    none = PerImage(**dict.fromkeys(vars(PerImage()), 0))
    made = Adapter(Params(languages={"en": 1.0}, per_image=replace(none, presence=8)), 0)
    count = sum(1 for image in shown for _ in made.samples(image))
    ours = count / best(lambda: [None for image in shown for _ in made.samples(image)])
    return {
        "version": peer["version"],
        "peer_rows_per_s": {"by_row": round(peer["Row"]), "by_batch": round(peer["Batch"])},
        "ours_samples_per_s": round(ours),
        "ratio": {"by_row": round(ours / peer["Row"], 1), "by_batch": round(ours / peer["Batch"], 1)},
    }


def absent(peer: str, python: str) -> dict[str, Any]:
    print(f"NOT MEASURED: {python or 'no interpreter given, and so none'} has {peer}.", file=sys.stderr, flush=True)
    return {"peer": "not installed"}


def run_peer(python: str, script: str, *arguments: str) -> dict[str, Any] | None:
    """What a script prints last under another interpreter; None where the peer is not installed."""
    if not python:
        return None
    done = subprocess.run([python, "-c", script, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        if "ModuleNotFoundError" in done.stderr:
            return None
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.strip().splitlines()[-1])
