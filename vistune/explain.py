"""What made a sample: `vistune explain`. (`search` lists the samples that something made.)

A sample is found by its id or the start of it: shards are sorted by id, so the manifest and parquet's statistics lead
to one row group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.files import read_json
from vistune.imagestore import open_store
from vistune.licences import SENTENCES, restrictions
from vistune.params import read_tree
from vistune.records import ImageRef, Reject, Sample
from vistune.schema import from_table
from vistune.search import SOURCES, attribution, column
from vistune.store import MANIFEST, shards

PREFIX = "vt1:"
BESIDE = ("adapt", "self_instruct")
"""Stages beside a release that hold the samples it rejected."""

AMBIGUOUS = 10
"""Ids shown when an id's start fits several."""


def explain(release: Path, id: str) -> str:
    """Everything known about one sample, a paragraph of lines. Raises VistuneError when no sample has this id, or
    several start with it."""
    folders = [release, *(release.parent / stage for stage in BESIDE)]
    folders = [f for n, f in enumerate(folders) if (f / MANIFEST).is_file() and f not in folders[:n]]
    if not folders:
        raise VistuneError(
            f"{release} holds no records ({MANIFEST} is missing). Run `vistune validate`, or name a folder."
        )
    for folder in folders:
        found = find(folder, id)
        if len(found) > 1:
            shown = ", ".join(s.id for s in found[:AMBIGUOUS])
            more = " and more" if len(found) > AMBIGUOUS else ""
            raise VistuneError(f"{id} is the start of several ids in {folder}: {shown}{more}. Give more of it.")
        if found:
            verdicts = [r for f in folders for r in _rejects(f, found[0].id)]
            return "\n".join(f"{name:<12}{text}".rstrip() for name, text in _lines(folder, found[0], verdicts))
    raise VistuneError(
        f"no sample in {' or '.join(map(str, folders))} has the id {id}. Ids start with {PREFIX}; "
        "`vistune explain --source NAME` lists those of a data set."
    )


def find(folder: Path, id: str) -> list[Sample]:
    """The samples whose ids start with `id`, with or without "vt1:", in order; at most `AMBIGUOUS` + 1."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    found: list[Sample] = []
    for start in [id] if id.startswith(PREFIX) else [PREFIX + id, id]:
        for shard in shards(folder, "samples"):
            if not shard.first[: len(start)] <= start <= shard.last:
                continue
            with pq.ParquetFile(folder / shard.name) as file:
                for group in range(file.num_row_groups):
                    bounds = file.metadata.row_group(group).column(0).statistics
                    if not bounds.min[: len(start)] <= start <= bounds.max:
                        continue
                    ids = file.read_row_group(group, columns=["id"])["id"]
                    hits = pc.indices_nonzero(pc.starts_with(ids, start))[: AMBIGUOUS + 1 - len(found)]
                    if len(hits):
                        found += from_table(file.read_row_group(group).take(hits), Sample)
                    if len(found) > AMBIGUOUS:
                        return found
        if found:
            return found
    return found


def _rejects(folder: Path, id: str) -> list[Reject]:
    """What a stage says about a sample that it rejected."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    found: list[Reject] = []
    for shard in shards(folder, "rejects") if "rejects" in read_json(folder / MANIFEST) else ():
        with pq.ParquetFile(folder / shard.name) as file:
            hits = pc.indices_nonzero(pc.equal(column(file, "key"), id))
            found += from_table(file.read().take(hits), Reject) if len(hits) else []
    return found


def _lines(folder: Path, s: Sample, rejects: list[Reject]) -> Iterator[tuple[str, str]]:
    line = s.lineage
    yield "sample", f"{s.id} · {s.task} · {s.language} · {s.split} · by {s.method}"
    for reject in rejects:
        yield "rejected", f"by {reject.stage}: {reject.reason}, {reject.detail}"
    if not rejects:
        yield "kept", f"in {folder}{_passed(folder, s.id)}"
    shown = attribution(folder)
    for image in s.images:
        yield "image", f"{_place(folder, image)} · {image.width}x{image.height} {image.format}"
        yield "", f"sha256 {image.sha256}"
        credit = shown.get(image.path, {})
        by = f" · attribution {credit['attribution']}" if credit.get("attribution") else ""
        yield "", f"licence {credit.get('licence') or s.licence}{by}"
    yield "licence", f"{s.licence} · {', '.join(sorted(restrictions(s.licence))) or 'asks for nothing'}"
    stated = _annotation_licence(folder, s.dataset)
    if stated:
        yield "", f"annotations {stated}"
    if line.template.count("@") > 1:
        yield "", f"sentences of the template {SENTENCES}"
    yield "source", line.annotated_image
    for file in line.files:
        yield "", f"{file.path} · sha256 {file.sha256}"
    yield "annotations", ", ".join(line.annotation_ids)
    for template in line.template.split():
        for n, text in enumerate(_wording(template, s.language)):
            yield ("", text) if n else ("template", text)
    if line.prompt:
        yield "prompt", f"{line.prompt} · sha256 {line.prompt_sha256} · teacher {line.teacher} · request {line.request}"
    for message in s.messages:
        images = "".join(f"[image {n}] " for n in message.images)
        yield message.role, images + message.text.replace("\n", "\n" + 12 * " ")
    for n, choice in enumerate(s.choices):
        yield "choice" if n == 0 else "", choice
    for region in s.regions:
        x1, y1, x2, y2 = region.box
        yield (
            "region",
            f"{region.label} · x {x1:g} to {x2:g}, y {y1:g} to {y2:g} px · annotation {region.annotation_id}",
        )


def _passed(folder: Path, id: str) -> str:
    """What a release's checks say of a sample it holds."""
    path = folder / "checks.json"
    if not path.is_file():
        return ""
    checks = read_json(path)["checks"]
    warned = [c["name"] for c in checks if c["level"] == "warning" and id in c["ids"]]
    passed = [c["name"] for c in checks if c["level"] != "warning"]
    return f" · passed {', '.join(passed)}" + (f" · warned of {', '.join(warned)}" if warned else "")


def _annotation_licence(folder: Path, dataset: str) -> str:
    """What the sources that a folder was made from say of it; empty where that is the licence of the images."""
    for root in (folder / "sources", folder.parent / "sources"):
        if (root / SOURCES).is_file():
            found = [d for d in read_json(root / SOURCES).get("datasets", []) if d.get("name") == dataset]
            return found[0].get("annotation_licence", "") if found else ""
    return ""


def _place(folder: Path, image: ImageRef) -> str:
    """Where the image lies: in this folder, in its image shards, or in the sources it was made from."""
    roots = (folder, folder / "sources", folder.parent / "sources")
    loose = next((str(root / image.path) for root in roots if (root / image.path).is_file()), "")
    holding = (f"{image.path} in the shards of {root}" for root in roots if image.sha256 in open_store(root))
    return loose or next(holding, f"{image.path} (missing)")


def _wording(template: str, language: str) -> Iterator[str]:
    """The texts that a recorded template of adapt names, slots still open."""
    from vistune.adapt.phrasing import FOLDER, FRAMES

    instruction, *rest = template.split("+")
    texts: dict[str, str] = {}
    for path in sorted((FOLDER / language).glob("*.yaml")):
        for section, node in read_tree(path.read_text(encoding="utf-8"), str(path)).items():
            if section == FRAMES:
                texts |= {_version(entry): f"{entry['text']!r}" for entry in node}
            elif any(_version(entry) == instruction for entry in node["instructions"]):
                asked = {_version(entry): entry for entry in node["instructions"]}[instruction]
                extra = f" with input {asked['input']!r}" if asked.get("input") else ""
                texts[instruction] = f"{asked['text']!r}{extra}"
                texts |= {_version(entry): _form(entry) for entry in node["formats"]}
    for part in (instruction, *rest):
        yield f"{part}: {texts.get(part, 'this version of its text is not installed')}"


def _version(entry: Mapping[str, Any]) -> str:
    return f"{entry['id']}@{entry['version']}"


def _form(entry: Mapping[str, Any]) -> str:
    wordings = entry["response"].values() if isinstance(entry["response"], dict) else [entry["response"]]
    answers = " or ".join(repr(wording) for wording in dict.fromkeys(wordings))
    return f"{entry['text']!r}, answered {answers}" if entry["text"] else f"answered {answers}"
