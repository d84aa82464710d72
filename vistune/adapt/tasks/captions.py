"""Tasks about the image as a whole, in the words of people who described it."""

from __future__ import annotations

from collections.abc import Sequence

from vistune.adapt import Params
from vistune.adapt.choices import shuffle
from vistune.adapt.draws import Draws
from vistune.adapt.geometry import area
from vistune.adapt.language import Language
from vistune.adapt.scene import Scene
from vistune.adapt.swap import Swaps
from vistune.adapt.tasks.found import MAX_LISTED, Candidate, Found, Refused, amounts, names_of
from vistune.records import Caption, Phrase

ENOUGH_CAPTIONS = 3
ENOUGH_DESCRIPTIONS = 6
"""Captions, or descriptions of regions, from which on a detailed caption can be put together."""

SENTENCES = (3, 8)
"""Fewest and most sentences of a detailed caption."""

NEW_WORDS = 0.5
"""Share of the words of a further sentence that no earlier one has."""

DISTRACTORS = 3
"""False captions beside the true one."""


def caption(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """What people wrote about the image, or else a sentence that names its things. Regions are all annotated
    objects, background included: the alignment stage learns names and places from them."""
    usable = []
    for c in scene.captions(language.code):
        if c.text.strip():
            usable.append(c)
        else:
            yield Refused("caption_empty", f"caption {c.id} has no text.")
    if not params.per_image.caption or not (usable or scene.things):
        return
    regions = scene.regions
    for chosen in draws.pick(usable, params.per_image.caption):
        yield Candidate({"caption": chosen.text.strip()}, (chosen.id, *scene.every), regions, "written")
    if not usable:
        names, missing = names_of(scene, language)
        if missing:
            yield missing
        else:
            if len(names) > MAX_LISTED:
                size = {label: max(area(o.box) for o in scene.present[label]) for label in names}
                most = set(sorted(names, key=lambda label: (-size[label], label))[:MAX_LISTED])
                names = {label: name for label, name in names.items() if label in most}
            yield Candidate({"things": amounts(scene, names, language)}, scene.every, regions, "composed")


def caption_detailed(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """Several captions, or descriptions of regions, as one text: the longest first, then those that say most that is
    new. An image about which people wrote too little has no detailed caption."""
    if params.per_image.caption_detailed < 1:
        return
    said: list[Caption | Phrase] = [c for c in scene.captions(language.code) if c.text.strip()]
    kind = "captions"
    if len(said) < ENOUGH_CAPTIONS:
        kind = "descriptions"
        said = sorted(
            (
                p
                for p in scene.image.phrases
                if p.kind == "description" and p.language == language.code and p.text.strip()
            ),
            key=lambda p: p.id,
        )
        if len(said) < ENOUGH_DESCRIPTIONS:
            return
    chosen = informative([c.text for c in said], language)
    if len(chosen) < SENTENCES[0]:
        return
    text = language.space.join(language.sentence(" ".join(said[n].text.split())) for n in chosen)
    yield Candidate({"caption": text}, tuple(said[n].id for n in chosen), (), kind)


def informative(texts: Sequence[str], language: Language) -> list[int]:
    """Indices of the texts that together say most: the one with most words, then each time the one that adds most
    words, as long as these are at least half of its own."""
    words = [frozenset(language.words_of(text)) for text in texts]
    chosen: list[int] = []
    new = dict(enumerate(words))  # those of each text that is left which no chosen one has
    while new and len(chosen) < SENTENCES[1]:
        sizes = [len(own) for own in new.values()]
        best = list(new)[sizes.index(max(sizes))]
        if not words[best] or max(sizes) < NEW_WORDS * len(words[best]):
            break
        chosen.append(best)
        del new[best]
        for n, own in new.items():
            new[n] = own - words[best]
    return chosen


def caption_choice(scene: Scene, language: Language, params: Params, draws: Draws) -> Found:
    """Which caption fits? The false ones are the true one with the name of something else in the place of a thing it
    mentions: something that is proven absent, so that they are false for certain."""
    limit = params.per_image.caption_choice
    if limit < 1 or not scene.things:
        return
    for c in draws.order([c for c in scene.captions(language.code) if c.text.strip()]):
        text = " ".join(c.text.split())
        made, evidence = [], {c.id: None}
        asked: set[str] = set()
        swaps = Swaps.of(scene, text, language)
        if swaps is None:
            continue
        for _ in range(DISTRACTORS):
            false = swaps.draw(draws, asked)
            if false is None:
                break
            made.append(false.text)
            evidence.update(dict.fromkeys(false.evidence))
        if len(set(made)) == len(made) > 0:
            yield Candidate({}, tuple(evidence), choices=shuffle((text, *made), 0, draws))
            limit -= 1
            if not limit:
                return
