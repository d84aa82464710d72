"""small: the default family, sized for two CPU cores.

EfficientNet-Lite0 (4 M parameters, 7 x 7 grid) -> MLP -> SmolLM2-135M-Instruct, 49 visual tokens an image. Real
weights of real models, both from pip packages; no claim beyond teaching the pipeline and passing its gate. Its stages
are those of params.yaml; nothing about it was published elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from vistune.models.connectors import GridMLP, GridMLPConfig
from vistune.models.encoders import EfficientNetLite, EfficientNetLiteConfig
from vistune.models.families.base import ROLES, Composed, Picture, Preset
from vistune.models.pixels import BYTES, pixels
from vistune.models.reader import Reader
from vistune.models.tiny import byte_tokenizer, tiny_text
from vistune.models.views import Square

if TYPE_CHECKING:
    from vistune.models.vlm import Vlm

VISION = "package:efficientnet-lite0"
LANGUAGE = "package:smollm2-135m-instruct"
CONNECTOR_HIDDEN = 1024
SIDES = ("left", "right", "top", "bottom")


@dataclass(frozen=True)
class Settings:
    vision: Mapping[str, Any] = field(default_factory=dict)  # of EfficientNetLiteConfig
    connector: Mapping[str, Any] = field(default_factory=lambda: {"hidden": CONNECTOR_HIDDEN})  # of GridMLPConfig


class Tower(EfficientNetLite):
    def draw(self) -> None:
        """Torch's default scale would fade the image out over 50 layers."""
        for layer in self.modules():
            if isinstance(layer, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    torch.nn.init.zeros_(layer.bias)

    def forward(self, pictures: Sequence[Picture]) -> Tensor:  # type: ignore[override]
        """-> (I, P, C)"""
        return super().forward(torch.stack([picture.views[0] for picture in pictures]))


class Connector(GridMLP):
    def draw(self) -> None:
        self.up.reset_parameters()
        self.down.reset_parameters()

    def forward(self, features: Any, pictures: Any, table: Tensor) -> Tensor:  # type: ignore[override]
        """features: (I, P, C), or that of each image -> (I, P, D)"""
        stacked = features if isinstance(features, Tensor) else torch.stack(list(features))
        return super().forward(stacked.to(table.device), table)


def _policy(settings: Settings) -> Square:
    vision = EfficientNetLiteConfig(**settings.vision)
    return Square(vision.image_size, "stretch", patch=32, tokens=vision.grid**2, filter="bilinear")


def _parts(settings: Settings, text: Any) -> tuple[Tower, Connector]:
    vision = EfficientNetLiteConfig(**settings.vision)
    shape = {"channels": vision.width, "width": text.hidden_size, "grid": vision.grid}
    return Tower(vision), Connector(GridMLPConfig(**{**settings.connector, **shape}))


TINY = Preset(
    settings=Settings(vision={"image_size": 64, "width": 32, "multiplier": 0.125}, connector={"hidden": 32}),
    text=tiny_text(max_position_embeddings=512, tie_word_embeddings=True),
    template="chatml",
    begin=False,
)


def _load_vision(tower: Tower, folder: str) -> None:
    from safetensors.torch import load_file

    tower.load_state_dict(load_file(Path(folder) / "model.safetensors"))


def _settle(model: Any, reader: Reader, seed: int) -> None:
    """A connector drawn from `seed`, placed in the language model's embedding space."""
    table = cast(Tensor, model.get_input_embeddings().weight)
    torch.manual_seed(seed)
    model.connector.draw()
    sides = {word: table[torch.tensor(reader.text(f" {word}"))].float().mean(0) for word in SIDES}
    model.connector.place(table, sides)


DEMO = Preset(settings=Settings(), text={}, template="chatml", begin=False, language=LANGUAGE, vision=VISION)

FAMILY = Composed(
    name="small",
    title="small (the demo)",
    source="vistune",
    views="square 224, stretched",
    encoder="EfficientNet-Lite0",
    connector="MLP over names",
    injection="scatter",
    codec="vistune",
    presets={"small-smollm2-135m": DEMO, "tiny": TINY},
    policy=_policy,
    look=lambda settings, plan, picture: tuple(pixels(plan, picture, BYTES)),
    roles=ROLES,
    parts=_parts,
    load_vision=_load_vision,
    settle=_settle,
)


def tiny(seed: int = 0, tokenizer: Any = None) -> Vlm:
    """The same shape with random weights and a byte-sized vocabulary: for tests, no downloads."""
    from vistune.models.vlm import build

    return build("small", "tiny", seed=seed, tokenizer=tokenizer or byte_tokenizer())


def remember(model: Any) -> None:
    """Writes the connector's shape, which alignment changed, into the model's configuration."""
    settings = {**model.config.preset["settings"], "connector": asdict(model.connector.config)}
    model.config.preset = {**model.config.preset, "settings": settings}
