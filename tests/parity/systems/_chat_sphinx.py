"""Checks of SPHINX's prompts and labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from harness import Case, Fixture, same
from systems._chat import Characters, messages, refused

from vistune.models.labels import IGNORE, Encoded, fit, learned
from vistune.models.original_labels import searched
from vistune.models.templates_table import TEMPLATES
from vistune.records import Message

NAMES = {"conv_v1_2": "sphinx", "conv_vicuna_v1_1": "sphinx_vicuna"}
SPECIALS = ("<unk>", "<s>", "</s>")  # ids 0, 1, 2
CHARACTERS = Characters(SPECIALS)


def sphinx(fixture: Fixture) -> Iterator[Case]:
    data = fixture.json
    for case in data["training"]:
        where = f"{fixture.name} training {case['in']['name']}"
        error = case["out"].get("error", "")
        if "unknown dialog role" in error:  # who speaks is read by `sources`, where more names are known
            yield Case(where, bool(trained(**case["in"])["text"]))
        elif error:
            yield refused(f"{where} refused", lambda c=case: trained(**c["in"]))
        else:
            yield same(where, trained(**case["in"]), case["out"])
            rendering = TEMPLATES["sphinx"].render(messages(case["in"]["item"]["conversations"]))
            texts = [rendering.text[a:b] for a, b in learned(rendering, TEMPLATES["sphinx"].policy)]
            whole = case["out"]["text"].endswith("</s>")
            yield same(f"{where} texts", texts if whole else [], case["out"]["trained_text"] if whole else [])
    for case in data["prompts"]:
        at = f"{fixture.name} prompt {case['in']['name']} {case['in']['template']}"
        yield same(at, prompted(**case["in"]), case["out"])


def identities(text: str) -> list[int]:
    pieces = (text[a:b] for a, b in CHARACTERS.offsets(text))
    return [SPECIALS.index(piece) if piece in SPECIALS else ord(piece) + len(SPECIALS) for piece in pieces]


def trained(name: str, template: str, item: dict[str, Any], max_words: int, image_words: int) -> dict[str, Any]:
    ours = TEMPLATES[NAMES[template]]
    turns = messages(item["conversations"])
    text = f"<s>{ours.render(turns).text}</s>"
    answers = [identities(turn.text.strip() + ours.assistant.end) for turn in turns if turn.role == "assistant"]
    ids = identities(text)
    labels = [token or IGNORE for token in searched(ids, answers)]
    room = max_words - image_words * ("image" in item)
    cut = fit(Encoded(tuple(ids), tuple(labels)), max(room, 0), cut=True)
    text = text[: CHARACTERS.offsets(text)[len(cut.ids) - 1][1]]
    spans = CHARACTERS.spans(text, [x != IGNORE for x in cut.labels])
    return {
        "text": text,
        "trained_spans": spans,
        "trained_text": [text[a:b] for a, b in spans],
        "n_tokens": len(cut.ids),
        "total_len": room,
        "padding_id": 0,
        "padding_label": 0,
        "masked_label": searched([1], [])[0],
        "has_image": "image" in item,
    }


def prompted(name: str, template: str, turns: list[list[str]]) -> dict[str, Any]:
    ours = replace(TEMPLATES[NAMES[template]], trim=False)
    said: list[Message] = []
    prompts = []
    for question, answer in turns:
        said.append(Message("user", question))
        prompts.append(ours.render(said, prompt=True).text)
        said.append(Message("assistant", answer))
    rendering = ours.render(said)
    return {
        "generation_prompts": prompts,
        "full": rendering.text,
        "to_predict": [rendering.text[a:b] for a, b in learned(rendering, ours.policy)],
        "response_end_signal": ours.assistant.end,
    }
