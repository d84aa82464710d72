"""A vision-language model with what it reads by: built from a preset, loaded, saved, and asked.

Everything here is the same for composed and native families.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.initialization import no_init_weights

from vistune.errors import VistuneError
from vistune.files import read_json
from vistune.models import family as known_family
from vistune.models.families.base import Composed, Family, Native, Preset, read, written
from vistune.models.keymap import load as load_state
from vistune.models.modeling import (
    VistuneConfig,
    VistuneForConditionalGeneration,
    cast_language,
    exact,
    precision,
)
from vistune.models.originals import read_state
from vistune.models.overlay import Overlay
from vistune.models.reader import Reader, prepared
from vistune.models.tiny import tokenizer_for
from vistune.models.weights import resolve
from vistune.records import Message, Region


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
        return self.family.owned(self.model)

    def inputs(
        self,
        conversations: Sequence[Sequence[Message]],
        images: Sequence[Sequence[Any]],
        *,
        prompt: bool = False,
        side: str = "right",
        evidence: Sequence[Sequence[Any]] = (),
        overlays: Sequence[Sequence[Overlay | None]] = (),
        regions: Sequence[Sequence[Region]] = (),
    ) -> dict[str, Any]:
        """The model's inputs for conversations about PIL images, as `Reader.batch` gives them, on its device.
        regions: of each conversation, what it speaks about, for families that mark it; overlays: what is drawn over
        each of its images instead."""
        readings, pictures = [], []
        for n, (messages, shown) in enumerate(zip(conversations, images, strict=True)):
            sizes, about = [image.size for image in shown], regions[n] if regions else ()
            reading = self.reader.read(messages, sizes, regions=about, prompt=prompt, sample=str(n))
            readings.append(reading)
            aside, drawn_over = evidence[n] if evidence else (), overlays[n] if overlays else ()
            pictures.append(self.reader.look(reading, shown, aside, drawn_over))
        batch = self.reader.batch(readings, pictures, side)  # type: ignore[arg-type]
        return {k: v.to(self.model.device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}

    @torch.inference_mode()
    def generate(
        self,
        conversations: Sequence[Sequence[Message]],
        images: Sequence[Sequence[Any]],
        max_new_tokens: int = 64,
        evidence: Sequence[Sequence[Any]] = (),
        overlays: Sequence[Sequence[Overlay | None]] = (),
        regions: Sequence[Sequence[Region]] = (),
    ) -> list[str]:
        """The greedy answer to each conversation, which ends with a question. images: PIL, of each conversation; the
        rest as `inputs` takes it."""
        aside: dict[str, Any] = {"evidence": evidence, "overlays": overlays, "regions": regions}
        inputs = self.inputs(conversations, images, prompt=True, side="left", **aside)
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

    def save(self, folder: Path | str, state: dict[str, torch.Tensor] | None = None) -> None:
        """Safetensors, configuration and tokenizer. Native families load with transformers' AutoModel classes.
        state: the weights, where they are not the model's own (gathered from several processes)."""
        preset = written(self.preset)
        if isinstance(self.family, Native):
            self.model.config.vistune = {"family": self.family.name, "preset": preset}
        elif isinstance(self.family, Composed):
            self.model.config.preset = self._read_as(preset)
        self.model.save_pretrained(folder, state_dict=state)
        self.reader.save(folder)

    def _read_as(self, preset: Mapping[str, Any]) -> dict[str, Any]:
        """The preset in the model's configuration with what the reader has otherwise than the model was made with: a
        training stage may have a template or views of its own. The rest is the model's: it may have changed in
        training."""
        kept, made = self.model.config.preset, asdict(self.model.settings)
        other = {key: value for key, value in asdict(self.preset.settings).items() if value != made[key]}
        settings = {**kept["settings"], **{key: preset["settings"][key] for key in other}}
        return {**preset, "settings": settings}


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
    text: Mapping[str, Any] | None = None,
) -> Vlm:
    """A model of a preset. language, vision: published weights of its parts, as a folder or a hub id; without them the
    preset's numbers, but for what `text` says of the language model's configuration, and weights drawn from `seed`."""
    kind = known_family(family)
    if kind.name == "auto":
        from vistune.models.families import auto

        found, processed = auto.build(resolve(preset, home), seed, dtype)
        return Vlm(found.eval(), processed)
    values = kind.preset(preset)
    tokenizer, text = _language(values, language, home, tokenizer, text)
    torch.manual_seed(seed)
    model = drawn(kind, values, tokenizer, text)
    if language:
        _load_language(kind, model, resolve(language, home))
    if vision:
        if kind.load_vision is None:
            raise VistuneError(f"the family {family} does not load a vision encoder by itself; load the whole model.")
        tower = model.vision_tower if isinstance(kind, Composed) else model.model.vision_tower
        kind.load_vision(tower, resolve(vision, home))
    reader = Reader(kind, values, tokenizer)
    if kind.settle is not None:
        kind.settle(model, reader, seed)
    return Vlm(model.to(dtype).eval(), reader)


def empty(family: str, preset: str = "tiny", *, language: str = "", home: Path = Path(".vistune")) -> Vlm:
    """The same without weights, on the meta device: what it reads, what shapes it has."""
    kind = known_family(family)
    if kind.name == "auto":
        from vistune.models.families import auto

        found, processed = auto.empty(resolve(preset, home))
        return Vlm(found.eval(), processed)
    values = kind.preset(preset)
    tokenizer, text = _language(values, language, home)
    with torch.device("meta"), no_init_weights():
        model = drawn(kind, values, tokenizer, text)
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            module.tie_weights()  # which is a part of drawing them
    return Vlm(model.eval(), Reader(kind, values, tokenizer))


def _language(
    values: Preset, language: str, home: Path, tokenizer: Any = None, text: Mapping[str, Any] | None = None
) -> tuple[Any, dict[str, Any]]:
    """Tokenizer and configuration of the language model: of published weights, or of the preset."""
    if language:
        folder = resolve(language, home)
        tokenizer = tokenizer or AutoTokenizer.from_pretrained(folder)
        text = AutoConfig.from_pretrained(folder).to_dict()
    else:
        tokenizer = tokenizer or tokenizer_for(values)
        text = {**values.text, **(text or {})}
    return prepared(tokenizer, values), dict(text)


def drawn(kind: Family, values: Preset, tokenizer: Any, text: Mapping[str, Any]) -> Any:
    """The model of a preset with random weights. tokenizer: `prepared`; text: configuration of the language model."""
    placeholder = tokenizer.convert_tokens_to_ids(values.placeholder)
    rows = len(tokenizer) - 1 if isinstance(kind, Composed) else len(tokenizer)  # ours needs no row for the placeholder
    text = {**text, "vocab_size": max(text.get("vocab_size", 0), rows)}
    if isinstance(kind, Composed):
        text_config = AutoConfig.for_model(text.pop("model_type"), **text)
        return VistuneForConditionalGeneration(VistuneConfig(kind.name, written(values), text_config, placeholder))
    if isinstance(kind, Native):
        made, config = kind.model(values.settings, text, placeholder)
        model: Any = made(config)
        return model
    raise VistuneError(f"the family {kind.name} is neither composed nor native.")


def load(folder: Path | str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Vlm:
    """The model that `Vlm.save` wrote, or any vision-language model of transformers. Raises VistuneError for a folder
    without one."""
    if not (Path(folder) / "config.json").is_file():
        raise VistuneError(f"{folder} holds no model (no config.json). Run `vistune tune`, or check the path.")
    config = AutoConfig.from_pretrained(folder)
    note = {"family": config.family, "preset": config.preset} if config.model_type == "vistune" else None
    note = note or getattr(config, "vistune", None)
    if note is None:
        from vistune.models.families import auto

        found, reader = auto.load(str(folder), dtype)
        return Vlm(found.to(device).eval(), reader)
    kind = known_family(note["family"])
    preset = read(next(iter(kind.presets.values())), note["preset"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    made: Any = VistuneForConditionalGeneration
    if isinstance(kind, Native):
        placeholder = tokenizer.convert_tokens_to_ids(preset.placeholder)
        made = kind.model(preset.settings, preset.text, placeholder)[0]
    model = made.from_pretrained(folder, dtype=dtype)
    return Vlm(model.to(device).eval(), Reader(kind, preset, tokenizer))


def load_model(folder: Path | str, dtype: str = "auto") -> Vlm:
    """The model in `folder`, ready to be asked: on a GPU if there is one, without gradients, its logits exact. dtype:
    "auto" (see `precision`), "bfloat16" or "float32", of the language model; the tower and the connector of composed
    models stay float32: they are a hundredth of the work, and their rounding would be the language model's input."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind, config = precision(dtype, device), Path(folder) / "config.json"
    composed = config.is_file() and read_json(config).get("model_type") == "vistune"
    found = load(folder, torch.float32 if composed else kind)
    found.model = cast_language(found.model, kind).to(device)
    found.model.requires_grad_(False)
    exact(found.model)
    return found


def load_original(
    folder: Path | str,
    family: str,
    preset: str,
    *,
    parts: Sequence[Path | str] = (),
    allow_bin: bool = False,
    tokenizer: Any = None,
    vision: str = "",
) -> Vlm:
    """A checkpoint as its authors published it: safetensors, or with `allow_bin` PyTorch's files (read without running
    any code in them). parts: more folders or files, where the authors published only what they trained (MiniGPT-4).
    vision: published weights of the encoder, for checkpoints that leave it out because it was never trained. Raises
    VistuneError with every missing, unexpected or misshapen key."""
    kind = known_family(family)
    if kind.original is None:
        raise VistuneError(f"the family {family} does not load its authors' checkpoints.")
    tokenizer = tokenizer or (kind.tokenizer or AutoTokenizer.from_pretrained)(Path(folder))
    said = Path(folder) / "config.json"
    text = kind.text_config(json.loads(said.read_text(encoding="utf-8"))) if kind.text_config and said.is_file() else {}
    vlm = build(family, preset, tokenizer=tokenizer, text=text, vision=vision)
    state: dict[str, torch.Tensor] = {}
    for source in (folder, *parts):
        part = read_state(Path(source), allow_bin, kind.shards)
        if again := sorted(state.keys() & part.keys()):
            raise VistuneError(f"{source} holds {len(again)} tensors that an earlier part holds too: {again[0]}.")
        state |= part
    state = kind.original(state, vlm.model.config)
    if vision:
        state = {k: v for k, v in vlm.model.state_dict().items() if kind.role(k) == "vision"} | state
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
        others = {k: v for k, v in model.state_dict().items() if family.role(k) not in ("language", "head")}
        load_state(model, others | state, f"{family.title}'s language model")
        return
    target = model.language_model
    state = with_rows(published.state_dict(), len(model.get_input_embeddings().weight))
    layers = {id(layer) for layer in target.model.layers} if model.routed else set()
    own = {k: v for k, v in state.items() if not (layers and k.startswith("model.layers."))}
    target.load_state_dict(own, strict=not layers)
    if layers:
        for layer, plain_layer in zip(target.model.layers, published.model.layers, strict=True):
            layer.copy_plain(plain_layer)
