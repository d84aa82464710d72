"""What the adapters share to check prompts and learned spans.

The authors' code ran with a tokenizer of characters: one token a character, and one for each special string.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness import Case, Fixture, same

from vistune.errors import VistuneError
from vistune.models.labels import IGNORE, joined, label, learned
from vistune.models.original_labels import COUNTING, counted
from vistune.models.templates import Rendering, Template, marked
from vistune.models.templates_table import TEMPLATES
from vistune.records import Message

ROLES = {"human": "user", "gpt": "assistant", "User": "user", "Assistant": "assistant"}


class Characters:
    def __init__(self, specials: Iterable[str], bos: str = "") -> None:
        strings = sorted(map(re.escape, specials), key=len, reverse=True)
        self.pattern = re.compile("|".join([*strings, "."]), re.DOTALL)
        self.bos = bos

    def offsets(self, text: str) -> list[tuple[int, int]]:
        return [found.span() for found in self.pattern.finditer(text)]

    def count(self, text: str) -> int:
        return len(self.offsets(text)) + bool(self.bos)

    def spans(self, text: str, chosen: Sequence[bool]) -> list[list[int]]:
        """Characters of the tokens that are chosen; a BOS before the text is one token more."""
        chosen = chosen[len(chosen) - len(self.offsets(text)) :]
        return pairs(joined([o for o, c in zip(self.offsets(text), chosen, strict=True) if c]))

    def learned(self, rendering: Rendering, template: Template, parity: bool = False) -> list[list[int]]:
        """Through tokens and back."""
        offsets = self.offsets(rendering.text)
        labels = label(range(len(offsets)), offsets, learned(rendering, template.policy, parity))
        return self.spans(rendering.text, [x != IGNORE for x in labels])


def pairs(spans: Sequence[Sequence[int]]) -> list[list[int]]:
    return [list(span) for span in spans]


def messages(turns: Sequence[Mapping[str, str]], mark: str = "<image>") -> list[Message]:
    """Of turns in the layout of LLaVA ("from", "value") or of OpenAI ("role", "content")."""
    found: list[Message] = []
    shown = 0
    for turn in turns:
        role, text = turn.get("from") or turn["role"], turn["value"] if "value" in turn else turn["content"]
        found.append(marked(ROLES.get(role, role), text, shown, mark))  # type: ignore[arg-type]
        shown += len(found[-1].images)
    return found


def question(turns: Sequence[Message]) -> list[Message]:
    """Without the last answer."""
    return list(turns[:-1] if turns[-1].role == "assistant" else turns)


def refused(name: str, act: Callable[[], Any]) -> Case:
    """The authors' code raises, and ours says why."""
    try:
        got = act()
    except VistuneError as error:
        return Case(name, len(str(error)) > 20)
    return Case(name, False, float("inf"), f"no VistuneError but {got!r:.80}")


def llava(names: Mapping[str, tuple[str, str]], **changes: Any) -> Callable[[Fixture], Iterator[Case]]:
    """LLaVA's layout. `names`: the fixture's name of a template -> (ours, the rule by which its labels are counted, or
    ""); `changes` are made to every template."""

    def check(fixture: Fixture) -> Iterator[Case]:
        for case in fixture.json["cases"]:
            where = f"{fixture.name} {case['id']}"
            if case["template"] not in names:
                yield Case(where, False, float("inf"), f"no template {case['template']}")
                continue
            name, counting = names[case["template"]]
            template = TEMPLATES[name] if name == "plain" else replace(TEMPLATES[name], **changes)
            turns = messages(case["conversation"])
            system = case.get("system_override")
            if system and template.system_side:  # where it is more than words, the fixture gives all of it
                system = system.removeprefix(template.system_side.header)
            if "original_raises" in case:
                yield refused(f"{where} refused", lambda t=template, m=turns: t.render(m))
                continue
            rendering = template.render(turns, system=system, parity=True)
            yield same(f"{where} prompt", rendering.text, case["prompt"])
            if "generation_prompt" in case:
                prompt = template.render(question(turns), system=system, parity=True, prompt=True)
                yield same(f"{where} generation prompt", prompt.text, case["generation_prompt"])
            dummy = fixture.json["dummy_tokenizers"][case["template"]]
            specials = [*dummy["specials"], "<image>", *(text for text, _ in dummy.get("multi", []))]
            characters = Characters(specials, dummy.get("bos", ""))
            if "intended_spans" in case:
                got = characters.learned(rendering, template)
                yield same(f"{where} intended spans", got, case["intended_spans"])
            if not counting:
                got = characters.learned(rendering, template, parity=True)
                yield same(f"{where} trained spans", got, case["trained_spans"])
                continue
            tokens = characters.count(rendering.text)
            result = counted(
                rendering.text, tokens, COUNTING[counting], characters.count, legacy=dummy.get("legacy", True)
            )
            yield same(f"{where} masked", not result.matches, case["whole_sample_masked"])
            got = characters.spans(rendering.text, result.learned)
            if "spans_before_mismatch_check" in case:
                yield same(f"{where} spans before the check", got, case["spans_before_mismatch_check"])
            yield same(f"{where} trained spans", got if result.matches else [], case["trained_spans"])

    return check
