"""Vision-language models: one file per family, on shared blocks. Importing a name here loads torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vistune.models.families.base import Family
    from vistune.models.vlm import load_model

FAMILIES: dict[str, str] = {
    "small": "vistune.models.families.small",
    "llava": "vistune.models.families.llava",
    "llava_next": "vistune.models.families.llava_next",
    "vip_llava": "vistune.models.families.vip_llava",
    "internvl": "vistune.models.families.internvl",
    "deepseek_vl": "vistune.models.families.deepseek_vl",
    "qwen_vl": "vistune.models.families.qwen_vl",
    "qwen2_vl": "vistune.models.families.qwen2_vl",
    "minigpt4": "vistune.models.families.minigpt4",
    "llava_uhd": "vistune.models.families.llava_uhd",
    "minicpm_v": "vistune.models.families.minicpm_v",
    "cogagent": "vistune.models.families.cogagent",
    "mplug_owl": "vistune.models.families.mplug_owl",
    "monkey": "vistune.models.families.monkey",
    "mini_gemini": "vistune.models.families.mini_gemini",
    "llava_hr": "vistune.models.families.llava_hr",
    "sphinx": "vistune.models.families.sphinx",
    "moai": "vistune.models.families.moai",
    "auto": "vistune.models.families.auto",
}

_LAZY = {"load_model": "vistune.models.vlm"}

__all__ = ["FAMILIES", "family", "load_model"]


def family(name: str) -> Family:
    """Raises VistuneError for an unknown name."""
    from vistune.errors import VistuneError

    if name not in FAMILIES:
        raise VistuneError(f"unknown model family {name!r}; known: {', '.join(FAMILIES)}.")
    found: Family = importlib.import_module(FAMILIES[name]).FAMILY
    return found


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(name)
