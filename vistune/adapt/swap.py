"""False statements that are provably false: a thing's name in a text gives way to that of something absent."""

from __future__ import annotations

from vistune import english
from vistune.adapt.draws import Draws
from vistune.adapt.language import Language
from vistune.adapt.scene import Scene
from vistune.adapt.vocabulary import Mention
from vistune.records import Category, record

TRIES = 6
"""Absent categories that are looked at until one fits."""


@record
class Swap:
    """`old` is what the text spoke of, `new` what it speaks of now. `evidence` proves that `new` is absent."""

    text: str
    old: Category
    new: Category
    evidence: tuple[str, ...]


@record
class Swaps:
    """What can be exchanged in a text."""

    scene: Scene
    text: str
    language: Language
    mentions: list[Mention]

    @classmethod
    def of(cls, scene: Scene, text: str, language: Language) -> Swaps | None:
        """None where nothing can be. A text that denies something may be true of what is absent, so it is left alone.
        Names that are not counted stay, since "a" and "two" would not fit them."""
        if not language.negations.isdisjoint(language.words_of(text)):
            return None
        mentions = scene.vocabulary.names(language).mentions(text)
        found = [m for m in mentions if m.label in scene.present and english.is_counted(m.label)]
        return cls(scene, text, language, found) if found else None

    def draw(self, draws: Draws, asked: set[str]) -> Swap | None:
        """The text with one of the things it mentions exchanged for something absent, of the same group if there is
        one. Names in `asked` are not taken; the one that is taken is added. None where nothing is left."""
        label = self.mentions[draws.below(len(self.mentions))].label
        old = self.scene.present[label][0].category
        for _ in range(TRIES):
            found = self.scene.absent(self.language.code, asked, draws, "similar", old)
            if found is None:
                return None
            new = found.category
            # A measure word fits the things of a group: 一只猫, 一只狗, but 一条船.
            if english.is_counted(new.label) and (not self.language.measures or new.group == old.group):
                break
        else:
            return None
        forms = self.language.forms(new.name(self.language.code) or "")
        text = self.text
        for m in reversed([m for m in self.mentions if m.label == label]):
            text = _replace(text, m, forms[m.form])
        return Swap(text, old, new, found.evidence)


def _replace(text: str, m: Mention, name: str) -> str:
    """Puts `name` in the place of a mention: with a capital if that has one which is not its own ("DNA strand"), and
    "a" or "an" as it is spoken."""
    before, old, after = text[: m.start], text[m.start : m.end], text[m.end :]
    if m.form == "name":
        head, space, last = before.rstrip(" ").rpartition(" ")
        if last.lower() in ("a", "an") and before.endswith(" "):
            article = english.article(name)
            before = f"{head}{space}{english.sentence(article) if last[0] == 'A' else article} "
    capital = old[:1].isupper() and not m.label[:1].isupper()
    return f"{before}{english.sentence(name) if capital else name}{after}"
