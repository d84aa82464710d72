"""Reads as transformers' own processor of a model does: its chat template, its tokens for a picture, its pixels.

`ProcessorReader` answers what `Reader` answers. The chat template is asked with stand-ins for the words, so that it is
known what each character is (see `templates`) and no word is taken for a control token or a picture; which tokens a
picture becomes is asked with a blank one of its size, once for each size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vistune.errors import VistuneError
from vistune.models.families.base import Family, Picture, Preset
from vistune.models.labels import Encoded, encode, learned
from vistune.models.reader import Reader, Reading
from vistune.models.templates import ANSWERS, Part, Rendering, Role, Span
from vistune.models.views import Size, ViewPlan, check
from vistune.records import Message

if TYPE_CHECKING:
    from transformers import PretrainedConfig, ProcessorMixin

STAND_IN = "\ue000{}\ue001"
"""For the words of a message: characters of the private use area, which no template touches."""

OF_TEXT = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "text_replacement_offsets")
"""What a processor returns that is not of pictures."""


def load_processor(folder: str, config: PretrainedConfig) -> ProcessorMixin:
    """The model's processor for pictures and text, with the image processor that needs no torchvision. Videos, for
    which transformers has only torchvision, are left out. Raises VistuneError for a model without a processor."""
    from transformers import AutoImageProcessor, AutoTokenizer
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    if type(config) not in PROCESSOR_MAPPING:
        raise VistuneError(f"transformers has no processor for the model in {folder} ({config.model_type}).")
    made = without_video(PROCESSOR_MAPPING[type(config)])
    parts = {
        "image_processor": lambda: AutoImageProcessor.from_pretrained(folder, backend="pil"),
        "tokenizer": lambda: AutoTokenizer.from_pretrained(folder),
    }
    needed = made.get_attributes()
    if unknown := [name for name in needed if name not in parts]:
        raise VistuneError(f"the processor {made.__name__} needs more than images and text: {', '.join(unknown)}.")
    values, _ = made.get_processor_dict(folder)
    return made.from_args_and_dict([parts[name]() for name in needed], values)


def without_video(kind: type[Any]) -> type[Any]:
    """The class of a processor, not asking for what prepares videos."""
    attributes = [name for name in kind.get_attributes() if name != "video_processor"]
    if len(attributes) == len(kind.get_attributes()):
        return kind
    return type(kind.__name__, (kind,), {"get_attributes": classmethod(lambda cls: attributes)})


@dataclass(frozen=True)
class ProcessorViews:
    """The views that a processor makes: their tokens alone are known here, as one text in the layout."""

    processor: Any
    placeholder: int  # the id that stands for one visual token

    def plan(self, width: int, height: int) -> ViewPlan:
        from PIL import Image

        check(width, height)
        mark = self.processor.image_token
        found = self.processor(
            images=[Image.new("RGB", (width, height))], text=[mark], return_text_replacement_offsets=True
        )
        text = found["text_replacement_offsets"][0][0]["replacement"]
        tokens = self.processor.tokenizer.encode(text, add_special_tokens=False)
        return ViewPlan((width, height), (), (), tokens.count(self.placeholder), (text,))


class ProcessorReader(Reader):
    def __init__(self, family: Family, preset: Preset, processor: Any) -> None:
        """Raises VistuneError for a processor without a chat template, or that has no mark for pictures."""
        if not getattr(processor, "image_token", None):
            raise VistuneError(f"{type(processor).__name__} does not say what stands for a picture in its text.")
        processor.chat_template = processor.chat_template or processor.tokenizer.chat_template
        if processor.chat_template is None:
            raise VistuneError(f"{type(processor).__name__} has no chat template.")
        self.processor = processor
        self.family, self.preset, self.tokenizer = family, preset, processor.tokenizer
        self.placeholder = self.tokenizer.convert_tokens_to_ids(preset.placeholder)
        self.policy = ProcessorViews(processor, self.placeholder)
        self.plan = lru_cache(maxsize=4096)(self._plan)

    def _with(self, preset: Preset) -> ProcessorReader:
        return ProcessorReader(self.family, preset, self.processor)

    @cached_property
    def begin(self) -> tuple[int, ...]:
        """What the tokenizer puts before a text that does not begin with it already."""
        bare, whole = (self.tokenizer.encode("a", add_special_tokens=special) for special in (False, True))
        return tuple(whole[: len(whole) - len(bare)])

    @cached_property
    def stop(self) -> str:
        """What the chat template writes behind an answer, else the tokenizer's end of a text."""
        return self._answer[1] or self.tokenizer.eos_token or ""

    @cached_property
    def _answer(self) -> tuple[str, str]:
        """What the template writes before an answer and not at the end of a prompt; what ends the answer."""
        turns = [Message("user", "question"), Message("assistant", "answer")]
        whole, prompt = self._written(turns, False), self._written(turns[:1], True)
        before, found, after = whole.partition(STAND_IN.format("1,0"))
        if not found or not before.startswith(prompt):
            raise VistuneError(f"the chat template of {type(self.processor).__name__} does not go on from a prompt.")
        return before.removeprefix(prompt), (after.split() or [""])[0]

    @cached_property
    def _trims(self) -> bool:
        """Whether the template removes blanks around words."""
        text = self.processor.apply_chat_template([{"role": "user", "content": [{"type": "text", "text": "\ta\t"}]}])
        return "\ta\t" not in text

    def _read(self, messages: Sequence[Message], sizes: Sequence[Size], *, prompt: bool, sample: str) -> Reading:
        shown = self.shown(messages, sizes, sample)
        plans = tuple(self.plan(*sizes[image]) for image in shown)
        rendering = self.render(messages, [str(plan.layout[0]) for plan in plans], prompt=prompt, sample=sample)
        bos = self.tokenizer.bos_token
        begin = () if bos and rendering.text.startswith(bos) else self.begin
        spans = learned(rendering, ANSWERS)
        encoded = encode(self.tokenizer, rendering, spans, (), begin, sample=sample, spoken=self.spoken)
        encoded = replace(encoded, images=self._spans(encoded, plans))
        return self.finished(encoded, shown, plans, prompt=prompt, sample=sample)

    def render(
        self, messages: Sequence[Message], pictures: Sequence[str], *, prompt: bool = False, sample: str = ""
    ) -> Rendering:
        """The conversation as the chat template writes it, with the text of each picture in reading order. The end of
        the last answer is added where the template leaves it out. Raises VistuneError for turns that the template
        does not take or does not write as they are."""
        where = f" (sample {sample})" if sample else ""
        text = self._written(messages, prompt, where)
        lead, stop = self._answer
        rest = list(pictures)
        waiting = [(n, k) for n, turn in enumerate(messages) for k, (words, _) in enumerate(pieces(turn)) if words]
        written: list[tuple[Role, Part, str]] = []
        pattern = f"{STAND_IN.format('([0-9]+),([0-9]+)')}|({re.escape(self.processor.image_token)})"
        for between, found in _split(pattern, text):
            answered = written and written[-1][:2] == ("assistant", "words")
            if answered and stop and between.lstrip().startswith(stop):
                end = between.index(stop) + len(stop)
                written.append(("assistant", "end", between[:end]))
                between = between[end:]
            if found is None or found[3]:
                written.append(("user", "header", between))
                if found is not None:
                    if not rest:
                        raise VistuneError(f"the chat template shows more than {len(pictures)} pictures{where}.")
                    written.append(("user", "wrap", rest.pop(0)))
                continue
            turn, piece = int(found[1]), int(found[2])
            if not waiting or (turn, piece) != waiting.pop(0):
                raise VistuneError(f"the chat template does not write the words of all turns in order{where}.")
            role, words = messages[turn].role, pieces(messages[turn])[piece][0]
            begun = lead if role == "assistant" and between.endswith(lead) else ""
            written.append(("user", "header", between.removesuffix(begun) if begun else between))
            written += [("assistant", "lead", begun), (role, "words", words.strip() if self._trims else words)]
        if waiting or rest:
            raise VistuneError(
                f"the chat template leaves out {len(waiting)} texts and {len(rest)} pictures of the messages{where}."
            )
        if not prompt and messages[-1].role == "assistant" and written[-2][1] == "words":
            written[-1] = ("assistant", "end", self.stop)  # instead of the blanks before what would follow
        return rendering(written)

    def _written(self, messages: Sequence[Message], prompt: bool, where: str = "") -> str:
        from jinja2 import TemplateError

        turns = []
        for n, turn in enumerate(messages):
            content: list[dict[str, str]] = []
            for k, (words, _) in enumerate(pieces(turn)):
                content.append({"type": "text", "text": STAND_IN.format(f"{n},{k}")} if words else {"type": "image"})
            turns.append({"role": turn.role, "content": content})
        try:
            text: str = self.processor.apply_chat_template(turns, add_generation_prompt=prompt)
        except TemplateError as error:
            raise VistuneError(f"the chat template does not take these turns: {error}{where}.") from error
        return text

    def _spans(self, encoded: Encoded, plans: Sequence[ViewPlan]) -> tuple[tuple[int, int], ...]:
        """From the first to the last visual token of each picture."""
        found = [n for n, token in enumerate(encoded.ids) if token == self.placeholder]
        spans, start = [], 0
        for plan in plans:
            spans.append((found[start], found[start + plan.tokens - 1] + 1))
            start += plan.tokens
        return tuple(spans)

    def batch(
        self,
        readings: Sequence[Reading],
        pictures: Sequence[Sequence[Picture]],
        side: Literal["left", "right"] = "right",
    ) -> dict[str, Any]:
        """As `Reader.batch`. A model that takes the kinds of tokens gets these instead of positions, which it then
        computes itself."""
        import torch

        inputs = super().batch(readings, pictures, side)
        kinds = [n for n in ("mm_token_type_ids", "token_type_ids") if n in self.processor.model_input_names]
        if kinds and self.processor.return_mm_token_type_ids:
            inputs[kinds[0]] = torch.tensor(self.processor.create_mm_token_type_ids(inputs["input_ids"].tolist()))
            del inputs["position_ids"]
        return inputs

    def pictures(self, pictures: Sequence[Picture]) -> dict[str, Any]:
        if not pictures:
            return {}
        images, marks = [picture.views[0] for picture in pictures], self.processor.image_token * len(pictures)
        made = self.processor(images=images, text=[marks], return_tensors="pt")
        return {key: value for key, value in made.items() if key not in OF_TEXT}

    def save(self, folder: Path | str) -> None:
        self.processor.save_pretrained(folder)


def pieces(turn: Message) -> list[tuple[str, int]]:
    """The words and pictures of a turn in order, as (words, 0) or ("", number of the picture).

    >>> pieces(Message("user", "Left:  right: ?", (0, 1), (6, 14)))
    [('Left: ', 0), ('', 0), (' right: ', 0), ('', 1), ('?', 0)]
    """
    found: list[tuple[str, int]] = []
    at = 0
    for image, place in zip(turn.images, turn.places or (0,) * len(turn.images), strict=True):
        found += [(turn.text[at:place], 0)] if place > at else []
        found.append(("", image))
        at = place
    return [*found, (turn.text[at:], 0)] if turn.text[at:] else found


def rendering(written: Sequence[tuple[Role, Part, str]]) -> Rendering:
    """
    >>> rendering([("user", "words", "Hi"), ("user", "end", ""), ("assistant", "words", "!")]).spans[1]
    Span(start=2, end=3, role='assistant', part='words')
    """
    text, spans = "", []
    for role, part, piece in written:
        if piece:
            spans.append(Span(len(text), len(text) + len(piece), role, part))
            text += piece
    return Rendering(text, tuple(spans))


def _split(pattern: str, text: str) -> Iterator[tuple[str, re.Match[str] | None]]:
    """What matches, each with the text before it; at last the text behind all of them."""
    at = 0
    for match in re.finditer(pattern, text):
        yield text[at : match.start()], match
        at = match.end()
    yield text[at:], None
