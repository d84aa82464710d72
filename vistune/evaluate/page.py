"""The scorecard as one self-contained HTML page: a dot-and-interval plot, tables, errors, free answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vistune import pages
from vistune.evaluate.gallery import picture

MARKS = [  # model, condition, shape and colour in the plot, in drawing order (last on top)
    ("base", "image", "base"),
    ("tuned", "none", "none"),
    ("tuned", "blank", "blank"),
    ("tuned", "shuffled", "shuffled"),
    ("tuned", "image", "tuned"),
]

SHOWN = {"image": "", "shuffled": ", other image", "blank": ", grey image", "none": ", no image"}

MINUS = {"shuffled": "image − shuffled", "blank": "image − grey", "none": "image − no image"}

ARROWS = {True: " ↑", False: " ↓", None: ""}
"""Whether more of a metric is better."""

OWN_UNITS = ("perception", "cognition", "final_score", "cider", "words", "length")

SIDE, MARGIN = 260, 20  # pixels of the plot of yes and no

LEFT, WIDTH, RIGHT, ROW, TOP = 210, 560, 20, 26, 26  # pixels of the plot


def render(
    card: Mapping[str, Any],
    verdict: Mapping[str, Any],
    errors: Sequence[Mapping[str, Any]],
    pairs: Sequence[Mapping[str, str]],
    roots: Sequence[Path],
) -> str:
    context = {
        "card": card,
        "verdict": verdict,
        "errors": errors,
        "pairs": pairs,
        "pictures": {row["path"]: picture(roots, row["path"]) for row in pairs},
        "sections": sections(card),
        "plot": plot(card),
        "columns": columns(card),
        "blind": [(condition, MINUS[condition]) for condition in card["runs"].get("tuned", ()) if condition in MINUS],
        "concepts": [c for c in card["concepts"] if len(card["concepts"]) > 1],
        "measured": measured(card),
        "published": [entry for entry in card["benchmarks"] if entry.get("published")],
        "standings": [entry for entry in card["benchmarks"] if entry.get("standing")],
        "calibration": calibration(card),
        "lengths": [(e["name"], r) for e in card["benchmarks"] for r in e["lengths"] if r["condition"] == "image"],
        "cell": cell,
        "difference": difference,
    }
    filters: dict[str, Callable[..., str]] = {"percent": percent, "points": points, "interval": interval}
    return pages.render(Path(__file__).with_name("scorecard.html"), context, filters)


def columns(card: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Every model under every condition, with what it is called: base and tuned, then models behind servers."""
    names = sorted(card["runs"], key=("base", "tuned", *card["runs"]).index)
    return [(name, shown, f"{name}{SHOWN[shown]}") for name in names for shown in card["runs"][name]]


def marks(card: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """What the plot shows: model, condition, style, name; models behind servers with their true images."""
    called = {(model, condition): text for model, condition, text in columns(card)}
    known = [(m, c, style, called[m, c]) for m, c, style in MARKS if (m, c) in called]
    return known + [
        (m, c, "other", text) for (m, c), text in called.items() if m not in ("base", "tuned") and c == "image"
    ]


def sections(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The groups in the suite's order, each with its benchmarks; benchmarks of no group come last."""
    by_name = {entry["name"]: entry for entry in card["benchmarks"]}
    found = [
        {"group": g, "title": g["name"], "members": [by_name.pop(n) for n in g["benchmarks"]]} for g in card["groups"]
    ]
    rest = [{"group": None, "title": "Other benchmarks", "members": list(by_name.values())}]
    return [section for section in found + rest if section["members"]]


def plot(card: Mapping[str, Any]) -> dict[str, Any]:
    """Geometry of the plot: one line per benchmark, grouped, with a dot and an interval per model and condition."""
    drawn = marks(card)
    row = max(ROW, 4 * len(drawn) + 8)
    lines, titles, y = [], [], TOP
    for section in sections(card):
        members = [entry for entry in section["members"] if entry["scores"]]
        if not members:
            continue
        titles.append({"y": y + row / 2, "text": section["title"]})
        y += row
        for entry in members:
            dots = []
            for offset, (model, condition, style, _) in enumerate(drawn):
                found = cell(entry, model, condition)
                if found:
                    ends = [x(found["mean"] if found[k] is None else found[k]) for k in ("low", "mean", "high")]
                    dots.append({"x1": ends[0], "x": ends[1], "x2": ends[2], "y": y + 5 + 4 * offset, "style": style})
            guess = None if entry["majority"] is None else x(entry["majority"])
            lines.append({"y": y, "name": entry["name"], "marks": dots, "guess": guess})
            y += row
    ticks = [{"x": x(t / 100), "text": f"{t} %"} for t in range(0, 101, 20)]
    return {
        "lines": lines,
        "titles": titles,
        "ticks": ticks,
        "width": LEFT + WIDTH + RIGHT,
        "height": y + 6,
        "top": TOP,
        "row": row,
        "left": LEFT,
        "keys": [(style, text) for _, _, style, text in reversed(drawn)],
    }


def measured(card: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The metrics beside accuracy, as text; groups after their benchmarks."""
    rows = []
    for entry in [*card["benchmarks"], *card["groups"]]:
        for table in entry["metrics"]:
            times = 1.0 if table["metric"] in OWN_UNITS else 100.0
            found = [cell(table, model, condition) for model, condition, _ in columns(card)]
            cells = [interval(one, times, "{:.1f}") for one in found]
            cells.append(interval(difference(table, "base", "image"), times, "{:+.1f}"))
            metric = table["metric"].replace("_", " ") + ARROWS[table["higher_is_better"]]
            rows.append({"name": entry["name"], "metric": metric, "cells": cells})
    return rows


def interval(row: Mapping[str, Any] | None, times: float, form: str) -> str:
    """
    >>> interval({"mean": 0.5, "low": 0.4, "high": 0.6}, 100, "{:.1f}"), interval(None, 1, "{:.1f}")
    ('50.0 [40.0, 60.0]', '–')
    """
    if row is None or row["mean"] is None:
        return "–"
    mean, low, high = (None if row[k] is None else form.format(times * row[k]) for k in ("mean", "low", "high"))
    return f"{mean}" if low is None or high is None else f"{mean} [{low}, {high}]"


def calibration(card: Mapping[str, Any]) -> dict[str, Any]:
    """How often each model says yes against how often it is so: a square plot and the rows of its table."""
    rows = [(entry["name"], row) for entry in card["benchmarks"] for row in entry["yes_no"]]
    styles = {(model, condition): style for model, condition, style in MARKS}
    span = SIDE - MARGIN
    dots = []
    for name, row in rows:
        style = styles.get((row["model"], row["condition"]))
        if style:
            across, up = MARGIN + span * row["said_yes"], span * (1 - row["is_yes"])
            text = f"{name}: {row['model']} ({row['condition']})"
            dots.append({"x": round(across, 1), "y": round(up, 1), "style": style, "text": text})
    return {"rows": rows, "dots": dots, "side": SIDE, "margin": MARGIN}


def x(share: float) -> float:
    return round(LEFT + WIDTH * share, 1)


def cell(entry: Mapping[str, Any], model: str, condition: str, table: str = "scores") -> dict[str, Any] | None:
    """The row of a model under a condition, or None."""
    found = [r for r in entry[table] if r["model"] == model and r["condition"] == condition]
    return found[0] if found else None


def difference(entry: Mapping[str, Any], model: str, condition: str) -> dict[str, Any] | None:
    """tuned under the true image minus this, or None."""
    found = [r for r in entry["differences"] if r["of"] == ["tuned", "image"] and r["minus"] == [model, condition]]
    return found[0] if found else None


def percent(share: float | None) -> str:
    """
    >>> percent(0.125), percent(None)
    ('12.5', '–')
    """
    return "–" if share is None else f"{100 * share:.1f}"


def points(share: float | None) -> str:
    """
    >>> points(0.125), points(-0.02)
    ('+12.5', '-2.0')
    """
    return "–" if share is None else f"{100 * share:+.1f}"
