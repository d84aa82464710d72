"""Steps with DeepSpeed: what ZeRO divides among processes, and what it does not say by itself."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vistune.errors import VistuneError
from vistune.tune.engine import BETAS, groups, world
from vistune.tune.objective import Objective

if TYPE_CHECKING:
    from vistune.models.vlm import Vlm
    from vistune.tune import Params, StageParams
    from vistune.tune.packed import Row

NORMS = ("get_grad_norm_direct", "complete_grad_norm_calculation_for_cpu_offload")
"""The methods by which a ZeRO optimiser takes the norm of one group's gradients, over all processes."""


def _norm(weights: Sequence[nn.Parameter]) -> float:
    """Without ZeRO every process has all gradients."""
    return float(torch.nn.utils.get_total_norm([p.grad for p in weights if p.grad is not None]))


def _deepspeed() -> ModuleType:
    """The library, without what nobody asked for and every process would wait for at its start: MLflow, which the
    tuner imports where it finds it (1.5 s), and inductor, which Muon's import loads to compile its kernels (3 s)."""
    absent, backend = "mlflow" not in sys.modules, torch.compiler.get_default_backend()
    if absent:
        sys.modules["mlflow"] = None  # type: ignore[assignment]  # Python's word for what cannot be imported
    torch.compiler.set_default_backend(lambda graph, _: graph)
    try:
        import deepspeed
        import deepspeed.runtime.zero.muon.muon_optimizer
    finally:
        torch.compiler.set_default_backend(backend)
        if absent:
            del sys.modules["mlflow"]
    return deepspeed


def _convert(state: Path, universal: Path) -> None:
    """DeepSpeed's checkpoint of some processes -> one for any number, by DeepSpeed's own converter."""
    from deepspeed.checkpoint import ds_to_universal

    shutil.rmtree(universal.parent, ignore_errors=True)
    universal.parent.mkdir()
    given = {"input_folder": str(state), "output_folder": str(universal), "inject_missing_state": True, "strict": True}
    given |= {"num_extract_workers": 1, "num_merge_workers": 1, "keep_temp_folder": False}
    print("tune: converting the checkpoint for another number of processes", flush=True)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            ds_to_universal.main(argparse.Namespace(**given))
    except Exception as error:  # of a converter that names no kinds of its own
        raise VistuneError(
            f"the checkpoint {state.parent} of another number of processes cannot be converted: "
            f"{type(error).__name__}: {error}"
        ) from error


class DeepSpeedEngine:
    """DeepSpeed with infra/deepspeed/zero<N>.json; batch sizes, precision and clipping come from the parameters."""

    name = "deepspeed"

    def __init__(self, vlm: Vlm, stage: StageParams, params: Params, root: Path) -> None:
        deepspeed = _deepspeed()
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
        if params.offload:
            if not params.zero:
                raise VistuneError("tune.offload takes what ZeRO 1, 2 or 3 divides; tune.zero is 0.")
            pinned = torch.cuda.is_available()
            config["zero_optimization"]["offload_optimizer"] = {"device": "cpu", "pin_memory": pinned}
            config["zero_force_ds_cpu_optimizer"] = False  # DeepSpeed's own AdamW would be compiled at start
        if not torch.distributed.is_initialized():
            backend = "nccl" if torch.cuda.is_available() else "gloo"
            for name, value in {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "MASTER_PORT": 29511}.items():
                os.environ.setdefault(name, str(value))
            os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
            deepspeed.init_distributed(dist_backend=backend, verbose=False)
        self.zero, self.stage3 = params.zero, params.zero == 3
        trained = groups(vlm, stage)
        self.groups = [{k: v for k, v in group.items() if k != "params"} for group in trained]
        self.weights: list[list[nn.Parameter]] = [list(group["params"]) for group in trained]
        optimizer = torch.optim.AdamW(trained, betas=BETAS, weight_decay=stage.weight_decay)
        for tensor in model.parameters():  # DeepSpeed sends parameters as bytes: row-major, in sizes of 1 as well
            tensor.data = torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device).copy_(tensor.data)
        self.engine, self.optimizer, *_ = deepspeed.initialize(
            model=Objective(model), optimizer=optimizer, config=config
        )
        self.module = self.engine.module
        self.taken: list[float] = []  # norms of the step, in the order of DeepSpeed's own groups
        for name in NORMS if self.zero else ():
            setattr(self.optimizer, name, partial(self._listen, getattr(self.optimizer, name)))

    def _listen(self, norm: Callable[..., Tensor], *given: Any) -> Tensor:
        """DeepSpeed takes the norm of each group on its way to that of all, and keeps none of them."""
        found = norm(*given)
        self.taken.append(float(found))
        return found

    def __call__(self, row: Row, blank: bool = False) -> Tensor:
        return self.engine(row, blank)

    def backward(self, loss: Tensor, last: bool) -> None:
        self.engine.set_gradient_accumulation_boundary(last)
        self.engine.backward(loss * world()[1])  # the engine averages over processes; the loss is already a share
        if not last:
            self.engine.step()  # counts the pass; nothing is updated before the boundary

    def step(self, factor: float) -> dict[str, float]:
        """Updates at `factor` times the peak rates. Returns gradient norms before clipping: of all, and by role."""
        for group, ours in zip(self.optimizer.param_groups, self.groups, strict=True):
            group["lr"] = ours["peak"] * factor
        self.taken = [] if self.zero else [_norm(group) for group in self.weights]
        self.engine.step()
        owners = getattr(self.optimizer, "sub_group_to_group_id", {})  # ZeRO-3 cuts groups
        squares: dict[str, float] = defaultdict(float)
        for n, norm in enumerate(self.taken):
            squares[self.groups[owners.get(n, n)]["role"]] += norm**2 if norm >= 0 else math.inf  # -1: not a number
        return {
            "grad_norm": math.sqrt(sum(squares.values())),
            **{f"grad_norm/{role}": math.sqrt(square) for role, square in squares.items()},
        }

    def ahead(self, parameter: nn.Parameter) -> bool:
        """Whether the optimiser's copy has moved by less than the weight itself can show. All processes ask at once."""
        from deepspeed.utils import safe_get_full_fp32_param
        from deepspeed.zero import GatheredParameters

        full = safe_get_full_fp32_param(parameter)
        with GatheredParameters([parameter], enabled=self.stage3):
            return full is not None and not torch.equal(full, parameter.detach().to(full))

    def save(self, folder: Path) -> None:
        self.engine.save_checkpoint(str(folder), tag="state")

    def load(self, folder: Path, state: Mapping[str, Any]) -> None:
        """state: of the checkpoint's manifest. Raises VistuneError for a checkpoint of one process without
        DeepSpeed."""
        if state["engine"] != self.name:
            raise VistuneError(
                f"{folder} was written without DeepSpeed, by one process with tune.zero 0. Go on with one process and "
                "tune.zero 0, or remove the folder to begin this training stage anew."
            )
        if self.zero == 0 or state["processes"] == world()[1]:
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
            for held in self.optimizer.optimizer.state.values():
                held["step"] = held["step"].clone()
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
