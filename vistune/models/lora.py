"""LoRA on any role of any family: low-rank updates of its linear layers, by peft.

Every linear layer of a role is amended (language model: q, k, v, o and the three of the MLP; tower and connector: all
of theirs; head: the output head), as in the recipes of LLaVA and its kin. Convolutions, embeddings, norms and learned
queries stay as they are; so does what is inside torch's own `MultiheadAttention`, which reads the weights of its layers
past their forward pass. Adapters are saved as peft writes them, so `PeftModel.from_pretrained` loads them too.

The weights beside the updates can rest in 4 bits (QLoRA, `quantised`): those of the language model's and the tower's
linear layers, never the output head, embeddings, convolutions, norms or experts. Merged, such a layer is what its
4 bits stand for plus its update, in the type that it had before.
Sources: arXiv:2106.09685, arXiv:2305.14314.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from vistune.errors import VistuneError
from vistune.models.vlm import Vlm

if TYPE_CHECKING:
    from peft import LoraConfig

ADAPTER = "default"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."  # of the keys in peft's files
BITS = {"nf4": 4 + 8 / 64 + 32 / (64 * 256)}
"""Of a weight at rest: its own, and its share of the constants of 64 weights and of 256 times as many."""
QUANTISABLE = ("language", "vision")


def linear_layers(vlm: Vlm, role: str) -> list[str]:
    """Names of the layers that LoRA amends in a role. Raises VistuneError for an unknown role."""
    if role not in vlm.family.roles:
        raise VistuneError(f"{vlm.family.name} has no role {role!r}; it has {', '.join(vlm.family.roles)}.")
    closed = tuple(f"{n}." for n, m in vlm.model.named_modules() if isinstance(m, nn.MultiheadAttention))
    return [
        name
        for name, module in vlm.model.named_modules()
        if isinstance(module, nn.Linear)
        and ".lora_" not in name
        and not name.startswith(closed)
        and vlm.family.role(f"{name}.weight") == role
    ]


def sizes(vlm: Vlm, role: str) -> list[tuple[int, int]]:
    """(out, in) of those layers, with or without adapters."""
    found = [vlm.model.get_submodule(name) for name in linear_layers(vlm, role)]
    return [(layer.out_features, layer.in_features) for layer in found]


def attach(
    vlm: Vlm,
    ranks: Mapping[str, int],
    scale: float = 2.0,
    dropout: float = 0.0,
    quantised: Mapping[str, str] | None = None,
    seed: int = 0,
    device: str = "",
) -> list[str]:
    """Adapters on all linear layers of the roles in `ranks` (role -> rank), which start as no change; gives the names
    of the layers. The weights of these roles are frozen; other parameters stay trainable or frozen as they are.
    scale: of the update, alpha / rank. An output head that shares the embeddings' weights gets a copy of its own.
    quantised: role -> `nf4`, for roles whose weights rest in 4 bits from now on, on `device` (empty: where they are).
    seed: of the adapters' first matrices. Raises VistuneError for a role without linear layers or one that cannot
    rest, for a model that has adapters already, and without bitsandbytes where it is needed."""
    from peft import LoraConfig

    if layers(vlm):
        raise VistuneError("the model has LoRA adapters already; merge them first.")
    chosen = {role: _own(vlm, role) for role in ranks}
    _rest(vlm, chosen, quantised or {}, device or str(vlm.model.device))
    patterns = {role: "|".join(map(re.escape, names)) for role, names in chosen.items()}
    config = LoraConfig(
        target_modules="|".join(patterns.values()),
        rank_pattern={patterns[role]: rank for role, rank in ranks.items()},
        alpha_pattern={patterns[role]: rank * scale for role, rank in ranks.items()},
        lora_dropout=dropout,
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # peft draws on the CPU
        _inject(vlm, config, set(ranks))
    return [name for names in chosen.values() for name in names]


def layers(vlm: Vlm) -> dict[str, Any]:
    """The amended layers by name."""
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in vlm.model.named_modules() if isinstance(module, LoraLayer)}


def merge(vlm: Vlm) -> None:
    """Adds the updates to the weights and takes the adapters away: the model is as plain as before, and all of it
    trainable. Weights that rest in 4 bits become what these stand for. Raises VistuneError for a model without
    adapters, and ValueError for updates that are not finite."""
    for name, layer in _attached(vlm).items():
        if at_rest(layer.get_base_layer().weight):
            layer.base_layer = layer.get_base_layer().plain()
        layer.merge(safe_merge=True)
        vlm.model.set_submodule(name, layer.get_base_layer())
    del vlm.model.peft_config
    vlm.model.requires_grad_(True)


def save_adapters(vlm: Vlm, folder: Path | str) -> None:
    """peft's two files: adapter_config.json, adapter_model.safetensors."""
    from safetensors.torch import save_file

    _attached(vlm)
    Path(folder).mkdir(parents=True, exist_ok=True)
    vlm.model.peft_config[ADAPTER].save_pretrained(folder)
    state = {
        PREFIX + key.replace(f".{ADAPTER}.", "."): tensor.contiguous()
        for key, tensor in vlm.model.state_dict().items()
        if ".lora_" in key
    }
    save_file(state, Path(folder) / WEIGHTS)


def load_adapters(vlm: Vlm, folder: Path | str) -> list[str]:
    """The adapters that `save_adapters` wrote, on the model they were trained on; gives the names of the layers. Raises
    VistuneError for a folder without adapters, or with those of another model."""
    from peft import LoraConfig
    from safetensors.torch import load_file

    if not (Path(folder) / WEIGHTS).is_file():
        raise VistuneError(f"{folder} holds no adapters (no {WEIGHTS}).")
    state = load_file(Path(folder) / WEIGHTS)
    ours = {re.sub(r"\.(lora_[AB])\.", rf".\1.{ADAPTER}.", k.removeprefix(PREFIX)): v for k, v in state.items()}
    names = sorted({key.split(".lora_")[0] for key in ours})
    known = dict(vlm.model.named_modules())
    if unknown := [name for name in names if name not in known]:
        raise VistuneError(f"the adapters in {folder} amend {len(unknown)} layers that the model lacks: {unknown[0]}.")
    roles = {vlm.family.role(f"{name}.weight") for name in names}
    for role in roles:
        _own(vlm, role)
    _inject(vlm, LoraConfig.from_pretrained(str(folder)), roles)
    own = vlm.model.state_dict()
    for key, tensor in ours.items():
        own[key].copy_(tensor)
    return names


def _own(vlm: Vlm, role: str) -> list[str]:
    """The role's linear layers, none of whose weights are shared."""
    found = linear_layers(vlm, role)
    if not found:
        raise VistuneError(f"the role {role} of {vlm.family.name} has no linear layers for LoRA to amend.")
    head, table = vlm.model.get_output_embeddings(), vlm.model.get_input_embeddings()
    if head is not None and head.weight is table.weight and any(vlm.model.get_submodule(n) is head for n in found):
        head.weight = nn.Parameter(table.weight.detach().clone(), table.weight.requires_grad)
        for config in (vlm.model.config, vlm.model.config.get_text_config()):
            config.tie_word_embeddings = False
    return found


def at_rest(weight: Any) -> Any:
    """bitsandbytes' state of a weight in 4 bits, which has its real shape; None for any other weight."""
    return getattr(weight, "quant_state", None)


def _rest(vlm: Vlm, chosen: Mapping[str, list[str]], quantised: Mapping[str, str], device: str) -> None:
    for role, kind in quantised.items():
        if kind not in BITS or role not in QUANTISABLE:
            raise VistuneError(
                f"quantised says {role}: {kind}. The linear layers of {' and '.join(QUANTISABLE)} can rest, in "
                f"{', '.join(BITS)}; everything else stays as it is."
            )
        if role not in chosen:
            raise VistuneError(f"{role} is quantised without LoRA, so nothing of it could train: give it a rank too.")
    if not quantised:
        return
    try:
        from vistune.models.quantised import quantise
    except ImportError as error:
        raise VistuneError(
            f"weights in 4 bits need bitsandbytes ({error}): pip install 'vistune[qlora]', or train without quantised."
        ) from error
    for role in quantised:
        quantise(vlm, chosen[role], device)


def _inject(vlm: Vlm, config: LoraConfig, roles: set[str]) -> None:
    from peft import inject_adapter_in_model

    trainable = {id(p) for p in vlm.model.parameters() if p.requires_grad}
    inject_adapter_in_model(config, vlm.model, ADAPTER)
    for name, parameter in vlm.model.named_parameters():
        adapter = ".lora_" in name
        parameter.requires_grad_(adapter or (id(parameter) in trainable and vlm.family.role(name) not in roles))
    for layer in layers(vlm).values():  # peft gives updates their weight's type; codes have none that trains
        if state := at_rest(layer.get_base_layer().weight):
            layer.lora_A.to(state.dtype)
            layer.lora_B.to(state.dtype)


def _attached(vlm: Vlm) -> dict[str, Any]:
    found = layers(vlm)
    if not found:
        raise VistuneError("the model has no LoRA adapters; attach some first.")
    return found
