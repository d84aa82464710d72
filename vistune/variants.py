"""A sweep: what its variants change, and which of them is put forward for promotion.

The best of several models is partly the luckiest. So the gate's confidence is raised for their number
(`evaluate.candidates`, Bonferroni), before anything is trained: the verdict about the best one then errs no more often
than about a single model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.errors import VistuneError
from vistune.files import link_tree, read_json
from vistune.params import override
from vistune.promote.evidence import evaluation_digest
from vistune.resolved import FILLED, models
from vistune.stages import Settings

if TYPE_CHECKING:
    from vistune.component import Artifact


def vary(tune: Mapping[str, Any], variants: Sequence[str]) -> list[dict[str, Any]]:
    """The settings of `tune` for each variant.

    A variant is `seed=N` or `tune.key=value`, several joined by semicolons; the data and the evaluation are the same
    for all. Raises VistuneError for anything else, and for two variants that are one.
    """
    tunes: list[dict[str, Any]] = []
    for variant in variants:
        tree = deepcopy(dict(tune))
        for change in filter(None, (text.strip() for text in str(variant).split(";"))):
            if not change.startswith(("tune.", "seed=")):
                raise VistuneError(
                    f"variant {variant!r}: {change!r} is neither seed=N nor tune.key=value. All variants share their "
                    "data and their evaluation, so that they can be compared."
                )
            override(tree, change)
        tree = repinned(tune, tree)
        Settings.parse({key: value for key, value in tree.items() if key != "ids"})
        if tree in tunes:
            raise VistuneError(f"variant {variant!r} gives the same parameters as another one.")
        tunes.append(tree)
    if len(tunes) < 2:
        raise VistuneError(f"a sweep needs at least 2 variants; given are {len(tunes)}.")
    return tunes


def repinned(before: Mapping[str, Any], tree: dict[str, Any]) -> dict[str, Any]:
    """The settings of a variant with the models that it names: what `resolve` filled in for the family it does not
    have any more goes, and what the variant itself named gets its commit."""
    section, old = dict(tree.get("tune") or {}), before.get("tune") or {}
    if any(section.get(key) != old.get(key) for key in ("family", "preset")):
        for name in (before.get("ids") or {}).get(FILLED, ()):
            if section.get(name) == old.get(name):
                del section[name]
    if section == old:
        return tree
    return {**tree, "tune": models(section)[0]}


def among(evaluate: Mapping[str, Any], variants: Sequence[str]) -> dict[str, Any]:
    """The settings of `evaluate` for the best of all variants."""
    return {**evaluate, "evaluate": {**(evaluate.get("evaluate") or {}), "candidates": len(variants)}}


def best(
    variants: Sequence[str],
    models: Sequence[Artifact],
    scorecards: Sequence[Artifact],
    model: Artifact,
    score: Artifact,
) -> str:
    """Places the best variant's output of `tune` at `model` and of `evaluate` at `score`, and says which one it is.
    Raises VistuneError when the variants were not asked the same questions, or none has a number."""
    if not len(variants) == len(models) == len(scorecards):
        raise VistuneError(f"{len(variants)} variants, {len(models)} models and {len(scorecards)} scorecards.")
    folders = [Path(one.path) for one in scorecards]
    if len({evaluation_digest(folder) for folder in folders}) > 1:
        raise VistuneError("the variants were not asked the same questions, so they cannot be compared.")
    reached = [target(folder) for folder in folders]
    number = max(range(len(reached)), key=lambda n: (reached[n], -n))
    for n, (variant, value) in enumerate(zip(variants, reached, strict=True)):
        print(f"{'*' if n == number else ' '} {variant}: {value:+.4f}", flush=True)
    if reached[number] == -math.inf:
        raise VistuneError("no variant has a number for the gate's target. See the scorecards.")
    for source, place in ((models[number], model), (scorecards[number], score)):
        link_tree(Path(source.path), Path(place.path))
        place.metadata.update({**source.metadata, "variant": str(variants[number])})
    return f"{number}: {variants[number]}"


def target(scorecard: Path) -> float:
    """The estimate of the gate's target, the least of them where it has several; minus infinity without one."""
    checks = read_json(scorecard / "verdict.json").get("checks") or []
    found = [(c.get("estimate") or {}).get("mean") for c in checks if c.get("role") == "target"]
    numbers = [value if isinstance(value, int | float) and math.isfinite(value) else -math.inf for value in found]
    return min(numbers, default=-math.inf)
