"""The tasks: what a data set says about an image -> facts that can be asked for.

A task yields a `Candidate` for each fact and a `Refused` for a fact that cannot be put in the language asked for.
What its source cannot support is not a candidate at all: nothing is counted where a crowd was annotated, nothing is
called absent that is not annotated exhaustively, nothing is located whose name fits two things.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from math import floor

from vistune import english
from vistune.adapt import Params
from vistune.adapt.draws import Draws
from vistune.adapt.geometry import box_text, iou, side_of
from vistune.adapt.language import Language
from vistune.adapt.scene import Scene, region
from vistune.records import Annotation, Category, Region

MAX_COUNT = 20
"""Beyond, people estimate rather than count, and so do annotators."""

MAX_LISTED = 12
"""Kinds of things in one list."""

SAME_PLACE = 0.7
"""Overlap (IoU) with another thing from which on a box does not say which of the two it marks."""

FINE = 1 << 20
"""Steps of a random fraction."""

YES_NO = ("yes", "no")  # spelled as VQA data and benchmarks spell them
"""VQA answers are lower case; yes and no are written as the presence task writes them."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A fact ready to be phrased. `evidence`: ids of the annotations that make it true. A box in the text is
    `box_text` of the first region."""

    slots: dict[str, str]
    evidence: tuple[str, ...]
    regions: tuple[Region, ...] = ()
    kind: str = ""
    polarity: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """A fact that cannot be phrased: `reason` is a short stable word, `detail` a sentence."""

    reason: str
    detail: str


Found = Iterator[Candidate | Refused]


def caption(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """What people wrote about the image, or else a sentence that names its things. Regions are all annotated
    objects, background included: the alignment stage learns names and places from them."""
    regions = tuple(region(o) for o in scene.objects)
    boxes = tuple(o.id for o in scene.objects)
    written = sorted((c for c in scene.image.captions if c.language == language.code), key=lambda c: c.id)
    usable = [c for c in written if c.text.strip()]
    for empty in (c for c in written if not c.text.strip()):
        yield Refused("caption_empty", f"caption {empty.id} has no text.")
    for chosen in draws.pick(usable, params.per_image.caption):
        yield Candidate({"caption": chosen.text.strip()}, (chosen.id, *boxes), regions, "written")
    if not usable and scene.things and params.per_image.caption:
        names, missing = _names(scene, language)
        if missing:
            yield missing
        else:
            yield Candidate({"things": _things(scene, names, language)}, boxes, regions, "composed")


def presence(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """Is it in the picture? Pairs of one "yes" and one "no"; the "no" is proven by the exhaustive vocabulary."""
    every = tuple(o.id for o in scene.objects)
    share, start = params.hard_negatives, draws.below(FINE) / FINE
    asked: set[str] = set()
    for n, label in enumerate(draws.pick(list(scene.present), params.per_image.presence // 2)):
        shown = scene.present[label]
        category = shown[0].category
        name = category.name(language.code)
        if not name:
            yield _unnamed(category, language)
            continue
        hard = floor((n + 1) * share + start) > floor(n * share + start)  # exactly `share` of the pairs, spread evenly
        other = scene.absent(language.code, category.group, asked, draws) if hard else None
        other = other or scene.absent(language.code, "", asked, draws)
        if other is None:
            return
        asked.add(other.label)
        regions = tuple(region(o) for o in shown)
        yield Candidate(language.forms(name), tuple(o.id for o in shown), regions, "present", "yes")
        # Absence rests on all annotations of the image: any change among them can make it false.
        yield Candidate(language.forms(other.name(language.code) or ""), every, (), "absent", "no")


def counting(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """How many are there? Things that occur several times first. Things that occur once are common, so an image gives
    at most one of them, and only one image in four that has nothing else: "1" must not drown the other answers."""
    limit = params.per_image.counting
    countable = [
        (label, shown)
        for label, shown in scene.present.items()
        if label in scene.vocabulary
        and label in scene.clear
        and label not in scene.crowded
        and len(shown) <= MAX_COUNT
        and english.is_counted(label)
    ]
    several = draws.pick([c for c in countable if len(c[1]) > 1], limit)
    once = [c for c in countable if len(c[1]) == 1]
    single = draws.pick(once, 1) if several or draws.below(4) == 0 else []
    for _, shown in (several + single)[:limit]:
        name = shown[0].category.name(language.code)
        if not name:
            yield _unnamed(shown[0].category, language)
            continue
        slots = {**language.forms(name), "count": str(len(shown)), "number": language.number(len(shown))}
        regions = tuple(region(o) for o in shown)
        yield Candidate(slots, tuple(o.id for o in shown), regions, "one" if len(shown) == 1 else "many")


def name_region(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """What is in this box?"""
    for o in draws.pick(scene.unique, params.per_image.name_region):
        if not any(iou(o.box, other.box) >= SAME_PLACE for other in scene.things if other is not o):
            yield _placed(scene, o, language)


def locate(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """Where is it? Answered with a box."""
    for o in draws.pick(scene.proven_unique, params.per_image.locate):
        yield _placed(scene, o, language)


def relative_position(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """On which side of another thing does it lie? Only where the boxes are clearly apart along one axis."""
    placed = [
        (a, b)
        for a, b in combinations(scene.proven_unique, 2)
        if side_of(a.box, b.box, scene.width, scene.height) is not None
    ]
    for pair in draws.pick(placed, params.per_image.relative_position):
        a, b = pair
        if draws.below(2):
            a, b = b, a
        name, other = a.category.name(language.code), b.category.name(language.code)
        if not name or not other:
            yield _unnamed((b if name else a).category, language)
            continue
        side = side_of(a.box, b.box, scene.width, scene.height) or ""
        yield Candidate({**language.forms(name), "other": other}, (a.id, b.id), (region(a), region(b)), side)


def listing(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """What is in the picture? Kinds of things from left to right."""
    if params.per_image.listing < 1 or scene.crowded or not 1 <= len(scene.present) <= MAX_LISTED:
        return
    names, missing = _names(scene, language)
    if missing:
        yield missing
        return
    if len(set(names.values())) < len(names):
        return  # two categories share a name in this language: the list would say it twice
    slots = {"names": language.comma.join(names.values()), "things": _things(scene, names, language)}
    regions = tuple(region(o) for label in names for o in scene.present[label])
    yield Candidate(slots, tuple(o.id for o in scene.things), regions)


def vqa(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """The data set's own questions, in their own language."""
    asked: set[str] = set()
    usable = []
    for q in sorted((q for q in scene.image.questions if q.language == language.code), key=lambda q: q.id):
        text = q.text.strip()
        if not text or not q.answer.strip():
            yield Refused("question_empty", f"question {q.id} has no {'answer' if text else 'text'}.")
        elif text.casefold() in asked:
            yield Refused("question_duplicate", f"question {q.id} was asked before: {text!r:.80}.")
        else:
            asked.add(text.casefold())
            usable.append(q)
    for q in draws.pick(usable, params.per_image.vqa):
        given = q.answer.strip()
        polarity = given.lower() if given.lower() in YES_NO else ""
        kind = "short" if language.short(given) else "long"
        slots = {"question": q.text.strip(), "answer": polarity or given}
        yield Candidate(slots, (q.id,), (), kind, polarity)


TASKS: dict[str, Callable[[Scene, Language, Params, Draws], Found]] = {
    "caption": caption,
    "presence": presence,
    "counting": counting,
    "name_region": name_region,
    "locate": locate,
    "relative_position": relative_position,
    "listing": listing,
    "vqa": vqa,
}


def _placed(scene: Scene, o: Annotation, language: Language) -> Candidate | Refused:
    """A name and its box."""
    name = o.category.name(language.code)
    if not name:
        return _unnamed(o.category, language)
    slots = {**language.forms(name), "box": box_text(o.box, scene.width, scene.height)}
    return Candidate(slots, (o.id,), (region(o),))


def _names(scene: Scene, language: Language) -> tuple[dict[str, str], Refused | None]:
    """Label -> name of the kinds of things shown, from left to right; or the refusal of one without a name."""
    first = sorted(scene.things, key=lambda o: (o.box[0], o.box[1], o.id))
    names: dict[str, str] = {}
    for o in first:
        name = o.category.name(language.code)
        if not name:
            return {}, _unnamed(o.category, language)
        names.setdefault(o.category.label, name)
    return names, None


def _things(scene: Scene, names: dict[str, str], language: Language) -> str:
    return language.enumerate([language.amount(name, len(scene.present[label])) for label, name in names.items()])


def _unnamed(category: Category, language: Language) -> Refused:
    return Refused("name_missing", f"{category.label!r} has no name in {language.code}.")
