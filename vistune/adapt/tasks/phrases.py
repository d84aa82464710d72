"""Tasks about regions and the words that people wrote about them."""

from __future__ import annotations

from collections import Counter

from vistune.adapt import Params
from vistune.adapt.draws import Draws
from vistune.adapt.geometry import box_text
from vistune.adapt.language import Language
from vistune.adapt.scene import Scene
from vistune.adapt.swap import Swaps
from vistune.adapt.tasks.found import Candidate, Found, usable
from vistune.records import Phrase, Region

MAX_BOXES = 8
"""Boxes of one phrase."""


def region_caption(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """What is in this box, in the words of who described it?"""
    for p in draws.pick(_boxed(scene, language, "description"), params.per_image.region_caption):
        yield _said(scene, p, "description", p.text)


def phrase_grounding(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """Where is what this phrase speaks of? A phrase of a caption is asked for within its caption, all of whose
    phrases were boxed. A description must fit one region alone."""
    captions = {c.id: " ".join(c.text.split()) for c in scene.image.captions}
    known = [(p, "caption") for p in _phrases(scene, language, "caption_phrase") if p.caption in captions]
    known += [(p, "phrase") for p in _fitting_one(scene, _boxed(scene, language, "description"))]
    grounded = [(p, kind) for p, kind in known if p.text.strip() and _all_usable(scene, p)]
    for p, kind in draws.pick(grounded, params.per_image.phrase_grounding):
        boxes = _texts(scene, p)
        slots = {"phrase": " ".join(p.text.split()), "box": ", ".join(boxes)}
        evidence: tuple[str, ...] = (p.id,)
        if kind == "caption":
            slots["caption"] = captions[p.caption]
            evidence = (p.id, p.caption)
        yield Candidate(slots, evidence, _regions(scene, p), kind, boxes=boxes)


def refer(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """Where is what this expression refers to? It was written, and checked, to fit one thing alone."""
    for p in draws.pick(_referring(scene, language), params.per_image.refer):
        boxes = _texts(scene, p)
        slots = {"expression": " ".join(p.text.split()), "box": boxes[0]}
        yield Candidate(slots, (p.id,), _regions(scene, p), boxes=boxes)


def refer_describe(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """How would you refer to what is in this box, so that nothing else is meant?"""
    for p in draws.pick(_referring(scene, language), params.per_image.refer_describe):
        yield _said(scene, p, "expression", p.text)


def refer_absent(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """Where is something that is not there? An expression for a thing in the image, or the mere name of one, with
    something else in its place that is proven absent."""
    expressions = [p for p in _referring(scene, language) if p.text.strip()]
    asked: set[str] = set()
    for _ in range(params.per_image.refer_absent if scene.things or scene.denied else 0):
        chosen = draws.pick(expressions, 1)
        swaps = Swaps.of(scene, " ".join(chosen[0].text.split()), language) if chosen else None
        false = swaps.draw(draws, asked) if swaps else None
        if false is not None:
            slots = {**language.forms(false.new.name(language.code) or ""), "expression": false.text}
            yield Candidate(slots, false.evidence, polarity="negative", framed=True)
            continue
        labels = list(scene.present)
        near = scene.present[labels[draws.below(len(labels))]][0].category if labels else None
        other = scene.absent(language.code, asked, draws, "similar" if draws.below(2) else "random", near)
        if other is None:
            return
        name = other.category.name(language.code) or ""
        slots = {**language.forms(name), "expression": language.refer(name, "")["thing"]}
        yield Candidate(slots, other.evidence, polarity="negative", framed=True)


def _phrases(scene: Scene, language: Language, kind: str) -> list[Phrase]:
    found = [p for p in scene.image.phrases if p.kind == kind and p.language == language.code]
    return sorted(found, key=lambda p: p.id)


def _boxed(scene: Scene, language: Language, kind: str) -> list[Phrase]:
    """Phrases with text and one box."""
    return [
        p for p in _phrases(scene, language, kind) if len(p.boxes) == 1 and p.text.strip() and usable(scene, p.boxes[0])
    ]


def _referring(scene: Scene, language: Language) -> list[Phrase]:
    """Referring expressions; not those that occur for two boxes, which at least one of them does not fit alone."""
    found = _boxed(scene, language, "referring")
    boxes: dict[str, set[tuple[float, ...]]] = {}
    for p in found:
        boxes.setdefault(p.text.casefold().strip(), set()).add(p.boxes[0])
    return [p for p in found if len(boxes[p.text.casefold().strip()]) == 1]


def _fitting_one(scene: Scene, descriptions: list[Phrase]) -> list[Phrase]:
    """Descriptions that fit one region alone: the data set vouches for it, or they speak of things whose names occur
    once, in words that no other description uses."""
    same = Counter(p.text.casefold().strip() for p in scene.image.phrases if p.kind == "description")
    unique = {o.id for o in scene.unique}
    return [
        p
        for p in descriptions
        if same[p.text.casefold().strip()] == 1 and (p.unique or (p.objects and unique.issuperset(p.objects)))
    ]


def _all_usable(scene: Scene, p: Phrase) -> bool:
    return 0 < len(p.boxes) <= MAX_BOXES and all(usable(scene, box) for box in p.boxes)


def _said(scene: Scene, p: Phrase, slot: str, text: str) -> Candidate:
    boxes = _texts(scene, p)
    return Candidate({slot: " ".join(text.split()), "box": boxes[0]}, (p.id,), _regions(scene, p), boxes=boxes)


def _texts(scene: Scene, p: Phrase) -> tuple[str, ...]:
    return tuple(box_text(box, scene.width, scene.height) for box in p.boxes)


def _regions(scene: Scene, p: Phrase) -> tuple[Region, ...]:
    """The boxes of a phrase, called by the name of the thing it speaks of, or by its own words."""
    thing = scene.by_id.get(p.objects[0]) if len(p.objects) == 1 else None
    label = thing.category.label if thing is not None else " ".join(p.text.split())
    return tuple(Region(box, label, p.id) for box in p.boxes)
