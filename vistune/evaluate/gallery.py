"""Examples for people: questions the tuned model got wrong, and free answers of both models side by side."""

from __future__ import annotations

import base64
import io
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vistune.evaluate.answers import Answer
from vistune.files import inside
from vistune.hashing import keyed

ERRORS = 24
IMAGES_SIDE_BY_SIDE = 12
THUMBNAIL = 144  # pixels


def errors(answers: Sequence[Answer], roots: Sequence[Path], seed: int, count: int = ERRORS) -> list[dict[str, Any]]:
    """Questions the tuned model answered wrongly while shown the true image, benchmarks taking turns. roots: folders to
    which the images' paths are relative."""
    # Free answers of a benchmark that is also ranked are shown side by side instead.
    ranked = {
        (a.item, a.model, a.condition): a
        for a in sorted(answers, key=lambda a: a.kind, reverse=True)
        if "accuracy" in a.metrics
    }
    wrong: dict[str, list[Answer]] = defaultdict(list)
    for (_, model, condition), answer in ranked.items():
        if model == "tuned" and condition == "image" and answer.metrics["accuracy"] < 1:
            wrong[answer.benchmark].append(answer)
    for found in wrong.values():
        found.sort(key=lambda a: (keyed(seed, "gallery", a.item), a.item))
    depth = max(map(len, wrong.values()), default=0)
    chosen = [wrong[b][n] for n in range(depth) for b in sorted(wrong) if n < len(wrong[b])][:count]
    rows = []
    for answer in chosen:
        base = ranked.get((answer.item, "base", "image"))
        scores = sorted(answer.scores.items(), key=lambda s: -s[1])
        rows.append(
            {
                "benchmark": answer.benchmark,
                "question": answer.question,
                "gold": answer.gold,
                "tuned": answer.answer,
                "base": base.answer if base else "",
                "scores": scores,
                "score": answer.metrics["accuracy"],
                "base_score": base.metrics["accuracy"] if base else None,
                "why": why(answer),
                "picture": picture(roots, answer.path) if answer.path else "",
            }
        )
    return rows


def why(answer: Answer) -> str:
    """What made the score of an answer.

    >>> one = Answer("i", "b", "t", "", "", "", "?", "cat", "tuned", "image", "choice", "dog", {"accuracy": 0.0},
    ...              {"cat": -1.5, "dog": -1.0})
    >>> why(one)
    'ranked "dog" 0.50 nats a token before "cat"'
    """
    if answer.kind == "choice":
        gap = answer.scores[answer.answer] - answer.scores.get(answer.gold, math.nan)
        return f'ranked "{answer.answer}" {gap:.2f} nats a token before "{answer.gold}"'
    if answer.metrics.get("unparsed"):
        return "the answer names none of the choices"
    told = ", ".join(f"{name} {value:.2f}" for name, value in sorted(answer.metrics.items()))
    return f"the benchmark's scorer gives {told}"


def side_by_side(answers: Sequence[Answer], seed: int, images: int = IMAGES_SIDE_BY_SIDE) -> list[dict[str, str]]:
    """Free answers of base and tuned model to the same questions about a few images, questions of an image together."""
    free = {(a.item, a.model): a for a in answers if a.kind == "generation" and a.condition == "image"}
    shas = {a.image for a in free.values() if a.image}
    chosen = sorted(shas, key=lambda sha: (keyed(seed, "side_by_side", sha), sha))[:images]
    rows = []
    for (item, model), answer in sorted(free.items(), key=lambda entry: (entry[1].image, entry[0])):
        if model == "tuned" and answer.image in chosen:
            base = free.get((item, "base"))
            rows.append(
                {
                    "image": answer.image,
                    "path": answer.path,
                    "benchmark": answer.benchmark,
                    "question": answer.question,
                    "gold": answer.gold,
                    "base": base.answer if base else "",
                    "tuned": answer.answer,
                }
            )
    return rows


def picture(roots: Sequence[Path], relative: str) -> str:
    """The image as a small data URI, from the first folder that holds it."""
    from PIL import Image, ImageOps

    held = next((path for root in roots if (path := inside(root, relative)).is_file()), inside(roots[0], relative))
    with Image.open(held) as raw:
        small = ImageOps.exif_transpose(raw).convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
