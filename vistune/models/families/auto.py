"""Any vision-language model of transformers, by its name or folder: its own class, its own processor.

`vlm.load` takes it for folders that vistune did not write, `vlm.build("auto", NAME)` for a hub id. Which parameters are
the encoder's, the connector's and the language model's is read from how the model is put together: what holds the
embedding table is the language model, other models inside it are encoders, the rest connects them. Code that comes with
a model is never run.

There is no recipe for all of them; the two stages are LLaVA's, as a start. A model that encodes its text is refused,
and so is one whose processor has no chat template.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from vistune.errors import VistuneError
from vistune.models.families.base import NATIVE_ROLES, Family, Preset, Stage
from vistune.models.processed import ProcessorReader, load_processor
from vistune.models.tiny import byte_tokenizer, tiny_text
from vistune.models.views import Policy, Square, ViewPlan

if TYPE_CHECKING:
    from PIL.Image import Image

CONNECTS = re.compile(r"merger|projector|projection|connector|aligner|qformer|resampler|perceiver")
"""In the names of modules that connect, where they are a model of their own or inside the encoder."""

CODECS = {"llava": "llava", "llava_next": "llava", "internvl": "internvl"} | {
    f"qwen{generation}": codec
    for generation, codec in (("2_vl", "qwen2_vl"), ("2_5_vl", "qwen25_vl"), ("3_vl", "qwen3_vl"))
}
"""How models of a type write boxes; others as releases do."""

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% for piece in message.content %}"
    "{% if piece.type == 'image' %}<image>\n{% else %}{{ piece.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Of the tiny model."""


@dataclass(frozen=True)
class Settings:
    """None: the processor decides."""


def _policy(settings: Any) -> Policy:
    return Square(28)  # of the tiny model; that of others comes with their processor


def _look(settings: Any, plan: ViewPlan, picture: Image) -> tuple[Tensor, ...]:
    """The picture's bytes, (3, height, width); the processor makes its views of them."""
    return (torch.from_numpy(np.array(picture)).permute(2, 0, 1),)


STAGES = (
    Stage(
        name="align",
        rates={"connector": 1e-3},
        data="captions",
        schedule="cosine",
        warmup=0.03,
        note="not this model's recipe, which its authors publish: the rates of LLaVA 1.5",
    ),
    Stage(
        name="instruct",
        rates={"connector": 2e-5, "language": 2e-5, "head": 2e-5},
        data="dialogues about images",
        schedule="cosine",
        warmup=0.03,
        note="not this model's recipe, which its authors publish: the rates of LLaVA 1.5",
    ),
)


class Auto(Family):
    """Whatever model a preset's name stands for, the recipe is the same."""

    def preset(self, name: str) -> Preset:
        return self.presets.get(name, next(iter(self.presets.values())))


FAMILY = Auto(
    name="auto",
    title="any model of transformers",
    source="AutoModelForImageTextToText",
    views="its processor's",
    encoder="its own",
    connector="its own",
    injection="its own",
    codec="vistune",
    presets={"tiny": Preset(settings=Settings(), text=tiny_text(), template="", stages=STAGES)},
    policy=_policy,
    look=_look,
    roles=NATIVE_ROLES,
    packs=False,
)


def load(reference: str, dtype: torch.dtype = torch.float32) -> tuple[PreTrainedModel, ProcessorReader]:
    """reference: a folder or a hub id. Raises VistuneError for a model that is not of this kind."""
    processor = load_processor(reference, _config(reference))
    model = AutoModelForImageTextToText.from_pretrained(reference, dtype=dtype)
    return model, reader_of(model, processor)


def empty(reference: str) -> tuple[PreTrainedModel, ProcessorReader]:
    """The same without weights, on the meta device; also of `tiny`."""
    if reference == "tiny":
        with torch.device("meta"):
            return tiny()
    config = _config(reference)
    processor = load_processor(reference, config)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    return model, reader_of(model, processor)


def _config(reference: str) -> PretrainedConfig:
    try:
        config = AutoConfig.from_pretrained(reference)
    except (OSError, ValueError) as error:
        why = str(error).splitlines()[0].rstrip(".")
        raise VistuneError(
            f"{reference!r} is no model of the family auto ({why}). Name a folder with config.json, or ORG/NAME of the "
            "hub, in tune.preset."
        ) from None
    if type(config) not in AutoModelForImageTextToText._model_mapping:
        raise VistuneError(
            f"the model in {reference} ({config.model_type}) is no vision-language model to transformers."
        )
    if config.is_encoder_decoder:
        raise VistuneError(
            f"the model in {reference} ({config.model_type}) has an encoder for its text, no decoder alone."
        )
    return config


def reader_of(model: PreTrainedModel, processor: Any) -> ProcessorReader:
    """Reads for a model by its processor."""
    config: PretrainedConfig = model.config
    text = config.get_text_config()
    placeholder = getattr(config, "image_token_id", None)
    if placeholder is None:
        raise VistuneError(f"the configuration of {config.model_type} does not say which token stands for a picture.")
    preset = Preset(
        settings=Settings(),
        text={"model_type": text.model_type},
        template="",
        limit=getattr(text, "max_position_embeddings", None) or 2048,
        placeholder=processor.tokenizer.convert_ids_to_tokens(placeholder),
        weights=config.name_or_path,
        stages=STAGES,
    )
    codec = CODECS.get(config.model_type, FAMILY.codec)
    family = replace(FAMILY, roles=roles_of(model), codec=codec, presets={config.model_type: preset})
    return ProcessorReader(family, preset, processor)


def tiny(seed: int = 0) -> tuple[PreTrainedModel, ProcessorReader]:
    """A tiny LLaVA, read as any model of transformers."""
    tokenizer = byte_tokenizer()
    images = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor = LlavaProcessor(images, tokenizer, 14, "default", CHATML, "<image>", 1)
    text = tiny_text(vocab_size=len(tokenizer))
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        projection_dim=32,
    )
    torch.manual_seed(seed)
    config = LlavaConfig(
        vision_config=vision,
        text_config=AutoConfig.for_model(text.pop("model_type"), **text),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=False,
    )
    model = LlavaForConditionalGeneration(config)
    return model, reader_of(model, processor)


def roles_of(model: PreTrainedModel) -> dict[str, tuple[str, ...]]:
    """Prefixes of each role's parameters, by structure."""
    names = {id(module): name for name, module in model.named_modules()}
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    head = tuple(f"{names[id(module)]}." for module in ends if module is not None)
    roles: dict[str, tuple[str, ...]] = {"vision": (), "connector": (), "language": (), "head": head}
    table = names[id(ends[0])]

    def parts(module: nn.Module, prefix: str) -> Iterator[tuple[str, str]]:
        """Role and prefix of what is in `module`, the deepest modules that hold only one role's parameters."""
        for name, child in module.named_children():
            path = f"{prefix}{name}."
            if path in head:
                continue
            if not isinstance(child, PreTrainedModel):
                holds_models = any(isinstance(inner, PreTrainedModel) for inner in child.modules())
                if holds_models:
                    yield from parts(child, path)
                else:
                    yield "connector", path
            elif not f"{table}.".startswith(path):
                yield "connector" if CONNECTS.search(name) else "vision", path
                for inner, _ in child.named_children():
                    if CONNECTS.search(inner):
                        yield "connector", f"{path}{inner}."
            elif any(isinstance(c, PreTrainedModel) and c is not child for c in child.modules()):
                yield from parts(child, path)
            else:
                yield "language", path
        for name, _ in module.named_parameters(recurse=False):
            yield "connector", prefix + name

    for role, path in parts(model, ""):
        roles[role] += (path,)
    return roles


def build(preset: str, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[PreTrainedModel, ProcessorReader]:
    """`tiny`, or the name or folder of a model."""
    model, reader = tiny(seed) if preset == "tiny" else load(preset, dtype)
    return model.to(dtype), reader
