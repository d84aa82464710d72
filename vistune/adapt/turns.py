"""Samples of several turns: the questions about one image as one conversation, and rows that were instruction data
before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vistune.records import Dialogue, Lineage, Message, Region, Sample, sample_id

DIALOGUE = "dialogue"
"""The task of rows that were instruction data before; it has no templates."""

READY_MADE = "ready_made@1"
"""Stands in their lineage for the template: how a row becomes a sample, and the version of that."""

MULTI_TURN = "multi_turn"
"""The task of the samples of one image that were merged into one conversation; their own tasks are in the ids of its
templates."""

SPEAKERS = {"user": "User", "assistant": "Assistant"}
"""How the turns before the last are written in `Sample.input`."""


def merged(samples: Sequence[Sample], seed: int) -> Sample:
    """One conversation of samples about one image in one language, in the given order.

    Its instruction is the last question, its input the dialogue before that, its response the last answer. Its lineage
    names every annotation, and every turn's template in order, joined by spaces. Regions keep their places in the text.
    What holds for one turn only is empty: polarity and choices.
    """
    first, last = samples[0], samples[-1].messages
    messages: list[Message] = []
    regions: list[Region] = []
    for n, sample in enumerate(samples):
        before = len(messages)
        messages += [m if n == 0 else replace(m, images=(), places=()) for m in sample.messages]
        for r in sample.regions:
            if r.mention:
                message, start, end = r.mention
                regions.append(replace(r, mention=(message + before, start, end)))
            else:
                regions.append(r)
    lineage = replace(
        first.lineage,
        annotation_ids=tuple(dict.fromkeys(id for s in samples for id in s.lineage.annotation_ids)),
        template=" ".join(s.lineage.template for s in samples),
        item=0,
    )
    return replace(
        first,
        id=sample_id(MULTI_TURN, lineage, seed),
        task=MULTI_TURN,
        instruction=last[0].text,
        input="\n".join(f"{SPEAKERS[m.role]}: {m.text}" for m in messages[: -len(last)]),
        response=last[1].text,
        messages=tuple(messages),
        lineage=lineage,
        polarity="",
        choices=(),
        permutation=(),
        choice_style="",
        regions=tuple(dict.fromkeys(regions)),
    )


def ready_made(dialogue: Dialogue, seed: int) -> Sample:
    """A row that is instruction data already, as a sample. Its messages stay as they are, images at their places.

    Instruction and input are the source's own where it keeps them apart (turns before them are then in the messages
    alone); else the last question, and the dialogue before that. The lineage names the row.
    """
    lineage = Lineage(dialogue.id, (dialogue.id,), dialogue.files, template=READY_MADE)
    talk = [m for m in dialogue.messages if m.role != "system"]
    before = "\n".join(f"{SPEAKERS[m.role]}: {m.text}" for m in talk[:-2])
    own = bool(dialogue.instruction)
    return Sample(
        id=sample_id(DIALOGUE, lineage, seed),
        dataset=dialogue.dataset,
        split=dialogue.split,
        task=DIALOGUE,
        method="adapt",
        instruction=dialogue.instruction if own else talk[-2].text,
        input=dialogue.input if own else before,
        response=talk[-1].text,
        messages=dialogue.messages,
        images=dialogue.images,
        lineage=lineage,
        licence=dialogue.licence,
        group=min((image.sha256 for image in dialogue.images), default=dialogue.id),
        language=dialogue.language,
    )
