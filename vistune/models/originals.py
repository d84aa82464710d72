"""Checkpoints as their authors published them: tensors by name, from safetensors or PyTorch's files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vistune.errors import VistuneError
from vistune.models.keymap import State

Axis = Callable[[str], int | None]
"""Key -> the axis along which model-parallel training split the tensor over the shards, in the order of their names."""


def read_state(folder: Path, allow_bin: bool = False, axis: Axis | None = None) -> State:
    """All tensors of the checkpoint in `folder`, from all its shards, or of one file; safetensors where both kinds are
    there.
    PyTorch's files (.bin, .pt, .pth) are read with `weights_only=True`, which runs none of the code that a pickle can
    hold, and only with `allow_bin`. Raises VistuneError for a folder without weights and for a tensor in two shards
    that differs."""
    present = [folder] if folder.is_file() else sorted(folder.glob("*"))
    files = [file for file in present if file.suffix == ".safetensors"]
    if files:
        from safetensors.torch import load_file

        return _joined([(file, load_file(file)) for file in files], axis)
    files = [file for file in present if file.suffix in (".bin", ".pt", ".pth")]
    if not files:
        raise VistuneError(f"{folder} holds no weights; expected *.safetensors, or *.bin, *.pt, *.pth.")
    if not allow_bin:
        raise VistuneError(
            f"the weights in {folder} are PyTorch files ({files[0].name}), not safetensors. Allow them explicitly "
            "(allow_bin), or convert them first."
        )
    import torch

    shards = []
    for file in files:
        found = torch.load(file, map_location="cpu", weights_only=True)
        for level in ("model", "state_dict", "module"):  # how training frameworks wrap a state
            if isinstance(found, dict) and isinstance(found.get(level), dict):
                found = found[level]
        shards.append((file, {k: v for k, v in found.items() if isinstance(v, torch.Tensor)}))
    return _joined(shards, axis)


def _joined(shards: list[tuple[Path, State]], axis: Axis | None) -> State:
    import torch

    state: State = {}
    pieces: dict[str, list[torch.Tensor]] = {}
    for file, part in shards:
        for key, tensor in part.items():
            if axis is not None and axis(key) is not None:
                pieces.setdefault(key, []).append(tensor)
            elif key in state and not (state[key].shape == tensor.shape and bool((state[key] == tensor).all())):
                raise VistuneError(f"the tensor {key} of {file.name} differs from that of an earlier shard.")
            else:
                state[key] = tensor
    whole = {key: torch.cat(found, dim=axis(key) or 0) for key, found in pieces.items()} if axis is not None else {}
    return state | whole
