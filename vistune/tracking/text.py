"""What is written to MLflow, as plain text and numbers: flattened, renamed, and free of secrets."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from collections.abc import Mapping
from typing import Any

from vistune.params import SECRET_NAME


def flatten(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested parameters as dotted names; lists of plain values stay together.

    >>> flatten({"a": {"b": 1, "c": [1, 2]}, "d": [{"e": None}]})
    {'a.b': '1', 'a.c': '[1, 2]', 'd.0.e': 'null'}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Mapping) and value:
        items = [(str(k), v) for k, v in value.items()]
    elif isinstance(value, list | tuple) and any(isinstance(v, Mapping | list | tuple) for v in value):
        items = [(str(i), v) for i, v in enumerate(value)]
    else:
        return {prefix: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)}
    flat: dict[str, str] = {}
    for key, inner in items:
        flat |= flatten(inner, f"{prefix}.{key}" if prefix else key)
    return flat


def numbers(value: Any, prefix: str = "") -> dict[str, float]:
    """The numbers in nested mappings, under dotted names.

    >>> numbers({"in": 3, "rejected": {"box outside": 1}, "note": "x"})
    {'in': 3.0, 'rejected.box outside': 1.0}
    """
    if isinstance(value, Mapping):
        flat: dict[str, float] = {}
        for key, inner in value.items():
            flat |= numbers(inner, f"{prefix}.{key}" if prefix else str(key))
        return flat
    if isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value):
        return {prefix: float(value)}
    return {}


def metric_name(name: str) -> str:
    """`name` with the characters that MLflow allows.

    >>> metric_name("accuracy@champion [en]")
    'accuracy_champion _en_'
    """
    return re.sub(r"[^A-Za-z0-9_. /-]", "_", name)[:250]


def redact(params: Mapping[str, str]) -> dict[str, str]:
    """Parameters without secrets: a name that says so hides its value, and no value repeats a secret from the
    environment or carries a password in a URL.

    >>> redact({"teacher.api_key": "sk-1", "max_tokens": "512", "url": "http://me:pw@host/v1"})
    {'teacher.api_key': '***', 'max_tokens': '512', 'url': 'http://***@host/v1'}
    """
    return {k: "***" if SECRET_NAME.search(k) and v not in ("", "null") else redact_text(v) for k, v in params.items()}


def redact_text(text: str) -> str:
    """`text` without the values of secret environment variables and without passwords in URLs."""
    for name, value in os.environ.items():
        if len(value) >= 8 and SECRET_NAME.search(name):
            text = text.replace(value, "***")
    return re.sub(r"(\w+://)[^/@\s]+@", r"\1***@", text)


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:500]
