"""Llama in Meta's own checkpoint layout, as LLaMA2-Accessory writes it -> LlamaForCausalLM of transformers.

Two things are not names. Meta turns neighbouring channels of a head as pairs, transformers a channel of its first half
with one of its second: rows of queries and keys change places. And the files are shares of a model-parallel run: each
has some rows of what widens, some columns of what narrows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from vistune.models.keymap import State, rename

LINEAR = {
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def meta_llama_keys(original: Mapping[str, Tensor], heads: int, groups: int) -> State:
    """heads, groups: of queries, of keys and values"""
    state = rename(
        original,
        [
            (r"tok_embeddings\.weight", "model.embed_tokens.weight"),
            (r"norm\.weight", "model.norm.weight"),
            (r"output\.weight", "lm_head.weight"),
            (r"rope\.freqs", None),
            (
                rf"layers\.(\d+)\.({'|'.join(map(re.escape, LINEAR))})\.weight",
                lambda match: f"model.layers.{match[1]}.{LINEAR[match[2]]}.weight",
            ),
        ],
        "Llama",
    )
    for key, tensor in state.items():
        if key.endswith(("q_proj.weight", "k_proj.weight")):
            state[key] = halves(tensor, heads if "q_proj" in key else groups)
    return state


def halves(rows: Tensor, heads: int) -> Tensor:
    """Rows (H x D', D) whose neighbours turn together -> rows that turn with those half a head away.

    >>> import torch
    >>> halves(torch.arange(8)[:, None], 2)[:, 0].tolist()
    [0, 2, 1, 3, 4, 6, 5, 7]
    """
    return rows.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def meta_axis(key: str) -> int | None:
    """Along which axis the files split a tensor; None where each has all of it (norms, connector, encoders).

    >>> [meta_axis(f"llma.{key}.weight") for key in ("layers.0.attention.wq", "layers.0.attention.wo", "norm")]
    [0, 1, None]
    """
    if re.fullmatch(r"(?:llma\.)?(?:layers\.\d+\.(?:attention\.w[qkv]|feed_forward\.w[13])|output)\.weight", key):
        return 0
    if re.fullmatch(r"(?:llma\.)?(?:layers\.\d+\.(?:attention\.wo|feed_forward\.w2)|tok_embeddings)\.weight", key):
        return 1
    return None
