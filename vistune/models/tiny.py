"""Models small enough for tests: random weights, one token a byte. Nothing is downloaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from vistune.models.families.base import Preset
from vistune.models.templates_table import TEMPLATES


def tiny_text(model_type: str = "llama", **changes: Any) -> dict[str, Any]:
    """Configuration of a tiny language model; the vocabulary is as large as the tokenizer needs it."""
    return {
        "model_type": model_type,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    } | changes


def byte_tokenizer(
    tokens: Sequence[str] = ("<|im_start|>", "<|im_end|>", "<image>"), bos: str | None = None, eos: str = "<|im_end|>"
) -> Any:
    """A tokenizer of 256 bytes and control tokens; the last of `tokens` has the highest id."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {c: n for n, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = {"bos_token": bos} if bos else {}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=eos, pad_token=eos, **special)
    tokenizer.add_special_tokens({"additional_special_tokens": [t for t in tokens if t not in (bos, eos)]})
    return tokenizer


def tokenizer_for(preset: Preset) -> Any:
    """A byte tokenizer with the control tokens that the preset's template writes, and the placeholder last."""
    template = TEMPLATES[preset.template]
    texts = [
        text for text in astuple(template) if isinstance(text, str) and text not in (template.source, template.mark)
    ]
    for side in (template.user, template.assistant, template.system_side):
        texts += [] if side is None else [text for text in astuple(side) if isinstance(text, str)]
    written = [found for text in texts for found in re.findall(r"<[^<>\s{}]+>|\[UNUSED_TOKEN_\d+\]", text)]
    tokens = dict.fromkeys(("<s>", "</s>", *written, *preset.tokens))
    tokens.pop(preset.placeholder, None)
    return byte_tokenizer((*tokens, preset.placeholder), bos="<s>", eos="</s>")
