"""What was exported is read again by vistune's own readers of these formats: every row, with its images and turns."""

from dataclasses import replace

import pytest

from vistune.records import Dialogue
from vistune.sources import AnnotationFile, Dataset, Tally, collect, read

FILES = {"llava": ("llava", "train.json"), "sharegpt": ("sharegpt", "train.json"), "alpaca": ("alpaca", "train.json")}
FILES |= {"messages": ("sharegpt", "train.jsonl"), "internvl": ("llava", "train.jsonl")}
FILES["hf"] = ("sharegpt", "train-00000-of-00001.parquet")


def said(messages, images):
    """Role, text without white space at its ends, and the pictures with their places."""
    found = []
    for m in messages:
        shown = zip(m.places or [0] * len(m.images), (images[n].sha256 for n in m.images), strict=True)
        found.append((m.role, m.text.strip(), sorted(shown, key=lambda pair: pair[0])))
    return found


@pytest.mark.parametrize("view", FILES)
def test_rows_come_back_as_dialogues(tiny, exported, tmp_path, view):
    # an image that is turned upright is another file then; its pixels are compared in test_views
    tiny.samples["zh"] = replace(tiny.samples["zh"], images=(tiny.images["wide.png"],), regions=())
    folder = exported(view)
    form, name = FILES[view]
    dataset = Dataset("again", "train", str(folder), (AnnotationFile(form, str(folder / name)),), licence="CC BY 4.0")
    folder = tmp_path / "sources"
    (dataset,) = collect((dataset,), (), folder).datasets
    rejects, tally = [], Tally()
    rows = {d.id.removeprefix("again/"): d for d in read(folder, dataset, rejects, "adapt", tally)}
    assert not rejects
    expected = {s.id: s for s in tiny.samples.values() if s.split == "train"}
    assert set(rows) == set(expected) and tally.entered.total() == len(expected)
    for id, sample in expected.items():
        row = rows[id]
        assert isinstance(row, Dialogue)
        wanted = said(sample.messages, sample.images)
        if view in ("llava", "internvl"):
            wanted = [turn for turn in wanted if turn[0] != "system"]  # LLaVA brings its own
        assert said(row.messages, row.images) == wanted
    locate = expected[tiny.samples["locate"].id]
    if view == "alpaca":
        assert (rows[locate.id].instruction, rows[locate.id].input) == (locate.instruction, locate.input)
