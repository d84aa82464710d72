"""Checks of DeepSeek-VL's prompts."""

from __future__ import annotations

from collections.abc import Iterator

from harness import Case, Fixture, same
from systems._chat import messages, question

from vistune.models.templates_table import TEMPLATES

NAMES = {"deepseek": "deepseek_vl", "llava_llama2": "deepseek_vl_llama_2", "plain": "deepseek_vl_plain"}
ROLES = ("user", "assistant")
BOS = "<｜begin▁of▁sentence｜>"


def deepseek(fixture: Fixture) -> Iterator[Case]:
    for case in fixture.json["prompts"]:
        asked, expected = case["in"], case["out"]
        template = TEMPLATES[NAMES[asked["sft_format"]]]
        spoken = [{**turn, "role": ROLES[n % 2]} for n, turn in enumerate(asked["conversation"])]
        turns = messages(spoken, template.mark)
        turns = question(turns) if asked["generation"] else turns
        texts = [template.mark * tokens for tokens in expected["num_image_tokens"]]
        given = {"system": asked["system_prompt"], "prompt": asked["generation"]}
        got = {
            "prompt": template.render(turns, **given).text,
            "expanded": BOS + template.render(turns, texts, **given).text,
            "num_image_tokens": [text.count(template.mark) for text in texts],
        }
        yield same(f"{fixture.name} {asked['name']} {'prompt' if asked['generation'] else 'whole'}", got, expected)
