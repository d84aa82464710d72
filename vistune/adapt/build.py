"""The adapt stage: every image of every data set through every task and template, counted."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vistune.adapt import Params, phrasing
from vistune.adapt.draws import Draws
from vistune.adapt.language import Language
from vistune.adapt.phrasing import Phrase
from vistune.adapt.scene import Scene, Vocabulary
from vistune.adapt.tasks import TASKS, Candidate, Refused
from vistune.errors import VistuneError
from vistune.files import write_json
from vistune.hashing import uniform
from vistune.params import unknown
from vistune.progress import Progress
from vistune.records import AnnotatedImage, Dialogue, Lineage, Reject, Sample, conversation, sample_id
from vistune.schema import sample_to_row
from vistune.sources import Dataset, Tally, collect, load, parse_source, read, write_manifest
from vistune.store import counts, write_rejects, write_samples

EXAMPLES = 12

DIALOGUE = "dialogue"
"""The task of rows that were instruction data before; it has no templates."""


class Adapter:
    """Samples of one image after another; what is refused goes to `rejects`."""

    def __init__(self, params: Params, seed: int) -> None:
        self.params, self.seed = params, seed
        self.languages = phrasing.languages(params.languages)
        self.phrases = {language.code: phrasing.load(language) for language in self.languages}
        self.licences = frozenset(name.casefold() for name in params.allow_licences)
        self.rejects: list[Reject] = []
        self.candidates = 0
        self.images = 0
        self._vocabulary: tuple[object, Vocabulary] = ((), Vocabulary(()))

    def samples(self, image: AnnotatedImage | Dialogue, tasks: tuple[str, ...] = ()) -> Iterator[Sample]:
        """All samples of `image`. With `tasks`, candidates of other tasks are rejected: their data set withholds
        them from instruction."""
        self.images += 1
        refusal = self._licence(image)
        if refusal:
            self.candidates += 1
            self._reject(image.id, refusal)
            return
        if isinstance(image, Dialogue):
            self.candidates += 1
            yield ready_made(image, self.seed)
            return
        scene = Scene(image, self._shared(image))
        for language in self.languages:
            for task, candidates in TASKS.items():
                if not self._phrased(image, task, language):
                    continue
                draws = Draws(self.seed, image.id, task, language.code)
                templates = Draws(self.seed, image.id, task, language.code, "template")
                for item, found in enumerate(candidates(scene, language, self.params, draws)):
                    self.candidates += 1
                    if isinstance(found, Candidate) and tasks and task not in tasks:
                        found = Refused("task_withheld", f"{image.dataset} gives only {', '.join(tasks)}.")
                    if isinstance(found, Refused):
                        self._reject(f"{image.id}/{task}/{language.code}/{item}", found)
                    else:
                        wordings = self.phrases[language.code][task][found.kind]
                        phrase = wordings[templates.below(len(wordings))]
                        yield self._sample(image, task, language, item, found, phrase)

    def _sample(
        self, image: AnnotatedImage, task: str, language: Language, item: int, found: Candidate, phrase: Phrase
    ) -> Sample:
        slots = found.slots
        lineage = Lineage(image.id, found.evidence, image.files, phrase.template, item=item)
        response = phrase.response.format_map(slots)
        return Sample(
            id=sample_id(task, lineage, self.seed),
            dataset=image.dataset,
            split=image.split,
            task=task,
            method="adapt",
            instruction=phrase.instruction.format_map(slots),
            input=phrase.input.format_map(slots),
            response=response,
            messages=conversation([(phrase.user.format_map(slots), response)]),
            images=(image.image,),
            lineage=lineage,
            licence=image.licence,
            group=image.image.sha256,
            language=language.code,
            polarity=found.polarity,
            choices=phrase.choices,
            regions=found.regions,
        )

    def _phrased(self, image: AnnotatedImage, task: str, language: Language) -> bool:
        """Whether this task is put in this language for this image. Every image has a caption in the first
        language, since the alignment stage learns names and places from its regions."""
        if task == "caption" and language is self.languages[0]:
            return True
        share = self.params.languages[language.code]
        return share >= 1 or uniform(self.seed, image.id, task, "language", language.code) < share

    def _licence(self, image: AnnotatedImage | Dialogue) -> Refused | None:
        if not image.licence.strip():
            return Refused("licence_missing", "the image states no licence; give its data set one in `sources`.")
        if self.licences and image.licence.casefold() not in self.licences:
            return Refused("licence_not_allowed", f"{image.licence!r} is not among adapt.allow_licences.")
        return None

    def _shared(self, image: AnnotatedImage) -> Vocabulary:
        """The vocabulary, indexed once for the images that share it."""
        if self._vocabulary[0] is not image.vocabulary:
            self._vocabulary = (image.vocabulary, Vocabulary(image.vocabulary))
        return self._vocabulary[1]

    def _reject(self, key: str, refused: Refused) -> None:
        self.rejects.append(Reject("adapt", key, refused.reason, refused.detail))


def ready_made(dialogue: Dialogue, seed: int) -> Sample:
    """A row that is instruction data already, as a sample."""
    lineage = Lineage(dialogue.id, (dialogue.id,), dialogue.files)
    asked = next((m.text for m in dialogue.messages if m.role == "user"), "")
    response = next((m.text for m in reversed(dialogue.messages) if m.role == "assistant"), "")
    return Sample(
        id=sample_id(DIALOGUE, lineage, seed),
        dataset=dialogue.dataset,
        split=dialogue.split,
        task=DIALOGUE,
        method="adapt",
        instruction=dialogue.instruction or asked,
        input=dialogue.input,
        response=response,
        messages=dialogue.messages,
        images=dialogue.images,
        lineage=lineage,
        licence=dialogue.licence,
        group=min((image.sha256 for image in dialogue.images), default=dialogue.id),
        language=dialogue.language,
    )


class Tables:
    """Counts of the samples that pass, and one example of each task and language."""

    def __init__(self) -> None:
        self.by: dict[str, Counter[str]] = {
            name: Counter() for name in ("task", "language", "polarity", "dataset", "split", "template")
        }
        self.examples: dict[tuple[str, str], Sample] = {}

    def watch(self, samples: Iterator[Sample]) -> Iterator[Sample]:
        by = self.by
        for s in samples:
            by["task"][s.task] += 1
            by["language"][s.language] += 1
            by["dataset"][s.dataset] += 1
            by["split"][s.split] += 1
            by["template"][s.lineage.template] += 1
            if s.polarity:
                by["polarity"][f"{s.task}.{s.polarity}"] += 1
            key = (s.language, s.task)
            if key not in self.examples or s.id < self.examples[key].id:  # ids are hashes: a draw without a draw
                self.examples[key] = s
            yield s

    def counts(self) -> dict[str, dict[str, int]]:
        return {name: dict(sorted(counter.items())) for name, counter in self.by.items()}

    def shown(self, first: str) -> list[dict[str, Any]]:
        """Up to `EXAMPLES` samples as rows: each task in language `first`, then some of the others."""
        ordered = sorted(self.examples.values(), key=lambda s: (s.language != first, s.id))[:EXAMPLES]
        return [sample_to_row(s) for s in sorted(ordered, key=lambda s: (s.language != first, _order(s.task)))]


def build(params: Params, sources: Path, output: Path, seed: int) -> dict[str, Any]:
    """Writes samples, rejects and counts of all data sets to `output`, and returns the stage's summary.
    Raises VistuneError when a data set has no usable image, or when no sample comes out at all."""
    adapter, tables = Adapter(params, seed), Tables()
    root, datasets = _datasets(params, sources, output)
    rows: list[Reject] = []  # source rows that the reader refused
    kept = write_samples(output, tables.watch(_samples(adapter, root, datasets, rows)))
    rejects = rows + adapter.rejects
    total = counts(adapter.candidates + len(rows), kept, rejects)
    if not kept:
        raise VistuneError(
            f"adapt made no sample from {adapter.images} images; rejected: {_reasons(rejects)}. "
            "Check the data sets' annotations, adapt.allow_licences and adapt.per_image."
        )
    write_rejects(output, rejects)
    tally = {**total, "images": adapter.images, **tables.counts()}
    write_json(output / "counts.json", tally)
    presence = [tally["polarity"].get(f"presence.{answer}", 0) for answer in ("yes", "no")]
    return {
        "counts": total,
        "metrics": {
            "samples": float(kept),
            "rejected": float(len(rejects)),
            "images": float(adapter.images),
            "presence_yes_share": presence[0] / max(sum(presence), 1),
        },
        "details": {
            **{name: tally[name] for name in ("task", "language", "polarity", "dataset", "split")},
            "templates": len(tally["template"]),
            "examples": tables.shown(adapter.languages[0].code),
        },
    }


def _datasets(params: Params, sources: Path, output: Path) -> tuple[Path, tuple[Dataset, ...]]:
    """The folder to read from and its data sets: the sources stage's, or those named by `params.sources`."""
    if not params.sources:
        root, datasets = sources, load(sources)[0]
    else:
        root = output / "sources"
        shutil.rmtree(root, ignore_errors=True)  # of an attempt that was killed
        manifest = collect(tuple(parse_source(text) for text in params.sources), (), root)
        write_manifest(root, manifest)
        datasets = manifest.datasets
    if not datasets:
        raise VistuneError(f"{root} lists no data set. Add one under sources.datasets, or keep the demo corpus.")
    for dataset in datasets:
        for task in dataset.tasks:
            if task not in TASKS:
                raise VistuneError(
                    f"data set {dataset.name}: " + unknown(f"tasks.{task}", [f"tasks.{t}" for t in TASKS])
                )
    return root, datasets


def _samples(adapter: Adapter, root: Path, datasets: tuple[Dataset, ...], rows: list[Reject]) -> Iterator[Sample]:
    with Progress("adapt", 0, "images") as progress:
        for dataset in datasets:
            tally, before, refused = Tally(), adapter.images, len(rows)
            for image in read(root, dataset, rows, "adapt", tally):
                if adapter.images == before:  # the reader has listed its files by now
                    progress.total += tally.entered["image"]
                yield from adapter.samples(image, dataset.tasks)
                progress.step(note=f"{len(rows) + len(adapter.rejects):,} rejected")
            if adapter.images == before:
                raise VistuneError(
                    f"data set {dataset.name} ({dataset.split}) has no usable image; rejected rows: "
                    f"{_reasons(rows[refused:])}. Check its images folder and annotation files."
                )


def _order(task: str) -> int:
    return [*TASKS, DIALOGUE].index(task)


def _reasons(rejects: list[Reject]) -> str:
    found = Counter(r.reason for r in rejects).most_common(5)
    return ", ".join(f"{count} {reason}" for reason, count in found) or "none"
