"""lm-eval's view of any model family: each question with each of its answers is a sequence of its own.

The packed trees of `lm` need one picture of a fixed number of tokens before the words. Here pictures stand wherever the
family's template writes them, as many as a question shows; prompts, labels and padding are those of training, so what
is scored is what was learned. Pictures that several sequences of a batch show are cut into views once, and encoded once
where the family is composed of our blocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vistune.evaluate.lm import Key, VistuneLM
from vistune.evaluate.responses import ResponseLog
from vistune.models.families.base import Composed, Picture
from vistune.models.labels import IGNORE
from vistune.models.reader import Reading
from vistune.models.vlm import Vlm
from vistune.records import ImageRef, Message
from vistune.store import open_image


@dataclass(frozen=True)
class Asked:
    """A question with the answers to score."""

    shas: tuple[str, ...]  # of the pictures it shows
    readings: tuple[Reading, ...]  # with each answer
    starts: tuple[int, ...]  # the token of each at which the answer starts

    @property
    def ids(self) -> list[int]:
        return [token for reading in self.readings for token in reading.ids]


class SequenceLM(VistuneLM):
    """model: a `Vlm`; root: the folder of the images' paths; the rest as `VistuneLM` has it."""

    most_images = 1 << 30

    def __init__(self, model: Vlm, root: Path, log: ResponseLog, fingerprint: str, *rest: Any, **more: Any) -> None:
        super().__init__(model, None, log, fingerprint, *rest, **more)  # type: ignore[arg-type]
        self.root = root

    def _rows(
        self, wanted: Mapping[Key, Mapping[str, None]], images: Mapping[str, ImageRef]
    ) -> list[tuple[list[Key], Asked]]:
        return [([key], self._ask(key, list(wanted[key]), images)) for key in sorted(wanted)]

    def _ask(self, key: Key, answers: Sequence[str], images: Mapping[str, ImageRef]) -> Asked:
        shas, question = _shas(key), _question(key)
        sizes = [(images[sha].width, images[sha].height) for sha in shas]
        read = self.model.reader.read
        prompt = read(question, sizes, prompt=True, sample=key[1])
        readings = [read([*question, Message("assistant", answer)], sizes, sample=key[1]) for answer in answers]
        return Asked(shas, tuple(readings), tuple(_common(prompt.ids, reading.ids) for reading in readings))

    def _score(self, rows: Sequence[Any], shas: list[str], images: Mapping[str, ImageRef]) -> list[Any]:
        fed = [[asked.shas, [r.ids for r in asked.readings], asked.starts] for asked in rows]
        self.cost["tokens"] += sum(len(asked.ids) for asked in rows)
        count = sum(len(asked.readings) for asked in rows)
        return self._once(["sequences", fed], count, lambda: self._logprobs(rows, images))

    @torch.inference_mode()
    def _logprobs(self, rows: Sequence[Asked], images: Mapping[str, ImageRef]) -> list[list[Any]]:
        """[sum of log-probabilities in nats, every token the most likely one, number of tokens] of each answer."""
        reader, model = self.model.reader, self.model.model
        looked = {asked.shas: self._look(asked, images) for asked in rows}
        readings = [reading for asked in rows for reading in asked.readings]
        starts = [start for asked in rows for start in asked.starts]
        pictures = [looked[asked.shas] for asked in rows for _ in asked.readings]
        inputs = reader.batch(readings, pictures, "left")
        inputs.pop("labels")
        if isinstance(reader.family, Composed) and any(pictures):
            seen = {shas: model.see(found) for shas, found in looked.items() if found}
            shown = [asked.shas for asked in rows for _ in asked.readings]
            inputs["image_features"] = [one for shas in shown if shas for one in seen[shas]]
        inputs = {k: v.to(model.device) if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
        keep = max(reading.length - start for reading, start in zip(readings, starts, strict=True)) + 1
        logits = model(**inputs, logits_to_keep=keep, use_cache=False).logits.float()
        results = []
        for reading, start, row in zip(readings, starts, logits, strict=True):
            learned = [t for t in range(start, reading.length) if reading.labels[t] != IGNORE]
            states = row[[len(row) - reading.length + t - 1 for t in learned]]
            wanted = torch.tensor([reading.labels[t] for t in learned], device=row.device)
            logprobs = states.log_softmax(-1).gather(1, wanted[:, None])[:, 0]
            greedy = bool((states.argmax(-1) == wanted).all())
            results.append([math.fsum(logprobs.tolist()), greedy, len(learned)])
        return results

    def _look(self, asked: Asked, images: Mapping[str, ImageRef]) -> list[Picture]:
        return self.model.reader.look(asked.readings[0], [open_image(self.root, images[sha]) for sha in asked.shas])

    def _decode(self, questions: Sequence[Key], images: Mapping[str, ImageRef], longest: int) -> list[str]:
        def compute() -> list[str]:
            shown = [[open_image(self.root, images[sha]) for sha in _shas(key)] for key in questions]
            return self.model.generate([_question(key) for key in questions], shown, longest)

        return self._once(["sequences, free", longest, [list(key) for key in questions]], len(questions), compute)


def _shas(key: Key) -> tuple[str, ...]:
    return tuple(key[0].split(",")) if key[0] else ()


def _question(key: Key) -> list[Message]:
    return [Message("user", key[1], tuple(range(len(_shas(key)))))]


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many ids both start with.

    >>> _common([1, 2, 3], [1, 2, 4, 5])
    2
    """
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
