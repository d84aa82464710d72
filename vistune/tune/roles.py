"""Which roles train: said before the first step, and held against what the first step moved.

A module's `requires_grad = False` freezes nothing, a layer matched by part of its name trains with another role, a
merged projector rests unseen: such mistakes leave no trace in the loss. So every parameter's bits are summed before the
first step and after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vistune.errors import VistuneError
from vistune.models.families.base import Family
from vistune.models.lora import at_rest
from vistune.tune import StageParams
from vistune.tune.engine import world
from vistune.tune.plan import Plan

BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def table(model: nn.Module, family: Family, stage: StageParams) -> dict[str, dict[str, Any]]:
    """By role: parameters, how many of them train, the peak learning rate, the rank of its LoRA updates (0: none), what
    the others rest in (empty: their own type)."""
    found: dict[str, dict[str, Any]] = {
        role: {
            "parameters": 0,
            "trained": 0,
            "learning_rate": stage.learning_rates.get(role, 0.0),
            "lora": stage.lora.get(role, 0),
            "quantised": stage.quantised.get(role, ""),
        }
        for role in family.roles
    }
    for name, parameter in model.named_parameters():
        role = found[family.role(name)]
        size = getattr(parameter, "ds_numel", parameter.numel())  # ZeRO-3 leaves no elements where they were
        if resting := at_rest(parameter):
            size = resting.shape.numel()  # two in a byte
        if ".lora_" not in name:
            role["parameters"] += size
        role["trained"] += size * parameter.requires_grad
    return found


def lines(stage: str, roles: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The table as it is printed."""
    yield f"tune {stage}: {'role':<12}{'parameters':>16}{'trained':>16}{'rate':>10}{'LoRA':>6}"
    for role, row in roles.items():
        trained = f"{row['trained']:,}" if row["trained"] else "frozen" if row["parameters"] else "shared"
        rate, rank = (row["learning_rate"] or "", row["lora"] or "") if row["trained"] else ("", "")
        rank = f"{rank} {row['quantised']}".strip()
        yield f"{'':<{len(stage) + 7}}{role:<12}{row['parameters']:>16,}{trained:>16}{rate:>10}{rank:>6}".rstrip()


class Movement:
    """What each parameter was when this was made; `check` compares."""

    def __init__(self, model: nn.Module, family: Family, stage: StageParams) -> None:
        self.model, self.family, self.stage = model, family, stage
        self.before = {name: bits(parameter) for name, parameter in model.named_parameters()}

    def check(self, step: int, ahead: Callable[[nn.Parameter], bool] = lambda _: False) -> None:
        """Raises VistuneError for a frozen parameter that moved, and for a trained role of which nothing did.
        ahead: whether a float32 copy of a parameter has moved; a step of warm-up can be smaller than bfloat16 shows."""
        trained: dict[str, list[nn.Parameter]] = {role: [] for role in self.family.roles}
        moved = dict.fromkeys(trained, False)
        unasked = ""
        for name, parameter in self.model.named_parameters():
            role = self.family.role(name)
            asked = self.stage.learning_rates.get(role, 0.0) > 0
            if asked:
                trained[role].append(parameter)
            if not torch.equal(bits(parameter), self.before[name]):
                moved[role] = True
                if not (asked and parameter.requires_grad):
                    unasked = unasked or f"{name}, of the frozen role {role}" + (" (its LoRA trains)" if asked else "")
        moved = self._anywhere(moved)
        if unasked:
            raise VistuneError(
                f"training stage {self.stage.name}: step {step} moved {unasked}. Nothing of it may change; the "
                "optimiser holds a parameter it should not, or two parameters share their memory."
            )
        for role, parameters in trained.items():
            if parameters and not moved[role] and not any(ahead(p) for p in parameters if p.requires_grad):
                raise VistuneError(
                    f"training stage {self.stage.name}: the role {role} was to train at a rate of "
                    f"{self.stage.learning_rates[role]:g}, and step {step} moved none of its {len(parameters)} tensors."
                    " No gradient reaches it: give it no rate in tune.stages, or samples that use it."
                )

    def _anywhere(self, moved: dict[str, bool]) -> dict[str, bool]:
        """Each process may hold another part of the weights (ZeRO-3)."""
        if world()[1] == 1:
            return moved
        device = next(self.model.parameters()).device
        flags = torch.tensor(list(moved.values()), dtype=torch.int32, device=device)
        torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
        return dict(zip(moved, flags.bool().tolist(), strict=True))


def bits(parameter: nn.Parameter) -> Tensor:
    """Sum of a parameter's elements, read as integers: exact, and as quick as reading them once."""
    held = getattr(parameter, "ds_tensor", parameter).detach()  # ZeRO-3: this process's part
    return held.contiguous().view(BITS[held.element_size()]).sum(dtype=torch.int64).cpu()


def first_shown(plan: Plan, start: int) -> int:
    """The first step from `start` on in which a sample has a picture: a step of texts alone moves no connector."""
    steps = range(start, len(plan.steps))
    return next((n for n in steps if any(plan.samples[k].images for k in _samples(plan, n))), start)


def _samples(plan: Plan, step: int) -> Iterator[int]:
    return (n for one in plan.steps[step] for visit in one for n in visit.samples)
