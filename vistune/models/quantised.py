"""Linear layers whose weights rest in 4 bits while low-rank updates train beside them (QLoRA), by bitsandbytes.

64 weights in a row share one constant, their largest magnitude; divided by it, each is rounded to the nearest of the 16
values of NF4, which are quantiles of the normal distribution. The constants of 256 such blocks are kept in 8 bits and
share one of 32. So a weight takes 4 + 8/64 + 32/(64 * 256) bits, and products are computed with the weights that this
stands for, in the type of the weights that it was made from.
Source: arXiv:2305.14314, section 3 and appendix E.
"""

from __future__ import annotations

from typing import Any

from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit, Params4bit
from torch import nn

from vistune.models.vlm import Vlm

BLOCK = 64


class Nf4Linear(Linear4bit):
    """A linear layer's weights in NF4 with double quantisation, on `device`; its bias stays as it is."""

    def __init__(self, layer: nn.Linear, device: str) -> None:
        dtype = layer.weight.dtype
        super().__init__(layer.in_features, layer.out_features, False, dtype, quant_type="nf4", device="meta")
        weight: Any = Params4bit(layer.weight.data, blocksize=BLOCK, quant_type="nf4", module=self)
        self.weight: Any = weight.to(device)
        self.bias = layer.bias
        # On CPUs with AVX512-BF16 a forward pass in evaluation mode would repack the weights for kernels that have no
        # backward pass, and training could not go on after a validation.
        self.support_avx512bf16_for_cpu = False

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """The codes alone, which load as they are saved. The constants follow from the weights that were quantised."""
        nn.Linear._save_to_state_dict(self, destination, prefix, keep_vars)

    def plain(self) -> nn.Linear:
        """The layer with the weights that the codes stand for, in the type that they were made from."""
        made = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        weight = dequantize_4bit(self.weight.data, self.weight.quant_state)  # transposed where they fill one byte
        made.weight = nn.Parameter(weight.reshape(self.out_features, self.in_features))
        made.bias = self.bias
        return made.train(self.training)


def quantise(vlm: Vlm, names: list[str], device: str) -> None:
    """Puts the weights of these linear layers to rest on `device`, one layer at a time: no device ever holds them all
    in 16 bits."""
    for name in names:
        layer = vlm.model.get_submodule(name)
        vlm.model.set_submodule(name, Nf4Linear(layer, device).train(layer.training))
