"""What the annotations of one image prove: counts, places, relations, and which things are verifiably absent.

Everything here is a pure function of one `AnnotatedImage` and independent of the order of its annotations. Geometry
is in pixels of the upright image, y downwards. Statements are strict: where a margin is too small to be plain to the
eye, there is no fact.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache

from vistune import english
from vistune.records import AnnotatedImage, Annotation, Box, Category
from vistune.self_instruct.mentions import Names, names, words

MARGIN = 0.05
"""Share of the image's side by which one object must exceed the others to be "furthest"."""

LARGER = 1.4
"""Ratio of box areas from which one object is plainly the larger."""

# Names that some data sets keep apart although one is a kind of the other. Names that share their head word
# ("polar bear", "bear") and names found in the group ("penguin" in "animal-bird") need no entry.
_KINDS: dict[str, set[str]] = {
    "dog": {"poodle", "puppy"},
    "cat": {"kitten"},
    "bird": {"penguin", "dove", "eagle", "duck", "swan", "owl", "flamingo", "peacock", "parrot", "goose", "rooster"},
    "chicken": {"rooster", "hatching chick", "baby chick", "front-facing baby chick"},
    "cow": {"ox", "water buffalo", "bison"},
    "sheep": {"ram", "ewe"},
    "mouse": {"rat"},
    "whale": {"orca"},
    "fish": {"shark", "blowfish"},
    "bug": {"ant", "honeybee", "beetle", "lady beetle", "cricket", "cockroach", "mosquito", "fly"},
    "flower": {"rose", "tulip", "sunflower", "hibiscus", "lotus", "hyacinth", "blossom", "cherry blossom", "bouquet"},
    "blossom": {"rose", "tulip", "sunflower", "hibiscus", "lotus", "hyacinth", "white flower"},
    "car": {"taxi", "oncoming taxi", "automobile", "oncoming automobile", "sport utility vehicle", "truck"},
    "automobile": {"taxi", "oncoming taxi", "car", "police car", "oncoming police car", "sport utility vehicle"},
    "truck": {"articulated lorry", "fire engine"},
    "bus": {"trolleybus", "minibus"},
    "train": {"locomotive", "metro", "light rail", "monorail", "tram", "railway car", "mountain railway"},
    "boat": {"canoe", "ferry", "ship", "passenger ship"},
    "ship": {"ferry", "boat", "motor boat", "sailboat"},
    "bicycle": {"bike"},
    "motorcycle": {"motor scooter", "motorbike"},
    "person": {"man", "woman", "child", "boy", "girl", "baby"},
    "house": {"hut", "derelict house", "home"},
    "book": {"notebook", "ledger"},
    "phone": {"telephone"},
    "telephone": {"mobile phone", "cell phone"},
    "television": {"tv"},
    "couch": {"sofa", "bed"},
    "sun": {"sunrise", "sunset"},
}

SIDES = {"left": (0, 1), "right": (0, -1), "top": (1, 1), "bottom": (1, -1)}
"""Axis (0 is x) and the sign that sorts towards the side."""

OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

_NO_KIND_OF = {("dog", "hot dog"), ("cake", "fish cake"), ("horse", "carousel horse")}
"""Names that end in another one and mean something else."""

GRID = (("top left", "top", "top right"), ("left", "centre", "right"), ("bottom left", "bottom", "bottom right"))


@dataclass(frozen=True)
class Facts:
    """One image and what may be said about it."""

    image: AnnotatedImage

    @cached_property
    def names(self) -> Names:
        vocabulary = tuple(c.label for c in self.image.vocabulary if c.group != "background")
        return names(vocabulary + tuple(sorted(self.labels.difference(vocabulary))))

    @cached_property
    def labels(self) -> frozenset[str]:
        """Every label annotated in the image, countable or not, background colours left out."""
        return frozenset(o.category.label for o in self.image.objects if o.category.group != "background")

    @cached_property
    def things(self) -> tuple[Annotation, ...]:
        """Countable objects, largest first."""
        return tuple(sorted(self.image.things, key=lambda o: (-area(o.box), o.category.label, o.id)))

    @cached_property
    def tally(self) -> dict[str, int]:
        """Number of objects of each label that has no crowd, in the order of `things`."""
        return Counter(o.category.label for o in self.things if o.category.label not in self.crowds)

    @cached_property
    def counts(self) -> dict[str, int]:
        """The part of `tally` that answers "how many": without a label that covers another one in the image ("cat"
        beside "black cat")."""
        covers = {label for label in self.tally for other in self.labels if other != label and related(label, other)}
        return {label: n for label, n in self.tally.items() if label not in covers}

    @cached_property
    def crowds(self) -> frozenset[str]:
        return frozenset(o.category.label for o in self.image.objects if o.crowd)

    @cached_property
    def singles(self) -> tuple[Annotation, ...]:
        """Objects that "the cat" names without doubt, largest first."""
        return tuple(o for o in self.things if self.counts.get(o.category.label) == 1)

    @cached_property
    def background(self) -> str:
        """The colour of a plain background, or ""."""
        found = {o.category.label for o in self.image.objects if not o.thing and o.category.group == "background"}
        return found.pop() if len(found) == 1 else ""

    @cached_property
    def captioned(self) -> frozenset[str]:
        """Labels that a caption names."""
        texts = (c.text for c in self.image.captions if c.language == "en")
        return frozenset(m.label for text in texts for m in self.names.find(text) if not m.denied)

    @cached_property
    def absent(self) -> dict[str, Category]:
        """Categories that are verifiably not in the image: annotated exhaustively by the data set, not annotated
        here, and neither named in a caption nor akin to anything that is."""
        # What an absent name must avoid is gathered once: vocabularies have hundreds of names.
        shown = self.labels | self.captioned
        groups = {o.category.group.replace("-", " ") for o in self.image.objects}
        taken = {word for text in (*shown, *groups) for word in _content(text)}
        taken |= {word for c in self.image.captions for word in words(c.text)}
        lower = {label.lower() for label in shown}
        kinds = {kind for label in lower for kind in _KINDS.get(label, ())}
        found = {}
        for category in self.image.vocabulary:
            label = category.label.lower()
            if category.group == "background" or _content(label) & taken or label in kinds:
                continue
            if not lower & _KINDS.get(label, set()):
                found[category.label] = category
        return found

    def supports(self, label: str) -> bool:
        """Whether something annotated, or named in a caption, may be called `label`."""
        shown = self.labels | self.captioned
        return label in shown or any(related(label, s) for s in shown)

    def number(self, label: str) -> tuple[int, int] | None:
        """Fewest and most objects that may be called `label`, or None when a crowd hides the number."""
        akin = [o for o in self.image.objects if o.thing and related(label, o.category.label)]
        if any(o.crowd for o in akin):
            return None
        exact = sum(o.category.label == label for o in akin)
        return (exact, len(akin)) if exact else (min(len(akin), 1), len(akin))


@lru_cache(maxsize=65536)
def related(general: str, special: str) -> bool:
    """Whether a `special` may be called a `general`.

    >>> related("bear", "polar bear"), related("polar bear", "bear"), related("bird", "owl"), related("dog", "hot dog")
    (True, False, True, False)
    """
    a, b = words(general), words(special)
    if (general.lower(), special.lower()) in _NO_KIND_OF:
        return False
    return a == b or (len(a) < len(b) and b[-len(a) :] == a) or special.lower() in _KINDS.get(general.lower(), ())


_PARTICLES = {"a", "an", "the", "of", "and", "with", "in", "on", "for", "to", "without"}


@lru_cache(maxsize=8192)
def _content(label: str) -> frozenset[str]:
    """Words of a name, singular and plural, without particles."""
    plain = {w for w in words(label) if w[0].isalnum() and w not in _PARTICLES}
    many = {w for p in plain for w in words(english.plural(p))}
    one = {w[:-1] for w in plain if w[-1] == "s" and len(w) > 3}
    return frozenset(plain | many | one)


def area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def place(box: Box, width: int, height: int) -> str:
    """The cell of a three by three grid that holds the centre of a box; the middle row and column are a fifth wide.

    >>> place((0, 0, 20, 20), 100, 100), place((40, 40, 60, 60), 100, 100), place((70, 30, 90, 70), 100, 100)
    ('top left', 'centre', 'right')
    """
    x, y = centre(box)
    column = 0 if x < 0.4 * width else 2 if x > 0.6 * width else 1
    row = 0 if y < 0.4 * height else 2 if y > 0.6 * height else 1
    return GRID[row][column]


def relation(a: Box, b: Box) -> str:
    """How `a` lies to `b` when their extents are apart: "left of", "right of", "above", "below"; "" when not plain.
    Sideways goes first; a diagonal has no one name.

    >>> relation((0, 0, 10, 10), (20, 2, 30, 12)), relation((0, 0, 10, 10), (20, 30, 40, 40))
    ('left of', '')
    """
    beside = overlap(a[1], a[3], b[1], b[3]) > 0
    stacked = overlap(a[0], a[2], b[0], b[2]) > 0
    if beside and not stacked:
        return "left of" if a[2] <= b[0] else "right of"
    if stacked and not beside:
        return "above" if a[3] <= b[1] else "below"
    return ""


def overlap(a1: float, a2: float, b1: float, b2: float) -> float:
    """Length of the common part of two intervals; negative when they are apart."""
    return min(a2, b2) - max(a1, b1)


def extreme(boxes: list[Box], side: str, width: int, height: int) -> int | None:
    """Index of the box whose centre is plainly furthest to a side ("left", "right", "top", "bottom"), or None.

    >>> extreme([(0, 0, 10, 10), (50, 0, 60, 10)], "left", 100, 100)
    0
    """
    axis, sign = SIDES[side]
    length = (width, height)[axis]
    order = sorted((sign * centre(box)[axis], i) for i, box in enumerate(boxes))
    if len(order) < 2 or order[1][0] - order[0][0] < MARGIN * length:
        return None
    return order[0][1]


def largest(boxes: list[Box], smallest: bool = False) -> int | None:
    """Index of the box that is plainly the largest (or smallest), or None.

    >>> largest([(0, 0, 10, 10), (0, 0, 20, 20)])
    1
    """
    order = sorted(((area(box), i) for i, box in enumerate(boxes)), reverse=not smallest)
    if len(order) < 2:
        return None
    (first, index), (second, _) = order[0], order[1]
    return index if max(first, second) >= LARGER * min(first, second) else None
