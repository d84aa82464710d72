"""Vision-language models: one file per family, on shared blocks. Importing a name here loads torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vistune.models.generation import generate
    from vistune.models.modeling import load_model

FAMILIES: dict[str, str] = {
    "small": "vistune.models.families.small",
}

_LAZY = {"load_model": "vistune.models.modeling", "generate": "vistune.models.generation"}

__all__ = ["FAMILIES", "family", "generate", "load_model"]


def family(name: str) -> Any:
    """The family's module. Raises VistuneError for an unknown name."""
    from vistune.errors import VistuneError

    if name not in FAMILIES:
        raise VistuneError(f"unknown model family {name!r}; known: {', '.join(FAMILIES)}.")
    return importlib.import_module(FAMILIES[name])


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(name)
