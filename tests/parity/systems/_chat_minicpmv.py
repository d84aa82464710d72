"""Checks of MiniCPM-V's prompts, labels and targets, and of the positions that its chat fixture has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from harness import Case, Fixture, same
from systems._chat import Characters, messages, pairs, refused

from vistune.models.encoders.siglip import buckets
from vistune.models.labels import IGNORE, Encoded, fit, label, learned
from vistune.models.original_labels import headed, shifted
from vistune.models.templates_table import TEMPLATES
from vistune.models.views_slices import MINICPM_2, MINICPM_26, Slices
from vistune.records import Message

POSITIONS = 70
"""Rows and columns of the tower's table."""

MARKS = ("<image>", "</image>", "<slice>", "</slice>", "<image_id>", "</image_id>", "<unk>", "<s>", "</s>")
HEADERS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
MODELS = {  # name, specials, end of an answer
    "minicpm": ("minicpm_v_2", MARKS, "</s>"),
    "llama3": ("minicpm_v_2_5", (*MARKS, *HEADERS, "user", "assistant", "\n\n"), "<|eot_id|>"),
    "qwen": ("minicpm_v_2_6", (*MARKS, "<|im_start|>", "<|im_end|>", "user", "assistant", "system"), "<|im_end|>"),
}


def minicpmv(fixture: Fixture) -> Iterator[Case]:
    for n, case in enumerate(fixture.json["training"]):
        where = f"{fixture.name} training {n} {case['in']['name']}"
        error = case["out"].get("error", "")
        if error.startswith("Exception"):
            yield refused(f"{where} refused", lambda c=case: trained(c["in"], parity=True))
        elif error:  # a name the authors' code does not define: ours has no such gap
            yield Case(where, bool(trained(case["in"])["text"]))
        else:
            yield same(f"{where} as trained", trained(case["in"], parity=True), case["out"])
            yield same(where, trained(case["in"]), case["out"])
    for case in fixture.json["inference_v20"]:
        got = TEMPLATES["minicpm_v_2"].render(messages(case["in"]["msgs"]), prompt=True).text
        yield same(f"{fixture.name} prompt {case['in']['name']}", got, case["out"]["prompt_without_images"])
    for case in fixture.json["position_buckets"]:
        rows, columns = (buckets(length, POSITIONS).tolist() for length in case["in"]["tgt"])
        yield same(f"{fixture.name} positions", {"row_bucket": rows, "col_bucket": columns}, case["out"])


def trained(case: dict[str, Any], parity: bool = False) -> dict[str, Any]:
    name, specials, end = MODELS[case["llm_type"]]
    system = "You are a helpful assistant." if case["template"] == "chatml_default_system" else ""
    template = replace(TEMPLATES[name], image="{image}")
    turns, order = conversation(case)
    sizes, texts = [], []
    for size in (case["images"][key] for key in order):
        text, views = features(case, size, sum("<image_id>" in other for other in texts))
        texts.append(text)
        sizes += views
    rendering = template.render(turns, texts, system=system)
    characters = Characters(specials)
    offsets = characters.offsets(rendering.text)
    strings = [rendering.text[a:b] for a, b in offsets]
    ids = list(range(len(offsets)))
    labels = label(ids, offsets, learned(rendering, template.policy))
    if parity and case["llm_type"] != "minicpm":
        opening = template.assistant.header
        header = [opening[a:b] for a, b in characters.offsets(opening)]
        chosen = headed([strings.index(s) for s in strings], [strings.index(s) for s in header], strings.index(end))
        labels = [n if c else IGNORE for n, c in enumerate(chosen)]
    bounds = runs(strings)
    cut = fit(Encoded(tuple(ids), tuple(labels), tuple(bounds)), case.get("max_length", len(ids)), cut=True)
    strings.append(end)
    targets = shifted(cut.ids, cut.labels, end=len(ids))
    text = rendering.text[: offsets[len(cut.ids) - 1][1]]
    return {
        "text": text,
        "predicted_spans": characters.spans(text, [x != IGNORE for x in cut.labels]),
        "forced_targets": [[t, strings[target]] for t, target in enumerate(targets) if target not in (IGNORE, t + 1)],
        "n_tokens": len(cut.ids),
        "targets_preshifted": [[t, strings[target]] for t, target in enumerate(targets) if target != IGNORE],
        "image_bound": pairs(bounds),
        "image_sizes": sizes,
    }


def conversation(case: dict[str, Any]) -> tuple[list[Message], list[str]]:
    """The turns, and the names of images in the order in which they are shown. An image that no turn names is shown
    before the first question."""
    order = [mark for turn in case["conversations"] for mark in re.findall(r"<image(?:_\d+)?>", turn["content"])]
    turns = [{**turn, "content": re.sub(r"<image_\d+>", "<image>", turn["content"])} for turn in case["conversations"]]
    found = messages(turns)
    if not order:
        order = list(case["images"])
        found[0] = replace(found[0], images=tuple(range(len(order))))
    return found, order


def features(case: dict[str, Any], size: list[int], numbered: int) -> tuple[str, list[list[int]]]:
    """The text of an image, and the sizes of its views. The authors' training code numbers only images in slices."""
    queries = "<unk>" * case["query_nums"]
    if not case["slice"]:
        return f"<image>{queries}</image>", [size]
    new = case["llm_type"] == "qwen"
    plan = Slices(marks=MINICPM_26 if new else MINICPM_2).plan(*size)
    text = "".join(queries if isinstance(piece, int) else str(piece) for piece in plan.layout)
    number = f"<image_id>{numbered}</image_id>" if new and plan.grid else ""
    return number + text, [list(view.size) for view in plan.views]


def runs(strings: list[str]) -> list[tuple[int, int]]:
    """Ranges of the tokens that stand for features."""
    found: list[tuple[int, int]] = []
    for t, string in enumerate(strings):
        if string == "<unk>":
            joins = found and found[-1][1] == t
            found[-1:] = [(found[-1][0], t + 1)] if joins else [*found[-1:], (t, t + 1)]
    return found
