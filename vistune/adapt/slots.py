"""What templates may speak of, as a table: for each task and kind of fact, the slots of its question and its answer."""

from __future__ import annotations

from dataclasses import dataclass

CHOICE = ("letter", "option", "marked")
"""The right one of lettered options, in a response: "B", "dog", "B. dog"."""


@dataclass(frozen=True)
class Kind:
    """Slots of one kind of fact. "noun" and "reference" stand for all forms of a name (`Language.slots`)."""

    asks: tuple[str, ...]  # in an instruction: each of these must occur, nothing else may
    answers: tuple[str, ...]  # in a response, besides those

    @property
    def chooses(self) -> bool:
        return "options" in self.asks

    @property
    def hints(self) -> tuple[str, ...]:
        """Slots of the response format's own text: {mark} says "letter" or "number", as the options are marked."""
        return ("mark",) if self.chooses else ()


def _kind(asks: str = "", answers: str = "") -> Kind:
    found = Kind(tuple(asks.split()), tuple(answers.split()))
    return Kind(found.asks, (*found.answers, *CHOICE)) if found.chooses else found


def _kinds(names: str, asks: str = "", answers: str = "") -> dict[str, Kind]:
    return {name: _kind(asks, answers) for name in names.split()}


SLOTS: dict[str, dict[str, Kind]] = {  # task -> kind of fact -> slots; "" where a task has one kind
    "caption": {"written": _kind("", "caption"), "composed": _kind("", "things")},
    "caption_detailed": _kinds("captions descriptions", "", "caption"),
    "caption_choice": {"": _kind("options")},
    "presence": _kinds("present absent", "noun"),
    "counting": _kinds("one many", "noun", "count number"),
    "listing": {"": _kind("", "names things")},
    "image_label": {"open": _kind("", "noun"), "choice": _kind("options", "noun")},
    "name_region": {"": _kind("box", "noun")},
    "locate": {"": _kind("noun", "box")},
    "relative_position": _kinds("left right above below", "noun other"),
    "extremes": {"named": _kind("among extreme", "noun"), "one_kind": _kind("noun extreme", "box")},
    "area_share": _kinds("under5 from5to10 from10to25 from25to50 over50", "extent", "percent"),
    "attribute": _kinds("color material other", "reference", "value"),
    "relation": {
        "predicate": _kind("reference other", "predicate clause"),
        "bare": _kind("reference other", "predicate"),
        "object": _kind("asked", "noun clause"),
    },
    "triplet_check": _kinds("yes no", "statement"),
    "region_caption": {"": _kind("box", "description")},
    "phrase_grounding": {"caption": _kind("phrase caption", "box"), "phrase": _kind("phrase", "box")},
    "refer": {"": _kind("expression", "box")},
    "refer_describe": {"": _kind("box", "expression")},
    "refer_absent": {"": _kind("expression", "noun")},
    "vqa": _kinds("short long", "question", "answer"),
    "vqa_sentence": {"": _kind("question", "answer")},
    "vqa_choice": {"": _kind("question options")},
    "question_generation": {"": _kind("answer", "question")},
    "extractive_qa": {"": _kind("question", "answer")},
    "science_choice": {"": _kind("context question options")},
    "science_reasoning": {
        "plain": _kind("question options", "rationale"),
        "context": _kind("context question options", "rationale"),
    },
    "transcription": {"line": _kind("box", "text json"), "page": _kind("", "text json")},
    "table_to_markdown": {"": _kind("", "table")},
    "value_lookup": {"": _kind("row column", "value json")},
    "comparison": {
        "highest": _kind("column", "answer value"),
        "lowest": _kind("column", "answer value"),
        "difference": _kind("row other column", "answer"),
    },
}
