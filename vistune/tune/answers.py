"""What the model answers as it learns: the same few held-out questions at every checkpoint.

A falling loss does not say that a model speaks: a wrong stop token, a broken template or a repeated word are seen at a
glance in its answers, and in no other number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vistune.files import write_json
from vistune.hashing import keyed
from vistune.models.vlm import Vlm
from vistune.records import Sample
from vistune.store import open_image

TOKENS = 32
"""Longest answer; what is longer is cut."""


class Answers:
    """Greedy answers to the first question of `count` samples drawn by keyed hash, a file for each time it is called.
    evidence: of other models about an image, by its digest, for families that take any."""

    def __init__(
        self,
        vlm: Vlm,
        samples: Sequence[Sample],
        count: int,
        release: Path,
        folder: Path,
        seed: int,
        evidence: Mapping[str, Any] | None = None,
    ) -> None:
        self.vlm, self.release, self.folder, self.evidence = vlm, release, folder, evidence or {}
        self.samples = sorted(samples, key=lambda sample: keyed(seed, "answers", sample.id))[:count]

    def __call__(self, stage: str, step: int) -> list[dict[str, str]]:
        """Writes and returns what is asked, what is wanted and what is answered."""
        asked, wanted = zip(*map(_first, self.samples), strict=True)
        images = [[open_image(self.release, image) for image in sample.images] for sample in self.samples]
        aside = [[self.evidence.get(image.sha256) for image in sample.images] for sample in self.samples]
        regions = [sample.regions for sample in self.samples]
        evidence = aside if self.evidence else ()
        given = self.vlm.generate(asked, images, max_new_tokens=TOKENS, evidence=evidence, regions=regions)
        rows = [
            {"id": sample.id, "task": sample.task, "question": question[-1].text, "wanted": want, "answer": answer}
            for sample, question, want, answer in zip(self.samples, asked, wanted, given, strict=True)
        ]
        write_json(self.folder / f"{stage}-{step:06d}.json", rows)
        return rows


def _first(sample: Sample) -> tuple[Sequence[Any], str]:
    """The messages up to the first question, and its answer."""
    at = next(n for n, message in enumerate(sample.messages) if message.role == "assistant")
    return sample.messages[:at], sample.messages[at].text
