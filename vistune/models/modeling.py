"""The composed vision-language model: vision tower -> connector -> language model, as one PreTrainedModel.

Visual tokens take the place of placeholders in the token sequence. Families that treat them apart inside the language
model give it experts (`experts`); what else its layers take (features to attend to, evidence) comes from the
connector's `context`. The same class trains, saves and loads through safetensors, generates, and answers for lm-eval.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    GenerationMixin,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import ModelOutput
from transformers.utils import logging

from vistune.errors import VistuneError
from vistune.models import family as known_family
from vistune.models.experts import Routing, add_experts
from vistune.models.families.base import Composed, Picture, read
from vistune.models.injection import embed


class VistuneConfig(PretrainedConfig):
    """Configuration of a composed model: its family, its preset as `base.written` gives it, its language model."""

    model_type = "vistune"
    has_no_defaults_at_init = True

    def __init__(
        self,
        family: str = "small",
        preset: Mapping[str, Any] | None = None,
        text_config: Mapping[str, Any] | PretrainedConfig | None = None,
        image_token_id: int = -1,
        **kwargs: Any,
    ) -> None:
        self.family = family
        self.preset = dict(preset or {})
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


@dataclass
class VistuneOutput(ModelOutput):
    loss: Tensor | None = None  # () float32: mean negative log-likelihood of labelled tokens
    logits: Tensor | None = None  # float32 (B, T, K), or (N, K) at `positions`
    past_key_values: Any = None
    context: dict[str, Tensor] | None = None  # for the steps of generation that follow


class VistuneForConditionalGeneration(PreTrainedModel, GenerationMixin):
    config_class = VistuneConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True
    _tied_weights_keys: ClassVar = {"language_model.lm_head.weight": "language_model.model.embed_tokens.weight"}

    vision_tower: Any
    connector: Any

    def __init__(self, config: VistuneConfig) -> None:
        super().__init__(config)
        self.family = known_family(config.family)
        if not isinstance(self.family, Composed):
            raise VistuneError(f"the family {config.family} is transformers' own class, not a composed model.")
        self.settings = read(next(iter(self.family.presets.values())), config.preset).settings
        self.vision_tower, self.connector = self.family.parts(self.settings, config.text_config)
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        experts = self.family.experts and self.family.experts(self.settings, config.text_config)
        self.routed = experts is not None
        if experts:
            add_experts(self.language_model.model, experts)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: Any) -> None:
        """Blocks that know how their authors draw them do so, after the modules inside them were drawn as
        transformers draws them."""
        if hasattr(module, "draw"):
            module.draw()
        else:
            super()._init_weights(module)

    def _initialize_weights(self, module: Any, is_custom_code: bool = False) -> None:
        """Unlike other custom code, every `draw` uses torch's own functions, which leave loaded weights alone; so
        modules need not be skipped, as transformers does with all that hold no weights themselves."""
        super()._initialize_weights(module, False)

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.language_model.get_output_embeddings()

    def see(self, pictures: Sequence[Picture]) -> Any:
        """What the tower gives of each picture, before the connector."""
        like = next(self.vision_tower.parameters())
        moved = [p._replace(views=tuple(view.to(like.device, like.dtype) for view in p.views)) for p in pictures]
        return self.vision_tower(moved)

    def hidden(
        self,
        input_ids: Tensor | None = None,
        pictures: Sequence[Picture] | None = None,
        image_features: Any = None,
        token_types: Tensor | None = None,
        context: dict[str, Tensor] | None = None,
        inputs_embeds: Tensor | None = None,
        segments: Any = None,
        **inputs: Any,
    ) -> tuple[Any, dict[str, Tensor] | None]:
        """What the language model makes of a batch before its head, and the context for steps that follow. See
        `forward`."""
        if pictures and image_features is None:
            image_features = self.see(pictures)
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("either input_ids or inputs_embeds is needed")
            table: Any = self.get_input_embeddings()
            visual = None
            if image_features is not None:
                visual = self.connector(image_features, pictures, table.weight)
                if hasattr(self.connector, "context"):
                    rows = self._rows(input_ids, [len(tokens) for tokens in visual])
                    context = self.connector.context(image_features, pictures, rows, len(input_ids), table)
                visual = torch.cat(list(visual))
            inputs_embeds = embed(input_ids, visual, self.config.image_token_id, table)
        special: dict[str, Any] = dict(context or {})
        if segments is not None:  # of a pack: see `tune.attention`
            special["segments"] = segments
        if self.routed:
            special["routing"] = None if token_types is None else Routing.of(token_types)
        return self.language_model.model(inputs_embeds=inputs_embeds, **inputs, **special), context

    def forward(
        self,
        input_ids: Tensor | None = None,
        pictures: Sequence[Picture] | None = None,
        image_features: Any = None,
        token_types: Tensor | None = None,
        context: dict[str, Tensor] | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        labels: Tensor | None = None,
        positions: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        segments: Any = None,
        **kwargs: Any,
    ) -> VistuneOutput:
        """input_ids: int64 (B, T). Pictures come in reading order, or what `see` gave of them as `image_features`.
        token_types: int (B, T), of families with experts. attention_mask: None, (B, S) of padding, or bool
        (B, 1, T, S), True where a token may look. labels: int64 (B, T), -100 where not learned. positions: bool (B, T),
        logits only there. Raises VistuneError with both counts where visual tokens and placeholders do not match."""
        hidden, context = self.hidden(
            input_ids,
            pictures,
            image_features,
            token_types,
            context,
            inputs_embeds,
            segments,
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
        return VistuneOutput(loss=loss, logits=logits, past_key_values=hidden.past_key_values, context=context)

    def _rows(self, input_ids: Tensor, lengths: Sequence[int]) -> list[int]:
        """The row of the batch that shows each picture, of so many visual tokens each."""
        row = (input_ids == self.config.image_token_id).nonzero()[:, 0].tolist()
        starts = [sum(lengths[:n]) for n in range(len(lengths))]
        return [row[start] for start in starts if start < len(row)]

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, past_key_values: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Images enter with the prompt only; later steps read them from the cache and the context."""
        first = past_key_values is None or past_key_values.get_seq_length() == 0
        given = {name: kwargs.pop(name, None) for name in ("pictures", "image_features", "token_types")}
        context = kwargs.pop("context", None)
        inputs = super().prepare_inputs_for_generation(input_ids, past_key_values=past_key_values, **kwargs)
        return inputs | (given if first else {"context": context})

    def _update_model_kwargs_for_generation(self, outputs: Any, model_kwargs: dict[str, Any], **kwargs: Any) -> Any:
        model_kwargs = super()._update_model_kwargs_for_generation(outputs, model_kwargs, **kwargs)
        return model_kwargs | {"context": outputs.context}


class FloatHead(nn.Linear):
    """The output head in float32. A bfloat16 logit of size 20 moves in steps of 1/8, which ties "yes" with "no"."""

    def forward(self, states: Tensor) -> Tensor:
        return super().forward(states.float())


def exact(model: Any) -> None:
    """Logits in float32 of a model in less."""
    head = model.get_output_embeddings()
    if type(head) is nn.Linear and head.weight.dtype != torch.float32:
        made = FloatHead(head.in_features, head.out_features, bias=head.bias is not None, device=head.weight.device)
        made.load_state_dict({k: v.float() for k, v in head.state_dict().items()})
        inner = getattr(model, "language_model", model)  # of a composed model
        inner.set_output_embeddings(made.requires_grad_(False))


def precision(name: str, device: str = "cpu") -> torch.dtype:
    """`auto` is bfloat16 where the hardware multiplies it (GPUs, CPUs with AVX512-BF16, AMX or SVE), else float32:
    a CPU without those instructions emulates bfloat16 about a hundred times slower."""
    if name != "auto":
        return getattr(torch, name)
    able = torch.cpu.get_capabilities()
    fast = device != "cpu" or any(able.get(k) for k in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))
    return torch.bfloat16 if fast else torch.float32


def cast_language(model: Any, dtype: torch.dtype) -> Any:
    """The language model in `dtype`. Composed models keep tower and connector in float32; transformers' own classes
    are cast whole."""
    if not isinstance(model, VistuneForConditionalGeneration):
        return model.to(dtype)
    model.language_model.to(dtype)
    model.vision_tower = model.vision_tower.to(memory_format=torch.channels_last)
    return model


if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # saving imports DeepSpeed, which otherwise warns that it guesses
logging.disable_progress_bar()  # ours are the only progress bars
AutoConfig.register("vistune", VistuneConfig)
AutoModelForImageTextToText.register(VistuneConfig, VistuneForConditionalGeneration)
