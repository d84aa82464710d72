"""The checks of single rows, as a table. Each is a pure function of one sample and the rules."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from vistune.licences import Allowed
from vistune.records import Lineage, Reject, Sample
from vistune.text import normalise
from vistune.validate.evidence import Evidence, Shown
from vistune.validate.text import affirms, cjk_share

Level = Literal["hard", "policy", "warning"]
"""hard: what fails is defective. policy: nothing is wrong with it, but it does not belong in the release (a licence,
a duplicate, a leak). Both are removed. warning: it stays and is counted."""

TASKS = {
    "adapt": (
        *("caption", "caption_detailed", "caption_choice", "presence", "counting", "listing", "image_label"),
        *("name_region", "locate", "relative_position", "extremes", "area_share"),
        *("attribute", "relation", "triplet_check"),
        *("region_caption", "phrase_grounding", "refer", "refer_describe", "refer_absent"),
        *("vqa", "vqa_sentence", "vqa_choice", "question_generation", "extractive_qa"),
        *("science_choice", "science_reasoning"),
        *("transcription", "table_to_markdown", "value_lookup", "comparison"),
        *("multi_turn", "dialogue"),
    ),
    "self_instruct": ("conversation", "detail", "reasoning", "negative"),
}
YES_OR_NO = frozenset(("presence", "triplet_check"))
"""Tasks whose rows are all answered by yes or no."""

QUOTING = frozenset(("transcription", "table_to_markdown", "value_lookup", "comparison", "multi_turn"))
"""Tasks whose rows quote what is written in the image, in whatever language."""

VALUES = {
    "task": frozenset(task for tasks in TASKS.values() for task in tasks),
    "method": frozenset(TASKS),
    "split": frozenset(("train", "validation", "test")),
    "polarity": frozenset(("", "yes", "no", "negative")),
}

SPECIAL = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|</?s>|<unk>|<pad>|<bos>|<eos>|<mask>|\[/?INST\]|<</?SYS>>|\[(?:CLS|SEP|PAD|MASK)\]"
    r"|</?(?:image|img|video|audio|box|ref|quad|point|patch|loc|im_start|im_end|im_patch|vision_start|vision_end"
    r"|start_of_turn|end_of_turn|start_of_image|end_of_image)(?:_?\d+)?>",
    re.IGNORECASE,
)
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b\u2060\ufeff\ufffd]")
EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
PHONE = re.compile(r"\+\d{1,3}[ .-]?\(?\d{1,4}\)?(?:[ .-]?\d{2,4}){2,4}\b")
BOX = re.compile(r"\[\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\]")
META = re.compile(
    r"\b(?:the|this|these|given|provided) (?:captions?|bounding boxes|coordinates|annotations|list of objects)\b"
    r"|\bas an ai\b|\blanguage model\b|提供的(?:描述|标注|信息)|边界框|作为(?:一个)?(?:AI|人工智能|语言模型)",
    re.IGNORECASE,
)
REFUSAL = re.compile(
    r"\bi(?:['’]m| am) (?:sorry|unable)\b|\bi (?:can(?:not|['’]t)) (?:help|assist|see|view|answer)\b|抱歉|我无法",
    re.IGNORECASE,
)

BINS = 999
"""Boxes in text are integers 0-999 over the image's own width and height."""

CJK_LEAST, CJK_MOST = 0.1, 0.3
"""Share of CJK letters that a Chinese row has at least, and a row in a language without them at most. Loose, because
a question may quote a sign or a product."""


@dataclass(frozen=True)
class Rules:
    """What rows are held against."""

    languages: frozenset[str]
    licences: Allowed
    box_tolerance: float  # pixels
    max_response_words: int
    evidence: Mapping[str, Evidence]  # by method

    def shown(self, s: Sample) -> Shown | None:
        evidence = self.evidence.get(s.method)
        return evidence.images.get(s.lineage.annotated_image) if evidence else None


Function = Callable[[Sample, Rules], str | None]
"""None: the check does not apply; "": the row passes; otherwise a sentence saying what is wrong."""


def known_values(s: Sample, rules: Rules) -> str:
    for name, values in {**VALUES, "language": rules.languages}.items():
        if getattr(s, name) not in values:
            return f"{name} is {getattr(s, name)!r}, expected one of {', '.join(sorted(v for v in values if v))}"
    return ""


def empty_text(s: Sample, rules: Rules) -> str:
    empty = [name for name in ("instruction", "response") if not getattr(s, name).strip()]
    empty += [f"message {n}" for n, m in enumerate(s.messages) if not m.text.strip()]
    return f"{', '.join(empty)} without text" if empty else ""


def control_character(s: Sample, rules: Rules) -> str:
    found = _search(CONTROL, s)
    return f"the text holds U+{ord(found):04X}" if found else ""


def special_token(s: Sample, rules: Rules) -> str:
    found = _search(SPECIAL, s)
    return f"the text holds {found!r}, which a tokenizer reads as a control token" if found else ""


def roles(s: Sample, rules: Rules) -> str:
    found = [m.role for m in s.messages]
    turns = found[1:] if found[:1] == ["system"] else found
    expected = ["user", "assistant"] * (len(turns) // 2)
    return (
        "" if turns and turns == expected else f"roles are {', '.join(found) or 'none'}; expected user, assistant, ..."
    )


def image_reference(s: Sample, rules: Rules) -> str:
    shown = [i for m in s.messages for i in m.images]
    if shown != list(range(len(s.images))):
        return f"messages show images {shown}, the sample has {len(s.images)}: each must be shown once, in order"
    wrong = [r.image for r in s.regions if not 0 <= r.image < len(s.images)]
    return f"a region lies in image {wrong[0]}, the sample has {len(s.images)}" if wrong else ""


def box_degenerate(s: Sample, rules: Rules) -> str | None:
    for r in s.regions:
        if not all(math.isfinite(v) for v in r.box) or r.box[0] >= r.box[2] or r.box[1] >= r.box[3]:
            return f"box {list(r.box)} of {r.label!r} ({r.annotation_id}) has no area"
    return "" if s.regions else None


def box_outside(s: Sample, rules: Rules) -> str | None:
    for r in s.regions:
        if not 0 <= r.image < len(s.images):
            continue
        image, (x1, y1, x2, y2) = s.images[r.image], r.box
        if max(-x1, -y1, x2 - image.width, y2 - image.height) > rules.box_tolerance:
            size = f"{image.width}x{image.height}"
            return f"box {list(r.box)} of {r.label!r} ({r.annotation_id}) leaves its {size} image"
    return "" if s.regions else None


def box_text(s: Sample, rules: Rules) -> str | None:
    """A box written in the text is one of the row's regions, within one bin."""
    written = [tuple(map(int, m.groups())) for m in BOX.finditer(f"{s.instruction}\n{s.input}\n{s.response}")]
    regions = [r for r in s.regions if 0 <= r.image < len(s.images)]
    if not written or not regions:
        return None
    scaled = []
    for r in regions:
        x, y = BINS / max(s.images[r.image].width, 1), BINS / max(s.images[r.image].height, 1)
        scaled.append((r.box[0] * x, r.box[1] * y, r.box[2] * x, r.box[3] * y))
    for box in written:
        if not any(all(abs(a - b) <= 1 for a, b in zip(box, known, strict=True)) for known in scaled):
            return f"the text says {list(box)}, which is none of the row's regions"
    return ""


def answer_not_in_choices(s: Sample, rules: Rules) -> str | None:
    if not s.choices:
        return None
    choices = [normalise(c) for c in s.choices]
    letters = [str(n + 1) if "1" in s.choice_style else chr(ord("a") + n) for n in range(len(choices))]
    answer = normalise(s.response)
    if answer in choices or answer in letters:
        return ""
    if s.choice_style:  # after reasons on lines of their own, or words like "The answer is"
        last = normalise(s.response.rpartition("\n")[2])
        marked = [f"{letter} {choice}" for letter, choice in zip(letters, choices, strict=True)]
        if any(last == known or last.endswith(f" {known}") for known in (*choices, *letters, *marked)):
            return ""
    return f"{s.response!r:.80} is not among {', '.join(s.choices)!r:.120}"


def response_is_instruction(s: Sample, rules: Rules) -> str:
    return "the response repeats the instruction" if normalise(s.response) == normalise(s.instruction) != "" else ""


def language_mismatch(s: Sample, rules: Rules) -> str | None:
    share = cjk_share("\n".join(m.text for m in s.messages))
    if share is None:
        return None
    if s.task in QUOTING:  # the question may hold a few words of its language and a long name from the image
        return "" if share or s.language != "zh" else "language is zh, but no letter is Chinese"
    wrong = share < CJK_LEAST if s.language == "zh" else share > CJK_MOST and s.language not in ("ja", "ko")
    return f"language is {s.language}, but {share:.0%} of the letters are Chinese" if wrong else ""


def polarity_mismatch(s: Sample, rules: Rules) -> str | None:
    if s.task in YES_OR_NO and s.polarity not in ("yes", "no"):
        return f"polarity is {s.polarity!r}; a {s.task} row is 'yes' or 'no'"
    if not s.polarity:
        return None
    response = s.response
    if s.polarity == "yes":
        for r in s.regions:  # a "no entry sign" is no denial
            response = response.replace(r.label, "")
    said = affirms(response)
    wrong = said == "yes" if s.polarity == "negative" else said not in ("", s.polarity)
    return f"polarity is {s.polarity}, the response says {said}: {s.response!r:.80}" if wrong else ""


def personal_data(s: Sample, rules: Rules) -> str:
    found = EMAIL.search(s.response) or PHONE.search(s.response)
    return f"the response holds an address or phone number ({len(found.group())} characters)" if found else ""


def licence_missing(s: Sample, rules: Rules) -> str:
    return "" if s.licence.strip() else "no licence is stated for its image"


def licence_not_allowed(s: Sample, rules: Rules) -> str:
    refusal = rules.licences.refusal(s.licence) if s.licence.strip() else None
    return refusal[1].rstrip(".") if refusal else ""


def lineage_incomplete(s: Sample, rules: Rules) -> str:
    made = s.lineage
    missing = [name for name in ("annotated_image", "files") if not getattr(made, name)]
    if s.method == "adapt":
        missing += [] if made.annotation_ids else ["annotation_ids"]
        missing += _unversioned(made, "template")
    elif s.method == "self_instruct":
        missing += _unversioned(made, "prompt")
        missing += [name for name in ("prompt_sha256", "teacher", "request") if not getattr(made, name)]
    missing += [f"digest of {f.path}" for f in made.files if not re.fullmatch("[0-9a-f]{64}", f.sha256)]
    missing += [] if s.group else ["group"]
    return f"lineage lacks {', '.join(missing)}" if missing else ""


def lineage_dangling(s: Sample, rules: Rules) -> str | None:
    evidence = rules.evidence.get(s.method)
    if evidence is None or not s.lineage.annotated_image:
        return None
    shown = evidence.images.get(s.lineage.annotated_image)
    if shown is None:
        return f"the sources have no image {s.lineage.annotated_image}"
    if shown.split != s.split:
        return f"split is {s.split}, but {s.lineage.annotated_image} is in {shown.split}"
    named = {*s.lineage.annotation_ids, *(r.annotation_id for r in s.regions)}
    unknown = sorted(named - shown.ids)
    if unknown:
        return f"{s.lineage.annotated_image} has no annotation {', '.join(unknown[:3])}"
    changed = [f.path for f in s.lineage.files if (f.path, f.sha256) not in evidence.files]
    return f"{changed[0]} is not the file the sample was made from" if changed else ""


def contradicted(s: Sample, rules: Rules) -> str | None:
    """A presence row against the annotations of its image."""
    shown = rules.shown(s)
    if s.task != "presence" or shown is None:
        return None
    asked = list(rules.evidence[s.method].names.mentioned(s.instruction))
    if not asked:
        return None
    seen = [bool(labels & shown.labels) for labels in asked]
    names = ", ".join(sorted(min(labels) for labels in asked))
    if s.polarity == "no" and all(seen):
        return f"the answer is no, but {s.lineage.annotated_image} has {names} annotated"
    if s.polarity == "yes" and not any(seen):
        return f"the answer is yes, but {s.lineage.annotated_image} has no {names} annotated"
    return ""


def meta_phrase(s: Sample, rules: Rules) -> str | None:
    if s.method != "self_instruct":
        return None
    found = META.search(s.response)
    return f"the response speaks of its annotations or of itself: {found.group()!r}" if found else ""


def refusal(s: Sample, rules: Rules) -> str:
    found = REFUSAL.search(s.response)
    return f"the response declines: {found.group()!r}" if found else ""


def untrimmed_text(s: Sample, rules: Rules) -> str:
    wrong = [n for n, m in enumerate(s.messages) if m.text != m.text.strip()]
    return f"message {wrong[0]} begins or ends with white space" if wrong else ""


def long_response(s: Sample, rules: Rules) -> str:
    words = len(normalise(s.response).split())
    return f"the response has {words} words" if words > rules.max_response_words else ""


@dataclass(frozen=True)
class Check:
    """A row of the table below."""

    name: str  # the reason of the reject
    level: Level
    what: str
    function: Function


CHECKS: tuple[Check, ...] = (
    Check("known_values", "hard", "task, method, split, polarity and language are known values", known_values),
    Check("empty_text", "hard", "instruction, response and messages have text", empty_text),
    Check("control_character", "hard", "no control or replacement characters", control_character),
    Check("special_token", "hard", "no literal special tokens", special_token),
    Check("roles", "hard", "user and assistant alternate, the assistant is last", roles),
    Check("image_reference", "hard", "every image is shown once, every region lies in one", image_reference),
    Check("box_degenerate", "hard", "boxes are finite and ordered", box_degenerate),
    Check("box_outside", "hard", "boxes lie in their image", box_outside),
    Check("box_text", "hard", "boxes in the text are the row's regions", box_text),
    Check("answer_not_in_choices", "hard", "the response is one of the choices", answer_not_in_choices),
    Check("response_is_instruction", "hard", "the response is not the instruction", response_is_instruction),
    Check("language_mismatch", "hard", "the script fits the language", language_mismatch),
    Check("polarity_mismatch", "hard", "yes and no agree with the response", polarity_mismatch),
    Check("personal_data", "hard", "no e-mail addresses or phone numbers in responses", personal_data),
    Check("licence_missing", "hard", "a licence is stated", licence_missing),
    Check("lineage_incomplete", "hard", "image, annotations, files, template or prompt are named", lineage_incomplete),
    Check("lineage_dangling", "hard", "what the lineage names exists in the sources", lineage_dangling),
    Check("contradicted", "hard", "presence answers agree with the annotations", contradicted),
    Check("licence_not_allowed", "policy", "validate.allow_licences takes the licence", licence_not_allowed),
    Check("meta_phrase", "warning", "responses do not speak of captions, boxes or AI", meta_phrase),
    Check("refusal", "warning", "responses do not decline", refusal),
    Check("untrimmed_text", "warning", "texts have no outer white space", untrimmed_text),
    Check("long_response", "warning", "responses have at most validate.max_response_words words", long_response),
)


@dataclass
class Tally:
    """The outcome of one check over many rows, images or release properties."""

    name: str
    level: Level
    what: str
    evaluated: int = 0
    failed: int = 0
    ids: list[str] = field(default_factory=list)  # the first of those that failed

    def add(self, id: str, failed: bool) -> None:
        self.evaluated += 1
        self.failed += failed
        if failed and len(self.ids) < 10:
            self.ids.append(id)


def check_rows(samples: Iterable[Sample], rules: Rules) -> tuple[list[Sample], list[Reject], list[Tally]]:
    """Splits samples into those that pass and rejects; the tallies count every check on every row. A row that
    breaks several checks is rejected for the first in the table, and its detail names the others."""
    kept, rejects = [], []
    tallies = [Tally(c.name, c.level, c.what) for c in CHECKS]
    for s in samples:
        broken: list[tuple[Check, str]] = []
        for check, tally in zip(CHECKS, tallies, strict=True):
            detail = check.function(s, rules)
            if detail is None:
                continue
            tally.add(s.id, bool(detail))
            if detail and check.level != "warning":
                broken.append((check, detail))
        if broken:
            also = f"; also {', '.join(c.name for c, _ in broken[1:])}" if broken[1:] else ""
            rejects.append(Reject("validate", s.id, broken[0][0].name, f"{broken[0][1]}{also}."))
        else:
            kept.append(s)
    return kept, rejects, tallies


def _search(pattern: re.Pattern[str], s: Sample) -> str:
    for text in (s.instruction, s.input, s.response, *(m.text for m in s.messages), *s.choices):
        found = pattern.search(text)
        if found:
            return found.group()
    return ""


def _unversioned(made: Lineage, name: str) -> list[str]:
    return [] if re.fullmatch(r".+@.+", getattr(made, name)) else [f"{name} with version"]
