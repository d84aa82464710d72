"""Examples for people: questions the tuned model got wrong, and free answers of both models side by side."""

from __future__ import annotations

import base64
import io
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.answers import Answer, Directions
from vistune.files import atomic, inside
from vistune.hashing import keyed
from vistune.store import has_image, named_image, open_image

if TYPE_CHECKING:
    from PIL import Image

ERRORS = 24
IMAGES_SIDE_BY_SIDE = 12
THUMBNAIL = 144  # pixels
KEPT = 6  # pictures of each published benchmark
KEPT_SIDE = 256  # pixels


def errors(
    answers: Sequence[Answer],
    roots: Sequence[Path],
    seed: int,
    count: int = ERRORS,
    better: Directions | None = None,
) -> list[dict[str, Any]]:
    """Questions the tuned model answered wrongly while shown the true image, benchmarks taking turns. roots: folders to
    which the images' paths are relative. better: as in `Scores`."""
    # Free answers of a benchmark that is also ranked are shown side by side instead.
    ranked = {
        (a.item, a.model, a.condition): a
        for a in sorted(answers, key=lambda a: a.kind, reverse=True)
        if measure(a, better or {})
    }
    wrong: dict[str, list[Answer]] = defaultdict(list)
    for (_, model, condition), answer in ranked.items():
        name = measure(answer, better or {})
        value = answer.metrics[name]
        if model == "tuned" and condition == "image" and (value < 1 if name == "accuracy" else value > 0):
            wrong[answer.benchmark].append(answer)
    for found in wrong.values():
        found.sort(key=lambda a: (keyed(seed, "gallery", a.item), a.item))
    depth = max(map(len, wrong.values()), default=0)
    chosen = [wrong[b][n] for n in range(depth) for b in sorted(wrong) if n < len(wrong[b])][:count]
    rows = []
    for answer in chosen:
        base, name = ranked.get((answer.item, "base", "image")), measure(answer, better or {})
        scores = sorted(answer.scores.items(), key=lambda s: -s[1])
        rows.append(
            {
                "benchmark": answer.benchmark,
                "question": answer.question,
                "gold": answer.gold,
                "tuned": answer.answer,
                "base": base.answer if base else "",
                "scores": scores,
                "measure": name,
                "score": answer.metrics[name],
                "base_score": base.metrics[name] if base else None,
                "why": why(answer),
                "picture": picture(roots, answer.path) if answer.path else "",
            }
        )
    return rows


def measure(answer: Answer, better: Directions) -> str:
    """The metric that tells whether an answer is wrong: accuracy, else one of which less is better (what CHAIR calls
    hallucinated); "" where neither is known of a single answer."""
    less = [name for name in answer.metrics if better.get(answer.benchmark, {}).get(name) is False]
    return "accuracy" if "accuracy" in answer.metrics else next(iter(sorted(less)), "")


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


def keep_pictures(answers: Sequence[Answer], roots: Sequence[Path], folder: Path, seed: int) -> None:
    """Lays small copies of some pictures of each published benchmark in `folder`, named after the digest of the
    picture: pages are also made where the benchmarks are not. Those of the sources (roots[0]) are there anyway."""
    held: dict[str, dict[str, str]] = defaultdict(dict)
    for a in answers:
        if a.model == "tuned" and a.condition == "image" and a.path and not has_image(roots[0], a.path):
            held[a.benchmark][a.image] = a.path
    for found in held.values():
        for sha in sorted(found, key=lambda sha: (keyed(seed, "kept", sha), sha))[:KEPT]:
            path = folder / f"{sha}.webp"
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic(path) as temporary:
                _small(roots, found[sha], KEPT_SIDE).save(temporary, "WEBP", quality=80, method=6)


def picture(roots: Sequence[Path], relative: str) -> str:
    """The image as a small data URI, from the first folder that holds it."""
    buffer = io.BytesIO()
    _small(roots, relative, THUMBNAIL).save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _small(roots: Sequence[Path], relative: str, side: int) -> Image.Image:
    from PIL import Image, ImageOps

    packed = next(((root, image) for root in roots if (image := named_image(root, relative))), None)
    if packed:
        small = open_image(*packed)
    else:
        held = next((path for root in roots if (path := inside(root, relative)).is_file()), inside(roots[0], relative))
        with Image.open(held) as raw:
            small = ImageOps.exif_transpose(raw).convert("RGB")
    small.thumbnail((side, side))
    return small
