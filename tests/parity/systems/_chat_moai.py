"""Checks of MoAI's prompts, boxes and words about auxiliary evidence."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from harness import Case, Fixture, same
from systems._chat import Characters

from vistune.errors import VistuneError
from vistune.models import evidence
from vistune.models.labels import joined, learned
from vistune.models.templates_table import TEMPLATES
from vistune.models.token_types import TokenTypes
from vistune.records import Message

CHARACTERS = Characters(("<s>", "<image>", "[UNUSED_TOKEN_145]", "[UNUSED_TOKEN_146]"))


def chat(fixture: Fixture) -> Iterator[Case]:
    data, where = fixture.json, fixture.name
    yield from prompts(fixture)
    for n, case in enumerate(data["box_encode"]):
        got = evidence.box_text(evidence.parts(case["in"]["box"], case["in"]["w"], case["in"]["h"]))
        yield same(f"{where} box {n}", got, case["out"])
    for n, case in enumerate(data["box_decode"]):
        yield same(f"{where} box text {n}", decoded(case["in"]["text"]), case["out"])


def prompts(fixture: Fixture) -> Iterator[Case]:
    for n, case in enumerate(fixture.json["prompt"]):
        yield same(f"{fixture.name} prompt {n}", prompted(**case["in"]), case["out"])


def prompted(q: str, demo: bool, img_length: int) -> dict[str, Any]:
    """With a BOS before the text; nothing of a prompt is learned."""
    template = TEMPLATES["moai_demo" if demo else "moai"]
    asked = [Message("user", q, (0,))]
    text = "<s>" + template.render(asked, ["<image>" * img_length], prompt=True).text
    tokens = CHARACTERS.offsets(text)
    at = next(n for n, (start, end) in enumerate(tokens) if text[start:end] == "<image>")
    mask = TokenTypes(len(tokens), ((at, at + img_length),)).embedded
    spans = learned(template.render(asked, ["<image>" * img_length], prompt=True), template.policy)
    return {
        "prompt": template.render(asked, prompt=True).text,
        "prefix_label_all_ignored": not joined(spans),
        "prefix_label_len": at + img_length,
        "im_mask_len": len(mask),
        "im_mask_true_range": [mask.index(1), mask.index(1) + sum(mask)],
        "tokens_with_image_expanded": len(tokens),
        "image_token_position": at,
    }


def decoded(text: str) -> dict[str, Any]:
    try:
        found = evidence.listed(text)
    except VistuneError:
        return {"boxes": None, "classes": None, "parse_error": True}
    return {"boxes": [box for box, _ in found], "classes": [name for _, name in found], "parse_error": False}


def verbalisation(fixture: Fixture) -> Iterator[Case]:
    data, where = fixture.json, fixture.name
    classes, predicates = data["classes"]["coco_panoptic"], data["classes"]["predicates"]
    for n, case in enumerate(data["segmentation"]):
        yield from segmented(f"{where} segmentation {n}", case, classes)
    vocabulary = evidence.open_vocabulary()
    digest = hashlib.sha1("|".join(vocabulary).encode()).hexdigest()
    yield same(f"{where} vocabulary", digest, data["used_open_vocab"]["sha1"])
    for n, case in enumerate(data["detection"]):
        seen = case["in"]
        found = evidence.detections(seen["scores"], seen["boxes"], [vocabulary[label] for label in seen["labels"]])
        yield same(f"{where} detection {n}", evidence.objects(found), case["out"])
    for n, case in enumerate(data["scene_graph"]):
        names = [classes[label - 1] for label in case["in"]["labels"]]
        asked = (names, case["in"]["pairs"], np.array(case["in"]["rel_dists"]), predicates)
        kind = "relationships between objects"
        got = evidence.sentence(kind, evidence.relations(*asked, parity=True))
        yield same(f"{where} scene graph {n}", got, case["out"])
    for n, case in enumerate(data["ocr"]):
        got = evidence.sentence("text descriptions", evidence.lines(case["in"]["lines"]))
        yield same(f"{where} text {n}", got, case["out"])
    for n, case in enumerate(data["aux"]):
        yield same(f"{where} all {n}", evidence.together(case["in"]["parts"]), case["out"])
    for n, case in enumerate(data["box2string"]):
        yield same(f"{where} box {n}", evidence.box_text(case["in"]["box"]), case["out"])
    for n, case in enumerate(data["colormap"]):
        yield same(f"{where} colours {n}", evidence.colours(case["in"]["num"]).tolist(), case["out"])
    yield from prompts(fixture)


def segmented(where: str, case: dict[str, Any], classes: list[str]) -> Iterator[Case]:
    """Segments are rectangles, later ones over earlier ones."""
    painted = np.full((evidence.SIDE, evidence.SIDE), -1)
    for n, (left, top, right, bottom) in enumerate(case["in"]["rects"], 1):
        painted[top:bottom, left:right] = n
    found = evidence.segments(painted, [classes[label] for label in case["in"]["labels"]], parity=True)
    colours = evidence.colour_map(painted)
    got = {
        "text": evidence.objects(found),
        "boxes": [box for box, _ in found],
        "classes": [name for _, name in found],
        "map_sum_per_channel": [round(float(v), 6) for v in colours.sum((0, 1))],
    }
    yield same(where, got, {key: case["out"][key] for key in got})
    corner, *elsewhere = case["out"]["map_probe"]  # the fixture does not say where else
    yield same(f"{where} colour of the corner", colours[0, 0].tolist(), corner)
    known = {tuple(colour) for colour in colours.reshape(-1, 3).tolist()}
    yield same(f"{where} colours", all(tuple(colour) in known for colour in elsewhere), True)
