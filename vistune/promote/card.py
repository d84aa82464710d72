"""The model card: what the model is, what it learned from, how it was measured, and what it is not for. Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.files import read_json
from vistune.promote.evidence import Evidence

DEMO = (
    "The images are composed scenes: OpenMoji drawings on plain and textured backgrounds, 1 to 6 objects each, with "
    "boxes from their alpha masks. They are not photographs, and what the model says about photographs means nothing."
)

USE = (
    "Intended for trying, testing and comparing what builds and serves such models, on images like those it was tuned "
    "on. Not for decisions about people, for safety, or for images of another kind without measuring it on them first."
)

CREDITS = 20  # attributions in the card

PACKAGED = {"package:efficientnet-lite0": "Apache-2.0", "package:smollm2-135m-instruct": "Apache-2.0"}
"""Licences of the weights that come as pip packages; others are stated where they come from."""

LOADING = """```python
import mlflow, pandas as pd
mlflow.set_tracking_uri("sqlite:///mlflow.db")  # from the repository; or your server
model = mlflow.pyfunc.load_model("models:/{name}@challenger")  # or @champion
model.predict(pd.DataFrame({{"image": ["scene.png"], "question": ["What is in the picture?"]}}))
```
An image is a path, base64 bytes, or a data URI; an address only if its origin is in `VISTUNE_IMAGE_ORIGINS`."""


def model_card(name: str, statement: str, evidence: Evidence, inputs: Mapping[str, Path]) -> str:
    """The card as Markdown. Raises VistuneError when the sources or the release do not say what they hold."""
    sources = read_json(Path(inputs["sources"]) / "sources.json")
    release = read_json(Path(inputs["validate"]) / "release.json")
    scorecard = read_json(Path(inputs["evaluate"]) / "scorecard.json")
    verdict = read_json(Path(inputs["evaluate"]) / "verdict.json")
    if not isinstance(sources, dict) or not isinstance(sources.get("datasets"), list):
        raise VistuneError(f"{inputs['sources']}/sources.json lists no datasets; the card cannot say what was learned.")
    parts = [
        f"# {plain(name)}",
        "A vision-language model that answers questions about an image, tuned and measured by one run of vistune.",
        "## Verdict",
        verdict_text(evidence),
        checks_table(verdict.get("checks") or []),
        "## Scores",
        scores_text(scorecard),
        "## Data",
        data_text(statement, sources, release),
        "## Licences",
        licences_text(Path(inputs["validate"]), sources, evidence),
        "## Use",
        USE,
        LOADING.format(name=name),
        "## Lineage",
        table(("what", "id"), sorted(evidence.lineage.items())),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def verdict_text(evidence: Evidence) -> str:
    meaning = {
        "pass": "the target improved, with its interval above zero, and nothing protected got worse",
        "fail": "the evidence speaks against promoting this model",
        "inconclusive": "the evidence does not decide it either way",
    }[evidence.verdict]
    lines = [f"**{evidence.verdict}**: {meaning}."] + [f"- {plain(reason)}" for reason in evidence.said]
    return "\n".join(lines)


def checks_table(checks: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for check in checks:
        names = [plain(n) for n in check.get("benchmarks", [])]
        about = ", ".join(names) if len(names) <= 2 else f"{len(names)} benchmarks"
        found = interval(check.get("estimate"), "{:+.1f}", check.get("scale", 100.0))
        rows.append((check.get("role"), check.get("comparison"), about, found, check.get("verdict")))
    return table(("rule", "comparison", "on", "points [interval]", "verdict"), rows) if rows else ""


def scores_text(scorecard: Mapping[str, Any]) -> str:
    """Accuracy of each benchmark beside its blind baselines."""
    columns = (("tuned", "image"), ("base", "image"), ("tuned", "shuffled"), ("tuned", "none"))
    rows = []
    for entry in scorecard.get("benchmarks", []):
        found = {(s["model"], s["condition"]): s for s in entry.get("scores", [])}
        cells = [interval(found.get(c), "{:.1f}") for c in columns]
        majority = entry.get("majority")
        rows.append((entry["name"], *cells, "" if majority is None else f"{100 * majority:.1f}"))
    if not rows:
        return "The scorecard lists no benchmark."
    confidence = 100 * scorecard.get("options", {}).get("confidence", 0.95)
    head = f"Percent answered rightly [{confidence:g} % interval, clustered by image]; {plain(scorecard['primary'])}."
    titles = ("benchmark", "tuned", "base", "tuned, shuffled images", "tuned, no image", "majority answer")
    return f"{head}\n\n{table(titles, rows)}"


def data_text(statement: str, sources: Mapping[str, Any], release: Mapping[str, Any]) -> str:
    names = [d["name"] for d in sources["datasets"]]
    learned = [d["name"] for d in sources["datasets"] if d.get("split", "train") == "train"]
    if not statement:
        demo = bool(names) and all(n.startswith("demo-") for n in names)
        statement = DEMO if demo else "Images and annotations of the data sets below."
    size = f"{release['samples']:,} samples about {release['images']:,} images: release `{release['digest']}`."
    held = [b["name"] for b in sources.get("benchmarks", [])]
    lines = [statement, size, f"Learned from: {listed(learned)}.", f"Held out for measuring: {listed(held)}."]
    return "\n\n".join(lines)


def licences_text(release: Path, sources: Mapping[str, Any], evidence: Evidence) -> str:
    """Images by licence and by whom they ask to name, the benchmarks, and the weights that tuning started from."""
    listing = release / "attribution.json"
    found = read_json(listing).values() if listing.is_file() else []
    credits = Counter((a["licence"], a["attribution"]) for a in found).most_common(CREDITS)
    lines = []
    if credits:
        rows = [(licence, who, f"{n:,}") for (licence, who), n in sorted(credits, key=lambda c: (-c[1], c[0]))]
        lines.append(table(("licence", "attribution", "images"), rows))
        lines.append("`attribution.json` of the release lists every image.")
    for licence in sorted({b.get("licence", "") for b in sources.get("benchmarks", [])}):
        names = [b["name"] for b in sources["benchmarks"] if b.get("licence", "") == licence]
        lines.append(f"Benchmarks under {plain(licence) or 'no stated licence'}: {listed(names)}.")
    weights = [w for w in evidence.lineage.get("base.models", "").split(", ") if w]
    if weights:
        named = [f"{plain(w)} ({PACKAGED.get(w, 'under its own licence')})" for w in weights]
        lines.append(f"Started from {' and '.join(named)}.")
    return "\n\n".join(lines)


def interval(score: Mapping[str, Any] | None, form: str, times: float = 100.0) -> str:
    """A share as percent, or a difference as points, with its interval; empty when it was not measured.

    >>> interval({"mean": 0.5, "low": 0.4, "high": 0.6}, "{:.1f}"), interval({"mean": 31.0}, "{:+.1f}", 1.0)
    ('50.0 [40.0, 60.0]', '+31.0')
    """
    if not score or score.get("mean") is None:
        return ""
    text = form.format(times * score["mean"])
    if score.get("low") is None or score.get("high") is None:
        return text
    return f"{text} [{form.format(times * score['low'])}, {form.format(times * score['high'])}]"


def table(titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(plain(cell) for cell in line) + " |" for line in lines)


def listed(names: Sequence[str]) -> str:
    return ", ".join(plain(n) for n in names) or "none"


def plain(text: Any) -> str:
    """Text that stays text in a Markdown table: names and attributions come from data that nobody has vetted.

    >>> plain("a|b <i>")
    'a\\\\|b &lt;i&gt;'
    """
    line = " ".join(str(text if text is not None else "").split())
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("|", "\\|")
