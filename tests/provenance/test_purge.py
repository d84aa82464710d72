"""What a withdrawal touches, and the release without it: nothing else is lost, and a rerun gives the same bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from vistune import lineage, store
from vistune.errors import VistuneError
from vistune.files import files_under, link_tree, read_json, tree_digest
from vistune.imageshards import ShardedImages
from vistune.imagestore import open_store
from vistune.provenance import purge
from vistune.search import Query
from vistune.stages import home, receipt, verified
from vistune.validate import Params, suite

EXPECT = suite.expect
QUERIES = [
    (Query(source="street"), 12),
    (Query(licence="CC BY-NC 2.0"), 12),
    (Query(licence="https://creativecommons.org/licenses/by/4.0/"), 12),
    (Query(prompt="detail"), 8),
    (Query(prompt="detail@2"), 0),
    (Query(template="caption.en.01@2"), 8),
    (Query(annotation="10"), 2),
    (Query(annotation="10", source="shelf"), 1),
]


@pytest.fixture(autouse=True)
def checked(monkeypatch, chain, tmp_path_factory):
    """A home of their own, since a cleaned release is kept there too. The expectations cost seconds each time; one test
    keeps them."""
    monkeypatch.setenv("VISTUNE_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setattr("vistune.validate.suite.expect", lambda *_: [])


def read(folder: Path) -> dict[str, store.Sample]:
    return {s.id: s for s in store.read_samples(folder)}


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files_under(folder)}


@pytest.mark.parametrize(("query", "rows"), [q for q in QUERIES if q[1]], ids=lambda q: str(q))
def test_purged_release_and_removed_rows_are_the_original(chain, tmp_path, query, rows):
    release, target = chain.folders["validate"], tmp_path / "clean"
    whole, before = read(release), bytes_of(release)
    note = purge.write(query, release, target, "the owner withdrew it", Params())
    kept, rejects = read(target), list(store.read_rejects(target))
    gone = {r.key for r in rejects if r.reason == "purged"}
    assert (len(gone), note["removed"], note["kept"]) == (rows, rows, 24 - rows)
    assert kept == {id: s for id, s in whole.items() if id not in gone}
    assert len(kept) + len(gone) == len(whole) == 24
    assert [r for r in rejects if r.reason != "purged"] == list(store.read_rejects(release))
    shown = {i.sha256 for s in kept.values() for i in s.images}
    assert {i.sha256 for i in open_store(target)} == shown
    assert set(read_json(target / "attribution.json")) == {i.path for s in kept.values() for i in s.images}
    assert read_json(target / "release.json")["digest"] == note["digest"] != note["from"]
    assert read_json(target / "purge.json")["why"] == "the owner withdrew it"
    assert verified(target).summary["counts"] == {"in": 24, "out": 24 - rows, "rejected": {"purged": rows}}
    assert bytes_of(release) == before, "the original is left alone"
    sealed = verified(target)
    assert (sealed.inputs, sealed.dvc_md5) == (verified(release).inputs, lineage.dvc_md5(target))
    assert receipt(home() / "stages/validate" / sealed.key).digest == sealed.digest

    first = bytes_of(target)
    purge.write(query, release, target, "the owner withdrew it", Params())
    assert bytes_of(target) == first
    assert not [p for p in tmp_path.iterdir() if p != target]


def test_a_sharded_release_stays_sharded(chain, tmp_path):
    release, target = tmp_path / "sharded", tmp_path / "clean"
    link_tree(chain.folders["validate"], release)
    images = [(i, release / i.path) for i in open_store(release)]
    packed = ShardedImages(tmp_path / "pack")
    packed.add(images)
    shutil.rmtree(release / "images")
    shutil.copytree(tmp_path / "pack/images", release / "images")
    receipt = read_json(release / "receipt.json") | {"digest": tree_digest(release, ("receipt.json", "execution.json"))}
    purge.write_json(release / "receipt.json", receipt)
    before = bytes_of(release)
    purge.write(Query(source="street"), release, target, "", Params())
    assert len(ShardedImages(target)) == 2
    assert bytes_of(release) == before
    first = bytes_of(target)
    purge.write(Query(source="street"), release, target, "", Params())
    assert bytes_of(target) == first


def test_the_cleaned_release_meets_the_expectations(chain, tmp_path, monkeypatch):
    monkeypatch.setattr(suite, "expect", EXPECT)
    target = tmp_path / "clean"
    purge.write(Query(source="street"), chain.folders["validate"], target, "", Params())
    assert (target / "data_docs/index.html").is_file()
    assert [c for c in read_json(target / "checks.json")["checks"] if c["failed"] and c["level"] != "warning"] == []
    with pytest.raises(VistuneError, match="samples"):
        purge.write(Query(source="street"), chain.folders["validate"], target, "", Params(min_samples=13))


def test_what_was_touched(chain, tmp_path):
    found = purge.touched(Query(source="street"), chain.folders["validate"])
    assert found.releases == {chain.folders["validate"]: 12}
    assert sorted((v.version, v.aliases) for v in found.versions) == [
        ("1", ("previous_champion",)),
        ("2", ("challenger", "champion")),
    ]
    assert sorted(run.name for run in found.runs) == ["evaluate", "evaluate", "tune", "tune"]
    none = purge.touched(Query(prompt="detail@2"), chain.folders["validate"])
    assert (none.releases, none.runs, none.versions) == ({}, [], [])


def test_a_release_among_the_finished_stages_is_found(chain, tmp_path, monkeypatch):
    monkeypatch.setenv("VISTUNE_HOME", str(tmp_path))
    link_tree(chain.folders["validate"], tmp_path / "stages/validate/one")
    assert purge.touched(Query(source="street"), tmp_path / "nowhere").releases == {
        tmp_path / "stages/validate/one": 12
    }


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (Query(source="roads"), "no sample of .* rests on source roads; there is nothing to remove"),
        (Query(licence="MIT"), "rests on licence MIT"),
    ],
)
def test_nothing_to_remove_is_an_error(chain, tmp_path, query, message):
    with pytest.raises(VistuneError, match=message):
        purge.write(query, chain.folders["validate"], tmp_path / "clean", "", Params())
    assert list(tmp_path.iterdir()) == []


def test_a_release_that_would_be_empty_is_not_written(chain, tmp_path, monkeypatch):
    every = iter(store.read_samples(chain.folders["validate"]))
    monkeypatch.setattr(purge, "found", lambda *_: [{"id": purge_ids(every)}])
    with pytest.raises(VistuneError, match="split train would be empty without source street: nothing was written"):
        purge.write(Query(source="street"), chain.folders["validate"], tmp_path / "clean", "", Params())
    assert not (tmp_path / "clean").exists()


def purge_ids(samples):
    import pyarrow as pa

    return pa.array([s.id for s in samples])


def test_nothing_is_overwritten_and_nothing_damaged_is_purged(chain, tmp_path, change):
    release = chain.folders["validate"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    with pytest.raises(VistuneError, match="is not empty, and no cleaned release"):
        purge.write(Query(source="street"), release, tmp_path / "mine", "", Params())
    with pytest.raises(VistuneError, match="lie in each other"):
        purge.write(Query(source="street"), release, release / "clean", "", Params())
    with (
        change(release / "attribution.json", b"{}"),
        pytest.raises(VistuneError, match="not as validate wrote it"),
    ):
        purge.write(Query(source="street"), release, tmp_path / "clean", "", Params())


def test_a_licence_is_found_where_a_stricter_one_hides_it(chain, change):
    """A sample names the most restrictive licence of its sources; a withdrawn one may be the image's or that of its
    annotations alone."""
    release, sources = chain.folders["validate"], chain.folders["sources"] / "sources.json"

    def rows(licence: str) -> int:
        return sum(t.num_rows for t in purge.found(release, Query(licence=licence)))

    credits = read_json(release / "attribution.json")
    first = next(path for path, credit in credits.items() if credit["attribution"] == "street/1")
    free = credits | {first: {"licence": "CC0", "attribution": "street/1"}}
    with change(release / "attribution.json", json.dumps(free).encode()):
        assert (rows("CC0-1.0"), rows("CC-BY-NC-2.0")) == (6, 12)
    datasets = [{"name": "shelf", "annotation_licence": "MIT"}, {"name": "street"}]
    with change(sources, json.dumps({"datasets": datasets}).encode()):
        assert (rows("MIT"), rows("Apache-2.0")) == (12, 0)
