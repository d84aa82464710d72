"""One pure function per part of the page: what the stages left behind in, what the template shows out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vistune.report.charts import line_chart
from vistune.stages import Receipt

Row = Mapping[str, Any]

SHORT = 12  # characters of a digest that are shown; the whole one is the cell's title

CREDITS = 12  # attributions listed on the page; the release's attribution.json has all


def header(promotion: Row, verdict: Row, receipts: Mapping[str, Receipt], release: Row) -> dict[str, Any]:
    """Name, verdict, address, and the few facts one looks for first."""
    champion = "champion" in promotion.get("aliases", [])
    version = promotion.get("version", "")
    event = promotion.get("event") or {}
    code = promotion.get("lineage", {})
    when = moment(event)
    facts = [
        ("Model", promotion.get("model_uri") or "not registered"),
        ("Decided", f"{when} UTC by {event.get('who')}" if when else ""),
        ("Release", short(str(release.get("digest", "")))),
        ("Commit", commit(code)),
        ("Seed", code.get("seed", "")),
        ("Computing time", duration(sum(r.seconds for r in receipts.values()))),
    ]
    return {
        "name": promotion.get("name", ""),
        "version": version,
        "verdict": verdict.get("verdict", ""),
        "state": "champion" if champion else "challenger" if version else "not registered",
        "reasons": list(promotion.get("reasons", [])),
        "facts": [(k, v) for k, v in facts if v],
    }


def flow(receipts: Mapping[str, Receipt]) -> list[dict[str, Any]]:
    """A line per stage: rows in and out, rejects with reasons, time, digest. Counts a stage does not have are None."""
    lines = []
    for stage, r in receipts.items():
        counts = r.summary.get("counts", {})
        rejected = counts.get("rejected")
        reasons = rejected if isinstance(rejected, Mapping) else {}
        total = sum(reasons.values()) if reasons else rejected if isinstance(rejected, int) else 0
        entered = counts.get("in")
        extra = {k: v for k, v in counts.items() if k not in ("in", "out", "rejected") and number(v) is not None}
        lines.append(
            {
                "stage": stage,
                "entered": entered,
                "left": counts.get("out"),
                "rejected": total,
                "share": round(100 * total / entered, 2) if entered and total else 0.0,
                "reasons": sorted(reasons.items(), key=lambda i: (-i[1], i[0])),
                "extra": sorted(extra.items()),
                "time": duration(r.seconds),
                "cached": r.cached,
                "digest": r.digest,
                "short": short(r.digest),
            }
        )
    return lines


def composition(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """How the release divides by task, method, language and split: shares of all samples."""
    tables = []
    for title, key in (("Task", "task"), ("Method", "method"), ("Language", "language"), ("Split", "split")):
        counts = Counter(str(row[key]) for row in rows)
        parts = [
            {"name": name, "count": n, "share": round(100 * n / len(rows), 2)}
            for name, n in sorted(counts.items(), key=lambda i: (-i[1], i[0]))
        ]
        tables.append({"title": title, "parts": parts})
    return tables if rows else []


def curves(history: Sequence[Row]) -> list[dict[str, Any]]:
    """A chart of the loss of each training stage, in the order they ran, with validation losses as dots."""
    stages: dict[str, list[Row]] = {}
    for entry in history:
        stages.setdefault(str(entry.get("stage", "")), []).append(entry)
    charts = []
    for stage, entries in stages.items():
        raw = points(entries, "loss")
        if not raw:
            continue
        validation = points(entries, "validation_loss")
        tail = [y for _, y in raw[-max(1, len(raw) // 20) :]]
        charts.append(
            {
                "stage": stage,
                "steps": len(raw),
                "chart": line_chart(raw, validation),
                "first": f"{raw[0][1]:.3f}",
                "final": f"{sum(tail) / len(tail):.3f}",
                "validation": f"{validation[-1][1]:.3f}" if validation else "",
            }
        )
    return charts


def points(entries: Sequence[Row], key: str) -> list[tuple[float, float]]:
    """(step, value) of the entries that have a finite value; a diverged step is a gap, not a broken chart."""
    found = []
    for entry in entries:
        step, value = number(entry.get("step")), number(entry.get(key))
        if step is not None and value is not None:
            found.append((step, value))
    return sorted(found)


ROLES = ("vision", "connector", "language", "head")  # in the order a picture passes through them


def roles(receipt: Receipt) -> list[dict[str, Any]]:
    """What trained at which rate, per training stage, from the tune stage's details."""
    tables = []
    for stage, by_role in (receipt.summary.get("details", {}).get("roles") or {}).items():
        order = [r for r in ROLES if r in by_role] + sorted(set(by_role) - set(ROLES))
        tables.append({"stage": stage, "lines": [{"role": role, **trained(by_role[role])} for role in order]})
    return tables


def trained(role: Row) -> dict[str, Any]:
    """The rate of a role, and how many parameters move: its own, those of its adapters, or none."""
    of, rank = role.get("parameters", 0), role.get("lora", 0)
    rested = f" over {role['quantised']}" if role.get("quantised") else ""
    count = f"LoRA {rank}{rested}, {role['trained']:,} beside {of:,}" if rank else f"{of:,}"
    return {"rate": role.get("learning_rate", 0.0), "count": count}


def promotion(facts: Row) -> dict[str, Any]:
    """What the registry holds now, and how to use and undo it."""
    event = facts.get("event") or {}
    return {
        "registered": bool(facts.get("version")),
        "name": facts.get("name", ""),
        "version": facts.get("version", ""),
        "uri": facts.get("model_uri", ""),
        "aliases": list(facts.get("aliases", [])),
        "champion": facts.get("champion", ""),
        "previous": facts.get("previous", ""),
        "who": event.get("who", ""),
        "when": moment(event),
        "reasons": list(facts.get("reasons", [])),
    }


LINEAGE = (
    ("Code", ("git.sha", "git.dirty", "vistune.version", "image")),
    ("Data", ("dvc.sources.md5", "sources.digest", "dvc.validate.md5", "release.sha256")),
    ("Model", ("base.models", "tune.digest", "model.sha256", "seed")),
    ("Evidence", ("evaluate.digest", "scorecard.sha256")),
)


def lineage(facts: Row, receipts: Mapping[str, Receipt]) -> list[dict[str, Any]]:
    """The ids that tie the model to code, data and evidence, and the MLflow run of each stage."""
    table = dict(facts.get("lineage", {}))
    if not table:  # promote registered nothing; the receipts still say what ran
        table = {f"{stage}.digest": r.digest for stage, r in receipts.items()}
    shown = [(title, [(key, str(table[key])) for key in keys if table.get(key)]) for title, keys in LINEAGE]
    shown.append(("Stage keys", [(stage, r.key) for stage, r in receipts.items() if r.key]))
    shown.append(("MLflow runs", [(stage, r.run_id) for stage, r in receipts.items() if r.run_id]))
    if facts.get("version"):
        shown.append(("Registry", [("model version", f"models:/{facts['name']}/{facts['version']}")]))
    return [{"title": title, "rows": rows} for title, rows in shown if rows]


def licences(rows: Sequence[Row], attribution: Mapping[str, Row], sources: Row) -> dict[str, Any]:
    """Under which licences the samples stand, whom their images ask to name, and the benchmarks' licences.

    attribution: image -> licence and attribution, as the release carries it.
    """
    credits = Counter((str(a.get("attribution", "")), str(a.get("licence", ""))) for a in attribution.values())
    benchmarks: dict[str, list[str]] = {}
    for b in sources.get("benchmarks", []):
        benchmarks.setdefault(str(b.get("licence", "")), []).append(str(b.get("name", "")))
    ordered = sorted(credits.items(), key=lambda c: (-c[1], c[0]))
    named = [{"who": who, "licence": licence, "images": n} for (who, licence), n in ordered if who]
    return {
        "samples": sorted(Counter(str(row["licence"]) for row in rows).items(), key=lambda i: (-i[1], i[0])),
        "credits": named[:CREDITS],
        "more": max(0, len(named) - CREDITS),
        "benchmarks": sorted(benchmarks.items()),
    }


def commit(ids: Row) -> str:
    """The git commit, and whether the tree had changes.

    >>> commit({"git.sha": "0123456789abcdef", "git.dirty": "true"})
    '0123456789ab with uncommitted changes'
    """
    sha = str(ids.get("git.sha", ""))
    return short(sha) + (" with uncommitted changes" if sha and ids.get("git.dirty") == "true" else "")


def moment(event: Row) -> str:
    """When a logged event was, in UTC, as a reader writes it.

    >>> moment({"when": "2026-11-22T19:40:12Z"})
    '2026-11-22 19:40:12'
    """
    return str(event.get("when", "")).replace("T", " ").rstrip("Z")


def short(digest: str) -> str:
    return digest[:SHORT]


def duration(seconds: float) -> str:
    """Seconds as a reader says them.

    >>> duration(0.04), duration(7.26), duration(312), duration(7500)
    ('0.0 s', '7.3 s', '5 min 12 s', '2 h 5 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def number(value: Any) -> float | None:
    """A finite number, or None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
