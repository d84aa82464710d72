"""Records on disk: sorted, sharded, the same bytes however they came, listed with digests, nothing half read."""

import dataclasses
import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vistune import shards, store
from vistune.errors import VistuneError
from vistune.files import tree_digest
from vistune.records import ImageRef, Lineage, Message, Region, Reject, Sample, SourceFile
from vistune.schema import arrow_schema, field_types, from_batch, from_table, to_batch


def sample(id: str, **changes) -> Sample:
    image = ImageRef("ab" * 32, 640, 480, "jpeg", "images/1.jpg")
    lineage = Lineage(f"toys/{id}", ("1", "2"), (SourceFile("boxes.json", "cd" * 32),), "presence.en.01@1+plain@1")
    known = {
        "id": id,
        "dataset": "toys",
        "split": "train",
        "task": "presence",
        "method": "adapt",
        "instruction": "Is there a dog?",
        "input": "",
        "response": "yes",
        "messages": (Message("user", "Is there a dog?", (0,), (0,)), Message("assistant", "yes")),
        "images": (image,),
        "lineage": lineage,
        "licence": "CC0",
        "group": image.sha256,
        "choices": ("yes", "no"),
        "regions": (Region((1, 2, 3.5, 4), "dog", "1", mention=(0, 11, 14), polygons=((1.0, 2, 3, 4, 5, 6), ())),),
    }
    return Sample(**{**known, **changes})


def small(patch: pytest.MonkeyPatch) -> None:
    """Runs, pieces and shards of a few rows, so that a hundred rows go every way."""
    patch.setattr(shards, "RUN_BYTES", 3000)
    patch.setattr(shards, "PIECE_ROWS", 2)
    patch.setattr(shards, "SHARD_ROWS", 7)
    patch.setattr(shards, "GROUP_ROWS", 3)
    patch.setattr("os.fsync", lambda descriptor: None)  # of many small files


def strategy(hint) -> st.SearchStrategy:
    """Values of a field's type, however odd."""
    if dataclasses.is_dataclass(hint):
        return st.builds(hint, **{name: strategy(inner) for name, inner in field_types(hint).items()})
    if getattr(hint, "__origin__", None) is tuple:
        first, *rest = hint.__args__
        if rest == [...]:
            return st.lists(strategy(first), max_size=3).map(tuple)
        return st.tuples(*[strategy(first)] * (1 + len(rest)))
    text = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
    numbers = {int: st.integers(-(2**31), 2**31 - 1), float: st.floats(allow_nan=False), bool: st.booleans()}
    return numbers.get(hint, text)


@settings(deadline=None, max_examples=25)
@given(st.lists(strategy(Sample), max_size=4), st.lists(strategy(Reject), max_size=4), st.integers(0, 3))
def test_every_record_comes_back_from_its_columns(samples, rejects, start):
    batch = to_batch(samples, Sample)
    assert batch.schema.equals(arrow_schema(Sample), check_metadata=True)
    assert from_batch(batch, Sample) == samples
    assert from_batch(batch.slice(start), Sample) == samples[start:]
    assert from_batch(to_batch(rejects, Reject), Reject) == rejects


def test_columns_hold_no_null():
    table = to_batch([sample("a"), sample("b", messages=(), regions=(), images=())], Sample)
    todo = list(table.columns)
    while todo:
        column = todo.pop()
        assert column.null_count == 0
        todo += column.flatten() if hasattr(column, "field") else []


@settings(deadline=None, max_examples=25)
@given(st.lists(st.text(max_size=3), unique=True, max_size=60), st.integers(1, 9), st.randoms(use_true_random=False))
def test_bytes_depend_on_the_rows_alone(tmp_path_factory, ids, grouping, mixer):
    """Range cuts, runs, pieces and shards against one sort in memory."""
    ids = [i for i in ids if i.isprintable()]
    samples = [sample(i, input="x" * (7 * n % 900)) for n, i in enumerate(ids)]
    folder = tmp_path_factory.mktemp("records")
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        patch.setattr(shards, "RUN_BYTES", 1 << 30)
        store.write_samples(folder / "plain", sorted(samples, key=lambda s: s.id))
        small(patch)
        patch.setattr(store, "BATCH", grouping)
        mixer.shuffle(samples)
        assert store.write_samples(folder / "mixed", samples) == len(samples)
        assert tree_digest(folder / "plain") == tree_digest(folder / "mixed")
        assert [s.id for s in store.read_samples(folder / "mixed")] == sorted(ids)
        assert {s.id: s for s in store.read_samples(folder / "mixed")} == {s.id: s for s in samples}
        rows = [shard.rows for shard in store.shards(folder / "mixed", "samples")]
        assert rows == [7] * (len(ids) // 7) + ([len(ids) % 7] if len(ids) % 7 or not ids else [])


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(*[st.sampled_from("ab")] * 4), max_size=40), st.randoms(use_true_random=False))
def test_rejects_may_repeat_and_are_sorted_by_reason(tmp_path_factory, rows, mixer):
    rejects = [Reject(*row) for row in rows]
    folder = tmp_path_factory.mktemp("rejects")
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        patch.setattr(shards, "RUN_BYTES", 40)
        store.write_rejects(folder / "one", rejects)
        mixer.shuffle(rejects)
        store.write_rejects(folder / "two", rejects)
    assert tree_digest(folder / "one") == tree_digest(folder / "two")
    found = list(store.read_rejects(folder / "two"))
    assert found == sorted(rejects, key=lambda r: (r.stage, r.reason, r.key, r.detail))


@pytest.mark.parametrize("far", [False, True], ids=["in one run", "in two runs"])
@pytest.mark.parametrize("twice", range(0, 40, 3))
def test_two_samples_of_one_id_are_an_error_wherever_they_lie(tmp_path, monkeypatch, far, twice):
    if far:
        small(monkeypatch)
    samples = [sample(f"vt1:{n:02d}") for n in range(40)]
    random.Random(twice).shuffle(samples)
    again = dataclasses.replace(samples[twice], task="counting")
    with pytest.raises(VistuneError, match=rf"two samples share the id {again.id} \(.*counting of toys/{again.id}"):
        store.write_samples(tmp_path, [*samples, again])
    with pytest.raises(VistuneError, match=r"no samples-\*\.parquet in"):
        list(store.read_samples(tmp_path))


@pytest.mark.slow
def test_memory_is_that_of_a_shard(tmp_path, monkeypatch):
    import pyarrow as pa

    monkeypatch.setattr(shards, "RUN_BYTES", 1_000_000)
    monkeypatch.setattr(shards, "SHARD_ROWS", 200)
    monkeypatch.setattr(shards, "PIECE_ROWS", 10)
    monkeypatch.setattr(store, "BATCH", 200)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    pool = pa.proxy_memory_pool(pa.default_memory_pool())
    before = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        rows = 20_000
        plain = to_batch([sample("a", input="x" * 400)], Sample).nbytes
        store.write_samples(tmp_path, (sample(f"{n * 7919 % rows:06d}", input="x" * 400) for n in range(rows)))
        assert pool.max_memory() < rows * plain / 3
    finally:
        pa.set_memory_pool(before)
    assert sum(s.rows for s in store.shards(tmp_path, "samples")) == rows


def test_a_folder_lists_its_shards_with_digests(tmp_path, monkeypatch):
    small(monkeypatch)
    store.write_rejects(tmp_path, [Reject("adapt", "k", "r", "d")])
    assert store.write_samples(tmp_path, [sample(f"{n:02d}") for n in range(20)]) == 20
    manifest = json.loads((tmp_path / store.MANIFEST).read_text())
    assert manifest["rows"] == {"rejects": 1, "samples": 20}
    listed = store.shards(tmp_path, "samples")
    assert [s.name for s in listed] == [f"samples-{n:05d}.parquet" for n in range(3)]
    assert [(s.first, s.last, s.rows) for s in listed] == [("00", "06", 7), ("07", "13", 7), ("14", "19", 6)]
    assert [s.bytes for s in listed] == [(tmp_path / s.name).stat().st_size for s in listed]
    root = store.verify(tmp_path)
    store.write_rejects(tmp_path, [])
    assert store.verify(tmp_path) != root
    assert list(store.read_rejects(tmp_path)) == []


def test_what_the_list_does_not_name_is_not_read(tmp_path, monkeypatch):
    small(monkeypatch)
    store.write_samples(tmp_path, [sample(f"{n:02d}") for n in range(20)])
    (tmp_path / "samples-00007.parquet").write_bytes(b"left by a killed attempt")
    assert len(list(store.read_samples(tmp_path))) == 20
    store.write_samples(tmp_path, [sample("z")])
    assert sorted(p.name for p in tmp_path.iterdir()) == [store.MANIFEST, "samples-00000.parquet"]


def test_an_attempt_that_fails_leaves_nothing_to_read(tmp_path, monkeypatch):
    small(monkeypatch)
    store.write_samples(tmp_path, [sample(f"{n:02d}") for n in range(20)])

    def broken():
        yield from [sample(f"{n:02d}") for n in range(30)]
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError):
        store.write_samples(tmp_path, broken())
    with pytest.raises(VistuneError, match=r"no samples-\*\.parquet in .* that records\.json lists"):
        list(store.read_samples(tmp_path))
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".tmp")]


def _flip(folder: Path) -> None:
    path = folder / "samples-00001.parquet"
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(bytes(data))


def _lose(folder: Path) -> None:
    (folder / "samples-00001.parquet").unlink()


def _swap(folder: Path) -> None:
    other = (folder / "samples-00000.parquet").read_bytes()
    (folder / "samples-00001.parquet").write_bytes(other)


def _forge(folder: Path) -> None:
    """A shard replaced together with its line in the list, but not with the root."""
    _swap(folder)
    path = folder / store.MANIFEST
    manifest = json.loads(path.read_text())
    manifest["samples"][1]["sha256"] = manifest["samples"][0]["sha256"]
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "said"),
    [(_flip, "samples-00001.parquet was changed"), (_lose, "is missing"), (_swap, "changed"), (_forge, "records.json")],
)
def test_verify_names_what_is_wrong(tmp_path, monkeypatch, damage, said):
    small(monkeypatch)
    store.write_samples(tmp_path, [sample(f"{n:02d}") for n in range(20)])
    store.verify(tmp_path)
    damage(tmp_path)
    with pytest.raises(VistuneError, match=said):
        store.verify(tmp_path)


def test_a_missing_shard_is_an_error_when_it_is_read(tmp_path, monkeypatch):
    small(monkeypatch)
    store.write_samples(tmp_path, [sample(f"{n:02d}") for n in range(20)])
    _lose(tmp_path)
    with pytest.raises(VistuneError, match=r"samples-00001\.parquet is missing, but records\.json lists it"):
        list(store.read_samples(tmp_path))


def test_records_of_another_schema_are_refused(tmp_path):
    store.write_samples(tmp_path, [sample("a")])
    path = tmp_path / store.MANIFEST
    path.write_text(path.read_text().replace('"schema": 2', '"schema": 1'))
    with pytest.raises(VistuneError, match="has record schema 1; this vistune reads schema 2"):
        list(store.read_samples(tmp_path))
    store.write_samples(tmp_path, [sample("b")])  # writing anew mends it
    assert [s.id for s in store.read_samples(tmp_path)] == ["b"]


def test_an_empty_folder_of_records(tmp_path):
    assert store.write_samples(tmp_path, []) == 0
    assert list(store.read_samples(tmp_path)) == []
    assert [s.rows for s in store.shards(tmp_path, "samples")] == [0]
    with pytest.raises(VistuneError, match=r"no rejects-\*\.parquet"):
        list(store.read_rejects(tmp_path))
    with pytest.raises(VistuneError, match="holds no records"):
        store.verify(tmp_path / "nowhere")


def test_half_a_character_is_an_error_that_shows_it(tmp_path):
    with pytest.raises(VistuneError, match=r"the text 'dog \\ud83d' of a Sample holds half a character"):
        store.write_samples(tmp_path, [sample("a", response="dog \ud83d")])


def test_counts_must_add_up():
    rejects = [Reject("adapt", "1", "b", ""), Reject("adapt", "2", "a", "")]
    expected = {"in": 5, "out": 3, "rejected": {"a": 1, "b": 1}}
    assert store.counts(5, 3, rejects) == store.counts(5, 3, {"b": 1, "a": 1}) == expected
    with pytest.raises(VistuneError, match="6 in, 3 out, 2 rejected"):
        store.counts(6, 3, rejects)


def test_tables_of_several_batches(tmp_path):
    import pyarrow as pa

    samples = [sample(str(n)) for n in range(5)]
    table = pa.Table.from_batches([to_batch(samples[:2], Sample), to_batch(samples[2:], Sample)])
    assert from_table(table, Sample) == samples
