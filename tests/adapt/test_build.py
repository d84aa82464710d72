"""Parts of the work, and what is put together from them, wherever each part was done."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vistune.adapt import Params
from vistune.adapt import chunks as parts
from vistune.adapt.build import Totals, build
from vistune.adapt.chunks import Tables, Worker, chunks
from vistune.adapt.turns import DIALOGUE
from vistune.errors import VistuneError
from vistune.records import Dialogue, Lineage, Message, Sample, SourceFile, conversation
from vistune.sources import AnnotationFile, Dataset, Manifest, Tally, write_manifest
from vistune.sources.join import list_rows
from vistune.sources.rows import DialogueRow
from vistune.store import read_rejects, read_samples
from vistune.workers import Workers


def sample(id: str, task: str, language: str, polarity: str) -> Sample:
    return Sample(
        *(id, "toys", "train", task, "adapt", "?", "", "yes", conversation([("?", "yes")]), ()),
        Lineage("toys/1", ("1",), (), f"{task}.{language}.01@1"),
        *("CC0", "group", language, polarity),
    )


ROWS = st.tuples(
    st.sampled_from(["presence", "caption", "vqa"]), st.sampled_from(["en", "zh"]), st.sampled_from(["", "yes", "no"])
)


@settings(deadline=None)
@given(st.lists(ROWS, max_size=20), st.integers(1, 5), st.randoms(use_true_random=False))
def test_tables_of_parts_add_up_to_the_table_of_all(rows, cut, mixer):
    samples = [sample(f"vt1:{n:02d}", *row) for n, row in enumerate(rows)]
    whole, merged = Tables(), Tables()
    whole.count(samples)
    mixer.shuffle(samples)
    for start in range(0, len(samples), cut):
        part = Tables()
        part.count(samples[start : start + cut])
        merged.merge(part)
    assert merged.counts() == whole.counts()
    assert merged.shown("en") == whole.shown("en")
    assert merged.examples == whole.examples
    shown = {
        (s.language, s.task): min(x.id for x in samples if (x.language, x.task) == (s.language, s.task))
        for s in samples
    }
    assert {key: s.id for key, s in merged.examples.items()} == shown
    json.dumps(merged.shown("en"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven pictures with boxes; that of the fifth leaves its picture."""
    (tmp_path / "images").mkdir()
    listed, boxes = [], []
    for n in range(1, 8):
        Image.new("RGB", (40, 30), (n, n, n)).save(tmp_path / f"images/{n}.png")
        listed.append({"id": n, "file_name": f"{n}.png", "width": 40, "height": 30})
        boxes += [{"id": 2 * n + k, "image_id": n, "category_id": 1 + k, "bbox": [k, n, 9, 9]} for k in (0, 1)]
    boxes[8]["bbox"] = [30, 0, 30, 9]
    named = [
        {"id": n, "name": name, "supercategory": "x"} for n, name in enumerate(("dog", "cat", "owl", "boat"), start=1)
    ]
    tree = {"images": listed, "annotations": boxes, "categories": named}
    (tmp_path / "boxes.json").write_text(json.dumps(tree))
    return tmp_path


TOYS = Dataset("toys", "train", "images", (AnnotationFile("coco_instances", "boxes.json"),), licence="CC0")


def listing(folder: Path):
    return list_rows(folder, TOYS, [], "adapt", Tally())


def test_chunks_hold_every_row_once_in_order(folder, monkeypatch):
    monkeypatch.setattr(parts, "ROWS", 3)
    found = list(chunks(TOYS, (), listing(folder)))
    assert [[row.id for row in chunk.rows] for chunk in found] == [["1", "2", "3"], ["4", "5", "6"], ["7"]]
    assert {chunk.statistics.popular for chunk in found} == {("cat", "dog")}  # of all images, in each


def test_a_worker_keeps_nothing_of_an_earlier_chunk(folder, monkeypatch):
    monkeypatch.setattr(parts, "ROWS", 2)
    work = list(chunks(TOYS, (), listing(folder)))
    params = Params(languages={"en": 1.0})
    fresh = [Worker(params, 0, folder)(chunk) for chunk in work]
    used = Worker(params, 0, folder)
    again = [used(chunk) for chunk in reversed(work)][::-1]
    for a, b in zip(fresh, again, strict=True):
        assert a.samples.equals(b.samples) and a.rejects.equals(b.rejects)
        assert (a.rows, a.images, a.entered, a.reasons) == (b.rows, b.images, b.entered, b.reasons)
        assert a.entered == a.samples.num_rows + a.rejects.num_rows
    assert [part.reasons["box_outside"] for part in fresh] == [0, 0, 1, 0]


def test_dialogues_are_work_like_images(folder):
    rows = listing(folder)
    shown = Dialogue("toys/d1", "toys", "train", (), (Message("user", "Hi", (0,)), Message("assistant", "Ho")), "CC0")
    rows.dialogues += [
        DialogueRow(shown, ("1.png",)),
        DialogueRow(replace(shown, id="toys/d2"), ("2.png", "absent.png")),
    ]
    (chunk,) = chunks(TOYS, (SourceFile("boxes.json", "ab"),), rows)
    part = Worker(Params(), 0, folder)(chunk)
    assert part.rows == 9 and part.images == 8
    assert part.tables.by["task"][DIALOGUE] == 1 and part.reasons["image_missing"] == 1


def test_the_most_frequent_reasons():
    totals, other = Totals(), Totals(images=2, entered=7)
    totals.reasons.update({"old": 3, "both": 1})
    other.reasons.update({"new": 2, "both": 5})
    totals.merge(other)
    assert totals.most() == "6 both, 3 old, 2 new"
    assert (totals.images, totals.entered) == (2, 7)
    assert Totals().most() == "none"


def test_small_data_starts_no_process_unless_it_is_asked_to(folder, tmp_path, monkeypatch):
    write_manifest(folder, Manifest((TOYS,)))
    monkeypatch.setattr(Workers, "_started", lambda self: pytest.fail("a process was started"))
    output = tmp_path / "out"
    output.mkdir()
    assert build(Params(), folder, output, 0)["metrics"]["images"] == 7
    with pytest.raises(pytest.fail.Exception, match="started"):
        build(Params(workers=2), folder, output, 0)


def test_a_data_set_without_an_image_names_its_own_reasons(folder, tmp_path):
    """Also when other data sets have rejects of other kinds."""
    other = replace(TOYS, name="other", images="nowhere")
    write_manifest(folder, Manifest((TOYS, other)))
    (tmp_path / "out").mkdir()
    with pytest.raises(
        VistuneError, match=r"data set other \(train\) has no usable image; rejected rows: 21 image_missing\."
    ):
        build(Params(), folder, tmp_path / "out", 0)
    with pytest.raises(VistuneError, match=r"no samples-\*\.parquet"):
        list(read_samples(tmp_path / "out"))


def test_the_stage_writes_nothing_it_does_not_list(folder, tmp_path):
    write_manifest(folder, Manifest((TOYS,)))
    output = tmp_path / "out"
    output.mkdir()
    for name in (".samples-00000.parquet.x.tmp", "samples-00004.parquet", ".rejects-00000.parquet.y.tmp"):
        (output / name).write_bytes(b"of a killed attempt")
    summary = build(Params(), folder, output, 0)
    names = sorted(p.name for p in output.iterdir())
    assert names == ["counts.json", "records.json", "rejects-00000.parquet", "samples-00000.parquet"]
    assert len(list(read_samples(output))) == summary["counts"]["out"]
    assert [r.reason for r in read_rejects(output)].count("box_outside") == 1
