"""Captions of scenes: short sentences that say only what is known to be in the picture."""

from __future__ import annotations

from vistune.english import amount, join, number_word, sentence, with_article
from vistune.hashing import keyed, shuffled
from vistune.sources.demo.questions import SIDES
from vistune.sources.demo.scenes import Placed, Scene

RELATIONS = (("left", "to the left of"), ("right", "to the right of"), ("top", "above"), ("bottom", "below"))


def captions(scene: Scene, size: int, seed: int) -> list[str]:
    """Two or three different captions of a scene."""
    key = ("demo", "captions", scene.id)
    forms = _single(scene, size) if len(scene.objects) == 1 else _several(scene, seed)
    return [sentence(f"{form}.") for form in shuffled(forms, seed, *key)[: 2 + keyed(seed, *key, "number") % 2]]


def background(scene: Scene) -> str:
    """ "a striped green background"."""
    texture = scene.background.texture
    colour = scene.background.colour.name
    return with_article(f"{colour} background" if texture == "plain" else f"{texture} {colour} background")


def place(placed: Placed, size: int) -> str:
    """Where an object is, by thirds of the picture: "in the upper left corner", "in the middle".

    >>> place(Placed(None, (0, 0, 60, 60)), 224)
    'in the upper left corner'
    """
    x, y = ((placed.box[i] + placed.box[i + 2]) / 2 / size * 3 for i in (0, 1))
    across = "left" if x < 1 else "right" if x >= 2 else ""
    down = "upper" if y < 1 else "lower" if y >= 2 else ""
    if across and down:
        return f"in the {down} {across} corner"
    if across:
        return f"on the {across} side"
    return f"in the {down} part" if down else "in the middle"


def _single(scene: Scene, size: int) -> list[str]:
    name, where = with_article(scene.objects[0].concept.name), place(scene.objects[0], size)
    behind = background(scene)
    return [
        f"{name} on {behind}",
        f"there is {name} {where} of the picture",
        f"a drawing of {name} against {behind}",
        f"{name} in front of {behind}",
        f"the picture shows {name} and nothing else",
    ]


def _several(scene: Scene, seed: int) -> list[str]:
    counts = shuffled(scene.counts().items(), seed, "demo", "captions", scene.id, "names")
    things = join([amount(concept.name, n) for concept, n in counts])
    behind = background(scene)
    forms = [
        f"{things} on {behind}",
        f"the picture shows {things}",
        f"{things} in front of {behind}",
        f"a drawing of {things} against {behind}",
    ]
    if len(counts) > 1:
        forms.append(f"{number_word(len(scene.objects))} things on {behind}: {things}")
    for side, relation in RELATIONS:
        alone = scene.alone_at(side)
        if alone is None or scene.counts()[alone.concept] > 1:
            continue
        name = with_article(alone.concept.name)
        others = [amount(concept.name, n) for concept, n in counts if concept is not alone.concept]
        if len(scene.objects) == 2:
            forms.append(f"{name} {relation} {others[0]}")
            forms.append(f"{name} {relation} {others[0]}, on {behind}")
        else:
            forms.append(f"{SIDES[side]} is {name}, and the rest of the picture has {join(others)}")
    return forms
