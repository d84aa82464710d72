"""Tasks about which things are there, and how many."""

from __future__ import annotations

from bisect import bisect
from itertools import accumulate

from vistune import english
from vistune.adapt import Params
from vistune.adapt.choices import shuffle
from vistune.adapt.draws import Draws
from vistune.adapt.language import Language
from vistune.adapt.scene import ID, Negative, Scene
from vistune.adapt.tasks.found import MAX_LISTED, Candidate, Found, amounts, names_of, unnamed
from vistune.records import Category, Region

MAX_COUNT = 20
"""Beyond, people estimate rather than count, and so do annotators."""

DISTRACTORS = 3
"""Wrong choices beside the right one."""

FINE = 1 << 20
"""Steps of a random fraction."""


def presence(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """Is it in the picture? Pairs of one "yes" and one "no", both proven: by annotated objects and the exhaustive
    vocabulary, or by verdicts about the image."""
    pairs = params.per_image.presence // 2
    shown = {label: things[0].category for label, things in scene.present.items()}
    shown |= {v.category.label: v.category for v in scene.labels if v.category.label not in scene.categories}
    if not pairs or not shown:
        return
    asked: set[str] = set()
    chosen = draws.pick(list(shown), pairs)
    for label, how in zip(chosen, _negatives(params, len(chosen), draws), strict=True):
        category = shown[label]
        name = category.name(language.code)
        if not name:
            yield unnamed(category, language)
            continue
        other = scene.absent(language.code, asked, draws, how, category)
        if other is None:
            return
        evidence, regions = _shown(scene, category)
        yield Candidate(language.forms(name), evidence, regions, "present", "yes")
        # Absence that no verdict states rests on all annotations of the image: any change can make it false.
        absent = language.forms(other.category.name(language.code) or "")
        yield Candidate(absent, other.evidence, (), "absent", "no")


def _negatives(params: Params, count: int, draws: Draws) -> list[Negative]:
    """How each of `count` absent categories is drawn: systematic sampling, so that an image gets each kind as often
    as its share says, up to one, and all images together exactly so."""
    kinds = [kind for kind, share in params.negatives.items() if share > 0]
    bounds = list(accumulate(params.negatives[kind] for kind in kinds))
    start = draws.below(FINE) / FINE
    points = [(start + n) / count * bounds[-1] for n in range(count)]
    return [kinds[min(bisect(bounds, point), len(kinds) - 1)] for point in points]  # type: ignore[misc]


def _shown(scene: Scene, category: Category) -> tuple[tuple[str, ...], tuple[Region, ...]]:
    things = scene.present.get(category.label)
    if things:
        return tuple(map(ID, things)), tuple(map(scene.region, things))
    return tuple(v.id for v in scene.labels if v.category.label == category.label), ()


def counting(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """How many are there? Things that occur several times first. Things that occur once are common, so an image gives
    at most one of them, and only one image in four that has nothing else: "1" must not drown the other answers."""
    limit = params.per_image.counting
    countable = [
        (label, shown)
        for label, shown in scene.present.items()
        if scene.exhaustive(label)
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
            yield unnamed(shown[0].category, language)
            continue
        slots = {**language.forms(name), "count": str(len(shown)), "number": language.number(len(shown))}
        regions = tuple(map(scene.region, shown))
        yield Candidate(slots, tuple(map(ID, shown)), regions, "one" if len(shown) == 1 else "many")


def listing(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """What is in the picture? Kinds of things from left to right, with their numbers: so all of them must be
    annotated completely."""
    if params.per_image.listing < 1 or scene.crowded or not 1 <= len(scene.present) <= MAX_LISTED:
        return
    if not all(map(scene.exhaustive, scene.present)):
        return
    names, missing = names_of(scene, language)
    if missing:
        yield missing
        return
    if len(set(names.values())) < len(names):
        return  # two categories share a name in this language: the list would say it twice
    slots = {"names": language.comma.join(names.values()), "things": amounts(scene, names, language)}
    regions = tuple(scene.region(o) for label in names for o in scene.present[label])
    yield Candidate(slots, tuple(map(ID, scene.things)), regions)


def image_label(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """What does the picture show? Labels of the whole image; a question with choices where verdicts or an exhaustive
    vocabulary prove the others false, else an open one, whose answer is true even if others would be too."""
    for verdict in draws.pick(scene.labels, params.per_image.image_label):
        category = verdict.category
        name = category.name(language.code)
        if not name:
            yield unnamed(category, language)
            continue
        slots = language.forms(name)
        asked: set[str] = set()
        others = []
        for _ in range(DISTRACTORS):
            other = scene.absent(language.code, asked, draws, "similar", category)
            if other is None:
                break
            others.append(other)
        options = [name, *(o.category.name(language.code) or "" for o in others)]
        if len(options) < 2 or len(set(options)) < len(options) or draws.below(2):
            yield Candidate(slots, (verdict.id,), (), "open")
        else:
            evidence = dict.fromkeys([verdict.id, *(id for o in others for id in o.evidence)])
            yield Candidate(slots, tuple(evidence), (), "choice", choices=shuffle(options, 0, draws))
