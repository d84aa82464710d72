"""HTML pages: of one look, loading nothing, with all text escaped, since samples and answers come from data and models
that nobody has vetted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

STYLE = Path(__file__).parent / "report" / "templates"
"""What pages share: their style and macros."""


def render(template: Path, context: Mapping[str, Any], filters: Mapping[str, Callable[..., str]] | None = None) -> str:
    """The page of a Jinja template, which may include the files beside it and those of `STYLE`. A name that `context`
    lacks is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, STYLE]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= dict(filters or {})
    return environment.get_template(template.name).render(context)
