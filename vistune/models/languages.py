"""Configurations of the published language models that several families are built on: their sizes, and the constants
that change what they compute. From the config.json of each; everything else is the default of its `model_type`."""

from __future__ import annotations

from typing import Any

Text = dict[str, Any]


def _decoder(kind: str, vocabulary: int, width: int, hidden: int, layers: int, heads: int, groups: int = 0) -> Text:
    """groups: heads of keys and values, 0 for as many as there are of queries."""
    return {
        "model_type": kind,
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups or heads,
        "tie_word_embeddings": False,
    }


_LLAMA_1: Text = {"max_position_embeddings": 2048, "rms_norm_eps": 1e-6}
_LLAMA_2: Text = {"max_position_embeddings": 4096, "rms_norm_eps": 1e-5}
_LLAMA_3: Text = {"max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 5e5}
_MISTRAL: Text = {"max_position_embeddings": 32768, "rms_norm_eps": 1e-5, "rope_theta": 1e6, "sliding_window": None}
_YI: Text = {"max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 5e6}
_QWEN: Text = {"max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1e6}
_INTERNLM: Text = {"max_position_embeddings": 32768, "rms_norm_eps": 1e-5, "rope_theta": 1e6}
_PHI: Text = {"max_position_embeddings": 131072, "original_max_position_embeddings": 4096, "rms_norm_eps": 1e-5}

VICUNA_7B_V1_3 = _decoder("llama", 32000, 4096, 11008, 32, 32) | _LLAMA_1
VICUNA_13B_V1_3 = _decoder("llama", 32000, 5120, 13824, 40, 40) | _LLAMA_1
VICUNA_7B = _decoder("llama", 32000, 4096, 11008, 32, 32) | _LLAMA_2
VICUNA_13B = _decoder("llama", 32000, 5120, 13824, 40, 40) | _LLAMA_2
"""Version 1.5, on Llama 2; the chat models of Llama 2 have the same numbers."""

LLAMA_3_8B = _decoder("llama", 128256, 4096, 14336, 32, 32, 8) | _LLAMA_3
LLAMA_3_70B = _decoder("llama", 128256, 8192, 28672, 80, 64, 8) | _LLAMA_3
MISTRAL_7B = _decoder("mistral", 32000, 4096, 14336, 32, 32, 8) | _MISTRAL
"""Instruct, v0.2."""
MIXTRAL_8X7B = _decoder("mixtral", 32000, 4096, 14336, 32, 32, 8) | _MISTRAL
"""Instruct, v0.1."""
YI_34B = _decoder("llama", 64000, 7168, 20480, 60, 56, 8) | _YI
"""Nous-Hermes-2-Yi-34B."""

QWEN_1_5_72B = _decoder("qwen2", 152064, 8192, 24576, 80, 64) | _QWEN
QWEN_1_5_110B = _decoder("qwen2", 152064, 8192, 49152, 80, 64, 8) | _QWEN
QWEN_2_0_5B = _decoder("qwen2", 151936, 896, 4864, 24, 14, 2) | _QWEN
"""Also Qwen2.5. Published with the head tied to the embeddings, which its descendants here untie."""
QWEN_2_7B = _decoder("qwen2", 152064, 3584, 18944, 28, 28, 4) | _QWEN
QWEN_2_5_3B = _decoder("qwen2", 151936, 2048, 11008, 36, 16, 2) | _QWEN
QWEN_2_5_32B = _decoder("qwen2", 152064, 5120, 27648, 64, 40, 8) | _QWEN
QWEN_2_5_72B = _decoder("qwen2", 152064, 8192, 29568, 80, 64, 8) | _QWEN

GEMMA_2B = _decoder("gemma", 256000, 2048, 16384, 18, 8, 1) | {"head_dim": 256, "tie_word_embeddings": True}
MINICPM_2B = _decoder("llama", 122753, 2304, 5760, 40, 36) | _LLAMA_2 | {"tie_word_embeddings": True}
"""A Llama once its three scales are folded into its weights (`families.minicpm_v`)."""

INTERNLM_2_1_8B = _decoder("llama", 92544, 2048, 8192, 24, 16, 8) | _INTERNLM
INTERNLM_2_7B = _decoder("llama", 92544, 4096, 14336, 32, 32, 8) | _INTERNLM
INTERNLM_2_20B = _decoder("llama", 92544, 6144, 16384, 48, 48, 8) | _INTERNLM
"""InternLM2 and 2.5 are Llamas under other names. Their rotary frequencies change beyond 32768 tokens only."""

PHI_3_MINI = _decoder("phi3", 32064, 3072, 8192, 32, 32) | _PHI | {"sliding_window": None, "pad_token_id": 32000}
"""With a context of 4096 tokens; that of the 128k version is in its weights' config.json, with its rotary factors."""
