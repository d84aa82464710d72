"""Tasks about attributes of things and relations between them."""

from __future__ import annotations

from vistune.adapt import Params
from vistune.adapt.draws import Draws
from vistune.adapt.language import Clause, Language
from vistune.adapt.scene import Scene
from vistune.adapt.tasks.found import Candidate, Found, Refused, marks_one, reference, unnamed
from vistune.adapt.words import COLOURS, MATERIALS, ONE_WAY
from vistune.records import Annotation, Relation


def attribute(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """What colour is it, what is it made of, what is it like? That something lacks an attribute is never known, so
    none is asked for that is not annotated."""
    described = [o for o in scene.things if any(a.strip() for a in o.attributes) and _referable(scene, o)]
    for o in draws.pick(described, params.per_image.attribute):
        name = o.category.name(language.code)
        said = reference(scene, o, language)
        if not name or said is None:
            yield unnamed(o.category, language)
            continue
        given = [" ".join(a.lower().split()) for a in o.attributes]
        kinds = {"other": [a for a in dict.fromkeys(given) if a]}
        colours, materials = {a for a in given if a in COLOURS}, {MATERIALS[a] for a in given if a in MATERIALS}
        if len(colours) == 1:  # of several, each is true of a part only
            kinds["color"] = sorted(colours)
        if len(materials) == 1:
            kinds["material"] = sorted(materials)
        if len(kinds) > 1:
            del kinds["other"]
        kind = sorted(kinds)[draws.below(len(kinds))]
        words = [language.material(a) if kind == "material" else language.attribute(a) for a in kinds[kind]]
        known = [word for word in words if word]
        if len(known) < len(words):
            missing = kinds[kind][words.index(None)]
            yield Refused("attribute_untranslated", f"{missing!r} has no word in {language.code}.")
            continue
        slots = {**language.refer(*said), "value": language.enumerate(known)}
        yield Candidate(slots, (o.id,), (scene.region(o),), kind, boxes=(said[1],))


def _referable(scene: Scene, o: Annotation) -> bool:
    return o.id in scene.alone or marks_one(scene, o, alike=True)


def relation(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """How are two things related, and what does one ride, wear, stand on?"""
    known = [(r, a, b) for r, a, b in _between(scene) if _referable(scene, a) and _referable(scene, b)]
    objects: dict[tuple[str, str], set[str]] = {}  # subject, predicate -> names of what it is said of
    predicates: dict[tuple[str, str], set[str]] = {}
    for r, a, b in known:
        objects.setdefault((a.id, _plain(r)), set()).add(b.category.label)
        predicates.setdefault((a.id, b.id), set()).add(_plain(r))
    for r, a, b in draws.pick(known, params.per_image.relation):
        name, other = a.category.name(language.code), b.category.name(language.code)
        said, said_other = reference(scene, a, language), reference(scene, b, language)
        if not name or not other or said is None or said_other is None:
            yield unnamed((b if name else a).category, language)
            continue
        thing, second = language.refer(*said), language.refer(*said_other)
        clause = language.clause(name, thing["thing"], _plain(r), second["thing"])
        if clause is None and not language.quotes:
            yield Refused("predicate_untranslated", f"{_plain(r)!r} has no clause in {language.code}.")
            continue
        only = len(objects[a.id, _plain(r)]) == 1
        if clause is not None and only and draws.below(2):
            answer = language.clause(name, thing["thing"], _plain(r), language.forms(other).get("a_name", other))
            slots = {**language.forms(other), "asked": clause.question, "clause": _sentence(answer, language)}
            yield Candidate(slots, _evidence(r), (scene.region(a), scene.region(b)), "object", boxes=(said[1],))
        elif len(predicates[a.id, b.id]) == 1:
            slots = {**thing, "other": second["thing"], "predicate": clause.predicate if clause else _plain(r)}
            boxes = (said[1], said_other[1])
            regions = (scene.region(a), scene.region(b))
            if clause is None:
                yield Candidate(slots, _evidence(r), regions, "bare", boxes=boxes)
            else:
                slots["clause"] = _sentence(clause, language)
                yield Candidate(slots, _evidence(r), regions, "predicate", boxes=boxes)


def triplet_check(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """Is it true that the man rides the horse? Pairs of one "yes" and one "no"; the "no" turns around a relation that
    cannot hold both ways. Boxes say which two things are meant, or there could be others of which it is true. Nothing
    else that is not annotated is provably false, since nobody annotates every relation."""
    known = [
        (r, a, b)
        for r, a, b in _between(scene)
        if _plain(r) in ONE_WAY and marks_one(scene, a, alike=True) and marks_one(scene, b, alike=True)
    ]
    stated = {(a.id, _plain(r), b.id) for r, a, b in known}
    one_way = [(r, a, b) for r, a, b in known if (b.id, _plain(r), a.id) not in stated]
    for r, a, b in draws.pick(one_way, params.per_image.triplet_check // 2):
        yes, no = _statement(scene, a, r, b, language), _statement(scene, b, r, a, language)
        if yes is None or no is None:
            nameless = next((o for o in (a, b) if not o.category.name(language.code)), None)
            if nameless is not None:
                yield unnamed(nameless.category, language)
            else:
                yield Refused("predicate_untranslated", f"{_plain(r)!r} has no clause in {language.code}.")
            continue
        for statement, polarity, first, second in ((yes, "yes", a, b), (no, "no", b, a)):
            regions, boxes = (scene.region(first), scene.region(second)), statement[1]
            yield Candidate({"statement": statement[0]}, _evidence(r), regions, polarity, polarity, boxes)


def _statement(
    scene: Scene, a: Annotation, r: Relation, b: Annotation, language: Language
) -> tuple[str, tuple[str, str]] | None:
    """A sentence about two boxed things, and the texts of the boxes."""
    name, said = a.category.name(language.code), reference(scene, a, language, boxed=True)
    other, said_other = b.category.name(language.code), reference(scene, b, language, boxed=True)
    if not name or not other or said is None or said_other is None:
        return None
    thing, second = language.refer(*said)["thing"], language.refer(*said_other)["thing"]
    clause = language.clause(name, thing, _plain(r), second)
    return (_sentence(clause, language), (said[1], said_other[1])) if clause else None


def _between(scene: Scene) -> list[tuple[Relation, Annotation, Annotation]]:
    """Relations between two different things, with both."""
    found = []
    for r in sorted(scene.image.relations, key=lambda r: r.id):
        a, b = scene.by_id.get(r.subject), scene.by_id.get(r.object)
        if a is None or b is None or a is b or not r.predicate.strip():
            continue
        if a.thing and b.thing and not a.crowd and not b.crowd:
            found.append((r, a, b))
    return found


def _plain(r: Relation) -> str:
    words = r.predicate.lower().split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in ("is", "are") else words)


def _sentence(clause: Clause | None, language: Language) -> str:
    return language.sentence(clause.statement) if clause else ""


def _evidence(r: Relation) -> tuple[str, ...]:
    return (r.id, r.subject, r.object)
