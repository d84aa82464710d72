"""The scorecard as rows of dots with intervals, and questions with the answers of both models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vistune.hashing import shuffled
from vistune.records import ImageRef
from vistune.report.charts import Scale, nice_ticks
from vistune.report.pictures import thumbnail
from vistune.report.sections import number
from vistune.store import has_image

Row = Mapping[str, Any]

SHOWN = (  # (model, condition), words, colour, hollow; in the order of their lanes
    (("tuned", "image"), "tuned", "tuned", False),
    (("base", "image"), "base", "base", False),
    (("tuned", "shuffled"), "tuned, shuffled images", "blind", False),
    (("tuned", "blank"), "tuned, grey image", "grey", False),
    (("tuned", "none"), "tuned, no image", "blind", True),
)

PERCENT = Scale(0.0, 1.0)

SHARE = 100.0
"""What a difference of shares is multiplied with to be told in points."""


def scorecard(card: Row, verdict: Row) -> dict[str, Any]:
    """What the gate decided on, then every benchmark by group, then all numbers as a table."""
    groups = list(card.get("groups", []))
    by_name = {b["name"]: b for b in card.get("benchmarks", [])}
    seen: set[str] = set()
    blocks = []
    for group in groups:
        names = [n for n in group.get("benchmarks", []) if n in by_name and n not in seen]
        seen.update(names)
        rows = [benchmark(by_name[n], n) for n in names]
        if len(rows) > 1:
            rows.insert(0, {**benchmark(group, "all of them"), "whole": True})
        blocks.append({"title": group["name"], "rows": rows})
    left = [benchmark(b, n) for n, b in by_name.items() if n not in seen and b.get("scores")]
    blocks.append({"title": "Other benchmarks" if groups else "Benchmarks", "rows": left})
    free = [{**b, "scores": b["exact_match"], "majority": None} for b in by_name.values() if b.get("exact_match")]
    blocks.append({"title": "Free answers, exact match", "rows": [benchmark(b, b["name"]) for b in free]})
    confidence = number(card.get("options", {}).get("confidence")) or 0.95
    return {
        "confidence": f"{100 * confidence:g} %",
        "primary": str(card.get("primary", "")),
        "decisive": decisive(verdict.get("checks") or []),
        "measure": str(verdict.get("gate", {}).get("target", {}).get("metric", "accuracy")).replace("_", " "),
        "groups": [b for b in blocks if b["rows"]],
        "legend": [{"name": name, "tone": tone, "hollow": hollow} for _, name, tone, hollow in SHOWN],
        "ticks": [{"at": PERCENT(t / 100), "text": f"{t} %", "zero": False} for t in (0, 25, 50, 75, 100)],
        "table": [line(b) for b in by_name.values()],
    }


def benchmark(entry: Row, name: str) -> dict[str, Any]:
    """One line of marks: how often each model was right, in percent, with its interval."""
    found = {(s["model"], s["condition"]): s for s in entry.get("scores", [])}
    marks, read = [], []
    for key, label, tone, hollow in SHOWN:
        score = found.get(key)
        if score is None or number(score["mean"]) is None:
            continue
        marks.append({**mark(score, PERCENT), "name": label, "tone": tone, "hollow": hollow, "text": percent(score)})
        if key[1] == "image":
            read.append({"tone": tone, "text": percent(score)})
    any_score: Row = next(iter(found.values()), {})
    size = [f"{any_score[k]:,} {what}" for k, what in (("items", "questions"), ("images", "images")) if k in any_score]
    majority = number(entry.get("majority"))
    return {
        "name": words(name),
        "note": " · ".join(size),
        "target": False,
        "whole": False,
        "majority": None if majority is None else PERCENT(majority),
        "marks": marks,
        "read": read,
    }


def decisive(checks: Sequence[Row]) -> dict[str, Any] | None:
    """The gate's comparisons on one axis of points. Those without an estimate have no mark, nor have totals in points
    of their own (MME's)."""
    if not checks:
        return None
    drawn = [c["estimate"] for c in checks if c.get("estimate") and c.get("scale", SHARE) == SHARE]
    ends = [number(found[k]) for found in drawn for k in ("low", "high", "mean")]
    known = [100 * e for e in ends if e is not None]
    ticks = nice_ticks(min(0.0, *known), max(0.0, *known), 6) if known else [0.0, 1.0]
    scale = Scale(ticks[0], ticks[-1])
    rows = []
    for check in checks:
        names = list(check.get("benchmarks", []))
        target, several = check.get("role") == "target", f"{len(names)} benchmarks"
        comparison = check["comparison"].replace(" - ", " − ")
        found, times = check.get("estimate") or {}, check.get("scale", SHARE)
        measured = number(found.get("mean")) is not None
        marks = []
        if measured and times == SHARE:
            points = {k: None if number(found.get(k)) is None else 100 * found[k] for k in ("mean", "low", "high")}
            tone = "blind" if "shuffled" in comparison else "tuned"
            marks.append({**mark(points, scale), "name": comparison, "tone": tone, "hollow": False})
            marks[0]["text"] = difference(found)
        rows.append(
            {
                "name": comparison if target else words(names[0]) if len(names) == 1 else f"{several} together",
                "note": several if target else f"protected: {comparison}",
                "target": target,
                "whole": False,
                "majority": None,
                "marks": marks,
                "read": [
                    {"tone": "", "text": difference(found, times) if measured else "not measured"},
                    {"tone": check["verdict"], "text": check["verdict"]},
                ],
            }
        )
    axis = [{**t, "zero": v == 0} for v, t in zip(ticks, scale.ticks(ticks), strict=True)]
    return {"rows": rows, "ticks": axis if known else []}


def mark(score: Row, scale: Scale) -> dict[str, Any]:
    """Position of a mean and its interval; an interval that is not known is None."""
    low, high = number(score.get("low")), number(score.get("high"))
    known = low is not None and high is not None
    return {
        "at": scale(float(score["mean"])),
        "low": scale(low) if known else None,  # type: ignore[arg-type]
        "high": scale(high) if known else None,  # type: ignore[arg-type]
    }


def line(entry: Row) -> dict[str, Any]:
    """All numbers of one benchmark as text, for the table under the plot."""
    found = {(s["model"], s["condition"]): s for s in entry.get("scores", [])}
    gain = next((d for d in entry.get("differences", []) if d["of"][0] == "tuned" and d["minus"][0] == "base"), None)
    majority = number(entry.get("majority"))
    return {
        "name": entry["name"],
        "cells": [percent(found[key]) if key in found else "" for key, *_ in SHOWN],
        "majority": "" if majority is None else f"{100 * majority:.1f}",
        "gain": difference(gain) if gain else "",
    }


def percent(score: Row) -> str:
    """A share in percent with its interval.

    >>> percent({"mean": 0.8312, "low": 0.79, "high": 0.871})
    '83.1 [79.0, 87.1]'
    """
    return _interval(score, "{:.1f}")


def difference(score: Row, times: float = SHARE) -> str:
    """A difference in points with its interval.

    >>> difference({"mean": 0.05, "low": -0.01, "high": None}), difference({"mean": 31.0}, 1.0)
    ('+5.0', '+31.0')
    """
    return _interval(score, "{:+.1f}", times)


def _interval(score: Row, form: str, times: float = SHARE) -> str:
    mean, low, high = (number(score.get(k)) for k in ("mean", "low", "high"))
    if mean is None:
        return "not a number"
    text = form.format(times * mean)
    return text if low is None or high is None else f"{text} [{form.format(times * low)}, {form.format(times * high)}]"


def words(name: str) -> str:
    """A benchmark's or group's name as a reader's words.

    >>> words("which_of_two_aligned"), words("easy_vqa")
    ('which of two, aligned', 'easy vqa')
    """
    for concepts in ("trained", "aligned", "unseen"):
        if name.endswith(f"_{concepts}"):
            return name.removesuffix(f"_{concepts}").replace("_", " ") + f", {concepts}"
    return name.replace("_", " ")


def side_by_side(answers: Sequence[Row], root: Path, kept: Path, count: int, seed: int) -> list[dict[str, Any]]:
    """Cards of questions that both models answered with the image in view: free answers where there are any, else
    ranked ones; benchmarks take turns. Pictures lie in `root`, or as copies by their digest in `kept`; questions whose
    picture is in neither come last."""
    seeing = [a for a in answers if a.get("condition") == "image"]
    free = [a for a in seeing if a["kind"] == "generation"]
    answered: dict[str, dict[str, Row]] = {}
    for a in free or seeing:
        answered.setdefault(a["item"], {})[a["model"]] = a
    queues: dict[str, list[str]] = {}
    drawn = shuffled(sorted(answered), seed, "report", "answers")
    for item in sorted(drawn, key=lambda item: not at_hand(next(iter(answered[item].values())), root, kept)):
        if len(answered[item]) > 1:
            queues.setdefault(next(iter(answered[item].values()))["benchmark"], []).append(item)
    chosen: list[str] = []
    while any(queues.values()) and len(chosen) < count:
        for name in sorted(queues):
            if queues[name] and len(chosen) < count:
                chosen.append(queues[name].pop(0))
    return [card(answered[item], root, kept) for item in chosen]


def sign(score: float | None) -> dict[str, Any]:
    """What stands beside an answer: right, wrong, or what a scorer gives in between; nothing where it gives none.

    >>> sign(1.0), sign(0.3), sign(None)
    ({'right': True, 'sign': '✓'}, {'right': False, 'sign': '0.3'}, {'right': None, 'sign': ''})
    """
    if score is None:
        return {"right": None, "sign": ""}
    return {"right": score >= 1, "sign": "✓" if score >= 1 else f"{score:.2g}" if score > 0 else "✗"}


def at_hand(answer: Row, root: Path, kept: Path) -> bool:
    return copy_of(answer, kept).is_file() or has_image(root, answer["path"])


def copy_of(answer: Row, kept: Path) -> Path:
    """Where `evaluate` lays a small copy of a picture that is not the sources'."""
    return kept / f"{answer['image']}.webp"


def card(by_model: Mapping[str, Row], root: Path, kept: Path) -> dict[str, Any]:
    """One question with its picture and what each model said."""
    first = next(iter(by_model.values()))
    copy = copy_of(first, kept)
    folder, path = (kept, copy.name) if copy.is_file() else (root, first["path"])
    picture = ImageRef(first["image"], 4, 3, "", path)  # the size only stands in for a picture that is gone
    # Free answers of the demo match or do not; published benchmarks score theirs.
    metric = "exact_match" if "exact_match" in first["metrics"] else "accuracy"
    return {
        "benchmark": first["benchmark"],
        "question": first["question"],
        "gold": first["gold"],
        "name": first["path"],
        **thumbnail(folder, picture),
        "boxes": [],
        "answers": [
            {
                "model": model,
                "tone": "tuned" if model == "tuned" else "base",
                "answer": by_model[model]["answer"],
                **sign(by_model[model]["metrics"].get(metric)),
            }
            for model in sorted(by_model)
        ],
    }
