"""small: the default family, sized for two CPU cores.

EfficientNet-Lite0 (4 M parameters, 7 x 7 grid) -> MLP -> SmolLM2-135M-Instruct, 49 visual tokens an image. Real
weights of real models, both from pip packages; no claim beyond teaching the pipeline and passing its gate.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from vistune.models.connectors import GridMLPConfig
from vistune.models.encoders import EfficientNetLite, EfficientNetLiteConfig
from vistune.models.modeling import VistuneForConditionalGeneration, compose, tokenizer_with_image
from vistune.models.weights import resolve

VISION = "package:efficientnet-lite0"
LANGUAGE = "package:smollm2-135m-instruct"
CONNECTOR_HIDDEN = 1024


def build(
    home: Path, seed: int, vision: str = VISION, language: str = LANGUAGE, dtype: torch.dtype = torch.float32
) -> VistuneForConditionalGeneration:
    """The untuned model: pretrained tower and language model, a fresh connector drawn from `seed`."""
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    tower = EfficientNetLite(EfficientNetLiteConfig())
    tower.load_state_dict(load_file(Path(resolve(vision, home)) / "model.safetensors"))
    folder = resolve(language, home)
    lm = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    return _compose(tower, lm, tokenizer_with_image(folder), seed, CONNECTOR_HIDDEN)


def tiny(seed: int = 0, tokenizer: Any = None) -> VistuneForConditionalGeneration:
    """The same shape with random weights and a byte-sized vocabulary: for tests, no downloads."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tokenizer or byte_tokenizer()
    torch.manual_seed(seed)
    tower = EfficientNetLite(EfficientNetLiteConfig(image_size=64, width=32, multiplier=0.125))
    for layer in tower.modules():  # torch's default scale would fade the image out over 50 layers
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                torch.nn.init.zeros_(layer.bias)
    config = LlamaConfig(
        vocab_size=len(tokenizer) - 1,  # the image placeholder has no embedding
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
        pad_token_id=None,
    )
    return _compose(tower, LlamaForCausalLM(config), tokenizer, seed, hidden=32)


def _compose(tower: Any, lm: Any, tokenizer: Any, seed: int, hidden: int) -> VistuneForConditionalGeneration:
    torch.manual_seed(seed)
    connector = GridMLPConfig(
        channels=tower.config.width, hidden=hidden, width=lm.config.hidden_size, grid=tower.config.grid
    )
    return compose(tower, connector, lm, tokenizer, family="small")


def byte_tokenizer() -> Any:
    """A tokenizer of 256 bytes plus ChatML's control tokens and the image placeholder (last)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {c: n for n, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|im_end|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<image>"]})
    return tokenizer
