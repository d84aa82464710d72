"""What a model reads: conversations and pictures as token ids, labels, positions and views.

All of it but `look` needs no pixels, so the length of every sample of a data set is known from its texts and the sizes
of its pictures, and equals the length the model will see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vistune.boxcodec import CODECS
from vistune.errors import VistuneError
from vistune.models.families.base import Composed, Family, Native, Picture, Preset, Reads, at_stage
from vistune.models.labels import IGNORE, Encoded, encode, fit, learned
from vistune.models.layout import placeholders
from vistune.models.templates import Policy as LabelPolicy
from vistune.models.templates import Template
from vistune.models.templates_table import TEMPLATES
from vistune.models.views import Policy, Size, ViewPlan
from vistune.records import Message, Region, Sample

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from vistune.models.overlay import Overlay


@dataclass(frozen=True)
class Reading:
    """One conversation as a model reads it."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]  # IGNORE where not learned; not shifted
    images: tuple[int, ...] = ()  # the pictures in reading order, by their number in the sample
    plans: tuple[ViewPlan, ...] = ()  # of each
    spans: tuple[tuple[int, int], ...] = ()  # the tokens of each, with the text of its layout
    overlays: tuple[Overlay | None, ...] = ()  # drawn over each of the sample's pictures, by its number; empty: nothing

    @property
    def length(self) -> int:
        return len(self.ids)


class Reader:
    """`tokenizer` is a fast one of transformers that knows the preset's placeholder and control tokens (see
    `prepared`)."""

    def __init__(self, family: Family, preset: Preset, tokenizer: Any) -> None:
        self.family, self.preset, self.tokenizer = family, preset, tokenizer
        self.template: Template = TEMPLATES[preset.template]
        self.placeholder: int = tokenizer.convert_tokens_to_ids(preset.placeholder)
        self.policy: Policy = family.policy(preset.settings)
        self.plan = lru_cache(maxsize=4096)(self._plan)
        self.policy_of = lru_cache(maxsize=64)(self._policy_of)

    def _policy_of(self, pictures: int) -> Policy:
        settings = self.preset.settings
        return self.family.policy(self.family.several(settings, pictures) if self.family.several else settings)

    def _plan(self, width: int, height: int, pictures: int = 1) -> ViewPlan:
        """pictures: how many the conversation shows, where that changes their views."""
        policy = self.policy_of(pictures) if pictures > 1 and self.family.several else self.policy
        return policy.plan(width, height)

    @cached_property
    def begin(self) -> tuple[int, ...]:
        bos = self.tokenizer.bos_token_id
        return (bos,) if self.preset.begin and bos is not None else ()

    @cached_property
    def stop(self) -> str:
        """The text that ends an answer."""
        end = self.template.assistant.end
        return self.preset.stop or end.strip() or end or self.template.finish

    @cached_property
    def learns(self) -> LabelPolicy:
        """The template's. Generation starts before a lead, so one that is a token of its own is learned too."""
        policy = self.template.policy
        return replace(policy, answers=policy.answers | {"lead"})

    @cached_property
    def spoken(self) -> tuple[str, ...]:
        """Control tokens that words may spell: those with which the family writes boxes."""
        codec = CODECS.get(self.family.codec)
        written = f"{codec.shape}{''.join(codec.ref)}" if codec else ""
        return tuple(token for token in self.tokenizer.get_added_vocab() if token in written)

    @cached_property
    def pad_id(self) -> int:
        """Stands at padding, where nothing looks."""
        found = self.tokenizer.pad_token_id
        return 0 if found is None else found

    def text(self, text: str) -> list[int]:
        """Ids of text written by a template or a layout, control tokens included."""
        return self.tokenizer.encode(text, add_special_tokens=False)

    def picture(self, plan: ViewPlan) -> list[int]:
        """Ids that stand for a picture."""
        if self.family.picture is not None:
            return self.family.picture(self, plan)
        return placeholders(plan.layout, [view.tokens for view in plan.views], self.placeholder, self.text)

    def read(
        self,
        messages: Sequence[Message],
        sizes: Sequence[Size] = (),
        *,
        regions: Sequence[Region] = (),
        prompt: bool = False,
        sample: str = "",
    ) -> Reading:
        """The conversation, or with `prompt` what generation starts from. sizes: (width, height) of the sample's
        pictures; regions: what its messages speak about, for families that mark it. Raises VistuneError, with the
        sample's id, for turns the template does not take, for pictures that are not shown, for regions that cannot be
        marked, and for a conversation longer than the preset's limit."""
        messages, overlays = self.marked(messages, regions, len(sizes), sample)
        reading = self._read(messages, sizes, prompt=prompt, sample=sample)
        return replace(reading, overlays=overlays) if overlays else reading

    def read_sample(self, sample: Sample) -> Reading:
        sizes = [(image.width, image.height) for image in sample.images]
        return self.read(sample.messages, sizes, regions=sample.regions, sample=sample.id)

    def marked(
        self, messages: Sequence[Message], regions: Sequence[Region], pictures: int, sample: str = ""
    ) -> tuple[Sequence[Message], tuple[Overlay | None, ...]]:
        """The messages, and what is drawn over each picture so that they can speak of it; nothing, mostly."""
        if self.family.overlay is None or not regions:
            return messages, ()
        try:
            return self.family.overlay(messages, regions, pictures)
        except VistuneError as refused:
            raise VistuneError(f"{str(refused).removesuffix('.')} (sample {sample}).") from None

    def _read(self, messages: Sequence[Message], sizes: Sequence[Size], *, prompt: bool, sample: str) -> Reading:
        turns = list(messages)
        system = turns.pop(0).text if turns and turns[0].role == "system" and self.template.order != "free" else None
        shown = self.shown(turns, sizes, sample)
        together = len(shown) if self.family.several else 1
        plans = tuple(self.plan(*sizes[image], together) for image in shown)
        pictures = [self.picture(plan) for plan in plans]
        rendering = self.template.render(turns, system=system, prompt=prompt, sample=sample)
        spans = learned(rendering, self.learns)
        if self.template.place == "outside":
            encoded = _behind(
                self.begin, pictures, encode(self.tokenizer, rendering, spans, sample=sample, spoken=self.spoken)
            )
        else:
            encoded = encode(self.tokenizer, rendering, spans, pictures, self.begin, sample=sample, spoken=self.spoken)
        return self.finished(encoded, shown, plans, prompt=prompt, sample=sample)

    def shown(self, messages: Sequence[Message], sizes: Sequence[Size], sample: str) -> tuple[int, ...]:
        """The pictures in reading order. Raises VistuneError where others are given than the messages show."""
        found = tuple(image for turn in messages for image in turn.images)
        if sorted(found) != list(range(len(sizes))):
            where = f" (sample {sample})" if sample else ""
            raise VistuneError(f"the messages show {len(found)} images, {len(sizes)} are given{where}.")
        return found

    def finished(
        self, encoded: Encoded, shown: tuple[int, ...], plans: tuple[ViewPlan, ...], *, prompt: bool, sample: str
    ) -> Reading:
        """Raises VistuneError for a conversation or a prompt longer than the preset's limit."""
        if not prompt:
            encoded = fit(encoded, self.preset.limit, sample)
        elif len(encoded.ids) > self.preset.limit:
            where = f" (sample {sample})" if sample else ""
            raise VistuneError(f"the prompt has {len(encoded.ids)} tokens, the limit is {self.preset.limit}{where}.")
        labels = (IGNORE, *encoded.labels[1:])  # nothing predicts the first token
        return Reading(encoded.ids, labels, shown, plans, encoded.images)

    def length(
        self,
        messages: Sequence[Message],
        sizes: Sequence[Size] = (),
        sample: str = "",
        regions: Sequence[Region] = (),
    ) -> int:
        """Tokens of the conversation, pictures included."""
        return self.read(messages, sizes, regions=regions, sample=sample).length

    def look(
        self,
        reading: Reading,
        images: Sequence[Image],
        evidence: Sequence[Any] = (),
        overlays: Sequence[Overlay | None] = (),
    ) -> list[Picture]:
        """The reading's pictures in reading order. images: the sample's, upright RGB; evidence: of each image, where
        the family takes any; overlays: what is drawn over each image first, where it is not the reading's."""
        overlays = overlays or reading.overlays
        found = []
        for number, plan in zip(reading.images, reading.plans, strict=True):
            image, overlay = images[number].convert("RGB"), overlays[number] if overlays else None
            views = self.family.look(self.preset.settings, plan, overlay.on(image) if overlay else image)
            aside = evidence[number] if evidence else None
            found.append(Picture(plan, views, self.family.evidence(self, aside) if self.family.evidence else aside))
        return found

    def at(self, stage: Reads) -> Reader:
        """Reads as a stage trains; itself where it reads nothing differently."""
        preset = at_stage(self.preset, stage)
        return self if preset is self.preset else self._with(preset)

    def _with(self, preset: Preset) -> Reader:
        return Reader(self.family, preset, self.tokenizer)

    def places(self, reading: Reading) -> Tensor:
        """Positions of tokens, int64 (T,), or (3, T) where they have several."""
        import torch

        if self.family.places is None:
            return torch.arange(reading.length)
        return torch.tensor(self.family.places(reading, self.placeholder))

    def batch(
        self,
        readings: Sequence[Reading],
        pictures: Sequence[Sequence[Picture]],
        side: Literal["left", "right"] = "right",
    ) -> dict[str, Any]:
        """Inputs of the model, padded to the longest reading on one side: input_ids, labels, attention_mask and
        position_ids, int64 (B, T), positions (3, B, T) where they are several; token_types where the family tells
        visual tokens apart; and the pictures of all readings one after the other, as `pictures` or as the model's own
        inputs."""
        import torch

        length = max(reading.length for reading in readings)

        def padded(rows: Sequence[Tensor], fill: int) -> Tensor:
            missing = [length - row.shape[-1] for row in rows]
            pads = [(n, 0) if side == "left" else (0, n) for n in missing]
            made = [torch.nn.functional.pad(row, pad, value=fill) for row, pad in zip(rows, pads, strict=True)]
            return torch.stack(made, dim=-2)

        inputs: dict[str, Any] = {
            "input_ids": padded([torch.tensor(r.ids) for r in readings], self.pad_id),
            "labels": padded([torch.tensor(r.labels) for r in readings], IGNORE),
            "attention_mask": padded([torch.ones(r.length, dtype=torch.long) for r in readings], 0),
            "position_ids": padded([self.places(r) for r in readings], 0),
        }
        if isinstance(self.family, Composed) and self.family.types is not None:
            types = [torch.tensor(self.family.types(reading)) for reading in readings]
            inputs["token_types"] = padded(types, -1)
        return inputs | self.pictures([picture for each in pictures for picture in each])

    def pictures(self, pictures: Sequence[Picture]) -> dict[str, Any]:
        """The model's inputs for pictures in reading order; none for none."""
        if not pictures:
            return {}
        if isinstance(self.family, Native):
            return self.family.inputs(self.preset.settings, pictures)
        return {"pictures": list(pictures)}

    def save(self, folder: Path | str) -> None:
        """Writes what the model is read by, for transformers too where it has a processor for the family."""
        self.tokenizer.save_pretrained(folder)
        if isinstance(self.family, Native) and self.family.processor is not None:
            self.family.processor(self.preset, self.tokenizer).save_pretrained(folder)

    def answer(self, ids: Sequence[int]) -> str:
        """The words of generated ids, up to what ends an answer."""
        stop = self.text(self.stop) if self.stop else []
        if len(stop) == 1 and stop[0] in ids:
            ids = ids[: list(ids).index(stop[0])]
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        return (text.split(self.stop)[0] if self.stop else text).strip()


def _behind(begin: Sequence[int], pictures: Sequence[Sequence[int]], text: Encoded) -> Encoded:
    """Pictures between BOS and the conversation, which does not mention them (SPHINX)."""
    ids, spans = [*begin], []
    for picture in pictures:
        spans.append((len(ids), len(ids) + len(picture)))
        ids += picture
    return Encoded((*ids, *text.ids), (*[IGNORE] * len(ids), *text.labels), tuple(spans))


def prepared(tokenizer: Any, preset: Preset) -> Any:
    """`tokenizer` with the preset's control tokens and its placeholder, which is added last."""
    for token in (*preset.tokens, preset.placeholder):
        if token not in tokenizer.get_vocab():
            tokenizer.add_special_tokens({"extra_special_tokens": [token]}, replace_extra_special_tokens=False)
    return tokenizer
