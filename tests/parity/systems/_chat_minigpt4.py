"""Checks of MiniGPT-4's and MiniGPT-v2's prompts, labels, instructions and boxes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from harness import Case, Fixture, same
from systems._boxes import encoded, read
from systems._chat import Characters, pairs

from vistune.models.labels import learned
from vistune.models.minigpt4_prompts import ALIGNMENT, POOLS, caption, instruction
from vistune.models.original_boxes import minigpt_numbers, points
from vistune.models.templates import Side, Template
from vistune.models.templates_table import TEMPLATES
from vistune.records import Message

IMAGE = "<Img><ImageHere></Img> "
CHARACTERS = Characters(("<unk>", "<s>", "</s>", "$$", "<ImageHere>"))
TASKS = {
    "aok_vqa_datasets.AOKVQADataset": "vqa",
    "aok_vqa_datasets.AOKVQGDataset": "question",
    "caption_datasets.COCOCaptionDataset": "caption",
    "coco_dataset.ReferCOCODataset": "refer",
    "coco_dataset.InvReferCOCODataset": "identify",
    "coco_vqa_datasets.COCOVQADataset": "vqa",
    "coco_vqa_datasets.COCOVQAEvalDataset": "vqa evaluation",
    "flickr.GroundedDetailDataset": "grounding",
    "flickr.CaptionToObjectDataset": "detection",
    "flickr.PhraseToObjectDataset": "detection",
    "gqa_datasets.GQADataset": "vqa",
    "ocrvqa_dataset.OCRVQADataset": "vqa",
    "text_caps.TextCapDataset": "caption",
    "vg_dataset.ReferVisualGenomeDataset": "refer",
}


def minigpt4(fixture: Fixture) -> Iterator[Case]:
    data, where = fixture.json, fixture.name
    for n, case in enumerate(data["inference_prompts"]):
        yield same(f"{where} inference prompt {n}", prompts(**case["in"]), case["out"]["generation_prompts"])
    for n, case in enumerate(data["training"]):
        yield same(f"{where} training {n}", trained(case["in"]), case["out"])
    yield same(f"{where} alignment prompts", [IMAGE + text for text in ALIGNMENT], data["alignment_prompts"])
    for case in data["task_instructions"]:
        pool, index = case["in"]["pool"], case["in"]["index"]
        got = IMAGE + instruction(TASKS[pool], index, case["in"]["arg"])
        yield same(f"{where} {pool} {index}", got, case["out"])
    sizes = {pool: len(POOLS[TASKS[pool]]) for pool in data["instruction_pools_counts"]}
    yield same(f"{where} instruction pools", sizes, data["instruction_pools_counts"])
    for n, case in enumerate(data["captions"]):
        yield same(f"{where} caption {n}", caption(case["in"]["text"]), case["out"])
    yield from encoded(where, "minigpt_v2", data["box_encode"])
    for n, case in enumerate(data["box_decode"]):
        width, height, expected = case["in"]["w"], case["in"]["h"], case["out"]
        begins, numbers = minigpt_numbers(case["in"]["text"])
        yield same(f"{where} box text {n} is a box", begins, expected["matches_pattern"])
        if begins and expected["pixel_box"]:
            yield read(f"{where} box text {n}", "minigpt_v2", numbers, width, height, expected["pixel_box"])
        else:
            got = points(numbers, 100, width, height) or None
            yield same(f"{where} box text {n}", got, expected["pixel_box"])


def prompts(template: str, turns: list[list[str]], image: bool) -> list[str]:
    messages: list[Message] = []
    found = []
    for n, (question, answer) in enumerate(turns):
        messages.append(Message("user", question, (0,) if image and not n else ()))
        found.append(TEMPLATES[template].render(messages, prompt=True).text)
        messages.append(Message("assistant", answer))
    return found


def trained(case: dict[str, Any]) -> list[dict[str, Any]]:
    """A batch. Each row is BOS, a prompt cut at `max_context_len` tokens, an answer cut at `max_txt_len`, and padding
    to the longest prompt and the longest answer."""
    template = described(case["prompt_template"], case["end_sym"])
    rows = []
    for turns in conversations(case["samples"]):
        whole, prompt = template.render(turns), template.render(turns[:1], prompt=True).text
        kept = cut(prompt, case.get("max_context_len", 3800))
        answer = cut(whole.text[len(prompt) :], case.get("max_txt_len", 1024))
        moved = len("<s>") + len(kept) - len(prompt)
        rows.append((kept, answer, [(a + moved, b + moved) for a, b in learned(whole, template.policy)]))
    longest = [max(CHARACTERS.count(row[part]) for row in rows) for part in (0, 1)]
    found = []
    for prompt, answer, spans in rows:
        text = f"<s>{prompt}{answer}"
        padded = text + "$$" * (sum(longest) - CHARACTERS.count(prompt + answer))
        spans = [(a, min(b, len(text))) for a, b in spans if a < len(text)]
        found.append(
            {
                "sequence": padded,
                "trained_spans": pairs(spans),
                "unattended_spans": [[len(text), len(padded)]] if padded != text else [],
                "trained_text": [text[a:b] for a, b in spans],
            }
        )
    return found


def conversations(samples: dict[str, Any]) -> Iterator[list[Message]]:
    for n in range(samples["n_image"]):
        if "conv_q" in samples:
            asked, told = (samples[key][n].split(samples["connect_sym"][n]) for key in ("conv_q", "conv_a"))
        else:
            asked, told = [samples.get("instruction_input", [""] * (n + 1))[n]], [samples["answer"][n]]
        turns = []
        for question, answer in zip(asked, told, strict=True):
            shown = () if turns else (0,)
            turns += [Message("user", question.removeprefix(IMAGE), shown), Message("assistant", answer)]
        yield turns


def described(prompt: str, end: str) -> Template:
    """Ours with that prompt and that end; else one that has them."""
    for name in ("minigpt4_vicuna", "minigpt_v2"):
        ours = TEMPLATES[name]
        if (f"{ours.user.header}{{}}{ours.user.end}{ours.assistant.header}", ours.assistant.end) == (prompt, end):
            return ours
    before, _, after = prompt.partition("{}")
    ours = TEMPLATES["minigpt_v2" if prompt else "minigpt4_caption"]
    return replace(ours, user=Side(before, end=after), assistant=replace(ours.assistant, end=end))


def cut(text: str, tokens: int) -> str:
    offsets = CHARACTERS.offsets(text)
    return text if len(offsets) <= tokens else text[: offsets[tokens][0]]
