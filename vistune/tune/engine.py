"""The two ways to take a step: plain torch in one process (here), DeepSpeed in one or many (`zero`).

Both keep float32 masters beside bfloat16 weights, clip the global gradient norm, and save exactly what a resumed run
needs. The loop does not know which one it drives.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vistune.errors import VistuneError
from vistune.tune.objective import Objective

if TYPE_CHECKING:
    from vistune.models.vlm import Vlm
    from vistune.tune import Params, StageParams
    from vistune.tune.packed import Row

BETAS = (0.9, 0.999)

LAYER = re.compile(r"(.*?\b(?:layers?|blocks?|resblocks))\.(\d+)\.")
"""A parameter of a stack's layer, by the names that transformers' and the authors' encoders give their stacks."""

BEFORE = re.compile(r"embed|patch|stem|cls|position|pre_?lay")
"""What comes before the layers."""


def world() -> tuple[int, int]:
    """(rank, processes), as torchrun sets them."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def groups(vlm: Vlm, stage: StageParams) -> list[dict[str, Any]]:
    """Optimiser groups, one per trained role, kind of decay and, in the vision encoder with `layer_decay`, layer; every
    other parameter is frozen, without optimiser state. Weights of one dimension (norms, biases) do not decay. What the
    model itself holds fixed stays so: tables of positions, and all but the adapters of a role with LoRA. Raises
    VistuneError for a role the model has not."""
    roles = vlm.roles()
    for role in stage.learning_rates:
        if role not in roles:
            raise VistuneError(f"training stage {stage.name}: no role {role!r}; roles are {', '.join(roles)}.")
    parameters = dict(vlm.model.named_parameters())
    found = []
    for role, names in roles.items():
        rate = stage.learning_rates.get(role, 0.0)
        trained = [name for name in names if rate > 0 and parameters[name].requires_grad]
        for name in names:
            parameters[name].requires_grad_(False)
        below = heights(trained) if role == "vision" and stage.layer_decay != 1 else dict.fromkeys(trained, 0)
        for height in sorted(set(below.values())):
            peak = rate * stage.layer_decay**height
            for decays in (True, False):
                params = [parameters[n] for n in trained if below[n] == height and (parameters[n].dim() > 1) == decays]
                if params:
                    decay = stage.weight_decay if decays else 0.0
                    found.append({"role": role, "params": params, "lr": peak, "peak": peak, "weight_decay": decay})
        for name in trained:
            parameters[name].requires_grad_(True)
    if not found:
        raise VistuneError(f"training stage {stage.name} trains nothing: every learning rate is 0.")
    return found


def heights(names: Sequence[str]) -> dict[str, int]:
    """How many layers each parameter of a stack lies below its top: what comes after the layers 0, the last layer 1,
    what comes before them one more than the first (as BEiT counts them, Bao et al. 2021, appendix). Every stack of
    layers counts its own.

    >>> heights(["t.embed.w", "t.layers.0.w", "t.layers.1.w", "t.post_norm.w"])
    {'t.embed.w': 3, 't.layers.0.w': 2, 't.layers.1.w': 1, 't.post_norm.w': 0}
    """
    places = {name: LAYER.match(name) for name in names}
    layers: dict[str, int] = {}  # of each stack
    for place in filter(None, places.values()):
        layers[place[1]] = max(layers.get(place[1], 0), int(place[2]) + 1)
    most = max(layers.values(), default=0)
    return {
        name: layers[place[1]] - int(place[2]) if place else most + 1 if BEFORE.search(name) else 0
        for name, place in places.items()
    }


def build(vlm: Vlm, stage: StageParams, params: Params, root: Path) -> Any:
    if stage.gradient_checkpointing:
        vlm.model.activation_checkpointing_enable({"use_reentrant": False})
    if params.zero == 0 and world()[1] == 1 and not params.offload:
        return TorchEngine(vlm, stage)
    from vistune.tune.zero import DeepSpeedEngine

    return DeepSpeedEngine(vlm, stage, params, root)


class TorchEngine:
    """One process, no DeepSpeed."""

    name = "torch"

    def __init__(self, vlm: Vlm, stage: StageParams) -> None:
        self.module = Objective(vlm.model)
        self.clip = stage.clip
        self.groups = groups(vlm, stage)
        self.weights: list[nn.Parameter] = [p for g in self.groups for p in g["params"]]
        self.masters: list[Tensor] = []
        masters = []
        for group in self.groups:
            copies = [p.detach().float().clone() if p.dtype != torch.float32 else p for p in group["params"]]
            self.masters += copies
            masters.append({**group, "params": copies})
        for weight, master in zip(self.weights, self.masters, strict=True):
            master.requires_grad_(True)
            if master is not weight:
                weight.register_post_accumulate_grad_hook(partial(_gather, master))
        self.optimizer = torch.optim.AdamW(masters, betas=BETAS, weight_decay=stage.weight_decay, fused=True)

    def __call__(self, row: Row, blank: bool = False) -> Tensor:
        return self.module(row, blank)

    def backward(self, loss: Tensor, last: bool) -> None:
        """Adds the gradients of one of the step's passes; they are summed in float32."""
        loss.backward()

    def step(self, factor: float) -> dict[str, float]:
        """Updates at `factor` times the peak rates. Returns gradient norms before clipping: of all, and by role."""
        roles = dict.fromkeys(group["role"] for group in self.optimizer.param_groups)
        norms = {f"grad_norm/{role}": self._norm(role) for role in roles}
        norm = torch.nn.utils.get_total_norm([m.grad for m in self.masters if m.grad is not None])
        if self.clip:
            torch.nn.utils.clip_grads_with_norm_(self.masters, self.clip, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for weight, master in zip(self.weights, self.masters, strict=True):
                if master is not weight:
                    weight.copy_(master)
        return {"grad_norm": float(norm), **norms}

    def ahead(self, parameter: nn.Parameter) -> bool:
        """Whether the optimiser's copy has moved by less than the weight itself can show."""
        pairs = zip(self.weights, self.masters, strict=True)
        return any(w is parameter and not torch.equal(m, w.to(m)) for w, m in pairs)

    def _norm(self, role: str) -> float:
        groups = [group for group in self.optimizer.param_groups if group["role"] == role]
        gradients = [master.grad for group in groups for master in group["params"] if master.grad is not None]
        return float(torch.nn.utils.get_total_norm(gradients))

    def save(self, folder: Path) -> None:
        from safetensors.torch import save_file

        tensors = {}
        for n, master in enumerate(self.masters):
            state = self.optimizer.state.get(master, {})
            tensors[f"{n}.master"] = master.detach()
            for key in ("exp_avg", "exp_avg_sq", "step"):
                if key in state:
                    tensors[f"{n}.{key}"] = state[key]
        save_file({k: v.contiguous().clone() for k, v in tensors.items()}, folder / "optimizer.safetensors")

    def load(self, folder: Path, state: Mapping[str, Any]) -> None:
        """state: of the checkpoint's manifest. Raises VistuneError for one that DeepSpeed has written."""
        from safetensors.torch import load_file

        if state["engine"] != self.name:
            raise VistuneError(
                f"{folder} was written with DeepSpeed. Go on with the tune.zero or the processes that it was written "
                "with, or remove the folder to begin this training stage anew."
            )
        tensors = load_file(folder / "optimizer.safetensors")
        with torch.no_grad():
            for n, (weight, master) in enumerate(zip(self.weights, self.masters, strict=True)):
                master.copy_(tensors[f"{n}.master"])
                if master is not weight:
                    weight.copy_(master)
                keys = [k for k in ("exp_avg", "exp_avg_sq", "step") if f"{n}.{k}" in tensors]
                self.optimizer.state[master] = {k: tensors[f"{n}.{k}"] for k in keys}

    def state_dict(self) -> dict[str, Tensor]:
        return self.module.model.state_dict()


def _gather(master: Tensor, weight: Tensor) -> None:
    """Moves a gradient to the float32 copy as soon as it is there: those of all weights are never in memory at once."""
    if weight.grad is not None:
        master.grad = weight.grad.float() if master.grad is None else master.grad.add_(weight.grad)
        weight.grad = None
