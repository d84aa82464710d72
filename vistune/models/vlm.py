"""A vision-language model with what it reads by: built from a preset, loaded, saved, and asked.

Everything here is the same for composed and native families.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from vistune.errors import VistuneError
from vistune.models import family as known_family
from vistune.models.families.base import Composed, Family, Native, Preset, read, written
from vistune.models.keymap import load as load_state
from vistune.models.modeling import VistuneConfig, VistuneForConditionalGeneration
from vistune.models.originals import read_state
from vistune.models.reader import Reader, prepared
from vistune.models.tiny import tokenizer_for
from vistune.models.weights import resolve
from vistune.records import Message


@dataclass
class Vlm:
    model: Any  # a PreTrainedModel
    reader: Reader

    @property
    def family(self) -> Family:
        return self.reader.family

    @property
    def preset(self) -> Preset:
        return self.reader.preset

    def roles(self) -> dict[str, list[str]]:
        """Parameter names by role. Raises VistuneError for a parameter without a role."""
        owned: dict[str, list[str]] = {role: [] for role in self.family.roles}
        for name, _ in self.model.named_parameters():
            owned[self.family.role(name)].append(name)
        return owned

    def inputs(
        self,
        conversations: Sequence[Sequence[Message]],
        images: Sequence[Sequence[Any]],
        *,
        prompt: bool = False,
        side: str = "right",
        evidence: Sequence[Sequence[Any]] = (),
    ) -> dict[str, Any]:
        """The model's inputs for conversations about PIL images, as `Reader.batch` gives them, on its device."""
        readings, pictures = [], []
        for n, (messages, shown) in enumerate(zip(conversations, images, strict=True)):
            reading = self.reader.read(messages, [image.size for image in shown], prompt=prompt, sample=str(n))
            readings.append(reading)
            pictures.append(self.reader.look(reading, shown, evidence[n] if evidence else ()))
        batch = self.reader.batch(readings, pictures, side)  # type: ignore[arg-type]
        return {k: v.to(self.model.device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}

    @torch.inference_mode()
    def generate(
        self,
        conversations: Sequence[Sequence[Message]],
        images: Sequence[Sequence[Any]],
        max_new_tokens: int = 64,
        evidence: Sequence[Sequence[Any]] = (),
    ) -> list[str]:
        """The greedy answer to each conversation, which ends with a question. images: PIL, of each conversation."""
        inputs = self.inputs(conversations, images, prompt=True, side="left", evidence=evidence)
        inputs.pop("labels")
        stop = self.reader.text(self.reader.stop) if self.reader.stop else []
        ends: dict[str, Any] = {"eos_token_id": stop} if len(stop) == 1 else {"eos_token_id": None}
        if len(stop) > 1:
            ends |= {"stop_strings": [self.reader.stop], "tokenizer": self.reader.tokenizer}
        length = inputs["input_ids"].shape[1]
        was = self.model.training
        self.model.eval()
        found = self.model.generate(
            **inputs, do_sample=False, max_new_tokens=max_new_tokens, pad_token_id=self.reader.pad_id, **ends
        )
        self.model.train(was)
        return [self.reader.answer(row) for row in found[:, length:].tolist()]

    def save(self, folder: Path | str) -> None:
        """Safetensors, configuration and tokenizer. Native families load with transformers' AutoModel classes."""
        note = {"family": self.family.name, "preset": written(self.preset)}
        if isinstance(self.family, Native):
            self.model.config.vistune = note
        self.model.save_pretrained(folder)
        self.reader.tokenizer.save_pretrained(folder)


def build(
    family: str,
    preset: str = "tiny",
    *,
    seed: int = 0,
    language: str = "",
    vision: str = "",
    home: Path = Path(".vistune"),
    dtype: torch.dtype = torch.float32,
    tokenizer: Any = None,
) -> Vlm:
    """A model of a preset. language, vision: published weights of its parts, as a folder or a hub id; without them the
    preset's numbers and weights drawn from `seed`."""
    kind = known_family(family)
    values = kind.preset(preset)
    if language:
        folder = resolve(language, home)
        tokenizer = tokenizer or AutoTokenizer.from_pretrained(folder)
        text = AutoConfig.from_pretrained(folder).to_dict()
    else:
        tokenizer = tokenizer or tokenizer_for(values)
        text = dict(values.text)
    tokenizer = prepared(tokenizer, values)
    placeholder = tokenizer.convert_tokens_to_ids(values.placeholder)
    rows = len(tokenizer) - 1 if isinstance(kind, Composed) else len(tokenizer)  # ours needs no row for the placeholder
    text["vocab_size"] = max(text.get("vocab_size", 0), rows)
    torch.manual_seed(seed)
    model: Any
    if isinstance(kind, Composed):
        text_config = AutoConfig.for_model(text.pop("model_type"), **text)
        config = VistuneConfig(kind.name, written(values), text_config, placeholder)
        model = VistuneForConditionalGeneration(config)
    elif isinstance(kind, Native):
        made, config = kind.model(values.settings, text, placeholder)
        model = made(config)
    else:
        raise VistuneError(f"the family {family} is neither composed nor native.")
    if language:
        _load_language(kind, model, resolve(language, home))
    if vision:
        if not isinstance(kind, Composed) or kind.load_vision is None:
            raise VistuneError(f"the family {family} does not load a vision encoder by itself; load the whole model.")
        kind.load_vision(model.vision_tower, resolve(vision, home))
    reader = Reader(kind, values, tokenizer)
    if isinstance(kind, Composed) and kind.settle is not None:
        kind.settle(model, reader, seed)
    return Vlm(model.to(dtype).eval(), reader)


def load(folder: Path | str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Vlm:
    """The model that `Vlm.save` wrote. Raises VistuneError for a folder without one."""
    if not (Path(folder) / "config.json").is_file():
        raise VistuneError(f"{folder} holds no model (no config.json). Run `vistune tune`, or check the path.")
    config = AutoConfig.from_pretrained(folder)
    note = {"family": config.family, "preset": config.preset} if config.model_type == "vistune" else None
    note = note or getattr(config, "vistune", None)
    if note is None:
        raise VistuneError(
            f"the model in {folder} ({config.model_type}) was not saved by vistune; use the family auto."
        )
    kind = known_family(note["family"])
    preset = read(next(iter(kind.presets.values())), note["preset"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    made: Any = VistuneForConditionalGeneration
    if isinstance(kind, Native):
        placeholder = tokenizer.convert_tokens_to_ids(preset.placeholder)
        made = kind.model(preset.settings, preset.text, placeholder)[0]
    model = made.from_pretrained(folder, dtype=dtype)
    return Vlm(model.to(device).eval(), Reader(kind, preset, tokenizer))


def load_original(
    folder: Path | str, family: str, preset: str, *, allow_bin: bool = False, tokenizer: Any = None
) -> Vlm:
    """A checkpoint as its authors published it: safetensors, or with `allow_bin` PyTorch's files (read without running
    any code in them). Raises VistuneError with every missing, unexpected or misshapen key."""
    kind = known_family(family)
    if kind.original is None:
        raise VistuneError(f"the family {family} does not load its authors' checkpoints.")
    tokenizer = tokenizer or AutoTokenizer.from_pretrained(folder)
    vlm = build(family, preset, tokenizer=tokenizer)
    state = kind.original(read_state(Path(folder), allow_bin), vlm.model.config)
    load_state(vlm.model, state, f"{kind.title} ({preset})")
    return vlm


def _load_language(family: Family, model: Any, folder: str) -> None:
    """A published language model's weights into the model's own; new rows of the vocabulary are the mean of the old."""
    from vistune.models.native import with_rows

    published = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if isinstance(family, Native):
        plain = {
            f"model.language_{key}" if key.startswith("model.") else key: v for key, v in published.state_dict().items()
        }
        state = with_rows(plain, len(model.get_input_embeddings().weight))
        model.load_state_dict(state, strict=False)
        return
    target = model.language_model
    state = with_rows(published.state_dict(), len(model.get_input_embeddings().weight))
    layers = {id(layer) for layer in target.model.layers} if model.routed else set()
    own = {k: v for k, v in state.items() if not (layers and k.startswith("model.layers."))}
    target.load_state_dict(own, strict=not layers)
    if layers:
        for layer, plain_layer in zip(target.model.layers, published.model.layers, strict=True):
            layer.copy_plain(plain_layer)
