"""The validate stage: rows through every check, and what is left written as a release."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.files import write_json
from vistune.fingerprints import Fingerprint, scan, similar
from vistune.hashing import file_digest, merkle_root
from vistune.licences import Allowed
from vistune.progress import track
from vistune.records import ImageRef, Reject, Sample
from vistune.sources import BenchmarkItem, load, read_benchmark
from vistune.store import add_images, counts, image_file, image_path, read_samples, write_rejects, write_samples
from vistune.validate import Params
from vistune.validate.checks import CHECKS, Level, Rules, Tally, check_rows
from vistune.validate.duplicates import remove_exact, remove_near
from vistune.validate.evidence import Evidence, read_evidence
from vistune.validate.leakage import RANK, Pictures, refuse_held_out_wording, remove_leaks
from vistune.validate.suite import expect

QUARANTINE = frozenset(c.name for c in CHECKS if c.level == "hard") | {"image_undecodable", "image_size"}
"""Reasons that say a row is defective, rather than unwanted."""

FACETS = ("task", "method", "dataset", "split", "language", "licence", "polarity")
EXAMPLES = 3  # rejects shown for each reason
NAMED = 10  # ids named in an error


@dataclass
class Book:
    """What became of the rows so far."""

    rejects: list[Reject] = field(default_factory=list)
    tallies: list[Tally] = field(default_factory=list)

    def remove(self, name: str, level: Level, what: str, evaluated: int, rejects: Sequence[Reject]) -> None:
        self.rejects += rejects
        first = [r.key for r in rejects[:NAMED]]
        self.tallies.append(Tally(name, level, what, evaluated, len(rejects), first))

    def reasons(self, ids: Iterable[str] | None = None) -> str:
        """Reasons with counts and ids, the most frequent first; of the rows `ids`, or of all."""
        wanted = None if ids is None else set(ids)
        found: dict[str, list[str]] = {}
        for r in self.rejects:
            if wanted is None or r.key in wanted:
                found.setdefault(r.reason, []).append(r.key)
        ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
        return "; ".join(f"{reason} {len(keys):,} ({named(keys)})" for reason, keys in ordered)


def build(params: Params, inputs: Mapping[str, Path], output: Path) -> dict[str, Any]:
    _clear(output)
    roots = _roots(inputs)
    samples = [s for method in roots for s in read_samples(inputs[method])]
    _refuse_shared_ids(samples)
    evidence = {root: read_evidence(root) for root in set(roots.values())}
    book = Book()

    kept, book.rejects, book.tallies = check_rows(samples, _rules(params, {m: evidence[r] for m, r in roots.items()}))
    prints = _scan(kept, roots)
    kept = _quarantine_images(kept, prints, book)
    _limit_quarantine(params, len(samples), book, output)

    items, looked = _benchmarks(inputs["sources"], kept)
    book.remove("held_out_wording", "hard", "training does not use the words of held-out task kinds", looked, [])
    prints |= _scan_benchmarks(inputs["sources"], items)
    alike = similar(prints.values(), params.near_duplicate_hamming, params.near_duplicate_difference)
    pictures = Pictures({image.sha256: p.pixels for image, p in prints.items()}, alike)
    clusters = pictures.clusters(kept)
    entered = len(kept)
    kept, removed = remove_leaks(kept, items, pictures, clusters, params.decontaminate)
    book.remove("leakage", "policy", "no picture is shared with held-out data", entered, removed)

    entered = len(kept)
    kept, removed = remove_exact(kept, pictures.of)
    book.remove("duplicate_exact", "policy", "no two rows have the same text about one picture", entered, removed)
    kept, removed, compared = remove_near(kept, pictures.of, params.near_duplicate_rouge, params.near_duplicate_words)
    book.remove("duplicate_near", "policy", "no two long responses about one picture are alike", compared, removed)

    write_rejects(output, book.rejects)
    _refuse_empty_split(samples, kept, book, output)
    kept = [replace(s, group=clusters.find(f"group {s.group}").removeprefix("group ")) for s in kept]
    kept = _place_images(kept, roots, output)
    write_samples(output, kept)
    release = describe(kept, output)
    write_json(output / "release.json", release)
    write_json(output / "attribution.json", _attribution(kept, {m: evidence[r] for m, r in roots.items()}))
    book.tallies += expect(kept, params, release["digest"], output)
    raised = warnings(params, book.tallies)
    write_json(output / "checks.json", {"checks": [asdict(t) for t in book.tallies], "warnings": raised})
    return _summary(samples, kept, book, release, raised, _near_duplicate_images(kept, alike, pictures))


def named(ids: Sequence[str]) -> str:
    """The first ids, and how many more there are.

    >>> named([str(n) for n in range(12)])
    '0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more'
    """
    rest = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return ", ".join(ids[:NAMED]) + rest


def _clear(output: Path) -> None:
    """A killed attempt may have left files of any age; the stage is short, so it starts from nothing."""
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)


def _roots(inputs: Mapping[str, Path]) -> dict[str, Path]:
    """The sources folder that each method's samples speak of. `adapt` has its own when it was given files directly."""
    own = inputs["adapt"] / "sources"
    return {"adapt": own if own.is_dir() else inputs["sources"], "self_instruct": inputs["sources"]}


def _refuse_shared_ids(samples: list[Sample]) -> None:
    samples.sort(key=lambda s: s.id)
    shared = sorted({a.id for a, b in pairwise(samples) if a.id == b.id})
    if shared:
        raise VistuneError(
            f"{len(shared)} ids are used by more than one row: {named(shared)}. An id must name one sample, or no "
            "answer can be traced; run adapt and self_instruct again, or rename the rows of imported data."
        )


def _rules(params: Params, evidence: Mapping[str, Evidence]) -> Rules:
    return Rules(
        frozenset(params.languages),
        Allowed(params.allow_licences, "validate.allow_licences"),
        params.box_tolerance,
        params.max_response_words,
        evidence,
    )


def _scan(samples: Sequence[Sample], roots: Mapping[str, Path]) -> dict[ImageRef, Fingerprint]:
    """Fingerprints of all images of `samples`. Raises VistuneError when a file is not the one that was annotated."""
    prints: dict[ImageRef, Fingerprint] = {}
    for root in sorted(set(roots.values())):
        images = {i for s in samples if roots[s.method] == root for i in s.images}
        prints |= scan(root, images, "validate")
        damaged = {i: prints[i] for i in images if prints[i].damage}
        if damaged:
            rows = sorted(s.id for s in samples if any(i in damaged for i in s.images))
            listed = "; ".join(sorted(p.detail for p in damaged.values())[:NAMED])
            raise VistuneError(
                f"{len(damaged)} images are missing or changed since their samples were made: {listed}. They belong "
                f"to {len(rows)} rows: {named(rows)}. Restore the files, or run the sources stage and all after it."
            )
    return prints


def _quarantine_images(kept: list[Sample], prints: Mapping[ImageRef, Fingerprint], book: Book) -> list[Sample]:
    bad: dict[str, list[Reject]] = {"image_undecodable": [], "image_size": []}
    sound = []
    for s in kept:
        defects = [prints[i] for i in s.images if prints[i].defect]
        if defects:
            bad[defects[0].defect].append(Reject("validate", s.id, defects[0].defect, f"{defects[0].detail}."))
        else:
            sound.append(s)
    book.remove("image_undecodable", "hard", "images decode", len(kept), bad["image_undecodable"])
    book.remove("image_size", "hard", "images have their declared upright size", len(kept), bad["image_size"])
    return sound


def _limit_quarantine(params: Params, entered: int, book: Book, output: Path) -> None:
    defective = [r for r in book.rejects if r.reason in QUARANTINE]
    if entered and len(defective) / entered > params.max_quarantined_share:
        write_rejects(output, book.rejects)
        raise VistuneError(
            f"{len(defective):,} of {entered:,} rows ({len(defective) / entered:.1%}) are defective, more than "
            f"validate.max_quarantined_share = {params.max_quarantined_share:.1%}: "
            f"{book.reasons(r.key for r in defective)}. Mend what makes them, or raise the limit to go on without "
            f"them. All of them, with details: {output / 'rejects-00000.parquet'}."
        )


def _benchmarks(sources: Path, samples: Sequence[Sample]) -> tuple[list[BenchmarkItem], int]:
    """All benchmark questions, after the wording of never-trained kinds was not found in training."""
    benchmarks = load(sources)[1]
    items = {b.name: read_benchmark(sources, b) for b in benchmarks}
    unseen = [item for b in benchmarks if not b.trained_task for item in items[b.name]]
    looked = refuse_held_out_wording(samples, unseen)
    return [item for found in items.values() for item in found], looked


def _scan_benchmarks(sources: Path, items: Sequence[BenchmarkItem]) -> dict[ImageRef, Fingerprint]:
    prints = scan(sources, {i.image for i in items}, "benchmarks")
    bad = sorted(p.detail for p in prints.values() if p.defect or p.damage)
    if bad:
        raise VistuneError(
            f"{len(bad)} benchmark images cannot be used, so leakage cannot be ruled out: {'; '.join(bad[:NAMED])}. "
            "Restore them, or leave the benchmark out."
        )
    return prints


def _refuse_empty_split(samples: Sequence[Sample], kept: Sequence[Sample], book: Book, output: Path) -> None:
    entered, left = Counter(s.split for s in samples), Counter(s.split for s in kept)
    if not entered["train"]:
        found = ", ".join(f"{split} {n:,}" for split, n in sorted(entered.items())) or "no rows at all"
        raise VistuneError(
            f"split train is empty: no training sample entered (found: {found}). Give at least one data set in "
            "`sources` the split train, with annotations that adapt has a task for."
        )
    for split in (split for split in RANK if entered[split] and not left[split]):
        ids = {s.id for s in samples if s.split == split}
        raise VistuneError(
            f"split {split} is empty: all of its {entered[split]:,} rows were removed: {book.reasons(ids)}. "
            f"The reasons, row by row: {output / 'rejects-00000.parquet'}."
        )


def _place_images(samples: Sequence[Sample], roots: Mapping[str, Path], output: Path) -> list[Sample]:
    found = {i.sha256: (i, image_file(roots[s.method], i)) for s in samples for i in s.images}
    add_images(output, track(found.values(), "release", len(found), "images"), len(found))
    placed = {sha256: image_path(sha256, i.format) for sha256, (i, _) in found.items()}
    return [replace(s, images=tuple(replace(i, path=placed[i.sha256]) for i in s.images)) for s in samples]


def describe(samples: Sequence[Sample], output: Path) -> dict[str, Any]:
    """The content of release.json. The digest covers samples and images, and nothing that describes them."""
    images = {i.path: i.sha256 for s in samples for i in s.images}
    shards = {p.name: file_digest(p) for p in sorted(output.glob("samples-*.parquet"))}
    by = {name: dict(sorted(Counter(getattr(s, name) or "none" for s in samples).items())) for name in FACETS}
    return {
        "samples": len(samples),
        "images": len(images),
        "digest": merkle_root([*shards.items(), *images.items()]),
        "by": by,
    }


def _attribution(samples: Sequence[Sample], evidence: Mapping[str, Evidence]) -> dict[str, dict[str, str]]:
    """Image path -> its own licence and attribution: what whoever passes the release on must pass on with it."""
    found: dict[str, dict[str, str]] = {}
    for s in samples:
        shown = evidence[s.method].images[s.lineage.annotated_image]
        for image in s.images:
            found.setdefault(image.path, {"licence": shown.licence or s.licence, "attribution": shown.attribution})
    return found


def _near_duplicate_images(samples: Sequence[Sample], alike: Sequence[tuple[str, str]], pictures: Pictures) -> int:
    shown = {pictures.of[i.sha256] for s in samples for i in s.images}
    return len({name for pair in alike if shown.issuperset(pair) for name in pair})


def warnings(params: Params, tallies: Iterable[Tally]) -> list[str]:
    """A sentence for each warning that more than `max_warning_share` of its rows fail."""
    found = []
    for t in tallies:
        if t.level == "warning" and t.failed and t.failed / t.evaluated > params.max_warning_share:
            how = f"{t.failed:,} of {t.evaluated:,} do not pass {t.what!r}" if t.evaluated > 1 else f"{t.what!r} fails"
            found.append(f"{t.name}: {how} ({named(t.ids)}).")
    return found


def _summary(
    samples: Sequence[Sample],
    kept: Sequence[Sample],
    book: Book,
    release: Mapping[str, Any],
    raised: list[str],
    near_images: int,
) -> dict[str, Any]:
    table = counts(len(samples), len(kept), book.rejects)
    examples: dict[str, list[dict[str, str]]] = {}
    for r in sorted(book.rejects, key=lambda r: (r.reason, r.key)):
        shown = examples.setdefault(r.reason, [])
        if len(shown) < EXAMPLES:
            shown.append({"id": r.key, "detail": r.detail})
    quarantined = sum(r.reason in QUARANTINE for r in book.rejects)
    presence = [s.polarity == "yes" for s in kept if s.task == "presence"]
    metrics = {
        "samples": float(len(kept)),
        "images": float(release["images"]),
        "quarantined_share": quarantined / len(samples),
        "duplicates": float(sum(r.reason.startswith("duplicate") for r in book.rejects)),
        "leaked": float(sum(r.reason.startswith("leakage") for r in book.rejects)),
        "near_duplicate_images": float(near_images),
        "warnings": float(len(raised)),
    }
    if presence:
        metrics["presence_yes_share"] = sum(presence) / len(presence)
    rejects = {reason: {"count": n, "examples": examples[reason]} for reason, n in table["rejected"].items()}
    details = {"digest": release["digest"], "by": release["by"], "rejects": rejects, "warnings": raised}
    return {"counts": table, "metrics": metrics, "details": details}
