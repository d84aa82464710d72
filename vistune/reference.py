"""What each parameter means, read from the dataclass that declares it: its comment, type and default.

`vistune STAGE --help` prints this, and `vistune params` prints a whole params.yaml with it.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import textwrap
import tokenize
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

WIDTH = 120


@dataclass(frozen=True)
class Parameter:
    name: str  # dotted, below the stage: "demo.train_scenes", "datasets[].images"
    type: str
    default: str  # as YAML; empty when a value must be given
    text: str


def comments(kind: type) -> dict[str, str]:
    """Field name -> what the source says about it: the comment beside it, the comment lines above it, and the
    string below it."""
    source = textwrap.dedent(inspect.getsource(kind))
    said: dict[int, tuple[str, bool]] = {}  # line -> comment, alone on its line
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            said[token.start[0]] = (token.string.lstrip("#").strip(), not token.line[: token.start[1]].strip())
    (body,) = (node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    found: dict[str, str] = {}
    for node, following in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        above: list[str] = []
        line = node.lineno - 1
        while said.get(line, ("", False))[1]:
            above.insert(0, said[line][0])
            line -= 1
        beside = [said[n][0] for n in range(node.lineno, (node.end_lineno or node.lineno) + 1) if n in said]
        below = []
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            below = [" ".join(str(following.value.value).split())]
        found[node.target.id] = " ".join([*above, *beside, *below])
    return found


def parameters(kind: type, prefix: str = "") -> Iterator[Parameter]:
    """The parameters of a dataclass and of the dataclasses inside it, in the order of declaration."""
    hints, text = typing.get_type_hints(kind), comments(kind)
    for field in dataclasses.fields(kind):
        inner, many = _dataclass_in(hints[field.name])
        name = prefix + field.name
        value = _default(field)
        if inner is None or many or value is None:
            shown = "" if value is dataclasses.MISSING else _yaml(value)
            yield Parameter(name, _type_name(hints[field.name]), shown, text.get(field.name, ""))
        if inner is not None:
            yield from parameters(inner, f"{name}[]." if many else f"{name}.")


def to_yaml(seed: int, sections: Mapping[str, Any], heads: Mapping[str, str]) -> str:
    """A params.yaml of these values, one commented section per stage."""
    lines = [f"seed: {seed} # of every random choice; two runs with one seed give the same data, byte for byte"]
    for stage, params in sections.items():
        lines += ["", f"# {heads[stage]}", f"{stage}:", *_lines(params, "  ")]
        if lines[-1] == f"{stage}:":
            lines[-1] += " {}"
    return "\n".join(lines) + "\n"


def _lines(value: Any, indent: str) -> Iterator[str]:
    text = comments(type(value))
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        comment = text.get(field.name, "")
        items = inner if isinstance(inner, tuple) and inner and dataclasses.is_dataclass(inner[0]) else ()
        nested = dataclasses.is_dataclass(inner) or bool(items)
        line = f"{indent}{field.name}:" + ("" if nested else f" {_yaml(inner)}")
        if comment and len(line) + len(comment) + 3 <= WIDTH:
            yield f"{line} # {comment}"
        else:
            yield from textwrap.wrap(comment, WIDTH - 2, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
            yield line
        for item in items:
            first, *rest = (line for line in _lines(item, indent + "    ") if not line.lstrip().startswith("# "))
            yield from (f"{indent}  - {first.lstrip()}", *rest)
        if nested and not items:
            yield from _lines(inner, indent + "  ")


def _dataclass_in(hint: Any) -> tuple[type | None, bool]:
    """The dataclass that a field holds, and whether it holds many."""
    if dataclasses.is_dataclass(hint):
        return typing.cast(type, hint), False
    many = typing.get_origin(hint) in (tuple, dict)
    for argument in typing.get_args(hint):
        if dataclasses.is_dataclass(argument):
            return typing.cast(type, argument), many
    return None, False


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _yaml(value: Any) -> str:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    text = yaml.safe_dump(_plain(value), default_flow_style=True, width=10**6, allow_unicode=True, sort_keys=False)
    return text.removesuffix("...\n").strip()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return value


def _type_name(hint: Any) -> str:
    """A type as a user of YAML reads it.

    >>> _type_name(tuple[int, ...]), _type_name(typing.Literal["a", "b"]), _type_name(float | None)
    ('list of int', 'a | b', 'float | null')
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " | ".join(str(a) for a in arguments)
    if origin is tuple:
        return f"list of {_type_name(arguments[0])}"
    if origin is dict:
        return f"mapping to {_type_name(arguments[1])}"
    if arguments:
        return " | ".join(_type_name(a) for a in arguments)
    return "null" if hint is type(None) else getattr(hint, "__name__", str(hint))
