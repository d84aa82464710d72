"""What the stage imports: most of its start, which is to be a third of that of lm-eval's own command at most."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from types import ModuleType

from vistune.collection import no_collection

UNUSED = ("boto3", "chardet", "scipy", "sklearn")
"""Packages that transformers, accelerate and requests take up where they are installed and work without: to train
detectors, to rent machines, to guess how a page is encoded. A sixth of the start."""

STAGE = ("lm_eval.tasks", "lm_eval.evaluator", "vistune.evaluate.stage")


def import_stage() -> ModuleType:
    """The module of the stage. What is imported stays, so the garbage collector need not look through it: that is an
    eighth of the start."""
    hidden = [name for name in UNUSED if name not in sys.modules]
    with no_collection():
        sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: Python finds no such package
        try:
            return [importlib.import_module(name) for name in STAGE][-1]
        except ImportError:
            pass  # something cannot do without: everything is there below
        finally:
            _show(hidden)
        return [importlib.import_module(name) for name in STAGE][-1]


def _show(names: Iterable[str]) -> None:
    """These can be imported again. transformers remembers what it did not find: whoever needs it is to ask anew."""
    asked = sys.modules.get("transformers.utils.import_utils")
    for name in names:
        del sys.modules[name]
        if check := getattr(asked, f"is_{name}_available", None):
            check.cache_clear()
