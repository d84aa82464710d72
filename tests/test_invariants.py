"""What must hold whatever the data and the model.

Data: the same bytes for any number of processes, any order of rows, and after a kill at any moment; no row is lost.
Training, for every family: packed samples learn as they do alone, and how a step is split changes no gradient. What
needs several processes is held on one family in tests/tune: ranks and ZeRO stages, other numbers of processes
(test_launch.py), kills at random steps (test_resume.py), roles that rest (test_roles.py)."""

import copy
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vistune.adapt import Params
from vistune.adapt import chunks as adapt_chunks
from vistune.adapt.build import build
from vistune.files import tree_digest, write_json
from vistune.models import FAMILIES
from vistune.models.labels import IGNORE
from vistune.models.vlm import build as build_vlm
from vistune.records import Message, conversation
from vistune.sources import AnnotationFile, Dataset, Manifest, Tally, read, write_manifest
from vistune.store import read_rejects, read_samples, verify
from vistune.tune.loss import answer_losses, predictors, total_weight, weights
from vistune.tune.objective import Objective, hidden_states
from vistune.tune.packed import packed, padded

IMAGES = 30
LABELS = ("dog", "cat", "bird", "kite", "bench", "car", "cup", "book", "chair", "clock", "boat", "horse")


def files(images: int = IMAGES) -> dict[str, Any]:
    """COCO and VQA files about pictures of 160x120. Some rows are bad in ways that only the picture shows."""
    rng = random.Random(5)
    boxes = []
    for n in range(1, images + 1):
        for _ in range(rng.randint(1, 6)):
            w, h = rng.randint(10, 60), rng.randint(10, 60)
            box = [rng.randint(0, 160 - w), rng.randint(0, 120 - h), w, h]
            boxes.append({"image_id": n, "category_id": rng.randint(1, len(LABELS)), "bbox": box, "iscrowd": 0})
    boxes += [{"image_id": n, "category_id": 1, "bbox": [150, 0, 60, 9], "iscrowd": 0} for n in (2, 9)]  # leave it
    boxes.append({"image_id": 999, "category_id": 1, "bbox": [1, 1, 9, 9], "iscrowd": 0})
    listed = [
        {"id": n, "file_name": f"{n}.png", "width": 160, "height": 120, "license": 1} for n in range(1, images + 1)
    ]
    listed[4]["width"] = 161
    listed.append({"id": 666, "file_name": "../secret.png", "width": 160, "height": 120, "license": 1})
    listed.append({"id": 777, "file_name": "absent.png", "width": 160, "height": 120, "license": 1})
    captions = [{"id": n, "image_id": n, "caption": f"A {LABELS[n % 12]} by a {LABELS[n % 7]}."} for n in range(1, 20)]
    questions = [{"question_id": n, "image_id": n, "question": "Is there a dog?"} for n in range(1, images, 2)]
    answers = [{**q, "multiple_choice_answer": "no" if q["question_id"] % 4 else "yes"} for q in questions]
    named = [{"id": n, "name": label, "supercategory": f"kind {n % 3}"} for n, label in enumerate(LABELS, start=1)]
    return {
        "instances.json": {
            "images": listed,
            "annotations": [{"id": n, **box} for n, box in enumerate(boxes, start=1)],
            "categories": named,
            "licenses": [{"id": 1, "name": "CC0"}],
        },
        "captions.json": {"images": listed, "annotations": captions, "licenses": [{"id": 1, "name": "CC0"}]},
        "questions.json": {"questions": questions},
        "answers.json": {"annotations": answers},
    }


def write(root: Path, trees: dict[str, Any]) -> Path:
    """A sources folder of two data sets about the same pictures."""
    (root / "images").mkdir(parents=True)
    for n in range(1, IMAGES + 1):
        Image.new("RGB", (160, 120), (n, 2 * n, 3 * n)).save(root / f"images/{n}.png")
    (root / "images/7.png").write_bytes(b"not a picture")
    for name, tree in trees.items():
        write_json(root / name, tree)
    boxes, said = AnnotationFile("coco_instances", "instances.json"), AnnotationFile("coco_captions", "captions.json")
    asked = AnnotationFile("vqa", "questions.json", "answers.json")
    sets = (Dataset("one", "train", "images", (boxes, said)), Dataset("two", "validation", "images", (boxes, asked)))
    write_manifest(root, Manifest(sets))
    return root


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    return write(tmp_path / "sources", files())


PARAMS = Params(languages={"en": 1.0, "zh": 0.3}, workers=1)


def adapt(sources: Path, output: Path, **changes: Any) -> dict[str, Any]:
    output.mkdir(exist_ok=True)
    return build(replace(PARAMS, **changes), sources, output, 3)


def test_any_number_of_processes_gives_the_same_bytes(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(adapt_chunks, "ROWS", 4)  # so that every process has several parts
    english = {"en": 1.0}  # templates are read in every process
    summaries = [adapt(sources, tmp_path / str(n), workers=n, languages=english) for n in (1, 2, 8)]
    assert len({tree_digest(tmp_path / str(n)) for n in (1, 2, 8)}) == 1
    assert summaries[0] == summaries[1] == summaries[2]
    assert summaries[0]["counts"]["out"] > 200
    assert {"image_missing", "image_size", "image_unreadable", "box_outside"} <= summaries[0]["counts"][
        "rejected"
    ].keys()


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_any_cut_of_the_work_gives_the_same_bytes(sources, tmp_path, monkeypatch, rows):
    adapt(sources, tmp_path / "plain")
    monkeypatch.setattr(adapt_chunks, "ROWS", rows)
    adapt(sources, tmp_path / "cut")
    assert tree_digest(tmp_path / "plain") == tree_digest(tmp_path / "cut")


@pytest.mark.parametrize("seed", range(3))
def test_any_order_of_rows_gives_the_same_records(tmp_path, seed):
    trees = files()
    mixed = copy.deepcopy(trees)
    for tree in mixed.values():
        for rows in tree.values():
            random.Random(seed).shuffle(rows)
    assert mixed != trees
    found = []
    for name, content in (("plain", trees), ("mixed", mixed)):
        summary = adapt(write(tmp_path / f"{name} sources", content), tmp_path / name)
        samples = [replace(s, lineage=replace(s.lineage, files=())) for s in read_samples(tmp_path / name)]
        found.append((samples, list(read_rejects(tmp_path / name)), summary["counts"], summary["metrics"]))
    assert found[0] == found[1]


def test_no_row_is_lost(sources, tmp_path):
    """Counted from the files themselves, not from what the stage says of itself."""
    summary = adapt(sources, tmp_path / "out")
    samples, rejects = list(read_samples(tmp_path / "out")), list(read_rejects(tmp_path / "out"))
    assert summary["counts"]["in"] == len(samples) + len(rejects)
    assert summary["counts"]["rejected"] == dict(sorted(Counter(r.reason for r in rejects).items()))
    trees = files()
    instances, vqa = trees["instances.json"], trees["questions.json"]
    listed = 2 * len(instances["images"]) + 2 * len(instances["annotations"])
    listed += len(trees["captions.json"]["annotations"]) + len(vqa["questions"])
    kept = 0
    for dataset in json.loads((sources / "sources.json").read_text())["datasets"]:
        files_ = tuple(AnnotationFile(**f) for f in dataset.pop("files"))
        tally, refused = Tally(), []
        list(read(sources, Dataset(**{**dataset, "files": files_, "tasks": ()}), refused, "adapt", tally))
        kept += tally.kept.total()
        assert tally.entered.total() == tally.kept.total() + len(refused)
    of_rows = [r for r in rejects if r.key.split("/")[1] in ("image", "object", "caption", "question")]
    assert listed == kept + len(of_rows)
    used = {(s.dataset, s.lineage.annotated_image.split("/")[1]) for s in samples}
    assert not used & {(d, str(n)) for d in ("one", "two") for n in (5, 7, 666, 777)}


KILLED = """
import sys
from pathlib import Path
from vistune.adapt import Params, chunks
from vistune.adapt.build import build
chunks.ROWS = 4
if __name__ == "__main__":
    print("ready", flush=True)
    while True:
        params = Params(languages={"en": 1.0, "zh": 0.3}, workers=int(sys.argv[3]))
        build(params, Path(sys.argv[1]), Path(sys.argv[2]), 3)
        print("done", flush=True)
"""


def kill_after(script: Path, sources: Path, output: Path, workers: int, seconds: float) -> None:
    """Starts adapting over and over, and kills the process some time after it started."""
    command = [sys.executable, str(script), str(sources), str(output), str(workers)]
    with open(output.parent / "log", "w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    assert process.stdout and process.stdout.readline() == b"ready\n"
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def after_kills(sources: Path, tmp_path: Path, workers: int, delays: list[float]) -> None:
    script, output = tmp_path / "adapt.py", tmp_path / "out"
    script.write_text(KILLED)
    output.mkdir()
    adapt(sources, tmp_path / "plain")
    for seconds in delays:
        kill_after(script, sources, output, workers, seconds)
        if (output / "records.json").is_file() and {"samples", "rejects"} <= json.loads(
            (output / "records.json").read_text()
        ).keys():
            verify(output)  # what is listed is whole
    adapt(sources, output, workers=workers)
    assert tree_digest(output) == tree_digest(tmp_path / "plain")


def test_a_kill_changes_nothing(sources, tmp_path):
    after_kills(sources, tmp_path, 1, [random.random() * 0.5])


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_many_kills_change_nothing(sources, tmp_path, workers):
    after_kills(sources, tmp_path, workers, [random.random() * workers for _ in range(10)])


FAMILIES_AT_TINY = [name for name in FAMILIES if name != "auto"]


@pytest.fixture(scope="module", params=FAMILIES_AT_TINY)
def trained(request):
    """A tiny model, its objective, and what it reads: three questions about one picture, one without, one about two."""
    vlm = build_vlm(request.param, seed=3)
    pictures = [Image.radial_gradient("L").resize((70, 50)).convert("RGB"), Image.linear_gradient("L").convert("RGB")]
    sizes = [picture.size for picture in pictures]
    asked = (("What is it?", "A dog"), ("What colour?", "red"), ("Hm", "no"))
    readings = [
        [vlm.reader.read(conversation([turn]), sizes[:1]) for turn in asked],
        [vlm.reader.read([Message("user", "Hello"), Message("assistant", "Hi")], [])],
        [vlm.reader.read([Message("user", "Compare", (0, 1)), Message("assistant", "same")], sizes)],
    ]
    shown = [vlm.reader.look(each[0], p) for each, p in zip(readings, (pictures[:1], [], pictures), strict=True)]
    return vlm, Objective(vlm.model.eval()), readings, shown


def gradients(vlm) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in vlm.model.named_parameters() if p.grad is not None}
    vlm.model.zero_grad()
    return found


def close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """To 1e-6 of the largest gradient."""
    assert found.keys() == expected.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    assert largest > 0
    for name, gradient in expected.items():
        assert (found[name] - gradient).abs().max() <= 1e-6 * max(largest, 1), name


def test_packed_samples_learn_as_they_do_alone(trained):
    vlm, objective, readings, shown = trained
    alone = []
    for each, seen in zip(readings, shown, strict=True):
        for reading in each:
            inputs = vlm.reader.batch([reading], [seen])
            at, targets = predictors(inputs.pop("labels"))
            states = hidden_states(vlm.model, inputs)[at]
            alone.append(answer_losses(states, targets, vlm.model.get_output_embeddings()))
    expected = torch.cat(alone)
    expected.sum().backward()
    wanted = gradients(vlm)
    row = (packed if vlm.family.packs else padded)(vlm.reader, readings, shown)
    got = objective(row)
    got.sum().backward()
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    close(gradients(vlm), wanted)
    if vlm.family.packs:
        assert row.places == row.tokens, "no padding"


def test_splitting_a_step_changes_no_gradient(trained):
    """All samples in one pass, in two, or one by one: the divisor is the step's."""
    vlm, objective, readings, shown = trained
    samples = [([[reading]], [seen]) for each, seen in zip(readings, shown, strict=True) for reading in each]
    whole = total_weight([sum(label != IGNORE for label in each[0][0].labels) for each, _ in samples], "square")
    found = {}
    for size in (5, 3, 1):
        for start in range(0, len(samples), size):
            part = samples[start : start + size]
            make = packed if vlm.family.packs else padded
            row = make(
                vlm.reader, [each for visits, _ in part for each in visits], [p for _, each in part for p in each]
            )
            ((objective(row) * weights(row.owners, "square")).sum() / whole).backward()
        found[size] = gradients(vlm)
    close(found[3], found[5])
    close(found[1], found[5])
