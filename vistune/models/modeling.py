"""The composed vision-language model: vision tower -> connector -> language model, as one PreTrainedModel.

Visual tokens take the place of image placeholders in the token sequence (scatter). The same class trains, saves and
loads through safetensors, generates, and answers for lm-eval.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    GenerationMixin,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import ModelOutput
from transformers.utils import logging

from vistune.errors import VistuneError
from vistune.models.chat import IMAGE, Chat
from vistune.models.connectors import GridMLP, GridMLPConfig
from vistune.models.encoders import EfficientNetLite, EfficientNetLiteConfig

ROLES = {  # role -> prefixes of the parameters it owns; together they partition the model
    "vision": ("vision_tower.",),
    "connector": ("connector.",),
    "language": ("language_model.model.layers.", "language_model.model.norm."),
    "head": ("language_model.model.embed_tokens.", "language_model.lm_head."),
}


class VistuneConfig(PretrainedConfig):
    """Configuration of the composed model; `family` names the file in models/families that chose the rest."""

    model_type = "vistune"
    has_no_defaults_at_init = True

    def __init__(
        self,
        family: str = "small",
        vision_config: Mapping[str, Any] | None = None,
        connector_config: Mapping[str, Any] | None = None,
        text_config: Mapping[str, Any] | None = None,
        image_token_id: int = -1,
        **kwargs: Any,
    ) -> None:
        self.family = family
        self.vision_config = dict(vision_config or {})
        self.connector_config = dict(connector_config or {})
        if isinstance(text_config, Mapping):
            text = dict(text_config)
            self.text_config = AutoConfig.for_model(text.pop("model_type", "llama"), **text)
        else:
            self.text_config = text_config or AutoConfig.for_model("llama")
        self.image_token_id = image_token_id
        kwargs.setdefault("tie_word_embeddings", False)  # the inner language model ties its own
        super().__init__(**kwargs)

    def get_text_config(self, *args: Any, **kwargs: Any) -> Any:
        return self.text_config

    @property
    def tokens_per_image(self) -> int:
        return EfficientNetLiteConfig(**self.vision_config).grid ** 2


@dataclass
class VistuneOutput(ModelOutput):
    loss: Tensor | None = None  # () float32: mean negative log-likelihood of labelled tokens
    logits: Tensor | None = None  # float32 (B, T, K), or (N, K) at `positions`
    past_key_values: Any = None


class VistuneForConditionalGeneration(PreTrainedModel, GenerationMixin):
    config_class = VistuneConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True
    _tied_weights_keys: ClassVar = {"language_model.lm_head.weight": "language_model.model.embed_tokens.weight"}

    vision_tower: EfficientNetLite
    connector: GridMLP
    chat: Chat  # set by `load_model` and the families' `build`

    def __init__(self, config: VistuneConfig) -> None:
        super().__init__(config)
        self.vision_tower = EfficientNetLite(EfficientNetLiteConfig(**config.vision_config))
        self.connector = GridMLP(GridMLPConfig(**config.connector_config))
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.language_model.get_output_embeddings()

    def pixels(self, images: Sequence[Any]) -> Tensor:
        """PIL images -> float32 (I, 3, S, S) in [0, 255]: upright RGB, squashed to a square (bilinear)."""
        import numpy as np
        from PIL import Image

        size = self.vision_tower.config.image_size
        arrays = []
        for image in images:
            picture = image.convert("RGB")
            if picture.size != (size, size):
                picture = picture.resize((size, size), Image.Resampling.BILINEAR)
            arrays.append(np.asarray(picture, dtype=np.float32))
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)

    @torch.no_grad()
    def encode_images(self, images: Sequence[Any]) -> Tensor:
        """PIL images -> float32 (I, P, C): features of the vision tower, before the connector."""
        return self.vision_tower(self.pixels(images).to(self.device)).float()

    def embed(self, input_ids: Tensor, image_features: Tensor | None) -> Tensor:
        """Token embeddings (B, T, D) with visual tokens in place of the placeholders, in row order.
        Raises VistuneError with both counts when they do not match."""
        slots = input_ids == self.config.image_token_id
        embeddings = self.get_input_embeddings()(input_ids.masked_fill(slots, 0))
        wanted = int(slots.sum())
        given = 0 if image_features is None else image_features.shape[0] * image_features.shape[1]
        if wanted != given:
            raise VistuneError(f"{wanted} image placeholders but {given} visual tokens in one batch.")
        if image_features is not None:
            table = self.get_input_embeddings().weight
            visual = self.connector(image_features.to(embeddings.device), table).to(embeddings.dtype)
            embeddings = embeddings.masked_scatter(slots[..., None], visual)
        return embeddings

    def forward(
        self,
        input_ids: Tensor | None = None,
        image_features: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        labels: Tensor | None = None,
        positions: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        **kwargs: Any,
    ) -> VistuneOutput:
        """input_ids: int64 (B, T). Images come as tower features (I, P, C) or as pixels (I, 3, S, S) in [0, 255].
        attention_mask: None, (B, S) of padding, or bool (B, 1, T, S), True where a token may look.
        labels: int64 (B, T), -100 where not learned. positions: bool (B, T), logits only there."""
        if pixel_values is not None:
            image_features = self.vision_tower(pixel_values)
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("either input_ids or inputs_embeds is needed")
            inputs_embeds = self.embed(input_ids, image_features)
        hidden = self.language_model.model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=bool(use_cache),
        )
        states = hidden.last_hidden_state
        if positions is not None:
            states = states[positions]
        elif logits_to_keep:
            states = states[:, -logits_to_keep:]
        logits = self.language_model.lm_head(states).float()
        loss = None
        if labels is not None:
            shifted = logits[:, :-1].reshape(-1, logits.shape[-1])
            loss = nn.functional.cross_entropy(shifted, labels[:, 1:].reshape(-1), ignore_index=-100)
        return VistuneOutput(loss=loss, logits=logits, past_key_values=hidden.past_key_values)

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        past_key_values: Any = None,
        image_features: Any = None,
        pixel_values: Any = None,
        **kw: Any,
    ) -> dict[str, Any]:
        """Images enter with the prompt only; later steps read them from the cache."""
        inputs = super().prepare_inputs_for_generation(input_ids, past_key_values=past_key_values, **kw)
        first = past_key_values is None or past_key_values.get_seq_length() == 0
        inputs["image_features"] = image_features if first else None
        inputs["pixel_values"] = pixel_values if first else None
        return inputs

    def roles(self) -> dict[str, list[str]]:
        """Parameter names per role. Raises VistuneError unless every parameter has exactly one role."""
        owned: dict[str, list[str]] = {role: [] for role in ROLES}
        for name, _ in self.named_parameters():
            owners = [role for role, prefixes in ROLES.items() if name.startswith(prefixes)]
            if len(owners) != 1:
                raise VistuneError(f"parameter {name} belongs to {owners or 'no role'}; expected exactly one role.")
            owned[owners[0]].append(name)
        return owned

    def prepare(self, tokenizer: Any) -> VistuneForConditionalGeneration:
        """Attaches the tokenizer's chat; called once after building or loading."""
        self.chat = Chat(tokenizer, self.config.image_token_id, self.config.tokens_per_image)
        return self

    def save(self, folder: Path) -> None:
        """Safetensors, configuration and tokenizer; loads with `load_model` or `from_pretrained`."""
        self.save_pretrained(folder)
        self.chat.tokenizer.save_pretrained(folder)


def tokenizer_with_image(folder: str) -> Any:
    """The language model's tokenizer with one more special token for images, and that token's id."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if IMAGE not in tokenizer.get_vocab():
        tokenizer.add_special_tokens({"extra_special_tokens": [IMAGE]})
    return tokenizer


class FloatHead(nn.Linear):
    """The output head in float32. A bfloat16 logit of size 20 moves in steps of 1/8, which ties "yes" with "no"."""

    def forward(self, states: Tensor) -> Tensor:
        return super().forward(states.float())


def load_model(
    folder: Path | str, dtype: str = "auto", device: str = "cpu", train: bool = False
) -> VistuneForConditionalGeneration:
    """The model saved in `folder`, in evaluation mode, its logits exact unless it is to `train`. The vision tower and
    the connector stay float32: they are a hundredth of the work, and their rounding would be the language model's
    input."""
    if not (Path(folder) / "config.json").is_file():
        raise VistuneError(f"{folder} holds no model (no config.json). Run `vistune tune`, or check the path.")
    model = VistuneForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = cast_language(model, precision(dtype, device))
    head: Any = model.get_output_embeddings()
    if not train and head.weight.dtype != torch.float32:
        exact = FloatHead(head.in_features, head.out_features, bias=head.bias is not None)
        exact.load_state_dict({k: v.float() for k, v in head.state_dict().items()})
        model.language_model.set_output_embeddings(exact)
    return model.to(device).eval().prepare(tokenizer)


def precision(name: str, device: str = "cpu") -> torch.dtype:
    """`auto` is bfloat16 where the hardware multiplies it (GPUs, CPUs with AVX512-BF16, AMX or SVE), else float32:
    a CPU without those instructions emulates bfloat16 about a hundred times slower."""
    if name != "auto":
        return getattr(torch, name)
    able = torch.cpu.get_capabilities()
    fast = device != "cpu" or any(able.get(k) for k in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))
    return torch.bfloat16 if fast else torch.float32


def cast_language(model: VistuneForConditionalGeneration, dtype: torch.dtype) -> VistuneForConditionalGeneration:
    model.language_model.to(dtype)
    model.vision_tower = model.vision_tower.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def compose(
    vision: EfficientNetLite, connector: GridMLPConfig, language: Any, tokenizer: Any, family: str
) -> VistuneForConditionalGeneration:
    """A model from loaded parts; the connector is fresh and placed in the language model's embedding space."""
    image_token_id = tokenizer.convert_tokens_to_ids(IMAGE)
    config = VistuneConfig(
        family=family,
        vision_config=asdict(vision.config),
        connector_config=asdict(connector),
        text_config=language.config.to_dict(),
        image_token_id=image_token_id,
    )
    with torch.device("meta"):
        model = VistuneForConditionalGeneration(config)
    model.vision_tower, model.language_model = vision, language
    model.connector = GridMLP(connector)
    model.prepare(tokenizer)
    table = cast(Tensor, model.get_input_embeddings().weight)
    sides = {}
    for word in ("left", "right", "top", "bottom"):
        ids = torch.tensor(model.chat.text(f" {word}"))
        sides[word] = table[ids].float().mean(0)
    model.connector.place(table, sides)
    return model


if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # saving imports DeepSpeed, which otherwise warns that it guesses
logging.disable_progress_bar()  # ours are the only progress bars
AutoConfig.register("vistune", VistuneConfig)
AutoModelForImageTextToText.register(VistuneConfig, VistuneForConditionalGeneration)
