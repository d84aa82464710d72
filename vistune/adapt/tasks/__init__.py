"""The tasks: what a data set says about an image -> facts that can be asked for.

A task yields a `Candidate` for each fact and a `Refused` for a fact that cannot be put in the language asked for.
What its source cannot support is not a candidate at all: nothing is counted where a crowd was annotated, nothing is
called absent that is not annotated exhaustively, nothing is located whose name fits two things.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vistune.adapt import Params
from vistune.adapt.draws import Draws
from vistune.adapt.language import Language
from vistune.adapt.scene import Scene
from vistune.adapt.tasks import captions, objects, phrases, places, properties, questions, tables, text
from vistune.adapt.tasks.found import Candidate, Found, Refused

__all__ = ["TASKS", "Candidate", "Found", "Refused", "Task"]


@dataclass(frozen=True, slots=True)
class Task:
    find: Callable[[Scene, Language, Params, Draws], Found]
    needs: tuple[str, ...]  # fields of AnnotatedImage, one of which at least must hold something


TASKS: dict[str, Task] = {
    "caption": Task(captions.caption, ("captions", "objects")),
    "caption_detailed": Task(captions.caption_detailed, ("captions", "phrases")),
    "caption_choice": Task(captions.caption_choice, ("captions",)),
    "presence": Task(objects.presence, ("objects", "labels")),
    "counting": Task(objects.counting, ("objects",)),
    "listing": Task(objects.listing, ("objects",)),
    "image_label": Task(objects.image_label, ("labels",)),
    "name_region": Task(places.name_region, ("objects",)),
    "locate": Task(places.locate, ("objects",)),
    "relative_position": Task(places.relative_position, ("objects",)),
    "extremes": Task(places.extremes, ("objects",)),
    "area_share": Task(places.area_share, ("objects",)),
    "attribute": Task(properties.attribute, ("objects",)),
    "relation": Task(properties.relation, ("relations",)),
    "triplet_check": Task(properties.triplet_check, ("relations",)),
    "region_caption": Task(phrases.region_caption, ("phrases",)),
    "phrase_grounding": Task(phrases.phrase_grounding, ("phrases",)),
    "refer": Task(phrases.refer, ("phrases",)),
    "refer_describe": Task(phrases.refer_describe, ("phrases",)),
    "refer_absent": Task(phrases.refer_absent, ("objects", "labels")),
    "vqa": Task(questions.vqa, ("questions",)),
    "vqa_sentence": Task(questions.vqa_sentence, ("questions",)),
    "vqa_choice": Task(questions.vqa_choice, ("questions",)),
    "question_generation": Task(questions.question_generation, ("questions",)),
    "extractive_qa": Task(questions.extractive_qa, ("questions",)),
    "science_choice": Task(questions.science_choice, ("questions",)),
    "science_reasoning": Task(questions.science_reasoning, ("questions",)),
    "transcription": Task(text.transcription, ("lines",)),
    "table_to_markdown": Task(tables.table_to_markdown, ("tables",)),
    "value_lookup": Task(tables.value_lookup, ("tables",)),
    "comparison": Task(tables.comparison, ("tables",)),
}
