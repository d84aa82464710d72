"""What a suite's benchmarks are, as their task files say it, beside what was read from the files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from vistune.answers import Directions
from vistune.errors import VistuneError
from vistune.evaluate import aggregates
from vistune.evaluate.harness import Loaded, is_published
from vistune.evaluate.scorecard import NAMES

TOLD = ("title", "split", "items", "counted", "licence", "metric", "prompt", "files", "hub", "homepage")
"""What a task file says under `metadata.about`."""


def described(loaded: Loaded) -> dict[str, dict[str, Any]]:
    """What the scorecard says about published benchmarks. Raises VistuneError where a task file does not say all."""
    found = {}
    for name, task in loaded.tasks.items():
        if is_published(task):
            docs, about = task.eval_docs, task.config.metadata["about"]
            if missing := [key for key in TOLD if about.get(key) in (None, "")]:
                raise VistuneError(
                    f"the file of task {name} does not say {', '.join(missing)} under metadata.about. "
                    "docs/evaluation.md has an example."
                )
            known = {"task": about["metric"], "concepts": "external", "trained_task": False}
            known |= {"licence": about["licence"], "wording_of": task.config.metadata.get("wording_of", "")}
            found[docs[0]["benchmark"]] = known | {"published": published(about, docs.total)}
    return found


def published(about: Mapping[str, Any], held: int) -> dict[str, Any]:
    """A benchmark's description with the items that its files hold. A part of a benchmark is another benchmark, so a
    difference from the stated size is told, with where that figure comes from.

    >>> gqa = {"title": "GQA", "split": "testdev", "prompt": "", "items": 12578, "counted": "the paper", "homepage": ""}
    >>> published(gqa, 12578)["notice"], published(gqa, 3)["notice"]
    ('', 'its files hold 3 items, not 12,578 (the paper): not comparable with published scores')
    """
    stated, notice = int(about["items"]), ""
    if held != stated:
        notice = f"its files hold {held:,} items, not {stated:,} ({about['counted']}): "
        notice += "not comparable with published scores"
    kept = {name: str(about[name]) for name in ("title", "split", "prompt", "counted", "homepage")}
    return kept | {"items": stated, "held": held, "notice": notice}


def notices(described: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """Benchmarks whose files are not the whole."""
    for name, entry in described.items():
        if entry["published"]["notice"] and not entry["wording_of"]:  # which is read from the same files
            yield f"{name}: {entry['published']['notice']}"


def directions(loaded: Loaded) -> Directions:
    """Every metric of the suite's benchmarks, and whether more of it is better. `accuracy` is there where an item has a
    score by itself (see `harness.collect`)."""
    found: dict[str, dict[str, bool | None]] = defaultdict(dict)
    for task in loaded.tasks.values():
        own = {NAMES.get(metric, metric): better for metric, better in task.higher_is_better().items()}
        single = (metric for metric, how in task.aggregation().items() if how not in aggregates.table())
        if is_published(task) and (task.config.metadata.get("judged") or any(own.get(metric) for metric in single)):
            own.setdefault("accuracy", True)
        found[task.eval_docs[0]["benchmark"]] |= own
    return found
