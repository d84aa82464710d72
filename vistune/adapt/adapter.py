"""One annotated image -> its samples: every task in every language, phrased by a template."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

from vistune.adapt import Params, phrasing
from vistune.adapt.draws import Draws
from vistune.adapt.language import Language
from vistune.adapt.phrasing import Frame, Phrase, filler
from vistune.adapt.scene import Scene
from vistune.adapt.tasks import TASKS, Candidate, Found, Refused
from vistune.adapt.tasks.found import WORDLESS
from vistune.adapt.turns import MULTI_TURN, merged, ready_made
from vistune.adapt.vocabulary import Statistics, Vocabulary
from vistune.errors import VistuneError
from vistune.licences import SENTENCES, Allowed, effective
from vistune.params import unknown
from vistune.records import AnnotatedImage, Dialogue, Lineage, Message, Region, Reject, Sample, sample_id

VOCABULARIES = 64
"""Vocabularies kept: one for each data set, and those that lack a category because an object of it was refused."""

FIELDS = sorted({field for task in TASKS.values() for field in task.needs})

FINE = 1 << 20
"""Steps of a random fraction."""

Finders = list[tuple[str, Callable[[Scene, Language, Params, Draws], Found]]]
"""Names of tasks and what finds their facts."""

NEGATIVES = ("random", "similar", "popular", "adversarial")


class Adapter:
    """Samples of one image after another; what is refused goes to `rejects`.

    `statistics` says by data set which categories its images show most often and together. Without it, popular and
    adversarial negatives are drawn as the image alone allows (`Scene.absent`).
    """

    def __init__(self, params: Params, seed: int, statistics: Mapping[str, Statistics] | None = None) -> None:
        self.params, self.seed = params, seed
        self.languages = phrasing.languages(params.languages)
        self.templates = {language.code: phrasing.load(language) for language in self.languages}
        self.refusal = lru_cache(maxsize=4096)(Allowed(params.allow_licences).refusal)
        self.tasks = {name: task for name, task in TASKS.items() if getattr(params.per_image, name) > 0}
        self.rejects: list[Reject] = []
        self.candidates = 0
        self.images = 0
        self._statistics = statistics or {}
        self._vocabularies: dict[tuple[str, ...], Vocabulary] = {}
        self._by_kinds: dict[frozenset[str], Finders] = {}
        self._latest: tuple[object, Vocabulary] = (None, Vocabulary(()))
        _check_negatives(params.negatives)

    def samples(self, image: AnnotatedImage | Dialogue, tasks: tuple[str, ...] = ()) -> Iterator[Sample]:
        """All samples of `image`. With `tasks`, candidates of other tasks are rejected: their data set withholds
        them from instruction."""
        self.images += 1
        refusal = self.refusal(image.licence)
        if refusal is not None:
            self.candidates += 1
            self._reject(image.id, Refused(*refusal))
            return iter(())
        if isinstance(image, Dialogue):
            self.candidates += 1
            return iter((ready_made(replace(image, licence=effective(image.licence)), self.seed),))
        return self._merged(image, tasks) if self.params.merge_turns else self._single(image, tasks)

    def _single(self, image: AnnotatedImage, tasks: tuple[str, ...]) -> Iterator[Sample]:
        scene = Scene(image, self._vocabulary(image))
        applying, licence = self._applying(image), effective(image.licence, SENTENCES)
        for language in self.languages:
            templates = self.templates[language.code]
            for task, find in self._phrased(applying, image, language):
                draws = Draws(self.seed, image.id, task, language.code)
                wording = None
                withheld = bool(tasks) and task not in tasks
                for item, found in enumerate(find(scene, language, self.params, draws)):
                    if isinstance(found, Refused):
                        if found.reason in WORDLESS and not scene.speaks(language.code):
                            continue  # nothing is wrong with a data set that is in other languages
                    elif withheld:
                        found = Refused("task_withheld", f"{image.dataset} gives only {', '.join(tasks)}.")
                    self.candidates += 1
                    if isinstance(found, Refused):
                        self._reject(f"{image.id}/{task}/{language.code}/{item}", found)
                        continue
                    wording = wording or Draws(self.seed, image.id, task, language.code, "template")
                    phrases = templates.tasks[task][found.kind]
                    phrase = phrases[wording.below(len(phrases))]
                    frame = None
                    if found.framed or any(found.boxes):
                        frame = templates.frames[wording.below(len(templates.frames))]
                    yield self._sample(image, licence, task, language, item, found, phrase, frame)

    def _merged(self, image: AnnotatedImage, tasks: tuple[str, ...]) -> Iterator[Sample]:
        """One conversation of the samples of each language. A candidate that becomes a turn is not counted by itself:
        what goes in is the conversation."""
        turns: dict[str, list[Sample]] = {}
        for sample in self._single(image, tasks):
            turns.setdefault(sample.language, []).append(sample)
        for language, found in turns.items():
            self.candidates += 1 - len(found)
            order = Draws(self.seed, image.id, MULTI_TURN, language)
            yield merged(order.pick(found, len(found)), self.seed)

    def _sample(
        self,
        image: AnnotatedImage,
        licence: str,
        task: str,
        language: Language,
        item: int,
        found: Candidate,
        phrase: Phrase,
        frame: Frame | None,
    ) -> Sample:
        slots, template, choices = found.slots, phrase.template, found.choices
        if choices is not None:
            slots = {**slots, **choices.slots, "mark": language.marks[choices.lettered]}
        response, instruction = filler(phrase.response)(slots), filler(phrase.instruction)(slots)
        extra = filler(phrase.input)(slots) if phrase.input else ""
        user = filler(phrase.user)(slots) if extra else instruction
        regions = found.regions
        if frame is not None:
            template = f"{template}+{frame.template}"
            instruction = f"{instruction}{language.space}{frame.text}"
            user = f"{user}\n{frame.text}" if extra else instruction
            regions = _mentioned(found, (user, response))
        lineage = Lineage(image.id, found.evidence, image.files, template, item=item)
        # By position: naming the fields takes longer than to set them.
        return Sample(
            sample_id(task, lineage, self.seed),
            image.dataset,
            image.split,
            task,
            "adapt",
            instruction,
            extra,
            response,
            (Message("user", user, (0,)), Message("assistant", response)),
            (image.image,),
            lineage,
            licence,
            image.image.sha256,
            language.code,
            found.polarity,
            phrase.choices if choices is None else choices.options,
            choices.permutation if choices is not None and found.listed else (),
            "" if choices is None else choices.style,
            regions,
        )

    def _applying(self, image: AnnotatedImage) -> Finders:
        """The tasks that the kinds of annotations of this image may support."""
        kinds = frozenset(field for field in FIELDS if getattr(image, field))
        found = self._by_kinds.get(kinds)
        if found is None:
            found = [(name, task.find) for name, task in self.tasks.items() if not kinds.isdisjoint(task.needs)]
            self._by_kinds[kinds] = found
        return found

    def _phrased(self, applying: Finders, image: AnnotatedImage, language: Language) -> Finders:
        """Those of the tasks that are put in this language for this image. Every image has a caption in the first
        language, since the alignment stage learns names and places from its regions."""
        share = self.params.languages[language.code]
        if share >= 1:
            return applying
        draws, first = Draws(self.seed, image.id, language.code), language is self.languages[0]
        return [
            (task, find) for task, find in applying if draws.below(FINE) < share * FINE or (first and task == "caption")
        ]

    def _vocabulary(self, image: AnnotatedImage) -> Vocabulary:
        """The vocabulary, indexed once for the images that share it (in another process: one that equals it)."""
        if self._latest[0] is not image.vocabulary:
            key = (image.dataset, *(c.label for c in image.vocabulary))
            found = self._vocabularies.get(key)
            if found is None:
                if len(self._vocabularies) == VOCABULARIES:
                    self._vocabularies.clear()
                found = Vocabulary(image.vocabulary, self._statistics.get(image.dataset))
                self._vocabularies[key] = found
            self._latest = (image.vocabulary, found)
        return self._latest[1]

    def _reject(self, key: str, refused: Refused) -> None:
        self.rejects.append(Reject("adapt", key, refused.reason, refused.detail))


def _mentioned(found: Candidate, texts: tuple[str, ...]) -> tuple[Region, ...]:
    """The regions of a candidate, with the place in the messages where their boxes stand. A region whose box stands
    in several places is listed for each; regions with the same numbers share the places out among them."""
    regions = list(found.regions)
    for box in dict.fromkeys(filter(None, found.boxes)):
        owners = [n for n, own in enumerate(found.boxes) if own == box]
        count = 0
        for message, text in enumerate(texts):
            at = text.find(box)
            while at >= 0:
                end = at + len(box)
                owner = owners[min(count, len(owners) - 1)]
                r = found.regions[owner]
                placed = Region(r.box, r.label, r.annotation_id, r.image, (message, at, end), r.polygons)
                if count < len(owners):
                    regions[owner] = placed
                else:
                    regions.append(placed)
                count += 1
                at = text.find(box, end)
    return tuple(regions)


def _check_negatives(shares: Mapping[str, float]) -> None:
    for kind, share in shares.items():
        if kind not in NEGATIVES:
            raise VistuneError(unknown(f"adapt.negatives.{kind}", [f"adapt.negatives.{k}" for k in NEGATIVES]))
        if not 0 <= share < float("inf"):
            raise VistuneError(f"adapt.negatives.{kind} is {share}; expected a share of at least 0.")
    if not any(share > 0 for share in shares.values()):
        raise VistuneError("adapt.negatives has no share above 0; expected e.g. {random: 1.0}.")
