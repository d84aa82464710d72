"""Templates: how a task is asked and answered, read from `templates/<language>/*.yaml` and checked strictly.

Each task has instructions and response formats. Every instruction is crossed with every format that words the same
kind of fact, and the pair is recorded in the template id: "presence.en.03@1+word@1" is instruction 03, version 1,
with the format `word`, version 1. A format's `response` has one wording per kind of fact ("present" and "absent" for
presence). A format whose wordings hold no slot at all is a closed question, and those wordings are its choices. Where
the text holds a box, a line that says how boxes are written is added, and recorded as a third part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from pathlib import Path
from string import Formatter
from typing import Any

from vistune.adapt.language import AGREEING, LANGUAGES, Language
from vistune.adapt.slots import SLOTS, Kind
from vistune.errors import VistuneError
from vistune.params import read_tree, unknown

FOLDER = Path(__file__).resolve().parent / "templates"

FRAMES = "frames"
"""The section of lines that say how boxes are written."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """One instruction crossed with one response format, slots still open."""

    template: str
    instruction: str
    input: str
    user: str  # the whole text of the user's turn
    response: str
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """A line that says how boxes are written."""

    template: str
    text: str


Phrases = Mapping[str, Sequence[Phrase]]
"""Kind of fact -> phrases, each as often as its weight: pick one by index."""


@dataclass(frozen=True)
class Templates:
    """Those of one language."""

    tasks: Mapping[str, Phrases]
    frames: Sequence[Frame]


@cache
def load(language: Language, folder: Path = FOLDER) -> Templates:
    """All templates in one language, read once. Raises VistuneError naming file and template for any defect."""
    paths = sorted((folder / language.code).glob("*.yaml"))
    if not paths:
        raise VistuneError(f"{folder / language.code} holds no .yaml file. Each language needs a folder of templates.")
    sections: dict[str, _Section] = {}
    for path in paths:
        for task, node in read_tree(path.read_text(encoding="utf-8"), str(path)).items():
            if task not in SLOTS and task != FRAMES:
                raise VistuneError(f"{path}: " + unknown(task, [*SLOTS, FRAMES]))
            if task in sections:
                raise VistuneError(f"{path}: {task} has templates in {sections[task].path} too. Keep one of them.")
            sections[task] = _Section(path, task, language, node)
    missing = [task for task in (*SLOTS, FRAMES) if task not in sections]
    if missing:
        raise VistuneError(f"{folder / language.code} has no templates for {', '.join(missing)}.")
    return Templates({task: sections[task].phrases() for task in SLOTS}, sections[FRAMES].frames())


def languages(shares: Mapping[str, float]) -> list[Language]:
    """The languages of `params.adapt.languages`, the one with the largest share first.
    Raises VistuneError for a language without templates or a share outside 0 to 1."""
    for code, share in shares.items():
        if code not in LANGUAGES:
            raise VistuneError(unknown(f"adapt.languages.{code}", [f"adapt.languages.{c}" for c in LANGUAGES]))
        if not 0 <= share <= 1:
            raise VistuneError(f"adapt.languages.{code} is {share}; expected a share from 0 to 1.")
    chosen = sorted((code for code, share in shares.items() if share > 0), key=lambda c: (-shares[c], c))
    if not chosen:
        raise VistuneError("adapt.languages names no language with a share above 0; expected e.g. {en: 1.0}.")
    return [LANGUAGES[code] for code in chosen]


@dataclass(frozen=True)
class _Section:
    """The templates of one task in one file."""

    path: Path
    task: str
    language: Language
    node: Any

    @property
    def kinds(self) -> Mapping[str, Kind]:
        return SLOTS[self.task]

    def frames(self) -> Sequence[Frame]:
        found = []
        for entry in self.entries({FRAMES: self.node}, FRAMES):
            self.keys(entry, entry["id"], ("id", "version", "text"))
            self.slots(entry["text"], entry["id"], ())
            found.append(Frame(f"{entry['id']}@{entry['version']}", entry["text"]))
        return tuple(found)

    def phrases(self) -> Phrases:
        self.keys(self.node, self.task, ("instructions", "formats"))
        instructions = [self.instruction(entry) for entry in self.entries(self.node, "instructions")]
        formats = [self.format(entry) for entry in self.entries(self.node, "formats")]
        found: dict[str, list[Phrase]] = {kind: [] for kind in self.kinds}
        for entry in instructions:
            for form in formats:
                for kind in entry["kinds"]:
                    if kind in form["response"]:
                        found[kind] += [self.cross(entry, form, form["response"][kind])] * form["weight"]
        for kind, phrases in found.items():
            if not any(kind in form["response"] for form in formats):
                self.refuse(self.task, f"no format words the response {kind!r}")
            if not phrases:
                self.refuse(self.task, f"no instruction asks for the kind {kind!r}")
        return {kind: tuple(phrases) for kind, phrases in found.items()}

    def cross(self, entry: dict[str, Any], form: dict[str, Any], wording: str) -> Phrase:
        line = self.language.space + form["text"] if form["text"] else ""
        text, extra = entry["text"], entry.get("input", "")
        user = "\n".join(part for part in (text, extra, form["text"]) if part) if extra else text + line
        closed = len(form["response"]) > 1 and not any(_slots(w) for w in form["response"].values())
        template = f"{entry['id']}@{entry['version']}+{form['id']}@{form['version']}"
        choices = tuple(form["response"].values()) if closed else ()
        return Phrase(template, text + line, extra, user, wording, choices)

    def instruction(self, entry: dict[str, Any]) -> dict[str, Any]:
        where = entry["id"]
        self.keys(entry, where, ("id", "version", "text"), ("input", "kinds"))
        prefix = f"{self.task}.{self.language.code}."
        if not where.startswith(prefix):
            self.refuse(where, f"the id should start with {prefix}")
        kinds = entry.get("kinds", list(self.kinds))
        if not isinstance(kinds, list) or not kinds or not set(kinds) <= set(self.kinds):
            self.refuse(where, f"kinds is {kinds!r}; expected a list of {', '.join(self.kinds)}")
        for kind in kinds:
            asks = self.kinds[kind].asks
            allowed = self.expand(asks)
            used = self.slots(entry["text"], where, allowed) | self.slots(entry.get("input", ""), where, allowed)
            for slot in asks:
                wanted = [s for s in self.expand((slot,)) if s not in AGREEING]
                if not used.intersection(wanted):
                    self.refuse(where, f"it should use {' or '.join(f'{{{w}}}' for w in wanted)}")
        if not entry["text"].strip():
            self.refuse(where, "its text is empty")
        return {**entry, "kinds": kinds}

    def format(self, entry: dict[str, Any]) -> dict[str, Any]:
        where = f"{self.task} format {entry['id']}"
        self.keys(entry, where, ("id", "version", "weight", "text", "response"))
        self.integer(entry["weight"], where, "weight")
        response = {"": entry["response"]} if list(self.kinds) == [""] else entry["response"]
        if not isinstance(response, dict) or not response or not all(isinstance(r, str) for r in response.values()):
            self.refuse(where, f"response should be a text for each of {', '.join(self.kinds) or 'no kind'}")
        for kind, wording in response.items():
            if kind not in self.kinds:
                self.refuse(where, f"response {kind!r} is none of {', '.join(self.kinds)}")
            self.slots(entry["text"], where, self.kinds[kind].hints)
            self.slots(wording, where, self.expand((*self.kinds[kind].asks, *self.kinds[kind].answers)))
        return {**entry, "response": response}

    def expand(self, slots: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(s for slot in slots for s in self.language.slots(slot))

    def entries(self, node: dict[str, Any], key: str) -> list[dict[str, Any]]:
        """The list under `key`, each entry with an id of its own and a version."""
        found = node[key]
        if not isinstance(found, list) or not found or not all(isinstance(e, dict) and e.get("id") for e in found):
            self.refuse(self.task, f"{key} should be a list of entries with an id")
        seen: set[str] = set()
        for entry in found:
            if not isinstance(entry["id"], str) or entry["id"] in seen:
                self.refuse(str(entry["id"]), "the id occurs twice, or is no text")
            seen.add(entry["id"])
            self.integer(entry.get("version"), entry["id"], "version")
        return found

    def keys(self, node: Any, where: str, needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
        if not isinstance(node, dict):
            self.refuse(where, f"expected the keys {', '.join(needed)}")
        for key in node:
            if key not in needed + optional:
                self.refuse(where, unknown(str(key), needed + optional).rstrip("."))
        lacking = [key for key in needed if key not in node]
        if lacking:
            self.refuse(where, f"it lacks {', '.join(lacking)}")

    def integer(self, value: Any, where: str, key: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            self.refuse(where, f"{key} is {value!r}; expected an integer of at least 1")

    def slots(self, text: Any, where: str, allowed: tuple[str, ...]) -> set[str]:
        """The slots of a text. Refuses any that is not allowed, and anything but plain `{slot}`."""
        if not isinstance(text, str):
            self.refuse(where, f"{text!r} is no text (quote it in YAML)")
        try:
            used = _slots(text)
        except ValueError as error:
            self.refuse(where, f"{text!r} has a stray brace ({error})")
        for slot in sorted(used):
            if slot not in allowed:
                names = ", ".join(f"{{{a}}}" for a in allowed) or "no slots"
                self.refuse(where, f"unknown slot {{{slot}}}; it may use {names}")
        return used

    def refuse(self, where: str, problem: str) -> None:
        raise VistuneError(f"{self.path}: {where}: {problem}. Mend this template.")


@cache
def filler(text: str) -> Callable[[Mapping[str, str]], str]:
    """`text.format_map` in half the time, for texts that are filled a million times. Of a slot it reads the name alone.

    >>> filler("Is there {a_name}? 100 % sure? {{}}")({"a_name": "a dog"})
    'Is there a dog? 100 % sure? {}'
    """
    parts = list(Formatter().parse(text))
    names = [name for _, name, _, _ in parts if name is not None]
    if not names:
        plain = "".join(literal for literal, *_ in parts)
        return lambda slots: plain
    pattern = "".join(literal.replace("%", "%%") + ("" if name is None else "%s") for literal, name, _, _ in parts)
    values = itemgetter(*names)
    return lambda slots: pattern % values(slots)


def _slots(text: str) -> set[str]:
    """Names in braces; a conversion or format (`{name!r}`, `{count:03d}`) counts as part of the name."""
    fields = ((f, spec, conversion) for _, f, spec, conversion in Formatter().parse(text) if f is not None)
    return {
        f + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "") for f, spec, conversion in fields
    }
