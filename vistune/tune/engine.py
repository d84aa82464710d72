"""The two ways to take a step: plain torch in one process, DeepSpeed in one or many.

Both keep float32 masters beside bfloat16 weights, clip the global gradient norm, and save exactly what a resumed run
needs. The loop does not know which one it drives.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vistune.errors import VistuneError
from vistune.files import read_json, write_json
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
    if params.zero == 0 and world()[1] == 1:
        return TorchEngine(vlm, stage)
    return DeepSpeedEngine(vlm, stage, params, root)


class TorchEngine:
    """One process, no DeepSpeed."""

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

    def load(self, folder: Path) -> None:
        from safetensors.torch import load_file

        if not (folder / "optimizer.safetensors").is_file():
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


def _convert(state: Path, universal: Path) -> None:
    """DeepSpeed's checkpoint of some processes -> one for any number, by DeepSpeed's own converter."""
    shutil.rmtree(universal.parent, ignore_errors=True)
    universal.parent.mkdir()
    command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"]
    command += ["--input_folder", str(state), "--output_folder", str(universal)]
    command += ["--num_extract_workers", "1", "--num_merge_workers", "1"]
    print("tune: converting the checkpoint for another number of processes", flush=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise VistuneError(
            f"the checkpoint {state.parent} of another number of processes cannot be converted:\n{done.stderr[-2000:]}"
        )


class DeepSpeedEngine:
    """DeepSpeed with infra/deepspeed/zero<N>.json; batch sizes, precision and clipping come from the parameters."""

    def __init__(self, vlm: Vlm, stage: StageParams, params: Params, root: Path) -> None:
        import deepspeed

        model = vlm.model

        if not torch.cuda.is_available():
            os.environ.setdefault("DS_ACCELERATOR", "cpu")
            # DeepSpeed would compile its shared-memory collectives at start (minutes); gloo serves as well.
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        file = root / "infra" / "deepspeed" / f"zero{params.zero}.json"
        config = json.loads(file.read_text(encoding="utf-8"))
        config |= {
            "train_micro_batch_size_per_gpu": max(stage.batch // world()[1], 1),
            "gradient_accumulation_steps": 1,
            "gradient_clipping": stage.clip,  # DeepSpeed's own default is 1.0: always said here
            "steps_per_print": 10**9,
            "bf16": {"enabled": model.get_input_embeddings().weight.dtype == torch.bfloat16},
            "zero_allow_untested_optimizer": True,
        }
        if not torch.distributed.is_initialized():
            backend = "nccl" if torch.cuda.is_available() else "gloo"
            for name, value in {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_PORT": 29511}.items():
                os.environ.setdefault(name, str(value))
            os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
            deepspeed.init_distributed(dist_backend=backend, verbose=False)
        self.zero, self.stage3 = params.zero, params.zero == 3
        trained = groups(vlm, stage)
        self.groups = [{k: v for k, v in group.items() if k != "params"} for group in trained]
        optimizer = torch.optim.AdamW(trained, betas=BETAS, weight_decay=stage.weight_decay)
        for tensor in model.parameters():  # DeepSpeed sends parameters as bytes: row-major, in sizes of 1 as well
            tensor.data = torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device).copy_(tensor.data)
        self.engine, self.optimizer, *_ = deepspeed.initialize(
            model=Objective(model), optimizer=optimizer, config=config
        )
        self.module = self.engine.module

    def __call__(self, row: Row, blank: bool = False) -> Tensor:
        return self.engine(row, blank)

    def backward(self, loss: Tensor, last: bool) -> None:
        self.engine.set_gradient_accumulation_boundary(last)
        self.engine.backward(loss * world()[1])  # the engine averages over processes; the loss is already a share
        if not last:
            self.engine.step()  # counts the pass; nothing is updated before the boundary

    def step(self, factor: float) -> dict[str, float]:
        for group, ours in zip(self.optimizer.param_groups, self.groups, strict=True):
            group["lr"] = ours["peak"] * factor
        self.engine.step()
        return {"grad_norm": float(self.engine.get_global_grad_norm() or 0.0)}

    def ahead(self, parameter: nn.Parameter) -> bool:
        """Whether the optimiser's copy has moved by less than the weight itself can show. All processes ask at once."""
        from deepspeed.utils import safe_get_full_fp32_param
        from deepspeed.zero import GatheredParameters

        full = safe_get_full_fp32_param(parameter)
        with GatheredParameters([parameter], enabled=self.stage3):
            return full is not None and not torch.equal(full, parameter.detach().to(full))

    def save(self, folder: Path) -> None:
        self.engine.save_checkpoint(str(folder), tag="state")
        if world()[0] == 0:
            write_json(folder / "world.json", {"processes": world()[1]})

    def load(self, folder: Path) -> None:
        """Raises VistuneError for a checkpoint of one process without DeepSpeed."""
        if not (folder / "world.json").is_file():
            raise VistuneError(
                f"{folder} was written without DeepSpeed, by one process with tune.zero 0. Go on with one process and "
                "tune.zero 0, or remove the folder to begin this training stage anew."
            )
        if self.zero == 0 or read_json(folder / "world.json")["processes"] == world()[1]:
            self.engine.load_checkpoint(str(folder), tag="state")
            return
        universal = folder.with_name(f"{folder.name}.universal")
        if world()[0] == 0:
            _convert(folder / "state", universal / "state")
        if world()[1] > 1:
            torch.distributed.barrier()
        self.engine._config.load_universal_checkpoint = True
        self.engine.load_checkpoint(str(universal), tag="state")
        self.engine._config.load_universal_checkpoint = False
        if self.stage3:  # DeepSpeed 0.19 gives all groups one counter of steps, and the first one's rate and decay
            for state in self.optimizer.optimizer.state.values():
                state["step"] = state["step"].clone()
            for group, ours in zip(self.optimizer.param_groups, self.groups, strict=True):
                group.update(ours)
        if world()[1] > 1:
            torch.distributed.barrier()
        if world()[0] == 0:
            shutil.rmtree(universal)

    def state_dict(self) -> dict[str, Tensor]:
        """Whole tensors on every process; under ZeRO-3 gathered one parameter at a time."""
        model = self.module.model
        if not self.stage3:
            return model.state_dict()
        import deepspeed

        gathered = dict(model.named_buffers())
        for name, parameter in model.named_parameters():
            with deepspeed.zero.GatheredParameters([parameter]):
                gathered[name] = parameter.detach().cpu().clone()
        wanted = model.state_dict().keys()
        return {name: gathered[name] for name in wanted if name in gathered}
