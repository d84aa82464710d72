"""What `vistune evaluate --list` shows: the benchmarks of eval/tasks and the suites that name them, as files say it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vistune.params import LOADER


class _Plain(LOADER):  # type: ignore[misc, valid-type]
    """YAML whose `!function` tags are left as text."""


_Plain.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


DEMO = "vistune sources"


@dataclass(frozen=True)
class Listed:
    """One task, or one group of the demo's."""

    name: str
    title: str
    split: str
    items: str
    licence: str
    metric: str
    counted: str  # where the number of items comes from
    prompt: str
    files: str
    source: str
    suites: tuple[str, ...]


def listed(folder: Path) -> list[Listed]:
    """Every published benchmark, then every group of the demo, by name. `folder`: eval/ of the repository."""
    trees = dict(_trees(folder))
    suites: dict[str, list[str]] = defaultdict(list)
    for path in sorted((folder / "suites").glob("*.yaml")):
        for name in _read(path).get("tasks") or ():
            group = trees.get(name, {})
            for member in {name, *(group["task"] if "group" in group else ())}:
                suites[member].append(path.stem)
    rows = [_row(name, tree, tuple(suites[name])) for name, tree in trees.items() if _is_listed(tree)]
    return sorted(rows, key=lambda row: (row.source == DEMO, row.name))


def _is_listed(tree: dict[str, Any]) -> bool:
    return "about" in (tree.get("metadata") or {}) or str(tree.get("group", "")).startswith("demo_")


def _row(name: str, tree: dict[str, Any], suites: tuple[str, ...]) -> Listed:
    about = (tree.get("metadata") or {}).get("about")
    if about is None:
        metric = tree["aggregate_metric_list"][0]["metric"]
        return Listed(
            name,
            tree["group_alias"],
            "held out",
            "–",
            "of the sources",
            metric,
            "",
            "",
            "made by the stage",
            DEMO,
            suites,
        )
    source = about["homepage"].partition("//")[2] + ("" if about["hub"] == "none" else f", hub: {about['hub']}")
    files = f"{tree['dataset_kwargs'].get('folder', name)}/: {about['files']}"
    numbers = f"{int(about['items']):,}"
    what = (about["title"], about["split"], numbers, about["licence"], about["metric"])
    return Listed(name, *what, about["counted"], about["prompt"], files, source, suites)


def _trees(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted((folder / "tasks").rglob("*.yaml")):
        tree = _read(path)
        yield str(tree.get("group") or tree.get("task")), tree


def _read(path: Path) -> dict[str, Any]:
    found = yaml.load(path.read_text(encoding="utf-8"), Loader=_Plain)
    return found if isinstance(found, dict) else {}


def print_list(folder: Path) -> None:
    """Prints each task with its number of items and suites, and below it what it is and where its files come from."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.print("Tasks for suites in eval/suites; published files are laid under evaluate.data\n", markup=False)
    for row in listed(folder):
        console.print(f"{row.name:<28} {row.items:>8}  {', '.join(row.suites)}".rstrip(), style="bold", markup=False)
        lines = [f"{row.title}, {row.split} · {row.metric}", f"{row.licence} · {row.source}"]
        if row.prompt:
            lines += [f"prompt: {row.prompt} · items: {row.counted}", f"files: {row.files}"]
        for line in lines:
            console.print(f"    {line}", markup=False)
