"""The chain of a model version as a picture: every link that was looked at, and what came of it (SVG)."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path

from vistune.files import write_text
from vistune.provenance.verify import Link

GRID = (
    ("DVC remote", "git commit", "code", "image", "Kubeflow run"),
    ("output of sources", "output of validate", "output of tune", "output of evaluate", "scorecard"),
    (
        "MLflow run of sources",
        "MLflow run of validate",
        "MLflow run of tune",
        "MLflow run of evaluate",
        "promotion log",
    ),
    ("", "", "model weights", "tags", "model version"),
)
"""Where each link stands."""

ARROWS = (
    ("output of sources", "output of validate"),
    ("output of validate", "output of tune"),
    ("output of tune", "output of evaluate"),
    ("output of evaluate", "scorecard"),
    ("output of sources", "DVC remote"),
    ("git commit", "code"),
    ("code", "output of tune"),
    *((f"MLflow run of {stage}", f"output of {stage}") for stage in ("sources", "validate", "tune", "evaluate")),
    ("MLflow run of tune", "model weights"),
    ("model weights", "tags"),
    ("tags", "model version"),
    ("scorecard", "promotion log"),
    ("promotion log", "model version"),
)

WIDTH, HEIGHT, GAP, MARGIN, HEAD = 208, 66, 34, 28, 62
PAPER, CARD, INK, GREY, LINE = "#f4f4f1", "#ffffff", "#1d1d1b", "#6b6b66", "#b9b9b2"
STATES = {"holds": "#2f7d4f", "broken": "#b3261e", "skipped": "#a8a8a0", "not reached": "#e2e2dc"}
LETTERS = 30  # of what was found, in a box


def draw(target: Path, title: str, links: Iterable[Link]) -> None:
    """Writes the figure. What a walk did not come to, after a broken link, is drawn as not reached."""
    found = {link.name: link for link in links}
    places = {name: (_left(x), _top(y)) for y, row in enumerate(GRID) for x, name in enumerate(row) if name}
    width, height = _left(len(GRID[0])) - GAP + MARGIN, _top(len(GRID)) - GAP + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        f'<defs><marker id="end" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
        f'<path d="M0 0 L8 4 L0 8 z" fill="{LINE}"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
        f'<text x="{MARGIN}" y="38" font-size="19" fill="{INK}">{escape(title)}</text>',
        *(_arrow(places[a], places[b]) for a, b in ARROWS),
        *(_box(name, at, found.get(name)) for name, at in places.items()),
        *_legend(_left(0), _top(3)),
        "</svg>",
    ]
    write_text(target, "\n".join(parts) + "\n")


def _left(column: int) -> int:
    return MARGIN + column * (WIDTH + GAP)


def _top(row: int) -> int:
    return HEAD + row * (HEIGHT + GAP)


def _box(name: str, at: tuple[int, int], link: Link | None) -> str:
    x, y = at
    state = link.state if link else "not reached"
    said = link.detail if link else ""
    shown = said if len(said) <= LETTERS else f"{said[: LETTERS - 1]}…"
    return (
        f"<g><title>{escape(f'{name}: {state}. {said}')}</title>"
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" fill="{CARD}" stroke="{LINE}"/>'
        f'<rect x="{x}" y="{y}" width="6" height="{HEIGHT}" fill="{STATES[state]}"/>'
        f'<text x="{x + 18}" y="{y + 26}" fill="{INK}">{escape(name)}</text>'
        f'<text x="{x + 18}" y="{y + 48}" font-size="11" fill="{GREY}">{escape(shown or state)}</text></g>'
    )


def _arrow(a: tuple[int, int], b: tuple[int, int]) -> str:
    """From the side of a box to the facing side of its neighbour."""
    (ax, ay), (bx, by) = a, b
    if ay == by:
        x1, x2 = (ax + WIDTH, bx) if ax < bx else (ax, bx + WIDTH)
        y1 = y2 = ay + HEIGHT // 2
    else:
        x1 = x2 = ax + WIDTH // 2
        y1, y2 = (ay + HEIGHT, by) if ay < by else (ay, by + HEIGHT)
    line = f'x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"'
    return f'<line {line} stroke="{LINE}" stroke-width="1.5" marker-end="url(#end)"/>'


def _legend(x: int, y: int) -> Iterable[str]:
    for n, (state, colour) in enumerate(STATES.items()):
        top = y + 4 + 17 * n
        yield f'<rect x="{x}" y="{top}" width="11" height="11" fill="{colour}" stroke="{LINE}" stroke-width="0.5"/>'
        yield f'<text x="{x + 20}" y="{top + 10}" font-size="12" fill="{GREY}">{state}</text>'
