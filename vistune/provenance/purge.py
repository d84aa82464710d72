"""`vistune purge`: what a withdrawn data set, licence, prompt or annotation has touched, and a release without it.

The cleaned release keeps every other row and image of the old one byte for byte (rows that were rejected as duplicates
of a purged row do not come back), passes the checks of a release again, and says in `purge.json` what was removed and
why. The rows that left stand among its rejects.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune import lineage, tracking
from vistune.errors import VistuneError
from vistune.files import link_tree, read_json, tree_digest, write_json
from vistune.imagestore import open_store
from vistune.records import Reject
from vistune.schema import to_batch
from vistune.search import Query, found
from vistune.stages import EXECUTION, RECEIPT, Receipt, home, receipt
from vistune.store import MANIFEST, RecordWriter, counts, read_rejects, read_samples, shards, verify

if TYPE_CHECKING:
    from vistune.validate import Params

NOTE = "purge.json"
REASON = "purged"


@dataclass(frozen=True)
class Touched:
    """What rests on a withdrawn thing."""

    releases: dict[Path, int]  # folder -> samples in it
    runs: list[tracking.RunFacts]  # that read one of them
    versions: list[tracking.Version]  # that were tuned on one of them


def touched(query: Query, release: Path) -> Touched:
    """Looks through `release` and every release among the finished stages of this machine, and asks MLflow (if it is
    on) what was made of those that hold an affected sample."""
    folders: dict[str, Path] = {}
    for folder in [release, *sorted((home() / "stages" / "validate").glob("*"))]:
        if (folder / MANIFEST).is_file() and (folder / RECEIPT).is_file():
            folders.setdefault(receipt(folder).digest, folder)
    rows = {folder: sum(t.num_rows for t in found(folder, query)) for folder in folders.values()}
    made = [receipt(folder) for folder, n in rows.items() if n] if tracking.enabled() else []
    runs = [run for done in made for run in tracking.runs_that_read(done.digest, done.dvc_md5)]
    versions = [v for done in made for v in tracking.versions_with("validate.digest", done.digest)]
    return Touched({folder: n for folder, n in rows.items() if n}, runs, versions)


def write(query: Query, release: Path, target: Path, why: str, params: Params) -> dict[str, Any]:
    """Writes `release` without the samples that fit into `target`, and returns what `purge.json` says. params: of
    `validate`, whose expectations the cleaned release must meet. Raises VistuneError when none fits, when a split
    loses all its rows, or when an expectation fails."""
    before = receipt(release)
    if tree_digest(release, (RECEIPT, EXECUTION)) != before.digest:
        raise VistuneError(f"{release} is not as validate wrote it. Restore it first (`dvc checkout`), then purge.")
    if target.resolve().is_relative_to(release.resolve()) or release.resolve().is_relative_to(target.resolve()):
        raise VistuneError(f"{target} and {release} lie in each other. Name another folder to write to.")
    if target.exists() and any(target.iterdir()) and not (target / NOTE).is_file():
        raise VistuneError(f"{target} is not empty, and no cleaned release. Name a new folder.")
    gone = {id for table in found(release, query) for id in table["id"].to_pylist()}
    if not gone:
        raise VistuneError(f"no sample of {release} rests on {said(query)}; there is nothing to remove.")
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    images = _rows(release, partial, gone, said(query))
    _refuse_empty_split(release, partial, query)
    _images(release, partial, images)
    kept, removed = sum(s.rows for s in shards(partial, "samples")), len(gone)
    note = {"removed": removed, "kept": kept, "from": _digest(release), "query": _asked(query), "why": why}
    _describe(release, partial, images, note, params)
    key = _seal(partial, note, before)
    link_tree(partial, home() / "stages" / "validate" / key)  # where `verify-lineage` and later purges look
    link_tree(partial, target)
    shutil.rmtree(partial)
    return note | {"digest": _digest(target)}


def said(query: Query) -> str:
    """
    >>> said(Query(source="coco", annotation="17"))
    'annotation 17 and source coco'
    """
    return " and ".join(f"{name} {value}" for name, value in _asked(query).items())


def _asked(query: Query) -> dict[str, str]:
    return {name: value for name, value in asdict(query).items() if value}


def _digest(release: Path) -> str:
    return read_json(release / "release.json")["digest"]


def _rows(release: Path, target: Path, gone: set[str], what: str) -> set[str]:
    """Writes the rows that stay and the rejects; returns the digests of the images that they show."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    ids, images = pa.array(sorted(gone)), set[str]()
    with RecordWriter(target, "samples") as out:
        for shard in shards(release, "samples"):
            with pq.ParquetFile(release / shard.name) as file:
                for batch in file.iter_batches():
                    stay = batch.filter(pc.invert(pc.is_in(batch["id"], ids)))
                    images.update(pc.struct_field(pc.list_flatten(stay["images"]), "sha256").to_pylist())
                    out.add(stay)
        out.finish()
    with RecordWriter(target, "rejects") as out:
        rejects = read_rejects(release) if "rejects" in read_json(release / MANIFEST) else iter(())
        out.add(
            to_batch([*rejects, *(Reject("purge", id, REASON, f"rests on {what}.") for id in sorted(gone))], Reject)
        )
        out.finish()
    return images


def _refuse_empty_split(release: Path, target: Path, query: Query) -> None:
    import pyarrow.parquet as pq

    def splits(folder: Path) -> set[str]:
        files = [folder / shard.name for shard in shards(folder, "samples")]
        return {s for f in files for s in pq.read_table(f, columns=["split"])["split"].unique().to_pylist()}

    lost = sorted(splits(release) - splits(target))
    if lost:
        raise VistuneError(
            f"split {lost[0]} would be empty without {said(query)}: nothing was written. Add other data to `sources`, "
            "and run the stages from there."
        )


def _images(release: Path, target: Path, used: set[str]) -> None:
    if not (release / "images").is_dir():
        return
    link_tree(release / "images", target / "images")
    store = open_store(target)
    store.collect_garbage(used)
    store.verify()
    for folder in (target / "images").iterdir():
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _describe(release: Path, target: Path, images: set[str], note: Mapping[str, Any], params: Params) -> None:
    """release.json, attribution.json, purge.json and checks.json, after the expectations of `validate`."""
    from vistune.validate.release import describe, warnings
    from vistune.validate.suite import expect

    rows = list(read_samples(target))
    facts = describe(rows, target)
    write_json(target / "release.json", facts)
    shown = {i.path for s in rows for i in s.images}
    credit = release / "attribution.json"
    if credit.is_file():
        write_json(target / "attribution.json", {k: v for k, v in read_json(credit).items() if k in shown})
    write_json(target / NOTE, note)
    tallies = expect(rows, params, facts["digest"], target)
    write_json(target / "checks.json", {"checks": [asdict(t) for t in tallies], "warnings": warnings(params, tallies)})
    verify(target)


def _seal(target: Path, note: Mapping[str, Any], before: Receipt) -> str:
    """The receipt that makes it an output of `validate`, for `vistune tune --input validate=DIR`; returns its key."""
    entered, kept = note["removed"] + note["kept"], note["kept"]
    details = {"digest": _digest(target), "purge": dict(note)}
    summary = {"counts": counts(entered, kept, {REASON: note["removed"]}), "metrics": {}, "details": details}
    digest = tree_digest(target, (RECEIPT, EXECUTION))
    write_json(target / RECEIPT, {"stage": "validate", "digest": digest, "summary": summary})
    key = f"purged-{digest[:24]}"
    write_json(target / EXECUTION, {"key": key, "inputs": before.inputs, "dvc_md5": lineage.dvc_md5(target)})
    return key
