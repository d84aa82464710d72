"""The sources stage: demo corpus and own data into one folder, with a list, licence notes and counts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.errors import VistuneError
from vistune.files import write_text
from vistune.records import Reject
from vistune.sources import rows
from vistune.sources.join import list_questions, list_rows, read_benchmark
from vistune.sources.own_data import collect, pack
from vistune.sources.rows import Tally
from vistune.sources.spec import Manifest, write_manifest

if TYPE_CHECKING:
    from vistune.sources import Params
    from vistune.stages import Context

KINDS = {"image": "images", **rows.KINDS, "dialogue": "dialogues"}

ALWAYS = frozenset(("image", "object", "caption", "question"))
"""Kinds that are counted in the summary even where there are none."""


def run(params: Params, output: Path, context: Context) -> dict[str, Any]:
    _clear(output)  # an earlier attempt may have been killed in the middle of a file
    metrics: dict[str, float] = {}
    details: dict[str, Any] = {}
    manifest = collect(params.datasets, params.benchmarks, output)
    for benchmark in manifest.benchmarks:
        read_benchmark(output, benchmark)  # a bad row would otherwise be found only after tuning
    if params.demo is not None:
        from vistune.sources.demo.corpus import build

        demo = build(params.demo, output, context.seed)
        manifest = Manifest(demo.manifest.datasets + manifest.datasets, demo.manifest.benchmarks + manifest.benchmarks)
        metrics, details = demo.metrics, demo.details
        write_text(output / "LICENCES.md", _licences(details))
    if not any(dataset.split == "train" for dataset in manifest.datasets):
        raise VistuneError(
            "sources has no data set with split 'train', so there would be nothing to tune on. Add one under "
            "sources.datasets, or keep sources.demo."
        )
    pack(output, manifest)
    write_manifest(output, manifest)
    return _summary(manifest, output, metrics, details)


def _summary(manifest: Manifest, output: Path, metrics: dict[str, float], details: dict[str, Any]) -> dict[str, Any]:
    """Rows as the files list them; whether each can be used is for the stage that reads it to say."""
    listed: dict[str, dict[str, int]] = {}
    for dataset in manifest.datasets:
        rejects: list[Reject] = []
        tally = Tally()
        list_rows(output, dataset, rejects, "sources", tally)
        listed[dataset.name] = {**dict(sorted(tally.entered.items())), "unusable": len(rejects)}
    questions = {}
    for benchmark in manifest.benchmarks:
        tally = Tally()
        list_questions(output, benchmark, [], tally)
        questions[benchmark.name] = tally.entered["question"]
    counts = {
        plural: total
        for kind, plural in KINDS.items()
        if (total := sum(row.get(kind, 0) for row in listed.values())) or kind in ALWAYS
    }
    counts["benchmark questions"] = sum(questions.values())
    metrics = metrics | {k.replace(" ", "_"): float(v) for k, v in counts.items()}
    return {"counts": counts, "metrics": metrics, "details": {"rows": listed, "benchmarks": questions, **details}}


def _licences(details: dict[str, Any]) -> str:
    lines = ["# Licences of the demo corpus", "", "| folder | images | licence |", "|---|---|---|"]
    lines += [f"| {name} | {number} | {details['licences'][name]} |" for name, number in details["images"].items()]
    lines += [
        "",
        "Scenes are composed from drawings by OpenMoji (https://openmoji.org), the open-source emoji and icon project,",
        "licence CC BY-SA 4.0 (https://creativecommons.org/licenses/by-sa/4.0/); the scenes carry the same licence.",
        "Names and groups come from Unicode's emoji-test.txt and CLDR (Unicode License v3), some adapted.",
        "easy_vqa is a sample of easy-VQA by Victor Zhou (https://github.com/vzhou842/easy-VQA), MIT licence.",
        "",
        "Made from: " + ", ".join(f"{name} {version}" for name, version in details["packages"].items()) + ".",
    ]
    return "\n".join(lines) + "\n"


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
