"""Checks of Qwen-VL's and Qwen2-VL's prompts, labels and boxes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any

from harness import Case, Fixture, same
from systems._boxes import encoded, read
from systems._chat import Characters, messages, question

from vistune.boxcodec import CODECS
from vistune.models.labels import IGNORE, Encoded, fit, label, learned
from vistune.models.original_boxes import points, qwen_boxes
from vistune.models.templates import Role
from vistune.models.templates_table import TEMPLATES, numbered
from vistune.records import Message

SLOTS = 256
CHARACTERS = Characters(("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<img>", "</img>", "<imgpad>"))


def qwenvl(fixture: Fixture) -> Iterator[Case]:
    data, where = fixture.json, fixture.name
    for case in data["training"]:
        got = [trained(source, case["in"]["system"], case["in"]["max_len"]) for source in case["in"]["sources"]]
        yield same(f"{where} training {case['in']['name']}", got, case["out"])
    for case in data["generation_prompts"]:
        at = f"{where} prompt {case['in']['name']} {case['in']['turn']}"
        yield same(at, prompted(case["in"]), case["out"])
    for n, case in enumerate(data["list_format"]):
        yield same(f"{where} list {n}", listed(case["in"]["lst"]), case["out"])
    yield from encoded(where, "qwen_vl", data["box_encode"])
    for n, case in enumerate(data["box_decode"]):
        yield from decoded(f"{where} box text {n}", case["in"], case["out"])


def pictured(role: Role, text: str, paths: list[str]) -> Message:
    """The message of a text that names its pictures; their paths are added to `paths`."""
    found = re.findall(r"Picture \d+: <img>(.*?)</img>\n", text)
    first = len(paths)
    paths += found
    words = re.sub(r"Picture \d+: <img>.*?</img>\n", "", text)
    return Message(role, words, tuple(range(first, len(paths))))


def slots(path: str) -> str:
    """A path stands for an image, padded to as many tokens."""
    return path + "<imgpad>" * (SLOTS - len(path.encode()))


def trained(source: list[dict[str, str]], system: str | None, limit: int) -> dict[str, Any]:
    template, paths = TEMPLATES["qwen_vl"], []  # type: ignore[var-annotated]
    turns = [pictured(turn["from"], turn["value"], paths) for turn in source]  # type: ignore[arg-type]
    rendering = template.render(turns, [slots(path) for path in paths], system=system)
    offsets = CHARACTERS.offsets(rendering.text)
    ids = list(range(len(offsets)))
    cut = fit(Encoded(tuple(ids), tuple(label(ids, offsets, learned(rendering, template.policy)))), limit, cut=True)
    text = rendering.text[: offsets[len(cut.ids) - 1][1]]
    spans = CHARACTERS.spans(text, [x != IGNORE for x in cut.labels])
    return {
        "text": text if len(text) <= 3000 else None,
        "sha1": hashlib.sha1(text.encode()).hexdigest(),
        "text_len": len(text),
        "n_tokens": len(cut.ids),
        "n_pad": limit - len(cut.ids),
        "trained_spans": spans,
        "trained_text": [text[a:b] for a, b in spans],
    }


def prompted(case: dict[str, Any]) -> dict[str, Any]:
    paths: list[str] = []
    turns: list[Message] = []
    for asked, told in [*case["history"], [listed(case["list_format"]), None]]:
        turns.append(pictured("user", asked, paths))
        turns += [Message("assistant", told)] if told is not None else []
    template = TEMPLATES["qwen_vl"]
    tokens = CHARACTERS.offsets(
        template.render(turns, [slots(path) for path in paths], system=case["system"], prompt=True).text
    )
    return {
        "raw_text": template.render(turns, paths, system=case["system"], prompt=True).text,
        "n_tokens": len(tokens),
        "n_img_slots": sum(SLOTS - len(path.encode()) for path in paths),
    }


def listed(pieces: list[dict[str, Any]]) -> str:
    """What stands in the user's turn."""
    codec, paths, words = CODECS["qwen_vl"], [], ""
    for piece in pieces:
        if "image" in piece:
            paths.append(piece["image"])
        words += piece.get("text", "")
        boxes = [codec.shape % tuple(box) for box in piece.get("box", [])]
        words += codec.named(piece["ref"], "".join(boxes)) if "ref" in piece else "".join(boxes)
    rendering = TEMPLATES["qwen_vl"].render([Message("user", words, tuple(range(len(paths))))], paths)
    inner = [span for span in rendering.spans if span.role == "user" and span.part in ("words", "wrap", "image")]
    return rendering.text[inner[0].start : inner[-1].end]


def decoded(where: str, case: dict[str, Any], expected: list[dict[str, Any]]) -> Iterator[Case]:
    boxes = qwen_boxes(case["text"])
    yield same(where, [{"box": n} | ({"ref": r} if r else {}) for r, n in boxes], strip(expected))
    for (_, numbers), box in zip(boxes, expected, strict=True):
        exact = points(numbers, 1000, case["w"], case["h"])
        yield same(f"{where} drawn", [int(v) for v in exact], box["pixel"])
        yield read(f"{where} evaluated", "qwen_vl", numbers, case["w"], case["h"], box["eval_float"])


def strip(boxes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in box.items() if k in ("box", "ref")} for box in boxes]


def qwen2vl(fixture: Fixture) -> Iterator[Case]:
    data, where = fixture.json, fixture.name
    for case in data["chatml"]:
        template = TEMPLATES["qwen2_vl"]
        if case["in"]["add_vision_id"]:
            template = numbered(template, "Picture {n}: ")
        turns = messages([{**turn, "content": flat(turn["content"])} for turn in case["in"]["messages"]])
        got = {
            "prompt": template.render(turns).text,
            "generation_prompt": template.render(question(turns), prompt=True).text,
        }
        numbers = " numbered" * case["in"]["add_vision_id"]
        yield same(f"{where} {case['in']['name']}{numbers}", got, case["out"])
    yield from encoded(where, "qwen2_vl", data["box_encode_convention"])
    for n, case in enumerate(data["box_decode_convention"]):
        numbers = [int(number) for number in re.findall(r"\d+", case["in"]["text"].split("<|box_start|>")[1])]
        yield read(f"{where} box text {n}", "qwen2_vl", numbers, case["in"]["w"], case["in"]["h"], case["out"])


def flat(content: str | list[dict[str, str]]) -> str:
    if isinstance(content, str):
        return content
    return "".join("<image>" if piece["type"] == "image" else piece["text"] for piece in content)
