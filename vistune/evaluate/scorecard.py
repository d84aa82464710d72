"""The scorecard: every score beside its blind baselines, with intervals; as data, and as flat metrics.

Numbers are shares in [0, 1], which the page shows in percent, but for the totals of MME and OCRBench, CIDEr and
words, which are in their own units.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from vistune.answers import Answer, Column, Scores
from vistune.statistics import clustered_error, detectable, estimate, majority, sensitivity

SCHEMA_VERSION = 3

SHARED_CHOICES = 10

RECURRING = 5
"""Free answers have a majority when gold answers recur as often as this on average."""

PRIMARY = "accuracy: the choice with the highest mean log-probability per token (end of turn included) is the gold one"
SCORED = "; free answers as their benchmark scores them"

ELSEWHERE = ("accuracy", "accuracy_sum", "greedy", "exact_match")
"""Metrics that have a table of their own."""

NAMES = {"acc": "accuracy", "acc_sum": "accuracy_sum"}
"""What lm-eval calls a metric of ranked choices -> what answers call it."""

UNKNOWN = "N/A"
"""lm-eval's word for a standard error that there is none of."""

Pair = tuple[str, str]  # model, condition


def build(
    scores: Scores,
    groups: Mapping[str, Sequence[str]],
    about: Mapping[str, Mapping[str, Any]],
    runs: Mapping[str, Sequence[str]],
    seed: int,
    replicates: int,
    confidence: float,
    contaminated: Collection[str] = (),
) -> dict[str, Any]:
    """`groups`: title -> benchmarks; `about`: benchmark -> its description; `runs`: model -> conditions;
    `contaminated`: items that training saw, which are also scored by themselves."""
    options = {"seed": seed, "replicates": replicates, "confidence": confidence}
    pairs = [(model, condition) for model, conditions in runs.items() for condition in conditions]
    maker = _Maker(scores, pairs, options)
    ranked = any(a.kind == "choice" for a in scores.answers.values())
    free = any(a.kind == "generation" and "accuracy" in a.metrics for a in scores.answers.values())
    return {
        "schema": SCHEMA_VERSION,
        "primary": PRIMARY + (SCORED if free else "") if ranked else SCORED.removeprefix("; "),
        "options": options,
        "runs": {model: list(conditions) for model, conditions in runs.items()},
        "benchmarks": [
            {"name": n, **about[n], **maker.entry([n]), **maker.details(n), "parts": maker.parts(n, contaminated)}
            for n in scores.benchmarks
        ],
        "groups": [{"name": title, "benchmarks": list(names), **maker.entry(names)} for title, names in groups.items()],
        "concepts": maker.concepts(),
        "sensitivity": _sensitivity(scores, about, pairs),
    }


class _Maker:
    """The tables of a scorecard."""

    def __init__(self, scores: Scores, pairs: Sequence[Pair], options: Mapping[str, Any]) -> None:
        self.scores, self.pairs, self.options = scores, pairs, options

    def entry(self, names: Sequence[str]) -> dict[str, Any]:
        """Scores and differences over the items of these benchmarks."""
        rows, generated = [], []
        for model, condition in self.pairs:
            column = self.scores.column(names, model, condition)
            if column is not None:
                extra = {m: self.scores.column(names, model, condition, m) for m in ("accuracy_sum", "greedy")}
                more = {m: None if c is None else _finite(float(c.values.mean())) for m, c in extra.items()}
                rows.append({"model": model, "condition": condition, **self.numbers(column), **more})
            answered = [n for n in names if self.scores.column([n], model, condition, "exact_match")]
            column = self.scores.column(answered, model, condition, "exact_match")
            if column is not None:
                generated.append({"model": model, "condition": condition, **self.numbers(column)})
        return {
            **_guessing(self.scores, names),
            "scores": rows,
            "differences": self.differences(names, "accuracy"),
            "exact_match": generated,
            "metrics": self.others(names),
        }

    def others(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """The other metrics that all of these benchmarks have, with what separates base and tuned."""
        shared = set.intersection(*(set(self.scores.metrics(n)) for n in names)) if names else set()
        tables = []
        for metric in sorted(shared - set(ELSEWHERE)):
            rows = [(p, self.scores.column(names, *p, metric)) for p in self.pairs]
            found = [{"model": p[0], "condition": p[1], **self.numbers(c)} for p, c in rows if c is not None]
            better = self.scores.higher_is_better(names, metric)
            gaps = self.differences(names, metric)
            tables.append({"metric": metric, "higher_is_better": better, "scores": found, "differences": gaps})
        return tables

    def differences(self, names: Sequence[str], metric: str) -> list[dict[str, Any]]:
        """tuned - base under the true image, and each model's true image minus its blind conditions."""
        compared = [(("tuned", "image"), ("base", "image"))]
        compared += [((model, "image"), (model, condition)) for model, condition in self.pairs if condition != "image"]
        found = []
        for a, b in compared:
            ours, theirs = self.scores.column(names, *a, metric), self.scores.column(names, *b, metric)
            column = self.scores.difference(ours, theirs)
            if column is not None:
                numbers = self.numbers(column)
                least = _finite(detectable(numbers["error"] or math.nan, self.options["confidence"]))
                found.append({"of": list(a), "minus": list(b), **numbers, "detectable": least})
        return found

    def details(self, name: str) -> dict[str, Any]:
        """Tables of one benchmark's categories, of what was said to yes-no questions, and of how long answers are."""
        cells = {p: self.scores.cells.get((name, *p), []) for p in self.pairs}
        kinds = sorted({a.task for cell in cells.values() for a in cell})
        return {
            "categories": [
                {"name": kind, "scores": self.of_part(cells, lambda a, kind=kind: a.task == kind)} for kind in kinds
            ]
            if len(kinds) > 1
            else [],
            "yes_no": [_yes_no(p, _once(cell)) for p, cell in cells.items() if _asks_yes_no(cell)],
            "lengths": [_lengths(p, cell) for p, cell in cells.items() if any(a.kind == "generation" for a in cell)],
        }

    def parts(self, name: str, contaminated: Collection[str]) -> list[dict[str, Any]]:
        """What training saw and what it did not, apart; empty where it saw none."""
        cells = {p: self.scores.cells.get((name, *p), []) for p in self.pairs if p[1] == "image"}
        if not any(a.item in contaminated for cell in cells.values() for a in cell):
            return []
        return [
            {"name": part, "scores": self.of_part(cells, lambda a, seen=seen: (a.item in contaminated) == seen)}
            for part, seen in (("clean", False), ("contaminated", True))
        ]

    def concepts(self) -> list[dict[str, Any]]:
        """The same scores by how far training knew what the pictures show, over all benchmarks."""
        known = sorted({a.concepts for a in self.scores.answers.values() if a.concepts})
        cells: dict[Pair, list[Answer]] = {
            p: [a for n in self.scores.benchmarks for a in self.scores.cells.get((n, *p), [])] for p in self.pairs
        }
        return [
            {"name": name, "scores": self.of_part(cells, lambda a, name=name: a.concepts == name)} for name in known
        ]

    def of_part(self, cells: Mapping[Pair, Sequence[Answer]], belongs: Any) -> list[dict[str, Any]]:
        rows = []
        for (model, condition), cell in cells.items():
            own = Scores(a for a in cell if belongs(a) and "accuracy" in a.metrics)
            column = own.column(own.benchmarks, model, condition)
            if column is not None:
                rows.append({"model": model, "condition": condition, **self.numbers(column)})
        return rows

    def numbers(self, column: Column) -> dict[str, Any]:
        return {k: _finite(v) for k, v in asdict(estimate(column.values, column.images, **self.options)).items()}


def _guessing(scores: Scores, names: Sequence[str]) -> dict[str, Any]:
    """What needs neither model nor image, as means over items. chance: a random choice. majority: always the most
    frequent gold answer of the items that offer the same choices; where choices change from item to item (fewer than
    SHARED_CHOICES items offer them) no answer is frequent, and a random choice stands in. Free answers have no chance,
    and a majority where gold answers recur."""
    alike: dict[tuple[str, frozenset[str]], list[str]] = defaultdict(list)
    for name in names:
        for answer in scores.asked(name):
            alike[name, frozenset(answer.scores)].append(answer.gold)
    total = sum(map(len, alike.values()))
    if not total:
        gold = [a.gold.strip().lower() for name in names for a in scores.free(name)]
        recurs = len(gold) >= max(SHARED_CHOICES, RECURRING * len(set(gold)))
        return {"chance": None, "majority": majority(gold) if recurs else None}
    chance = math.fsum(len(gold) / len(choices) for (_, choices), gold in alike.items())
    guessed = math.fsum(
        len(gold) * (majority(gold) if len(gold) >= SHARED_CHOICES else 1 / len(choices))
        for (_, choices), gold in alike.items()
    )
    return {"chance": chance / total, "majority": guessed / total}


def says_yes(text: str) -> bool | None:
    """Whether an answer says yes or no: its first word. None when it says neither.

    >>> says_yes("Yes, it is."), says_yes("no"), says_yes("A dog")
    (True, False, None)
    """
    first = "".join(c if c.isalpha() else " " for c in text.lower()).split()[:1]
    return {"yes": True, "no": False}.get(first[0]) if first else None


def _asks_yes_no(cell: Sequence[Answer]) -> bool:
    return bool(cell) and all(a.gold.strip().lower() in ("yes", "no") for a in cell)


def _once(cell: Sequence[Answer]) -> list[Answer]:
    """Where items are both ranked and answered freely, the ranked ones."""
    kind = min(a.kind for a in cell)
    return [a for a in cell if a.kind == kind]


def _yes_no(pair: Pair, cell: Sequence[Answer]) -> dict[str, Any]:
    """How often a model says yes, and how often that is right: a model that says yes whatever it is shown has a
    said_yes of 1 and a false_yes of 1."""
    said = [says_yes(a.answer) for a in cell]
    truth = [a.gold.strip().lower() == "yes" for a in cell]
    right, wrong = (
        [s for s, t in zip(said, truth, strict=True) if t],
        [s for s, t in zip(said, truth, strict=True) if not t],
    )
    return {
        "model": pair[0],
        "condition": pair[1],
        "items": len(cell),
        "said_yes": said.count(True) / len(said),
        "is_yes": sum(truth) / len(truth),
        "true_yes": right.count(True) / len(right) if right else None,  # of the questions whose answer is yes
        "false_yes": wrong.count(True) / len(wrong) if wrong else None,  # of those whose answer is no
        "neither": said.count(None) / len(said),
    }


def _lengths(pair: Pair, cell: Sequence[Answer]) -> dict[str, Any]:
    """Words of the free answers: scores of captions, and what a judge thinks, depend on them."""
    words = sorted(len(a.answer.split()) for a in cell if a.kind == "generation")
    return {
        "model": pair[0],
        "condition": pair[1],
        "answers": len(words),
        "mean": sum(words) / len(words),
        "median": float(words[len(words) // 2]),
        "p95": float(words[min(len(words) - 1, int(0.95 * len(words)))]),
        "longest": words[-1],
        "empty": words.count(0) / len(words),
    }


def _sensitivity(scores: Scores, about: Mapping[str, Mapping[str, Any]], pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """MultiInstruct's instruction sensitivity: how far scores move with the wording of the instruction."""
    wordings: dict[str, list[str]] = defaultdict(list)
    for name in scores.benchmarks:
        wordings[about[name].get("wording_of") or name].append(name)
    asked = {name: members for name, members in wordings.items() if len(members) > 1}
    rows = []
    for pair in pairs if asked else ():
        tasks = {}
        for name, members in sorted(asked.items()):
            columns = [scores.column([member], *pair) for member in members]
            tasks[name] = [float(c.values.mean()) for c in columns if c is not None]
        value = _finite(sensitivity(tasks))
        spans = [
            {"task": n, "low": min(t), "mean": sum(t) / len(t), "high": max(t), "wordings": len(t)}
            for n, t in tasks.items()
            if t
        ]
        rows.append({"model": pair[0], "condition": pair[1], "sensitivity": value, "tasks": spans})
    return rows


def _finite(value: Any) -> Any:
    """JSON has no NaN: null in its place."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def with_errors(results: dict[str, Any], scores: Scores, model: str, condition: str) -> dict[str, Any]:
    """lm-eval's results with our standard errors, clustered by image, where it has none."""
    tables = {}
    for name, row in results["results"].items():
        errors = {}
        for key in row:
            metric, _, rest = key.partition(",")
            known = NAMES.get(metric, metric)
            column = scores.column([name], model, condition, known) if f"{metric}_stderr,{rest}" in row else None
            if column is not None:
                error = clustered_error(column.values, column.images)
                errors[f"{metric}_stderr,{rest}"] = error if math.isfinite(error) else UNKNOWN
        tables[name] = row | errors
    return results | {"results": tables}


def metrics(card: Mapping[str, Any], verdict: Mapping[str, Any]) -> dict[str, float]:
    """Flat names for MLflow and Kubeflow: accuracy/<benchmark>/<model>/<condition>, exact_match/..., <metric>/...,
    chance/<benchmark>, majority/<benchmark>, difference/target/<comparison> with /low and /high, gate/<verdict>."""
    flat: dict[str, float] = {}
    for entry in card["benchmarks"]:
        name = entry["name"]
        flat[f"chance/{name}"], flat[f"majority/{name}"] = entry["chance"], entry["majority"]
        for row in entry["scores"]:
            flat[f"accuracy/{name}/{row['model']}/{row['condition']}"] = row["mean"]
        for row in entry["exact_match"]:
            flat[f"exact_match/{name}/{row['model']}/{row['condition']}"] = row["mean"]
        for table in entry["metrics"]:
            for row in table["scores"]:
                flat[f"{table['metric']}/{name}/{row['model']}/{row['condition']}"] = row["mean"]
        for row in entry["yes_no"]:
            flat[f"said_yes/{name}/{row['model']}/{row['condition']}"] = row["said_yes"]
    for row in card["sensitivity"]:
        flat[f"sensitivity/{row['model']}/{row['condition']}"] = row["sensitivity"]
    for check in verdict["checks"]:
        if check["role"] == "target" and check["estimate"]:
            name = f"difference/target/{check['comparison'].replace(' ', '')}"
            flat[name] = check["estimate"]["mean"]
            flat[f"{name}/low"], flat[f"{name}/high"] = check["estimate"]["low"], check["estimate"]["high"]
    for name in ("pass", "fail", "inconclusive"):
        flat[f"gate/{name}"] = float(verdict["verdict"] == name)
    return {name: float(value) for name, value in flat.items() if value is not None}
