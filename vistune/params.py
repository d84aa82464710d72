"""params.yaml -> frozen dataclasses, strictly: an unknown key is an error that names the nearest one.

Each stage declares a `Params` dataclass beside its code; this file only parses. A file has one section per stage
plus `seed`. Overlays (more files of the same shape) and `stage.key=value` overrides are laid over it in order.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml

from vistune.errors import VistuneError

T = TypeVar("T")

SECRET_NAME = re.compile(r"(^|[._-])(api_?key|access_?key|secret|password|passwd|credentials?|token)$", re.IGNORECASE)
"""Names whose values are secrets. `max_tokens` and `api_key_env`, which names an environment variable, are none."""

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The safe loader in C, ten times as fast, where PyYAML was built with it."""


def parse(kind: type[T], value: Any, where: str) -> T:
    """`value` (from YAML) as `kind`: a dataclass, tuple[X, ...], dict[str, X], Literal, Optional, or scalar.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Demo:
    ...     scenes: int = 10
    >>> parse(Demo, {"scenes": 3}, "demo")
    Demo(scenes=3)
    >>> parse(Demo, {"scene": 3}, "demo")
    Traceback (most recent call last):
        ...
    vistune.errors.VistuneError: unknown parameter demo.scene: did you mean demo.scenes?
    """
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None  # type: ignore[return-value]
        (inner,) = (a for a in arguments if a is not type(None))
        return parse(inner, value, where)
    if origin is Literal:
        if value not in arguments:
            raise VistuneError(f"{where} is {value!r}; expected one of {', '.join(map(repr, arguments))}.")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise VistuneError(f"{where} is {value!r}; expected a list.")
        return tuple(parse(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))  # type: ignore
    if origin is dict:
        if not isinstance(value, Mapping):
            raise VistuneError(f"{where} is {value!r}; expected a mapping.")
        return {str(k): parse(arguments[1], v, f"{where}.{k}") for k, v in value.items()}  # type: ignore
    if kind is Any:
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)  # type: ignore
    if kind is float and isinstance(value, str):  # YAML 1.1 reads 1e-4 as a string
        try:
            return float(value)  # type: ignore
        except ValueError:
            pass
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise VistuneError(f"{where} is {value!r}; expected {kind.__name__}.")
    return value


def _dataclass(kind: type[T], value: Any, where: str) -> T:
    if value is None:
        value = {}
    if not isinstance(value, Mapping):
        raise VistuneError(f"{where} is {value!r}; expected a section with keys.")
    hints = typing.get_type_hints(kind)
    known = [f.name for f in dataclasses.fields(kind) if f.init]  # type: ignore[arg-type]
    for key in value:
        if key not in known:
            raise VistuneError(unknown(f"{where}.{key}", [f"{where}.{k}" for k in known]))
    given = {key: parse(hints[key], v, f"{where}.{key}") for key, v in value.items()}
    missing = [
        f.name
        for f in dataclasses.fields(kind)  # type: ignore[arg-type]
        if f.name not in given and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise VistuneError(f"{where} lacks {', '.join(missing)}.")
    return kind(**given)


def unknown(name: str, known: Sequence[str]) -> str:
    """The message for an unknown parameter."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}."
    return f"unknown parameter {name}: {hint}"


def refuse_secrets(value: Any, where: str = "") -> None:
    """Raises VistuneError for a parameter that holds a secret: parameters are stored with every run, for all to read.
    The message repeats none of it.

    >>> refuse_secrets({"judge": {"api_key_env": "JUDGE_KEY", "max_tokens": 64, "base_url": "http://judge/v1"}})
    >>> refuse_secrets({"judge": {"base_url": "http://me:pw@judge/v1"}})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    vistune.errors.VistuneError: judge.base_url is an address with a password or key in it, and parameters are stored...
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            refuse_secrets(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            refuse_secrets(inner, f"{where}[{index}]")
    elif value and not isinstance(value, bool) and (wrong := _secret(where, str(value))):
        raise VistuneError(
            f"{where} {wrong}, and parameters are stored with every run, in MLflow and in Kubeflow. Put the secret "
            "into an environment variable (on a cluster: a Kubernetes secret); a parameter that ends in _env takes the "
            "variable's name. Replace a secret that was submitted before."
        )


def _secret(name: str, value: str) -> str:
    """Why a parameter is or holds a secret; empty when it does not."""
    if SECRET_NAME.search(name):
        return "is the name of a secret"
    if name.endswith("_env") and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):
        return "is not the name of an environment variable (A-Z, 0-9, _), perhaps the secret itself"
    if re.search(
        r"\w://[^/@\s]*:[^/@\s]+@|[?&](api_?key|key|(access_)?token|sig|[\w-]*signature)=", value, re.IGNORECASE
    ):
        return "is an address with a password or key in it"
    return ""


def override(tree: dict[str, Any], assignment: str) -> None:
    """Applies `stage.key=value` (value in YAML) to a parsed params tree, in place.

    >>> tree = {"tune": {"steps": 1}}
    >>> override(tree, "tune.steps=20"); tree
    {'tune': {'steps': 20}}
    """
    name, equals, text = assignment.partition("=")
    keys = name.strip().split(".")
    if not equals or not all(keys):
        raise VistuneError(f"override {name.strip()!r} is not of the form stage.key=value.")
    node: Any = tree
    for depth, key in enumerate(keys[:-1]):
        if isinstance(node, list) and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
            continue
        if not isinstance(node, dict):
            raise VistuneError(f"override of {name}: {'.'.join(keys[:depth])} has no keys.")
        node = node.setdefault(key, {})
    last = keys[-1]
    value = yaml.safe_load(text)
    if isinstance(node, list) and last.isdigit() and int(last) < len(node):
        node[int(last)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise VistuneError(f"override of {name}: {'.'.join(keys[:-1])} has no key {last}.")


def merge(base: dict[str, Any], over: Mapping[str, Any]) -> None:
    """Lays `over` on `base`, in place: mappings merge, everything else replaces."""
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            merge(base[key], value)
        else:
            base[key] = value


def read_tree(text: str, name: str) -> dict[str, Any]:
    try:
        tree = yaml.load(text, LOADER) or {}
    except yaml.YAMLError as error:
        raise VistuneError(f"{name} is not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise VistuneError(f"{name} must be a mapping of stages to their parameters.")
    return tree


def resolve(path: Path, overlays: Sequence[Path] = (), overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The params tree after overlays and overrides: plain data, not yet checked."""
    tree: dict[str, Any] = {}
    for file in (path, *overlays):
        if not file.is_file():
            raise VistuneError(f"{file} does not exist. Run from the repository, or pass --params.")
        merge(tree, read_tree(file.read_text(encoding="utf-8"), str(file)))
    for assignment in overrides:
        override(tree, assignment)
    return tree
