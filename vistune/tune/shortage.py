"""When memory runs out: which part of it is the largest, and what makes that part smaller."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch

from vistune.errors import VistuneError
from vistune.models.vlm import Vlm
from vistune.tune import Params, StageParams
from vistune.tune.engine import world
from vistune.tune.plan import Plan
from vistune.tune.roles import table

REMEDIES = {
    "weights": "raise tune.zero to 3, let them rest in 4 bits (lora and quantised), or take a smaller preset",
    "gradients": "raise tune.zero to 2, or train fewer weights: lora, or roles without a rate",
    "optimiser": "raise tune.zero to 1 or more with more processes, set tune.offload, or train fewer "
    "weights: lora, or roles without a rate",
    "activations": "set gradient_checkpointing, or lower max_tokens, or together (packs of one forward pass)",
    "logits": "lower max_tokens, or together (packs of one forward pass)",
    "vision features": "set max_patches (patches of a pack's pictures), or settings of fewer views",
}


def is_shortage(error: BaseException) -> bool:
    """Whether torch or Python found no memory; on a CPU torch says so in a RuntimeError's text alone."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("DefaultCPUAllocator" in text or "out of memory" in text)


@contextlib.contextmanager
def explained(vlm: Vlm, stage: StageParams, params: Params, plan: Plan) -> Iterator[None]:
    """Turns a lack of memory within into a VistuneError that says where it goes, by the plan's estimate."""
    model, family = vlm.model, vlm.family
    from vistune.tune import forecast  # which reads work.py, which reads this

    roles = {role: (row["parameters"], row["trained"]) for role, row in table(model, family, stage).items()}
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        parts = forecast.memory(vlm, roles, stage, world()[1], forecast.most_patches(plan), params.offload)
        raise VistuneError(told(parts[params.zero], stage, error)) from error


def told(parts: Mapping[str, float], stage: StageParams, error: BaseException) -> str:
    largest = max(parts, key=lambda part: parts[part])
    verb, them = ("is", "it") if largest == "optimiser" else ("are", "them")
    each = ", ".join(f"{part} {size / 2**30:.2f}" for part, size in sorted(parts.items(), key=lambda x: -x[1]))
    said = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return (
        f"training stage {stage.name} ran out of memory ({said}). By the estimate of `vistune tune --plan` the "
        f"{largest} {verb} the largest part of {sum(parts.values()) / 2**30:.2f} GiB ({each}). To shrink {them} "
        f"{REMEDIES[largest]}; now max_tokens is {stage.max_tokens}, together {stage.together}, max_patches "
        f"{stage.max_patches}. Then run again: training continues from its checkpoint."
    )
