"""What the grammar teacher says is read back, phrase by phrase, and held against the boxes by rules of this file."""

import re
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import permutations

import pytest

from vistune import english
from vistune.records import Category
from vistune.self_instruct.facts import Facts
from vistune.self_instruct.filters import Pool
from vistune.self_instruct.grammar import compose
from vistune.self_instruct.prompts import KINDS
from vistune.self_instruct.speech import phrases

NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
CORNER = "(?:upper|lower|top|bottom) (?:left|right)"
PLACE = (
    rf"(?:in|on|at|near) the (?:{CORNER}|left|right|top|bottom|middle|centre)"
    "(?: corner| side| part)?(?: of the picture| in the middle)?"
)
RELATION = "(?:to the )?(?:left|right) of|above|higher up than|below|further down than"
GROUPS = {
    "animals": "animal",
    "vehicles": "transport",
    "musical instruments": "musical-instrument",
    "flowers": "plant-flower",
    "things to eat": "food",
    "things to drink": "drink",
    "things to wear": "clothing",
    "tools": "tool",
}


OUTSIDE = {row["many"]: row["not"] for row in phrases()["families"].values()}


class Phrasebook:
    """Reads the slots out of phrases about things of one vocabulary."""

    def __init__(self, vocabulary):
        self.forms = {english.plural(c.label).lower(): c.label for c in vocabulary}
        self.forms |= {c.label.lower(): c.label for c in vocabulary}
        name = "|".join(re.escape(form) for form in sorted(self.forms, key=len, reverse=True))
        self.name = f"(?:(?:a|an) )?(?:{name})"
        self.patterns = {}

    def slot(self, slot):
        kind = re.sub(r"\d$", "", slot)
        if re.fullmatch(r"(a_)?[xyz]s?|[xy]_[nm]|first|last", kind):
            return self.name
        if kind in ("place", "wrong_place", "mirrored"):
            return PLACE
        if kind in ("rel", "wrong_rel"):
            return RELATION
        if kind == "place_n":
            return f"(?:, {PLACE})?"
        if kind in ("n", "m"):
            return "|".join(NUMBERS)
        if kind in ("rest_n", "more_n"):
            return f"(?:{'|'.join(NUMBERS)}) {self.name}"
        if kind in ("most", "at"):
            return "leftmost|rightmost|topmost|lowest|(?:furthest|nearest) to the (?:left|right|top|bottom)"
        return r"is|are" if kind.startswith("be") else ".+?"

    def pattern(self, template):
        seen, pattern = set(), ""
        for part in re.split(r"(\{\w+\})", template):
            slot = part[1:-1] if re.fullmatch(r"\{\w+\}", part) else None
            if slot is None:
                pattern += re.escape(part)
            else:
                pattern += f"(?P={slot})" if slot in seen else f"(?P<{slot}>{self.slot(slot)})"
                seen.add(slot)
        return re.compile(pattern, re.IGNORECASE)

    def match(self, template, text):
        """The slots of a text said with a template, or None."""
        if template not in self.patterns:
            self.patterns[template] = self.pattern(template)
        found = self.patterns[template].fullmatch(text)
        return found and {k: v if k in ("list", "caption") else v.lower() for k, v in found.groupdict().items()}

    def label(self, words):
        """The label that these words name, or None."""
        return self.forms.get(words) or self.forms.get(re.sub(r"^(a|an) ", "", words))


class Reader:
    """One image: what its boxes say about the words of a slot."""

    def __init__(self, image, book):
        self.width, self.height = image.image.width, image.image.height
        self.boxes = defaultdict(list)
        for o in image.things:
            self.boxes[o.category.label].append(o.box)
        self.group = {o.category.label: o.category.group for o in image.things}
        self.groups = [o.category.group for o in image.things]
        self.color = next((o.category.label for o in image.objects if not o.thing), None)
        self.caption = image.captions[0].text
        self.forms, self.match, self.label = book.forms, book.match, book.label

    def count(self, words):
        return len(self.boxes.get(self.label(words), ()))

    def inventory(self, text, without=()):
        """Whether a list names all there is (or all but `without`) with its number."""
        said = {}
        for part in re.split(r", | and (?=(?:a|an|the|\w+) |\w+$)", self._join(text)):
            words = part.replace("§", " and ").lower()
            number = re.match(rf"({'|'.join(NUMBERS)}) ", words)
            label = self.label(words[number.end() :] if number else words)
            said[label] = NUMBERS.index(number[1]) if number else 1
        there = {k: len(b) if english.is_counted(k) else 1 for k, b in self.boxes.items() if k not in without}
        return said == there

    def _join(self, text):
        """A name with an "and" of its own is kept together."""
        for form in self.forms:
            text = (
                re.sub(re.escape(form), form.replace(" and ", "§"), text, flags=re.IGNORECASE)
                if " and " in form
                else text
            )
        return text

    def at(self, words, place, mirror=False):
        return any(self.inside(box, place, mirror) for box in self.boxes[self.label(words)])

    def inside(self, box, place, mirror=False):
        x, y = (box[0] + box[2]) / 2 / self.width, (box[1] + box[3]) / 2 / self.height
        x, said = 1 - x if mirror else x, set(place.split())
        true = {"left": x < 0.5, "right": x > 0.5, "top": y < 0.5, "bottom": y > 0.5}
        true |= {"upper": true["top"], "lower": true["bottom"]}
        sides = said & set(true)
        assert sides or said & {"middle", "centre"}, place
        if said & {"middle", "centre"} and not (0.3 < x < 0.7 and (sides or 0.3 < y < 0.7)):
            return False
        return all(true[word] for word in sides)

    def lies(self, x, relation, y):
        a, b = self.boxes[self.label(x)][0], self.boxes[self.label(y)][0]
        key = re.search("left|right|above|higher|below|further", relation)[0]
        apart = {"left": a[2] <= b[0], "right": a[0] >= b[2], "above": a[3] <= b[1], "below": a[1] >= b[3]}
        return apart[{"higher": "above", "further": "below"}.get(key, key)]

    def furthest(self, words, side):
        axis, choose = {"left": (0, min), "right": (0, max), "top": (1, min), "bottom": (1, max)}[side]
        centres = [(box[axis] + box[axis + 2], k) for k, boxes in self.boxes.items() for box in boxes]
        return choose(centres)[1] == self.label(words)

    def sized(self, words, choose):
        sizes = [((b[2] - b[0]) * (b[3] - b[1]), k) for k, boxes in self.boxes.items() for b in boxes]
        return choose(sizes)[1] == self.label(words)

    def is_kind(self, many, words):
        """Whether a thing is, say, a tool: in a group of tools, and not one of those there that are none."""
        label = self.label(words)
        return self.group[label].startswith(GROUPS[many]) and label not in OUTSIDE[many]

    def order(self, s):
        labels = [s["first"], *s["then"].removeprefix("the ").split(", then the "), s["last"]]
        centres = [sum(self.boxes[self.label(w)][0][::2]) for w in labels]
        return centres == sorted(centres) and len(labels) == len(self.groups)


def number(words):
    return NUMBERS.index(words.split()[0])


def side(s):
    return re.search(r"left|right|top|bottom", f"{s.get('most', '')} {s.get('at', '')}".replace("lowest", "bottom"))[0]


def color(s):
    return s.get("bg") or s["a_bg"].split(" ", 1)[1]


def other_color(r, s):
    return s["bg"] == r.color and not set(s["wrong"].split()) & set(r.color.split())


def one_odd(r, s):
    others = [k for k in r.boxes if not r.is_kind(s["many"], k.lower())]
    return others == [r.label(s["x"])] and r.count(s["x"]) == 1


def grouped(r, s):
    """Whether the boxes of a kind can be told off one to each place named."""
    boxes, named = r.boxes[r.label(s["xs"])], re.findall(PLACE, s["places"])
    orders = permutations(boxes) if len(boxes) == len(named) else ()
    return any(all(r.inside(b, p) for b, p in zip(order, named, strict=True)) for order in orders)


def has(r, *slots):
    return all(r.count(w) > 0 for w in slots)


NEEDS = {n["question"].lower() for f in phrases()["families"].values() for n in f.get("need", ())}

# What must be true of a phrase with these slots.
CHECKS = {
    "listing": lambda r, s: r.inventory(s["list"]),
    "listing_background": lambda r, s: (
        r.inventory(s["list"]) and (s.get("bg") or s["a_bg"].split(" ", 1)[1]) == r.color
    ),
    "summary": lambda r, s: s["caption"] == r.caption,
    "background": lambda r, s: color(s) == r.color,
    "count": lambda r, s: r.count(s["xs"]) == number(s["n"]),
    "count_places": lambda r, s: r.count(s["xs"]) == 2 and r.at(s["xs"], s["place"]) and r.at(s["xs"], s["place2"]),
    "total": lambda r, s: len(r.groups) == number(s["n"]) and r.inventory(s["list"]),
    "extreme": lambda r, s: r.furthest(s["x"], side(s)),
    "largest": lambda r, s: r.sized(s["x"], max),
    "smallest": lambda r, s: r.sized(s["x"], min),
    "where": lambda r, s: r.at(s["x"], s["place"]) and r.count(s["x"]) == 1,
    "relation": lambda r, s: r.lies(s["x"], s["rel"], s["y"]),
    "relation_yes": lambda r, s: r.lies(s["x"], s["rel"], s["y"]),
    "relation_no": lambda r, s: r.lies(s["x"], s["rel"], s["y"]) and not r.lies(s["x"], s["wrong_rel"], s["y"]),
    "present": lambda r, s: has(r, s["a_x"]) and ("place" not in s or r.at(s["a_x"], s["place"])),
    "absent": lambda r, s: not has(r, s["a_z"]) and ("list" not in s or r.inventory(s["list"])),
    "kind_present": lambda r, s: r.inventory(s["list"], [k for k in r.boxes if not r.is_kind(s["many"], k.lower())]),
    "kind_absent": lambda r, s: not any(g.startswith(GROUPS[s["many"]]) for g in r.groups),
    "missing": lambda r, s: not has(r, s["z"]),
    "common": lambda r, s: all(g.startswith(GROUPS[s["many"]]) for g in r.groups) and r.inventory(s["list"]),
    "odd": one_odd,
    "meet": lambda r, s: has(r, s["a_x"]) and r.label(s["xs"]) == r.label(s["a_x"]),
    "take_away": lambda r, s: r.count(s["xs"]) == number(s["n"]) == number(s["rest_n"]) + 1,
    "add": lambda r, s: r.count(s["xs"]) == number(s["n"]) == number(s["more_n"]) - 1,
    "more_yes": lambda r, s: r.count(s["xs"]) == number(s["n"]) > number(s["m"]) == r.count(s["ys"]),
    "more_no": lambda r, s: r.count(s["xs"]) == number(s["n"]) < number(s["m"]) == r.count(s["ys"]),
    "order": lambda r, s: r.order(s),
    "mirror": lambda r, s: r.at(s["x"], s["mirrored"], mirror=True) and r.at(s["x"], s["place"]),
    "remove": lambda r, s: r.inventory(s["list"], without=[r.label(s["x"])]),
    "need": lambda r, s: s["need"] in NEEDS,  # what things are for is no matter of boxes; see test_needs
    "nonexistent": lambda r, s: not has(r, s["z"]) and r.inventory(s["list"]),
    "nonexistent_beside": lambda r, s: not has(r, s["z"]) and r.at(s["x"], s["place"]),
    "nonexistent_count": lambda r, s: not has(r, s["zs"]) and r.inventory(s["list"]),
    "wrong_count": lambda r, s: (
        r.count(s["xs"]) == number(s["n"]) < number(s["wrong"])
        and (not s["place_n"] or r.at(s["xs"], s["place_n"].removeprefix(", ")))
    ),
    "wrong_place": lambda r, s: r.at(s["x"], s["place"]) and not r.at(s["x"], s["wrong_place"]),
    "wrong_place_why": lambda r, s: r.at(s["x"], s["place"]) and not r.at(s["x"], s["wrong_place"]),
    "wrong_relation": lambda r, s: r.lies(s["x"], s["rel"], s["y"]) and not r.lies(s["x"], s["wrong_rel"], s["y"]),
    "wrong_background": other_color,
    "wrong_background_why": other_color,
}

SENTENCES = {
    "overview": lambda r, s: (
        r.inventory(s["list"]) and color(s) == r.color and number(s.get("n", NUMBERS[len(r.groups)])) == len(r.groups)
    ),
    "overview_few": lambda r, s: r.inventory(s["list"]) and color(s) == r.color,
    "overview_plain": lambda r, s: r.inventory(s["list"]),
    "things": CHECKS["where"],
    "groups": grouped,
    "relation": CHECKS["relation"],
    "largest": CHECKS["largest"],
    "smallest": CHECKS["smallest"],
}


def readings(reader, question, answer):
    """Every phrase that a turn can be read as: (name, slots)."""
    for name, row in phrases()["turns"].items():
        asked = [m for t in row["questions"] if (m := reader.match(t, question)) is not None]
        said = [m for t in row["answers"] if (m := reader.match(t, answer)) is not None]
        for q in asked:
            for a in said:
                if all(q[k] == a[k] or k in ("xs", "x_n") for k in q.keys() & a.keys()):
                    yield name, {**q, **a}


@pytest.fixture(scope="module")
def dialogues(images):
    book = Phrasebook(images[0].vocabulary)
    said = ((image, kind, compose(kind, Facts(image), 0)) for image in images for kind in KINDS)
    return [(Reader(image, book), kind, pairs) for image, kind, pairs in said if pairs]


def test_every_turn_is_true(dialogues):
    read = Counter()
    for reader, kind, pairs in dialogues:
        for n, (question, answer) in enumerate(pairs):
            if kind == "detail":
                continue
            found = list(readings(reader, question, answer))
            if question in phrases()["turns"]["follow_up"]["questions"]:
                asked = readings(reader, *pairs[n - 1])
                before = next(s for name, s in asked if name in ("extreme", "largest", "smallest"))
                assert reader.at(before["x"], found[0][1]["place"])
            else:
                # A phrase may be read in two ways ("{list}." takes anything); what it says is true in one of them.
                assert any(CHECKS[name](reader, s) for name, s in found), (question, answer, found, dict(reader.boxes))
            read.update({name for name, _ in found})
    assert {name for name in phrases()["turns"] if read[name] < 3} == set(), read


def test_every_description_is_true(dialogues):
    read = Counter()
    for reader, kind, pairs in dialogues:
        if kind != "detail":
            continue
        ((question, text),) = pairs
        assert question in phrases()["detail"]["questions"]
        for sentence in re.split(r"(?<=\.) ", text):
            found = [
                (name, s)
                for name in SENTENCES
                for t in phrases()["detail"][name]
                if (s := reader.match(t, sentence)) is not None
            ]
            assert any(SENTENCES[name](reader, s) for name, s in found), (sentence, found, dict(reader.boxes))
            read.update({name for name, _ in found})
    assert set(read) == set(SENTENCES)


def test_needs(make):
    """What can be eaten, driven, played: members of the family only."""
    boxes = [(0, 0, 60, 60), (100, 0, 160, 60), (200, 0, 260, 60), (0, 100, 60, 160)]
    objects = list(zip(("taxi", "red apple", "red apple", "violin"), boxes, strict=True))
    named = {"food": "the two red apples", "vehicle": "the taxi", "instrument": "the violin"}
    expected = {n["question"]: named.get(k) for k, f in phrases()["families"].items() for n in f.get("need", ())}
    seen = set()
    for n in range(60):
        for question, answer in compose("reasoning", Facts(make(n, objects)), 0):
            if question in expected:
                assert expected[question] in answer.lower() and len(re.findall("taxi|apple|violin", answer)) == 1
                seen.add(expected[question])
    assert len(seen) == 3


def test_yes_and_no_are_balanced(dialogues):
    seen = Counter()
    for _, kind, pairs in dialogues:
        for question, answer in pairs if kind == "conversation" else ():
            if m := re.match("Yes|No", answer):
                seen["relation" if re.search(RELATION, question) else "presence", m[0]] += 1
    for what in ("relation", "presence"):
        assert 0.3 < seen[what, "Yes"] / (seen[what, "Yes"] + seen[what, "No"]) < 0.7, seen


def test_everything_passes_the_filters(images):
    for image in images:
        pool = Pool(Facts(image))
        for kind in KINDS:
            pairs = compose(kind, Facts(image), 0)
            verdicts = pool.filter(kind, pairs)
            assert verdicts == [("", "")] * len(pairs), (pairs, verdicts)


def test_no_choice_between_two_things_is_ever_offered(dialogues):
    """Which of two things is in the picture: kept out of training for evaluation."""
    assert [q for _, _, pairs in dialogues for q, _ in pairs if re.search(r"\bor\b|which of", q.lower())] == []


def test_deterministic_and_independent_of_order(images):
    for image in images[:40]:
        turned = replace(image, objects=image.objects[::-1], captions=image.captions[::-1])
        for kind in KINDS:
            assert compose(kind, Facts(image), 3) == compose(kind, Facts(turned), 3)
    assert any(compose("detail", Facts(i), 0) != compose("detail", Facts(i), 1) for i in images)


@pytest.mark.parametrize("label", ["scissors", "bread", "bow and arrow", "woman’s hat", "yo-yo", "ewe"])
def test_one_object_of_any_kind_of_name(make, label):
    facts = Facts(make(5, [(label, (10, 10, 100, 90))]))
    for kind in KINDS:
        pairs = compose(kind, facts, 0)
        assert Pool(facts).filter(kind, pairs) == [("", "")] * len(pairs)
    text = " ".join(answer for kind in KINDS for _, answer in compose(kind, facts, 0))
    assert not re.search("a scissors|a bread|scissors is|an yo|an ewe", text)


def test_nothing_to_say_about_nothing(make):
    facts = Facts(make(1, [], background="", captions=[]))
    assert [compose(kind, facts, 0) for kind in ("detail", "reasoning", "negative")] == [[], [], []]


def test_crowds_are_not_counted(make):
    image = make(1, [("ant", (0, 0, 60, 60)), ("cat", (100, 0, 160, 60)), ("dog", (200, 0, 260, 60))])
    crowd = replace(image.objects[0], id="crowd", crowd=True)
    image = replace(image, objects=(*image.objects, crowd))
    for n in range(20):
        said = " ".join(a for kind in KINDS for q, a in compose(kind, Facts(image), n))
        assert not re.search(r"(one|two|three) ants?\b|an ant|objects (?:on|,)|largest|leftmost", said), said


def test_fixed_phrases_avoid_the_vocabulary(make):
    """In a data set with mirrors "imagine this picture in a mirror" would speak of a thing that is not there."""
    questions = {True: set(), False: set()}
    for n in range(60):
        image = make(n, [("cat", (10, 10, 100, 90)), ("dog", (200, 10, 300, 90))])
        named = replace(image, vocabulary=(*image.vocabulary, Category("mirror")))
        for mirrors, about in ((False, image), (True, named)):
            questions[mirrors] |= {q for q, _ in compose("reasoning", Facts(about), 0) if "in a mirror" in q}
    assert questions[False] and not questions[True]
