"""The index of annotations: what it finds, and when it is not used."""

from dataclasses import replace

import pytest

from vistune import shards, store
from vistune.annotationindex import index_path, indexed_rows, write_index
from vistune.records import ImageRef, Lineage, Message, Sample
from vistune.schema import to_batch
from vistune.search import Query, _text, search


def sample(n, *annotations):
    image = ImageRef("a" * 64, 10, 10, "png", "a.png")
    talk = (Message("user", "q", (0,)), Message("assistant", "a"))
    made = Lineage(f"d/{n}", annotations, ())
    return Sample(f"vt1:{n:020d}", "d", "train", "t", "adapt", "q", "", "a", talk, (image,), made, "CC0", "g")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two shards of five samples, of which sample n rests on annotations n and "x", every second one on "even"."""
    monkeypatch.setattr(shards, "GROUP_ROWS", 2)
    monkeypatch.setattr(shards, "SHARD_ROWS", 5)
    store.write_samples(tmp_path, [sample(n, str(n), "x", "x", *["even"] * (n % 2 == 0)) for n in range(10)])
    return tmp_path


def test_rows_come_in_order_and_once(folder):
    first, second = store.shards(folder, "samples")
    rows = [indexed_rows(folder / s.name, s.sha256, _text("x")).to_pylist() for s in (first, second)]
    assert rows == [[0, 1, 2, 3, 4]] * 2
    assert indexed_rows(folder / second.name, second.sha256, _text("even")).to_pylist() == [1, 3]
    assert indexed_rows(folder / second.name, second.sha256, _text("0")).to_pylist() == []


def test_an_index_that_is_missing_or_of_another_shard_is_not_used(folder):
    first, second = (folder / s.name for s in store.shards(folder, "samples"))
    sha256 = store.shards(folder, "samples")[0].sha256
    assert indexed_rows(first, "0" * 64, _text("x")) is None
    index_path(first).write_bytes(index_path(second).read_bytes())
    assert indexed_rows(first, sha256, _text("x")) is None
    index_path(first).unlink()
    assert indexed_rows(first, sha256, _text("x")) is None
    assert [id[-1] for id, _ in search(folder, Query(annotation="x"))] == list("0123456789")


def test_the_index_is_what_answers(folder):
    """Made to say something else than its shard, it is believed."""
    first, _ = store.shards(folder, "samples")
    table = to_batch([replace(sample(n), lineage=Lineage("d/0", (f"other{n}",), ())) for n in range(5)], Sample)
    import pyarrow as pa

    write_index(folder / first.name, first.sha256, pa.Table.from_batches([table]))
    assert list(search(folder, Query(annotation="other3"))) == [(f"vt1:{3:020d}", "t")]


def test_a_shard_of_one_row_group_has_no_index_and_a_new_attempt_clears_old_ones(folder):
    assert len(list(folder.glob("annotations-*"))) == 2
    store.write_samples(folder, [sample(1, "1"), sample(2, "2")])
    assert not list(folder.glob("annotations-*"))


def test_equal_samples_give_an_equal_index(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    store.write_samples(other, reversed(list(store.read_samples(folder))))
    assert [p.read_bytes() for p in sorted(other.iterdir())] == [p.read_bytes() for p in sorted(folder.iterdir())]
