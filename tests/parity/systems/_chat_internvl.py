"""Checks of InternVL's prompts, labels and losses, and of Monkey's prompts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from harness import Case, Fixture, same
from systems._chat import Characters, messages, question, refused

from vistune.models.original_labels import COUNTING, counted
from vistune.models.templates_table import TEMPLATES

SPECIALS = ("<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>")
SPECIALS_PHI3 = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", *SPECIALS[2:])
RULES = {"Hermes-2": "internvl_mpt", "phi3-chat": "internvl_phi3"}


def internvl(fixture: Fixture) -> Iterator[Case]:
    for case in fixture.json["cases"]:
        name = case["template"].removesuffix("+bos")
        template, where = TEMPLATES[name], f"{fixture.name} {case['id']}"
        turns = messages(case["conversation"])
        images = ["<IMG_CONTEXT>" * n for n in case["num_image_tokens"]]
        if "original_raises" in case:
            yield refused(f"{where} refused", lambda t=template, m=turns, i=images: t.render(m, i))
            continue
        rendering = template.render(turns, images)
        yield same(f"{where} prompt", rendering.text, case["prompt"])
        bare = replace(template, image="{image}")
        prompt = bare.render(question(turns), parity=True, prompt=True).text
        yield same(f"{where} generation prompt", prompt, case["generation_prompt_unexpanded"])
        bos = "<s>" if case["tokenizer_adds_bos"] else ""
        characters = Characters(SPECIALS_PHI3 if name == "phi3-chat" else SPECIALS, bos)
        learned = characters.learned(rendering, template)
        if "intended_spans" in case:
            yield same(f"{where} intended spans", learned, case["intended_spans"])
        if name not in RULES:
            yield same(f"{where} trained spans", learned, case["trained_spans"])
            continue
        tokens = characters.count(rendering.text)
        result = counted(rendering.text, tokens, COUNTING[RULES[name]], characters.count)
        yield same(f"{where} masked", not result.matches, case["whole_sample_masked"])
        got = characters.spans(rendering.text, result.learned)
        if "spans_before_mismatch_check" in case:
            yield same(f"{where} spans before the check", got, case["spans_before_mismatch_check"])
        yield same(f"{where} trained spans", got if result.matches else [], case["trained_spans"])


def monkey(fixture: Fixture) -> Iterator[Case]:
    template, eod = TEMPLATES["monkey"], "<|endoftext|>"
    characters = Characters((eod, "<img>", "</img>"))
    for case in fixture.json["cases"]:
        where = f"{fixture.name} {case['id']}"
        turns = messages(
            [{"role": "user", "content": case["user"]}, {"role": "assistant", "content": case["assistant"]}]
        )
        rendering = template.render(turns)
        yield same(f"{where} prompt", rendering.text, case["prompt"] + eod)
        yield same(
            f"{where} generation prompt", template.render(turns[:1], prompt=True).text, case["generation_prompt"]
        )
        tokens = characters.count(case["prompt"])
        words, end = len(case["prompt"]), len(case["prompt"]) + len(eod)
        learned = characters.learned(rendering, template)
        expected = [[a, end if b == words else b] for a, b in case["trained_spans"]] or [[words, end]]
        yield same(f"{where} trained spans", learned, expected)
        got = {"n_text_tokens": tokens, "eod_label_positions": [tokens], "attended": tokens + 1}
        got |= {"n_labels_trained": sum(characters.count(rendering.text[a:b]) for a, b in learned)}
        yield same(f"{where} counts", got, {key: case[key] for key in got})
