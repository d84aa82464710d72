"""Runs fixtures: data that the authors' own code produced, which our blocks must reproduce.

A folder holds one folder per system; in it each `<stem>.json`, with or without `<stem>.safetensors`, is a fixture.
`systems/<system>.py` names in `CHECKS` a function for each stem ("resampler_v26__b" is checked as "resampler_v26").
A check yields one `Case` for each thing compared.
"""

from __future__ import annotations

import importlib.util
import json
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

SYSTEMS = Path(__file__).parent / "systems"


@dataclass(frozen=True)
class Case:
    """One comparison. `difference` is the largest absolute one; `detail` says where, or what else went wrong."""

    name: str
    passed: bool
    difference: float = 0.0
    detail: str = ""

    def __str__(self) -> str:
        end = f"  {self.detail}" if self.detail and not self.passed else ""
        return f"{'ok  ' if self.passed else 'FAIL'}  {self.difference:9.2e}  {self.name}{end}"


@dataclass(frozen=True)
class Fixture:
    path: Path  # of the json

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.stem}"

    @cached_property
    def json(self) -> dict[str, Any]:
        return json.loads(self.path.read_text(encoding="utf-8"))

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        return load_file(self.path.with_suffix(".safetensors"))

    @property
    def config(self) -> dict[str, Any]:
        return self.json["config"]

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Tensors whose names start with `prefix` + ".", without it."""
        return {k.removeprefix(f"{prefix}."): t for k, t in self.tensors.items() if k.startswith(f"{prefix}.")}

    @property
    def weights(self) -> dict[str, Tensor]:
        """By the names of the original checkpoint."""
        return self.under("weights")

    @property
    def cases(self) -> dict[str, dict[str, Any]]:
        """Case name -> its entry in the json (`params`, ...)."""
        found = self.json["cases"]
        return found if isinstance(found, dict) else {entry["case"]: entry for entry in found}

    @property
    def tolerance(self) -> tuple[float, float]:
        """(absolute, relative)"""
        stated = self.json["tolerance"]
        if not isinstance(stated, dict):
            return 1e-6, 0.0
        return stated.get("atol", stated.get("abs", 0.0)), stated.get("rtol", stated.get("rel", 0.0))


class Unit(nn.Module):
    """One original module rebuilt from our blocks. A subclass builds them from a fixture's `config` in `__init__`,
    takes a case's inputs (and its `params`) by name in `forward` and returns its outputs by name."""

    def convert(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Original checkpoint -> this module's state dict: renames, splits, transposes. It must use every key."""
        return dict(weights)

    def unused(self, weights: Mapping[str, Tensor]) -> set[str]:
        """Original keys that are left out on purpose (the reason belongs in the family)."""
        return set()


def close(name: str, got: Tensor, expected: Tensor, tolerance: tuple[float, float]) -> Case:
    if tuple(got.shape) != tuple(expected.shape):
        return Case(name, False, float("inf"), f"shape {tuple(got.shape)}, expected {tuple(expected.shape)}")
    if not expected.numel():
        return Case(name, True)
    got, expected = got.detach().to(torch.float64), expected.to(torch.float64)
    gap = (got - expected).abs()
    gap = torch.where(torch.isnan(got) & torch.isnan(expected), torch.zeros_like(gap), gap)
    passed = bool((gap <= tolerance[0] + tolerance[1] * expected.abs()).all())
    return Case(name, passed, float(gap.max()), f"tolerance {tolerance[0]:.1e} + {tolerance[1]:.0e} x")


def same(name: str, got: Any, expected: Any) -> Case:
    """Equal as JSON values."""
    left, right = json.loads(json.dumps(got)), json.loads(json.dumps(expected))
    return Case(name, left == right, 0.0 if left == right else float("inf"), _first_gap(left, right))


def modules(unit: Callable[[dict[str, Any]], Unit]) -> Callable[[Fixture], Iterator[Case]]:
    """The check of a fixture of modules: outputs, and gradients where the fixture has them, with respect to inputs
    and original weights. The original weights are leaves, so gradients flow back through the key map too."""

    def check(fixture: Fixture) -> Iterator[Case]:
        module = unit(fixture.config).eval()
        leaves = {k: _leaf(t) for k, t in fixture.weights.items()}
        unused = module.unused(leaves)
        state = module.convert({k: t for k, t in leaves.items() if k not in unused})
        own = {name: t.shape for name, t in module.state_dict().items()}
        lacking, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        wrong = [
            f"{k}: {tuple(state[k].shape)} for {tuple(own[k])}"
            for k in own.keys() & state.keys()
            if state[k].shape != own[k]
        ]
        fits = not (lacking or extra or wrong)
        yield Case(
            f"{fixture.name} keys", fits, detail=f"missing {lacking[:5]}, unexpected {extra[:5]}, shapes {wrong[:3]}"
        )
        if not fits:
            return
        for name, entry in fixture.cases.items():
            inputs = {k: _leaf(t) for k, t in fixture.under(f"in.{name}").items()}
            cotangents = {k: inputs.pop(k) for k in list(inputs) if k == "cot" or k.startswith("cotangent.")}
            expected, gradients = fixture.under(f"out.{name}"), fixture.under(f"grad.{name}")
            params = entry.get("params", {})
            with torch.set_grad_enabled(bool(gradients)):
                outputs = torch.func.functional_call(module, state, (), {**inputs, **_arguments(module, params)})
            for key, tensor in expected.items():
                got = outputs.get(key)
                where = f"{fixture.name} {name} {key}"
                yield (
                    Case(where, False, float("inf"), "no such output")
                    if got is None
                    else close(where, got, tensor, fixture.tolerance)
                )
            if gradients:
                _pull(outputs, cotangents, params)
                for key, tensor in gradients.items():
                    kind, _, rest = key.partition(".")
                    known = {"in": inputs, "weights": leaves}.get(kind)
                    leaf = known.get(rest) if known is not None else inputs.get(key, leaves.get(key))
                    where = f"{fixture.name} {name} grad {key}"
                    if leaf is None or leaf.grad is None:
                        yield Case(where, False, float("inf"), "no gradient")
                    else:
                        yield close(where, leaf.grad, tensor, fixture.tolerance)
                for leaf in leaves.values():
                    leaf.grad = None

    return check


def run(folder: Path, only: str = "") -> Iterator[Case]:
    """Every fixture under `folder` whose "system/stem" starts with `only`. A crash in an adapter is a failed case."""
    for system in sorted(p for p in folder.iterdir() if p.is_dir()):
        stems = [p for p in sorted(system.glob("*.json")) if f"{system.name}/{p.stem}".startswith(only)]
        checks = adapter(system.name) if stems else {}
        for path in stems:
            fixture = Fixture(path)
            check = checks.get(path.stem) or checks.get(path.stem.split("__")[0])
            if check is None:
                yield Case(fixture.name, False, float("inf"), "no adapter")
                continue
            try:
                yield from check(fixture)
            except Exception as error:
                last = traceback.extract_tb(error.__traceback__)[-1]
                at = f"{Path(last.filename).name}:{last.lineno}"
                yield Case(fixture.name, False, float("inf"), f"{type(error).__name__} at {at}: {error!s:.200}")


def adapter(system: str) -> dict[str, Callable[[Fixture], Iterator[Case]]]:
    """`CHECKS` of `systems/<system>.py`, empty when there is none."""
    path = SYSTEMS / f"{system}.py"
    if not path.is_file():
        return {}
    spec = importlib.util.spec_from_file_location(f"parity_{system}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CHECKS


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.clone().requires_grad_(tensor.is_floating_point())


def _arguments(module: nn.Module, params: dict[str, Any]) -> dict[str, Any]:
    return {"params": params} if "params" in module.forward.__code__.co_varnames else {}


def _pull(outputs: dict[str, Tensor], cotangents: dict[str, Tensor], params: dict[str, Any]) -> None:
    """Backward from the sum of outputs times their cotangents."""
    named = {k.removeprefix("cotangent."): t for k, t in cotangents.items() if k != "cot"}
    if "cot" in cotangents:
        named[params["grad_output"]] = cotangents["cot"]
    torch.stack([(outputs[k] * t.detach()).sum() for k, t in named.items()]).sum().backward()


def _first_gap(got: Any, expected: Any, where: str = "") -> str:
    """Where two JSON values first differ."""
    if isinstance(got, dict) and isinstance(expected, dict):
        for key in [*expected, *got]:
            if got.get(key, "(absent)") != expected.get(key, "(absent)"):
                return _first_gap(got.get(key, "(absent)"), expected.get(key, "(absent)"), f"{where}.{key}")
    if isinstance(got, list) and isinstance(expected, list) and len(got) == len(expected):
        for n, (a, b) in enumerate(zip(got, expected, strict=True)):
            if a != b:
                return _first_gap(a, b, f"{where}[{n}]")
    return f"at {where or 'top'}: got {got!r:.120}, expected {expected!r:.120}"
