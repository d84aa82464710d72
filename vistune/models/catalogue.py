"""The table of families, in words: what `vistune families` prints and docs/families.md shows."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from vistune.models import FAMILIES, family
from vistune.models.families.base import Composed, Family, Native, Preset, Stage

PHOTO = (800, 600)
"""Width and height of the image whose tokens are counted."""


@dataclass(frozen=True)
class Row:
    family: str
    views: str
    encoder: str
    connector: str
    injection: str
    tokens: str  # of an 800x600 image
    stages: str
    model_class: str
    original_weights: str
    exports_to: str


HEADINGS = {
    "family": "family",
    "views": "views",
    "encoder": "encoder",
    "connector": "connector",
    "injection": "injection",
    "tokens": "tokens of 800x600",
    "stages": "stages",
    "model_class": "class",
    "original_weights": "loads original weights",
    "exports_to": "exports to",
}


def rows() -> list[Row]:
    return [row(name) for name in FAMILIES]


def row(name: str) -> Row:
    known = family(name)
    title, preset = shown(known)
    return Row(
        family=name,
        views=known.views,
        encoder=known.encoder,
        connector=known.connector,
        injection=known.injection,
        tokens=f"{known.policy(preset.settings).plan(*PHOTO).tokens:,} ({title})" if title else "its processor's",
        stages=" → ".join(stage.name for stage in preset.stages) or "those of params.yaml",
        model_class=_class(known, preset),
        original_weights="yes" if known.original else "transformers'" if name == "auto" else "no",
        exports_to="vistune" if isinstance(known, Composed) else "transformers",
    )


def shown(known: Family) -> tuple[str, Preset]:
    """The published preset that stands for a family, and its name: of those with a recipe the one with the largest
    language model, then the most pixels, then the most stages. Of a family without published presets `tiny`, and no
    name."""
    published = {name: preset for name, preset in known.presets.items() if not name.startswith("tiny")}
    if not published:
        return "", known.presets["tiny"]

    def size(name: str) -> tuple[int, int, int]:
        preset = published[name]
        language = preset.text.get("hidden_size", 0) ** 2 * preset.text.get("num_hidden_layers", 0)
        views = known.policy(preset.settings).plan(*PHOTO).views
        return language, sum(math.prod(view.size) for view in views), len(preset.stages)

    name = max([name for name in published if published[name].stages] or published, key=size)
    return name, published[name]


def _class(known: Family, preset: Preset) -> str:
    if isinstance(known, Native):
        return known.model(preset.settings, preset.text, 0)[0].__name__
    return "vistune" if isinstance(known, Composed) else "any"


def markdown() -> str:
    """The table as docs/families.md has it."""
    lines = ["| " + " | ".join(HEADINGS.values()) + " |", "|" + " --- |" * len(HEADINGS)]
    for one in rows():
        values = [getattr(one, f.name) for f in fields(Row)]
        lines.append("| " + " | ".join([f"`{values[0]}`", *values[1:]]) + " |")
    return "\n".join(lines) + "\n"


def recipe(stage: Stage) -> list[tuple[str, str]]:
    """A stage's figures with their names; what was not published says so."""
    epochs = f"{stage.epochs:g} epoch{'' if stage.epochs == 1 else 's'}" if stage.epochs else ""
    steps = f"{stage.steps:,} steps" if stage.steps else ""
    warmup = "" if stage.warmup is None else f"{stage.warmup:g}" + (" steps" if stage.warmup > 1 else " of the steps")
    pairs = [
        ("trains", ", ".join(f"{role} {_rate(rate)}" for role, rate in stage.rates.items())),
        ("LoRA", ", ".join(f"{role} rank {rank}" for role, rank in stage.lora.items())),
        ("data", stage.data),
        ("samples", f"{stage.samples:,}" if stage.samples else ""),
        ("batch", f"{stage.batch:,}" if stage.batch else ""),
        ("length", ", ".join(filter(None, (epochs, steps)))),
        ("schedule", stage.schedule),
        ("warm-up", warmup),
        ("weight decay", "" if stage.weight_decay is None else f"{stage.weight_decay:g}"),
        ("limit", f"{stage.limit:,} tokens" if stage.limit else ""),
    ]
    found = [(name, value or "not published") for name, value in pairs if value or name != "LoRA"]
    changes = ({"template": stage.template} if stage.template else {}) | dict(stage.settings)
    changed = ", ".join(f"{key} {value}" for key, value in changes.items())
    extras = [("differs", changed), ("note", stage.note), ("source", stage.source)]
    return found + [(name, value) for name, value in extras if value]


def _rate(rate: float | None) -> str:
    return "(rate not published)" if rate is None else f"{rate:g}"


def print_table() -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, title="Model families; `vistune families NAME` shows presets and recipe")
    for heading in HEADINGS.values():
        table.add_column(heading, no_wrap=heading == "family", overflow="fold")
    for one in rows():
        table.add_row(*(Text(getattr(one, f.name)) for f in fields(Row)))
    _console().print(table)


def print_family(name: str) -> None:
    """Presets of a family and its published recipe. Raises VistuneError for an unknown name."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    known, console = family(name), _console()
    console.print(Text(f"{known.title}: {known.source}"))
    table = Table(box=box.SIMPLE, title="Presets")
    for heading in ("preset", "language model", "tokens of 800x600", "limit", "template", "weights", "parts"):
        table.add_column(heading, no_wrap=heading == "preset", overflow="fold")
    for title, preset in known.presets.items():
        text = preset.text
        shape = f"{text.get('model_type', '?')} {text.get('num_hidden_layers', '?')} x {text.get('hidden_size', '?')}"
        tokens = "" if name == "auto" else f"{known.policy(preset.settings).plan(*PHOTO).tokens:,}"
        parts = ", ".join(filter(None, (preset.language, preset.vision)))
        cells = (title, shape, tokens, f"{preset.limit:,}", preset.template, preset.weights, parts)
        table.add_row(*map(Text, cells))
    console.print(table)
    _print_recipes(known, console)


def _print_recipes(known: Family, console: Any) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    recipes: list[tuple[tuple[Stage, ...], list[str]]] = []
    for title, preset in known.presets.items():
        if title.startswith("tiny") and len(known.presets) > 1:
            continue
        same = [titles for stages, titles in recipes if stages == preset.stages]
        if same:
            same[0].append(title)
        else:
            recipes.append((preset.stages, [title]))
    for stages, titles in recipes:
        for stage in stages:
            table = Table(box=box.SIMPLE, show_header=False, title=f"{stage.name}: {', '.join(titles)}", min_width=60)
            table.add_column(no_wrap=True)
            table.add_column(overflow="fold")
            for key, value in recipe(stage):
                table.add_row(key, Text(value))
            console.print(table)


def _console() -> Any:
    """As wide as the terminal; where there is none, wide enough for the table."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=200)
