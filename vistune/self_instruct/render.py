"""An annotated image as text, for a teacher that reads no pixels. Versioned: a change of wording is a new version,
because it changes what every prompt says.

Layout after LLaVA (arXiv 2304.08485): the captions, then one object a line as `label: [x1, y1, x2, y2]`, fractions of
the image's width and height with three decimals. Unlike there, what the list leaves out is stated, and background
is a sentence, since a box around everything says nothing.
"""

from __future__ import annotations

from vistune.records import AnnotatedImage, Annotation
from vistune.self_instruct.facts import area

RENDERER = "captions_objects@1"

MAX_OBJECTS = 40
"""Objects listed at most, largest first: beyond that a scene is a crowd of specks."""


def captions_objects(image: AnnotatedImage, absent: tuple[str, ...] = ()) -> str:
    """The user message of a request. `absent` names things verified not to be in the image."""
    parts = []
    said = [
        f"- {' '.join(c.text.split())}"
        for c in sorted(image.captions, key=lambda c: (c.id, c.text))
        if c.language == "en"
    ]
    said += [f"- {sentence}" for sentence in backgrounds(image)]
    if said:
        parts.append("\n".join(["Captions:", *said]))
    shown, omitted = listed(image)
    if shown:
        rows = [object_line(o, image.image.width, image.image.height) for o in shown]
        if omitted:
            rows.append(f"({omitted} smaller objects are not listed)")
        parts.append("\n".join(["Objects:", *rows]))
    if absent:
        parts.append("Verified absent: " + ", ".join(absent))
    return "\n\n".join(parts)


def listed(image: AnnotatedImage) -> tuple[list[Annotation], int]:
    """The objects a prompt lists, largest first, and how many it leaves out. Background is not among them."""
    things = sorted((o for o in image.objects if o.thing), key=lambda o: (-area(o.box), o.category.label, o.id))
    return things[:MAX_OBJECTS], max(len(things) - MAX_OBJECTS, 0)


def backgrounds(image: AnnotatedImage) -> list[str]:
    """
    >>> from vistune.records import Annotation, Category, ImageRef
    >>> sky = Annotation("1", Category("light blue", "background"), (0.0, 0.0, 9.0, 9.0), thing=False)
    >>> backgrounds(AnnotatedImage("d/1", "d", "train", ImageRef("", 9, 9, "png", ""), "CC0", objects=(sky,)))
    ['The background is light blue.']
    """
    stuff = sorted({(o.category.group == "background", o.category.label) for o in image.objects if not o.thing})
    return [f"The background is {name}." if plain else f"There is {name} in the background." for plain, name in stuff]


def object_line(thing: Annotation, width: int, height: int) -> str:
    """
    >>> from vistune.records import Annotation, Category
    >>> object_line(Annotation("1", Category("cat"), (10.0, 20.0, 50.0, 100.0)), 100, 200)
    'cat: [0.100, 0.100, 0.500, 0.500]'
    """
    x1, y1, x2, y2 = thing.box
    box = f"[{x1 / width:.3f}, {y1 / height:.3f}, {x2 / width:.3f}, {y2 / height:.3f}]"
    return f"{thing.category.label}{' (a group, not counted)' if thing.crowd else ''}: {box}"
