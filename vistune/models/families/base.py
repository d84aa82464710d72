"""What the file of a family says: one value on each axis in which vision-language models differ.

A family has presets: published sizes, each with the published recipe, and `tiny` for tests. `Composed` families are
built of our blocks around a language model, in `modeling`; `Native` ones are classes of transformers. Everything else
treats both alike: `reader` turns conversations and pictures into their inputs, `vlm` joins a model with its reader.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from vistune.errors import VistuneError
from vistune.models.views import Policy, ViewPlan

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image
    from torch import Tensor, nn
    from transformers import PretrainedConfig, PreTrainedModel

    from vistune.models.experts import ExpertConfig
    from vistune.models.keymap import State
    from vistune.models.overlay import Overlay
    from vistune.models.reader import Reader, Reading
    from vistune.records import Message, Region

    Marked = tuple[Sequence[Message], tuple[Overlay | None, ...]]

S = TypeVar("S")


class Picture(NamedTuple):
    """One image as a model takes it."""

    plan: ViewPlan
    views: tuple[Tensor, ...]  # float32 (3, height, width) each, in the plan's order
    evidence: Any = None  # what other models saw in it (MoAI)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A published training stage. None or an empty text: not published."""

    name: str  # align, multitask, instruct, ...
    rates: Mapping[str, float | None]  # role -> peak learning rate, None: trained; roles that are not named are frozen
    data: str
    samples: int | None = None
    batch: int | None = None  # samples a step over all devices
    epochs: float | None = None
    steps: int | None = None
    schedule: str = ""  # cosine, constant, ...
    warmup: float | None = None  # share of the steps; above 1: steps
    weight_decay: float | None = None
    limit: int | None = None  # tokens of a conversation
    lora: Mapping[str, int] = field(default_factory=dict)  # role -> rank; the role's own weights stay frozen
    template: str = ""  # where it is another than the preset's
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the preset that differ in this stage
    note: str = ""
    source: str = ""  # where the figures stand


class Reads(Protocol):
    """What a stage, published or of params.yaml, may read differently."""

    @property
    def template(self) -> str: ...

    @property
    def settings(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One model of a family."""

    settings: Any  # the family's own frozen dataclass of numbers and names
    text: Mapping[str, Any]  # of the language model's configuration: model_type and what differs from its defaults
    template: str  # of `templates_table.TEMPLATES`
    limit: int = 2048  # tokens of a conversation
    begin: bool = True  # the tokenizer's BOS stands before the text
    placeholder: str = "<image>"  # the token that stands for one visual token
    tokens: tuple[str, ...] = ()  # control tokens beyond the language model's own; added where they are lacking
    stop: str = ""  # what ends an answer, where it is not what the template writes behind it
    language: str = ""  # published weights of the language model alone
    vision: str = ""  # and of the vision encoder
    weights: str = ""  # published weights of the whole model
    stages: tuple[Stage, ...] = ()  # the published recipe, in order


@dataclass(frozen=True, kw_only=True)
class Family:
    """`views`, `encoder`, `connector` and `injection` are the words of the table (`vistune families`)."""

    name: str
    title: str
    source: str  # paper and repository
    views: str
    encoder: str
    connector: str
    injection: str
    codec: str  # how boxes are written: a name in `boxcodec`
    presets: Mapping[str, Preset]
    policy: Callable[[Any], Policy]  # settings -> view planner
    look: Callable[[Any, ViewPlan, Image], tuple[Tensor, ...]]  # settings, plan, RGB picture -> its views
    roles: Mapping[str, tuple[str, ...]]
    """role -> prefixes of its parameters' names, in which `*` is any one part; the longest that fits decides"""
    picture: Callable[[Reader, ViewPlan], list[int]] | None = None  # token ids of a picture; None: the plan's layout
    places: Callable[[Reading, int], Sequence[Any]] | None = None  # positions of tokens; None: counted from 0
    packs: bool = True  # samples can share a sequence
    overlay: Callable[[Sequence[Message], Sequence[Region], int], Marked] | None = None
    """messages, their sample's regions, how many pictures it has -> the messages with words for what is drawn over the
    pictures, and that, for each picture; nothing of it needs pixels"""
    evidence: Callable[[Reader, Any], Any] | None = None  # what other models saw in a picture, or None -> as it enters
    original: Callable[[State, PretrainedConfig], State] | None = None  # keys of the authors' checkpoint -> the model's
    several: Callable[[Any, int], Any] | None = None  # settings -> those where a conversation shows several pictures
    load_vision: Callable[[Any, str], None] | None = None  # published weights of the encoder, a folder -> the tower
    settle: Callable[[Any, Reader, int], None] | None = None  # model, reader, seed: when all parts have their weights
    text_config: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    """of the authors' config.json: what it says of the language model's configuration beyond the preset"""
    tokenizer: Callable[[Path], Any] | None = None  # from the authors' folder, where transformers cannot read it
    shards: Callable[[str], int | None] | None = None
    """key of the authors' checkpoint -> the axis along which its files split the tensor; None: each has all of it"""

    def preset(self, name: str) -> Preset:
        """Raises VistuneError for an unknown name."""
        if name not in self.presets:
            raise VistuneError(f"the family {self.name} has no preset {name!r}; it has {', '.join(self.presets)}.")
        return self.presets[name]

    def role(self, parameter: str) -> str:
        """The role that owns a parameter. Raises VistuneError for one that none owns."""
        owned = [
            (len(prefix), role)
            for role, prefixes in self.roles.items()
            for prefix in prefixes
            if _prefix(prefix).match(parameter)
        ]
        if not owned:
            raise VistuneError(
                f"the parameter {parameter} of {self.name} belongs to no role ({', '.join(self.roles)})."
            )
        return max(owned)[1]

    def owned(self, model: nn.Module) -> dict[str, list[str]]:
        """Names of a model's parameters by role. Raises VistuneError for a parameter without one."""
        found: dict[str, list[str]] = {role: [] for role in self.roles}
        for name, _ in model.named_parameters():
            found[self.role(name)].append(name)
        return found


@dataclass(frozen=True, kw_only=True)
class Composed(Family):
    """tower: called with pictures, gives what it saw of each (a list of tensors, or of tuples of them).
    connector: called with that list, the pictures and the language model's embedding table (K, D), gives the visual
    tokens (N, D) of each picture in the order of its placeholders. A connector may have a method `context` for what
    else the language model's layers take: see `modeling`."""

    parts: Callable[[Any, PretrainedConfig], tuple[nn.Module, nn.Module]]  # settings, text config -> tower, connector
    experts: Callable[[Any, PretrainedConfig], ExpertConfig | None] | None = None
    """what visual tokens have for themselves inside the language model"""
    types: Callable[[Reading], Sequence[int]] | None = None  # TEXT or VISUAL of each token; needed with `experts`


@dataclass(frozen=True, kw_only=True)
class Native(Family):
    model: Callable[[Any, Mapping[str, Any], int], tuple[type[PreTrainedModel], PretrainedConfig]]
    """settings, text configuration, id of the placeholder -> the class and its configuration"""
    inputs: Callable[[Any, Sequence[Picture]], dict[str, Tensor]]  # the class's own inputs for the pictures of a batch
    processor: Callable[[Preset, Any], Any] | None = None
    """transformers' own processor around a tokenizer; saved beside the model for what serves it"""


ROLES: dict[str, tuple[str, ...]] = {
    "vision": ("vision_tower.",),
    "connector": ("connector.",),
    "language": ("language_model.model.",),
    "head": ("language_model.model.embed_tokens.", "language_model.lm_head."),
}
"""Of composed models."""

NATIVE_ROLES: dict[str, tuple[str, ...]] = {
    "vision": ("model.vision_tower.",),
    "connector": ("model.multi_modal_projector.", "model.image_newline"),
    "language": ("model.language_model.",),
    "head": ("model.language_model.embed_tokens.", "lm_head."),
}
"""Of most vision-language models of transformers."""


@cache
def _prefix(prefix: str) -> re.Pattern[str]:
    """
    >>> bool(_prefix("layers.*.cross.").match("layers.11.cross.query.weight"))
    True
    """
    return re.compile(re.escape(prefix).replace(r"\*", "[^.]+"))


def at_stage(preset: Preset, stage: Reads) -> Preset:
    """The preset as a stage trains it, itself where nothing differs. Of the limits of stages only the published are of
    conversations."""
    limit = stage.limit if isinstance(stage, Stage) else None
    if not (stage.template or stage.settings or limit):
        return preset
    return replace(
        preset,
        settings=replace(preset.settings, **stage.settings),
        template=stage.template or preset.template,
        limit=limit or preset.limit,
    )


def written(preset: Preset) -> dict[str, Any]:
    """The preset as JSON has it. Its recipe stays in the family's file."""
    return {key: value for key, value in asdict(preset).items() if key != "stages"}


def read(like: Preset, values: Mapping[str, Any]) -> Preset:
    """The preset that `written` wrote, its settings of the class of `like`'s. Raises VistuneError for unknown keys."""
    settings = _restored(type(like.settings), values["settings"])
    return replace(_restored(Preset, {**values, "settings": settings}), stages=like.stages)


def _restored(kind: type[S], values: Mapping[str, Any]) -> S:
    names = {f.name for f in fields(kind)} if is_dataclass(kind) else set()  # type: ignore[arg-type]
    unknown = sorted(values.keys() - names)
    if unknown:
        raise VistuneError(f"the model's configuration has {', '.join(unknown)}, unknown to {kind.__name__}.")
    return kind(**{key: _tuples(value) for key, value in values.items()})


def _tuples(value: Any) -> Any:
    """Lists of JSON as the tuples they were; dictionaries are configurations of other libraries and stay."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
