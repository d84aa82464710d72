"""Floating-point operations of training, and what share of a device's peak they make.

Model operations are those the mathematics needs: logits where something is learned, what samples share once, no
padding, no recomputation. So the share (MFU) cannot be raised by wasting work.
"""

from __future__ import annotations

import sys

import torch

from vistune.models.flops import Meter
from vistune.models.reader import Reading
from vistune.models.vlm import Vlm
from vistune.tune import StageParams

PEAKS = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "B200": 2250e12}
"""Dense bfloat16 operations a second, by the data sheets."""


class Operations:
    """Of a sample in a training step of a stage, forward and backward, without its logits; `logits` are those of one
    token."""

    def __init__(self, vlm: Vlm, stage: StageParams) -> None:
        trained = [role for role, rate in stage.learning_rates.items() if rate > 0]
        ranks = {role: rank for role, rank in stage.lora.items() if role in trained}
        self.meter = Meter(vlm, trained, ranks=ranks)
        self.recomputing = Meter(vlm, trained, True, ranks) if stage.gradient_checkpointing else None
        rows, columns = vlm.model.get_output_embeddings().weight.shape
        # Forward; backward to the states, where anything below learns; backward to the head's own weights.
        below, own, rank = any(role != "head" for role in trained), "head" in trained, ranks.get("head", 0)
        self.logits = 2.0 * rows * columns * (1 + below + (own and not rank))
        self.logits += 2.0 * rank * (3 * rows + (2 + below) * columns)

    def __call__(self, reading: Reading) -> float:
        return self.meter(reading) - self.logits * reading.length

    def recomputed(self) -> float:
        """What is computed over what the mathematics needs, with layers that run again in the backward pass: of a
        sample without pictures, as long as makes the rest small."""
        if self.recomputing is None:
            return 1.0
        long = Reading((0,) * 1024, (0,) * 1024)
        kept = self.meter(long) - self.logits * long.length
        return (self.recomputing(long) - self.logits * long.length) / kept


def peak(device: str) -> float:
    """Of the device in this process; 0 where it is not known."""
    if not device.startswith("cuda"):
        return 0.0
    name = torch.cuda.get_device_name(device)
    return next((operations for known, operations in PEAKS.items() if known in name), 0.0)


def memory_peak(device: str) -> int:
    """Bytes: of the device's memory, or of the process without one."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
