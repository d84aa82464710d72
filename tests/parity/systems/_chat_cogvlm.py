"""Checks of CogVLM's and CogAgent's prompts, labels, token types, positions and boxes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from harness import Case, Fixture, same
from systems._boxes import encoded
from systems._chat import Characters, messages, refused

from vistune.models.labels import IGNORE, Encoded, fit, label, learned
from vistune.models.original_boxes import cogvlm_groups, points
from vistune.models.original_labels import cogvlm_limit
from vistune.models.templates import Rendering, Template
from vistune.models.templates_table import TEMPLATES
from vistune.models.token_types import TokenTypes
from vistune.records import Message

CHARACTERS = Characters(("<unk>", "<s>", "</s>", "<pad>", "<IMG>"))
BOS = "<s>"


def cogvlm(fixture: Fixture) -> Iterator[Case]:
    data, where = fixture.json, fixture.name
    for n, case in enumerate(data["prompts"]):
        turns = [text for turn in case["in"]["history"] for text in turn] + [case["in"]["query"]]
        if case["in"]["signal_type"] in ("base", "vqa"):
            turns = turns[-1:]  # these take one question
        asked = [Message(("user", "assistant")[k % 2], text) for k, text in enumerate(turns)]  # type: ignore[arg-type]
        asked[0] = replace(asked[0], images=(0,))
        got = TEMPLATES[f"cogvlm_{case['in']['signal_type']}"].render(asked, prompt=True).text
        yield same(f"{where} prompt {n}", got, case["out"])
    for case in data["training"]:
        at = f"{where} training {case['in']['name']} {case['in']['signal_type']}"
        if case["out"] is None:
            yield refused(f"{at} refused", lambda c=case: trained(**c["in"]))
        else:
            yield same(at, trained(**case["in"]), case["out"])
    for n, case in enumerate(data["inference"]):
        yield same(f"{where} inference {n}", started(**case["in"]), case["out"])
    for n, case in enumerate(data["box_decode"]):
        groups, size = cogvlm_groups(case["in"]["text"]), (case["in"]["w"], case["in"]["h"])
        got = [[[int(v) for v in points(numbers, 1000, *size)] for numbers in group] for group in groups]
        yield same(f"{where} box text {n}", got, case["out"])
    yield from encoded(where, "cogvlm", data["box_encode_convention"])


def asked(signal_type: str, prompt: str) -> tuple[Template, Message]:
    """The authors take a finished prompt, with the mark of each image in it, or words, which lose control tokens."""
    if "<EOI>" in prompt:
        template = replace(TEMPLATES["cogvlm_base"], place="inline")
        message = messages([{"role": "user", "content": prompt}], mark="<EOI>")[0]
    else:
        template = TEMPLATES[f"cogvlm_{signal_type}"]
        message = Message("user", re.sub("<pad>|<s>|</s>|<EOI>", "", prompt), (0,))
    # They tokenise the answer by itself, so the blank before it is SentencePiece's and characters have none.
    return replace(template, assistant=replace(template.assistant, lead="")), message


def types(rendering: Rendering, tokens: int) -> TokenTypes:
    """After BOS."""
    images = []
    for span in rendering.spans:
        if span.part == "image":
            start = 1 + len(CHARACTERS.offsets(rendering.text[: span.start]))
            images.append((start, start + len(CHARACTERS.offsets(rendering.text[span.start : span.end]))))
    return TokenTypes(tokens, tuple(images))


def trained(
    name: str, signal_type: str, prompt: str, caption: str, max_target_length: int, image_length: int
) -> dict[str, Any]:
    template, message = asked(signal_type, prompt)
    images = ["<IMG>" * (image_length + 2)] * len(message.images)
    rendering = template.render([message, Message("assistant", caption)], images)
    context = 1 + len(CHARACTERS.offsets(template.render([message], images, prompt=True).text))
    text = BOS + rendering.text
    offsets = CHARACTERS.offsets(text)
    spans = [(a + len(BOS), b + len(BOS)) for a, b in learned(rendering, template.policy)]
    ids = list(range(len(offsets)))
    labels = label(ids, offsets, spans)
    limit = cogvlm_limit(context, len(images), image_length, max_target_length)
    cut = fit(Encoded(tuple(ids), tuple(labels)), limit, cut=True, keep=ids[-1:])
    text = "".join(text[slice(*offsets[n])] for n in cut.ids)
    kinds = types(rendering, len(cut.ids))
    spans = CHARACTERS.spans(text, [x != IGNORE for x in cut.labels])
    return {
        "text": text,
        "trained_spans": spans,
        "trained_text": [text[a:b] for a, b in spans],
        "n_tokens": len(cut.ids),
        "context_length": context,
        "position_ids": replace(kinds, length=kinds.length + 2).positions,
        "vision_expert_mask": kinds.expert,
        "image_rope_mask": kinds.patches,
        "image_embed_mask": kinds.embedded,
        "image_position": [end - 1 for _, end in kinds.images],
    }


def started(signal_type: str, prompt: str, image_length: int) -> dict[str, Any]:
    template, message = asked(signal_type, prompt)
    rendering = template.render([message], ["<IMG>" * (image_length + 2)] * len(message.images), prompt=True)
    kinds = types(rendering, 1 + len(CHARACTERS.offsets(rendering.text)))
    end = TEMPLATES[f"cogvlm_{signal_type}"].user.end  # the answer starts behind it
    return {
        "text": BOS + rendering.text,
        "position_ids_with_2_new": replace(kinds, length=kinds.length + 2).positions,
        "vision_expert_mask": kinds.expert,
        "sep": end.strip() if signal_type == "chat" else end,
    }
