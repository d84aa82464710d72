"""Scores that are no mean over items (F1, MME's totals, circular accuracy, CIDEr, ...) as sums of ratios, to which each
item adds a numerator and a denominator: what `statistics` needs to compute them anew in every replicate.

BLEU, a product of ratios, is linearised: an item's term is what it adds to first order, and their mean is BLEU itself.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from vistune.statistics import Terms

Maker = Callable[[Sequence[Any]], list[Terms]]


@cache
def table() -> dict[Callable[..., float], Maker]:
    """lm-eval aggregation of ours -> the terms of its values, one for each document, in their order."""
    from vistune.evaluate.scorers import captions, chair, hallusionbench, judged, mmbench, mme, ocrbench, pope

    return {
        pope.precision: _each(lambda pair: (all(pair), pair[0])),
        pope.recall: _each(lambda pair: (all(pair), pair[1])),
        pope.f1: _each(lambda pair: (2 * all(pair), sum(pair))),  # 2 TP / (said yes + is yes)
        mme.perception: lambda rows: _mme(rows, mme.PERCEPTION),
        mme.cognition: lambda rows: _mme(rows, mme.COGNITION),
        mmbench.circular: lambda turns: _all_right([(question, right) for question, _, right in turns]),
        mmbench.vanilla: _each(lambda turn: (turn[1] == 0 and turn[2], turn[1] == 0)),
        captions.cider: _cider,
        captions.bleu_1: lambda pairs: [{"": (value, 1.0)} for value in captions.bleu_of_each(pairs, 1)],
        captions.bleu_4: lambda pairs: [{"": (value, 1.0)} for value in captions.bleu_of_each(pairs, 4)],
        chair.chair_i: _each(lambda row: (sum(c not in row[1] for c in row[0].categories), len(row[0].categories))),
        chair.recall: _each(lambda row: (len(set(row[0].categories) & set(row[1])), len(set(row[1])))),
        hallusionbench.aacc: _each(lambda row: (_right(row), 1)),
        hallusionbench.facc: _facc,
        hallusionbench.qacc: _qacc,
        ocrbench.final_score: lambda rights: [{"": (len(rights) * right, 1.0)} for right in rights],  # a sum as a mean
        judged.aacc: lambda cases: [{"": (float(_right(r)), 1.0)} if r else {} for r in judged.rows(cases)],
        judged.facc: lambda cases: _facc(judged.rows(cases)),
        judged.qacc: lambda cases: _qacc(judged.rows(cases)),
        judged.relative: _each(_relative),
        judged.score: _each(lambda case: _mean_vote(case, 0)),
        judged.second: _each(lambda case: _mean_vote(case, 1)),
        judged.parse_failures: _each(_unread),
        judged.spread: _each(lambda case: _each_spread(judged.spread, case)),
        judged.dissent: _each(lambda case: _each_spread(judged.dissent, case)),
    }


def of_items(aggregations: Mapping[str, Callable[..., float]], values: Sequence[Mapping[str, Any]]) -> list[Any]:
    """metric -> terms of each item, for the metrics of a task that are in `table`. `values`: what its process_results
    gave for each."""
    found: list[dict[str, Terms]] = [{} for _ in values]
    for metric, aggregation in aggregations.items():
        maker = table().get(aggregation)
        if maker and values and all(metric in one for one in values):
            for item, terms in zip(found, maker([one[metric] for one in values]), strict=True):
                item[metric] = terms
    return found


def clusters(docs: Sequence[Mapping[str, Any]], images: Callable[[Mapping[str, Any]], Sequence[Any]]) -> list[str]:
    """Which items are not independent of one another: those that share a picture, or a group (MMBench's rotations,
    HallusionBench's edited figures). Called after the smallest digest among them; an item by itself after its id."""
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    keys = []
    for doc in docs:
        own = [image["sha256"] for image in images(doc)] or [f"item {doc['id']}"]
        own += [f"group {doc['group']}"] if doc.get("group") else []
        keys.append(own[0])
        for other in own[1:]:
            low, high = sorted((find(own[0]), find(other)))
            parent[high] = low
    return [find(key) for key in keys]


def _each(of: Callable[[Any], tuple[float, float]]) -> Maker:
    """Terms of one ratio whose parts are sums over items."""

    def terms(values: Sequence[Any]) -> list[Terms]:
        return [{"": (float(above), float(below))} for above, below in map(of, values)]

    return terms


def _all_right(items: Sequence[tuple[Any, bool]]) -> list[Terms]:
    """Share of the groups all of whose items are right; a group's terms are those of its first item. Items of the group
    None belong to none."""
    groups: dict[Any, list[bool]] = defaultdict(list)
    for group, right in items:
        groups[group].append(right)
    groups.pop(None, None)
    return [{"": (float(all(found)), 1.0)} if (found := groups.pop(group, None)) else {} for group, _ in items]


def _mme(rows: Sequence[tuple[str, str, bool]], subtasks: Sequence[str]) -> list[Terms]:
    """For each subtask 100 x accuracy, and 100 x the share of pictures with both questions right."""
    both = _all_right([(row[:2], row[2]) for row in rows])
    found: list[Terms] = []
    for (subtask, _, right), pair in zip(rows, both, strict=True):
        terms: Terms = {subtask: (100.0 * right, 1.0)}
        if pair:
            terms[f"{subtask}+"] = (100 * pair[""][0], 1.0)
        found.append(terms if subtask in subtasks else {})
    return found


def _cider(pairs: Sequence[Any]) -> list[Terms]:
    """Each caption's CIDEr-D, the weights of n-grams kept as all references of the set give them."""
    from vistune.evaluate.scorers.captions import Cider

    scorer = Cider([references for _, references in pairs])
    return [{"": (scorer.score(*pair), 1.0)} for pair in pairs]


def _mean_vote(case: Any, column: int) -> tuple[float, float]:
    """A judge's mean score of an answer; nothing where no vote could be read."""
    from vistune.evaluate.scorers.judged import votes

    (given,) = votes([case])
    return (sum(vote[column] for vote in given) / len(given), 1.0) if given else (0.0, 0.0)


def _unread(case: Any) -> tuple[float, float]:
    from vistune.evaluate import judge
    from vistune.evaluate.scorers.judged import votes

    (asked,), (read,) = judge.replies([case]), votes([case])
    return float(len(asked) - len(read)), float(len(asked))


def _each_spread(of: Callable[[Sequence[Any]], float], case: Any) -> tuple[float, float]:
    """Of an answer's votes; nothing where there are not two."""
    found = of([case])
    return (0.0, 0.0) if math.isnan(found) else (found, 1.0)


def _relative(case: Any) -> tuple[float, float]:
    """LLaVA-Bench: the model's and the reference's mean score."""
    return _mean_vote(case, 1)[0], _mean_vote(case, 0)[0]


def _facc(rows: Sequence[Any]) -> list[Terms]:
    """HallusionBench: figures all of whose questions are right; None is a verdict that could not be read."""
    return _all_right([(row[:4], _right(row)) if row and not _blind(row) else (None, False) for row in rows])


def _qacc(rows: Sequence[Any]) -> list[Terms]:
    return _all_right([((*row[:3], row[4]), _right(row)) if row else (None, False) for row in rows])


def _blind(row: Sequence[Any]) -> bool:
    return row[0] == "VS" and row[3] == "0"


def _right(row: Sequence[Any]) -> bool:
    """As `hallusionbench.accuracies`: leaving open what only a figure shows is right without the figure."""
    from vistune.evaluate.scorers.hallusionbench import RIGHT, UNCLEAR

    return row[5] == RIGHT or (_blind(row) and row[5] == UNCLEAR)
