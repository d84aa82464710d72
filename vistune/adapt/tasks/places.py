"""Tasks about where things are and how large."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator
from itertools import combinations, islice, product

from vistune.adapt import Params
from vistune.adapt.draws import Draws
from vistune.adapt.geometry import EXTREMES, Extreme, Side, area, box_text, extreme, side_of
from vistune.adapt.language import Language
from vistune.adapt.scene import Scene
from vistune.adapt.tasks.found import Candidate, Found, marks_one, placed, unnamed, usable
from vistune.records import Annotation

MAX_COMPARED = 5
"""Things among which one is asked for."""

SHARES = (5.0, 10.0, 25.0, 50.0)
"""Percent of the image that bound the answers to how much of it something covers."""

SHARE_KINDS = ("under5", "from5to10", "from10to25", "from25to50", "over50")

CLEAR_SHARE = 0.1
"""How far a share must be from each of these bounds, as a share of the bound."""


def name_region(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """What is in this box?"""
    for o in draws.pick(scene.unique, params.per_image.name_region):
        if marks_one(scene, o):
            yield placed(scene, o, language)


def locate(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """Where is it? Answered with a box."""
    for o in draws.pick(scene.proven_unique, params.per_image.locate):
        yield placed(scene, o, language)


def relative_position(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """On which side of another thing does it lie? Only where the boxes are clearly apart along one axis."""
    for a, b, side in islice(_sides(scene, draws), params.per_image.relative_position):
        name, other = a.category.name(language.code), b.category.name(language.code)
        if not name or not other:
            yield unnamed((b if name else a).category, language)
            continue
        slots = {**language.forms(name), "other": other}
        yield Candidate(slots, (a.id, b.id), (scene.region(a), scene.region(b)), side)


def _sides(scene: Scene, draws: Draws) -> Iterator[tuple[Annotation, Annotation, Side]]:
    for a, b in draws.order(list(combinations(scene.proven_unique, 2))):
        first, second = (b, a) if draws.below(2) else (a, b)
        side = side_of(first.box, second.box, scene.width, scene.height)
        if side is not None:
            yield first, second, side


def extremes(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """Of several things that are named, what lies furthest to a side, or is largest? And of all things of one kind,
    where is that one? A picture shows more than is annotated, so neither asks for the extreme of all there is."""
    for kind, among, which, o in islice(_leads(scene, draws), params.per_image.extremes):
        names = [a.category.name(language.code) for a in among]
        if not all(names):
            yield unnamed(among[names.index(next(n for n in names if not n))].category, language)
            continue
        slots = {**language.forms(o.category.name(language.code) or ""), "extreme": language.extremes[which]}
        regions = (scene.region(o), *(scene.region(a) for a in among if a is not o))
        boxes: tuple[str, ...] = ()
        if kind == "one_kind":
            boxes = (box_text(o.box, scene.width, scene.height),)
            slots["box"] = boxes[0]
        else:
            slots["among"] = language.enumerate([language.refer(name or "", "")["thing"] for name in names])
        yield Candidate(slots, tuple(a.id for a in among), regions, kind, boxes=boxes)


def _leads(scene: Scene, draws: Draws) -> Iterator[tuple[str, list[Annotation], Extreme, Annotation]]:
    """Kind of question, the things compared, in what, and which of them has the clear lead."""
    groups = [("one_kind", shown) for label, shown in scene.present.items() if _all_known(scene, label, shown)]
    things = scene.proven_unique
    if len(things) > 1:
        groups.append(("named", draws.pick(things, 2 + draws.below(MAX_COMPARED - 1))))
    for (kind, among), which in draws.order(list(product(groups, EXTREMES))):
        first = extreme([o.box for o in among], which, scene.width, scene.height)
        if first is not None:
            yield kind, among, which, among[first]


def _all_known(scene: Scene, label: str, shown: list[Annotation]) -> bool:
    return (
        len(shown) > 1
        and scene.exhaustive(label)
        and label in scene.clear
        and label not in scene.crowded
        and all(usable(scene, o.box) for o in shown)
    )


def area_share(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """How much of the picture does it cover? By its mask where the data set gives its area, else by its box, and the
    question says so."""
    for o, masked, share in islice(_shares(scene, draws), params.per_image.area_share):
        name = o.category.name(language.code)
        if not name:
            yield unnamed(o.category, language)
            continue
        thing = language.refer(name, "")["thing"]
        slots = {"extent": thing if masked else language.box_of.format(thing=thing), "percent": str(round(share))}
        yield Candidate(slots, (o.id,), (scene.region(o),), SHARE_KINDS[bisect(SHARES, share)])


def _shares(scene: Scene, draws: Draws) -> Iterator[tuple[Annotation, bool, float]]:
    """A thing, whether its mask was measured, and its percentage of the image; not near a bound of the answers."""
    whole = scene.width * scene.height
    for o in draws.order(scene.proven_unique):
        masked = 0 < o.area <= area(o.box)
        share = 100 * (o.area if masked else area(o.box)) / whole
        if share >= 1 and all(abs(share - bound) >= CLEAR_SHARE * bound for bound in SHARES):
            yield o, masked, share
