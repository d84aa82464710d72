"""The scorecard: every score beside its blind baselines, with intervals; as data, and as flat metrics.

Numbers are shares in [0, 1]; the page shows them in percent.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from vistune.evaluate.answers import Column, Scores
from vistune.evaluate.statistics import detectable, estimate, majority

SCHEMA_VERSION = 1

SHARED_CHOICES = 10

PRIMARY = "accuracy: the choice with the highest mean log-probability per token (end of turn included) is the gold one"


def build(
    scores: Scores,
    groups: Mapping[str, Sequence[str]],
    about: Mapping[str, Mapping[str, Any]],
    runs: Mapping[str, Sequence[str]],
    seed: int,
    replicates: int,
    confidence: float,
) -> dict[str, Any]:
    """`groups`: title -> benchmarks; `about`: benchmark -> its description; `runs`: model -> conditions."""
    options = {"seed": seed, "replicates": replicates, "confidence": confidence}
    pairs = [(model, condition) for model, conditions in runs.items() for condition in conditions]
    return {
        "schema": SCHEMA_VERSION,
        "primary": PRIMARY,
        "options": options,
        "runs": {model: list(conditions) for model, conditions in runs.items()},
        "benchmarks": [{"name": n, **about[n], **_entry(scores, [n], pairs, options)} for n in scores.benchmarks],
        "groups": [
            {"name": title, "benchmarks": list(names), **_entry(scores, names, pairs, options)}
            for title, names in groups.items()
        ],
    }


def _entry(
    scores: Scores, names: Sequence[str], pairs: Sequence[tuple[str, str]], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Scores and differences over the items of these benchmarks."""
    rows, generated = [], []
    for model, condition in pairs:
        column = scores.column(names, model, condition)
        if column is not None:
            more = {m: _mean(scores.column(names, model, condition, m)) for m in ("accuracy_sum", "greedy")}
            rows.append({"model": model, "condition": condition, **_numbers(column, options), **more})
        answered = [n for n in names if scores.column([n], model, condition, "exact_match")]
        column = scores.column(answered, model, condition, "exact_match")
        if column is not None:
            generated.append({"model": model, "condition": condition, **_numbers(column, options)})
    return {
        **_guessing(scores, names),
        "scores": rows,
        "differences": _differences(scores, names, pairs, options, "accuracy"),
        "exact_match": generated,
    }


def _guessing(scores: Scores, names: Sequence[str]) -> dict[str, Any]:
    """What needs neither model nor image, as means over items. chance: a random choice. majority: always the most
    frequent gold answer of the items that offer the same choices; where choices change from item to item (fewer than
    SHARED_CHOICES items offer them) no answer is frequent, and a random choice stands in."""
    alike: dict[tuple[str, frozenset[str]], list[str]] = defaultdict(list)
    for name in names:
        for answer in scores.asked(name):
            alike[name, frozenset(answer.scores)].append(answer.gold)
    total = sum(map(len, alike.values()))
    if not total:
        return {"chance": None, "majority": None}
    chance = math.fsum(len(gold) / len(choices) for (_, choices), gold in alike.items())
    guessed = math.fsum(
        len(gold) * (majority(gold) if len(gold) >= SHARED_CHOICES else 1 / len(choices))
        for (_, choices), gold in alike.items()
    )
    return {"chance": chance / total, "majority": guessed / total}


def _differences(
    scores: Scores,
    names: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    options: Mapping[str, Any],
    metric: str,
) -> list[dict[str, Any]]:
    """tuned - base under the true image, and each model's true image minus its blind conditions."""
    compared = [(("tuned", "image"), ("base", "image"))]
    compared += [((model, "image"), (model, condition)) for model, condition in pairs if condition != "image"]
    found = []
    for a, b in compared:
        column = scores.difference(scores.column(names, *a, metric), scores.column(names, *b, metric))
        if column is not None:
            numbers = _numbers(column, options)
            least = _finite(detectable(numbers["error"] or math.nan, options["confidence"]))
            found.append({"of": list(a), "minus": list(b), **numbers, "detectable": least})
    return found


def _numbers(column: Column, options: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _finite(v) for k, v in asdict(estimate(column.values, column.images, **options)).items()}


def _mean(column: Column | None) -> float | None:
    return None if column is None else _finite(float(column.values.mean()))


def _finite(value: Any) -> Any:
    """JSON has no NaN: null in its place."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def metrics(card: Mapping[str, Any], verdict: Mapping[str, Any]) -> dict[str, float]:
    """Flat names for MLflow and Kubeflow: accuracy/<benchmark>/<model>/<condition>, exact_match/...,
    chance/<benchmark>, majority/<benchmark>, difference/target/<comparison> with /low and /high, gate/<verdict>."""
    flat: dict[str, float] = {}
    for entry in card["benchmarks"]:
        name = entry["name"]
        flat[f"chance/{name}"], flat[f"majority/{name}"] = entry["chance"], entry["majority"]
        for row in entry["scores"]:
            flat[f"accuracy/{name}/{row['model']}/{row['condition']}"] = row["mean"]
        for row in entry["exact_match"]:
            flat[f"exact_match/{name}/{row['model']}/{row['condition']}"] = row["mean"]
    for check in verdict["checks"]:
        if check["role"] == "target" and check["estimate"]:
            name = f"difference/target/{check['comparison'].replace(' ', '')}"
            flat[name] = check["estimate"]["mean"]
            flat[f"{name}/low"], flat[f"{name}/high"] = check["estimate"]["low"], check["estimate"]["high"]
    for name in ("pass", "fail", "inconclusive"):
        flat[f"gate/{name}"] = float(verdict["verdict"] == name)
    return {name: float(value) for name, value in flat.items() if value is not None}
