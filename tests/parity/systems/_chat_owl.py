"""Checks of mPLUG-Owl's and mPLUG-Owl2's prompts, labels and token types."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from harness import Case, Fixture, same
from systems._chat import Characters, messages, pairs

from vistune.models.labels import joined, learned
from vistune.models.original_labels import COUNTING, completion, counted
from vistune.models.templates_table import TEMPLATES
from vistune.models.token_types import TokenTypes
from vistune.records import Message

CHARACTERS = Characters(("<unk>", "<s>", "</s>", "<pad>", "<image>", "<|image|>"))


def owl(fixture: Fixture) -> Iterator[Case]:
    data, where = fixture.json, fixture.name
    for case in data["owl1_training"]:
        at = f"{where} mPLUG-Owl {case['in']['name']}"
        yield same(f"{at} as trained", owl1(**case["in"]), case["out"])
        if "AI: " not in case["in"]["text"].replace("\nAI: ", ""):  # else the authors see an answer in an answer
            yield from owl1_intended(at, case["in"], case["out"])
    for case in data["owl2_training"]:
        yield from owl2(f"{where} mPLUG-Owl2 {case['in']['name']}", case["in"], case["out"])
    for case in data["owl2_generation"]:
        yield same(f"{where} mPLUG-Owl2 prompt {case['in']['name']}", owl2_prompts(**case["in"]), case["out"])


def owl1(name: str, text: str, max_length: int, media_length: int) -> dict[str, Any]:
    """By the authors' rule, from raw text."""
    strings = ["<s>", "</s>"]

    def encode(piece: str) -> list[int]:
        start = len(strings)
        strings.extend(piece[a:b] for a, b in CHARACTERS.offsets(piece))
        return list(range(start, len(strings)))

    found = completion(text, media_length, max_length, encode, bos=0, eos=1)
    tokens = ["<image>" if n < 0 else strings[n] for n in found.ids]
    return described("".join(tokens), found.learned) | {
        "n_tokens": len(tokens),
        "total": max_length + 1,
        "seq_length": len(tokens),
    }


def described(text: str, chosen: list[bool]) -> dict[str, Any]:
    spans = CHARACTERS.spans(text, chosen)
    return {"text": text, "trained_spans": spans, "trained_text": [text[a:b] for a, b in spans]}


def owl1_intended(where: str, case: dict[str, Any], expected: dict[str, Any]) -> Iterator[Case]:
    """By our template, from turns."""
    system, *pieces = re.split(r"\n(?=Human: |AI: )", case["text"])
    turns: list[Message] = []
    waiting: tuple[int, ...] = ()
    shown = 0
    for piece in pieces:
        role, words = piece.split(": ", 1)
        if role == "Human" and words == "<image>":
            waiting, shown = (*waiting, shown), shown + 1
        else:
            turns.append(Message("user" if role == "Human" else "assistant", words, waiting))
            waiting = ()
    template = TEMPLATES["mplug_owl"]
    rendering = template.render(turns, ["<image>" * case["media_length"]] * shown, system=system)
    if len(CHARACTERS.offsets(rendering.text)) > case["max_length"]:
        return  # ours is refused, not cut
    yield same(f"{where} text", "<s>" + rendering.text, expected["text"].removesuffix(" " * (not turns[-1].text)))
    spans = [[a + len("<s>"), b + len("<s>")] for a, b in learned(rendering, template.policy)]
    yield same(f"{where} spans", spans, expected["trained_spans"])


def owl2(where: str, case: dict[str, Any], expected: list[dict[str, Any]]) -> Iterator[Case]:
    template, limit = TEMPLATES["mplug_owl2"], case.get("model_max_length", 2048)
    longest = max(len(CHARACTERS.offsets(entry["text"])) for entry in expected)
    for n, (source, entry) in enumerate(zip(case["sources"], expected, strict=True)):
        rendering = template.render(messages(source, template.mark), parity=True)
        full = "<s>" + rendering.text
        offsets = CHARACTERS.offsets(full)[:limit]
        text = full[: offsets[-1][1]]
        padded = text + "<pad>" * (longest - len(offsets))
        result = counted(
            rendering.text, len(offsets), COUNTING["vicuna"], lambda t: 1 + len(CHARACTERS.offsets(t)), limit=limit
        )
        chosen = result.learned if result.matches else [False] * len(offsets)
        got = described(text, chosen) | {"text": padded, "all_ignored": not any(chosen)}
        yield same(f"{where} {n} as trained", got, {key: entry[key] for key in got})
        spans = [(a + len("<s>"), min(b + len("<s>"), len(text))) for a, b in learned(rendering, template.policy)]
        if result.matches:
            yield same(f"{where} {n} spans", pairs(joined(spans)), entry["trained_spans"])
        if "spliced" in entry:
            yield same(f"{where} {n} spliced", spliced(text, entry["spliced"]["n_visual_per_image"]), entry["spliced"])


def spliced(text: str, features: int) -> dict[str, Any]:
    """With the features of each image in the place of its mark: which tokens are visual."""
    images, length = [], 0
    for start, end in CHARACTERS.offsets(text):
        if text[start:end] == "<|image|>":
            images.append((length, length + features))
        length += features if text[start:end] == "<|image|>" else 1
    mask = TokenTypes(length, tuple(images)).embedded
    return {
        "n_visual_per_image": features,
        "modality_indicators": "".join(map(str, mask)),
        "labels_at_visual": [-100],
        "length": length,
    }


def owl2_prompts(name: str, turns: list[list[str]], images: int) -> dict[str, Any]:
    """The demo writes images without a newline."""
    template = replace(TEMPLATES["mplug_owl2"], place="inline", gap="")
    said: list[Message] = []
    prompts = []
    for n, (question, answer) in enumerate(turns):
        said.append(Message("user", question, tuple(range(images)) if not n else ()))
        prompts.append(template.render(said, prompt=True).text)
        said.append(Message("assistant", answer))
    return {"generation_prompts": prompts, "full": template.render(said).text}
