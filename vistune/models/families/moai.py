"""MoAI: what helper models saw in a picture, as evidence that a mixer reads inside the language model.

CLIP at 490 pixels and an MLP give 1225 visual tokens, which in every linear layer have a low-rank update of their own
(PLoRA, from InternLM-XComposer2). Four helpers segment the picture, detect objects, relate them and read text,
beforehand (`evidence_writer`); their words, embedded as the language model embeds them, and their map of segments in
colours, seen by the same encoder, are compressed to 64 latents. In every eighth layer a mixer lets visual tokens and
text look at these latents and at one another before attention.

The mixer is not causal: text sees the text after it. The authors' collator is not published; here the mixer reads what
comes before the first answer, and nothing after it, neither while learning nor in use, where single tokens are never
mixed: no answer is seen before it is said. A conversation without a picture is not mixed.

What the authors' code does and this does not:
- The gates' softmax in half precision. `Mixer(parity=True)` does.
- No segments at all where one is fully covered, and relations compared with scores in another order:
  `evidence.segments` and `evidence.relations` with `parity=True`.
- Words about pictures of one batch are padded, and the padding is compressed with them. Here nothing is padded.
What they do and this does too: the colour map has values of 0 to 1 where the normalisation is for bytes, so the encoder
sees a nearly even grey; PLoRA's second matrix does not start at zero.

Source: arXiv:2403.07508; ByungKwanLee/MoAI, moai/arch_moai.py, moai/arch, moai/load_moai.py, moai/utils/utils.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isqrt
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from vistune.models import evidence
from vistune.models.connectors.mlp import MLP, MLPConfig, llava_mlp_keys
from vistune.models.connectors.perceiver import Perceiver, PerceiverConfig, perceiver_keys
from vistune.models.encoders.clip import ClipTower, clip_keys
from vistune.models.encoders.features import Selection
from vistune.models.encoders.sizes import CLIP_L_336
from vistune.models.expert_keys import moai_keys
from vistune.models.experts import PADDING, TEXT, VISUAL, ExpertConfig
from vistune.models.families.base import ROLES, Composed, Picture, Preset, Stage
from vistune.models.keymap import State, gather, load, rename
from vistune.models.labels import IGNORE
from vistune.models.languages import INTERNLM_2_7B
from vistune.models.native import with_rows
from vistune.models.pixels import CLIP_BYTES, pixels
from vistune.models.position_tables import resized
from vistune.models.reader import Reader, Reading
from vistune.models.tiny import tiny_text
from vistune.models.views import Square

NOTHING = evidence.Evidence(evidence.verbalised(), np.zeros((evidence.SIDE, evidence.SIDE), np.uint8))


@dataclass(frozen=True)
class Settings:
    vision: Mapping[str, Any] = field(default_factory=lambda: CLIP_L_336 | {"image_size": 490})
    latents: int = 64
    depth: int = 4  # of the compressor
    heads: int = 4  # of the compressor and of the mixer
    head_width: int = 64
    rank: int = 256  # of PLoRA, which is as large as its alpha
    every: int = 8  # n-th layer with a mixer
    weigh: Literal["gates", "dice"] = "gates"


class Aside(NamedTuple):
    """The evidence of a picture as it enters the model."""

    ids: Tensor  # int64 (N,), of its words
    colours: Tensor  # float32 (3, S, S), normalised


def _aside(reader: Reader, found: evidence.Evidence | None) -> Aside:
    """Words that spell a control token stay words."""
    text, segmentation = found or NOTHING
    words = reader.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    size = reader.preset.settings.vision["image_size"]
    nearest = np.arange(size) * evidence.SIDE // size
    drawn = evidence.colour_map(segmentation[nearest][:, nearest])
    colours = CLIP_BYTES.scale(torch.from_numpy(drawn).permute(2, 0, 1).float())
    return Aside(torch.tensor([*reader.begin, *words]), colours)


class Tower(ClipTower):
    def __init__(self, settings: Settings) -> None:
        super().__init__(CLIPVisionModel(CLIPVisionConfig(**settings.vision)), Selection())

    def forward(self, pictures: Sequence[Picture]) -> list[tuple[Tensor, Tensor]]:  # type: ignore[override]
        """-> of each picture: features of it and of its colour map, (P, C) each"""
        views = torch.stack([picture.views[0] for picture in pictures])
        colours = torch.stack([picture.evidence.colours for picture in pictures]).to(views)
        return list(zip(*super().forward(torch.cat([views, colours])).chunk(2), strict=True))


class Connector(nn.Module):
    def __init__(self, settings: Settings, width: int) -> None:
        super().__init__()
        self.project = MLP(MLPConfig(settings.vision["hidden_size"], width))
        self.compressor = Perceiver(
            PerceiverConfig(width, settings.latents, settings.depth, settings.heads, settings.head_width)
        )

    def forward(self, features: Sequence[tuple[Tensor, Tensor]], pictures: Any, table: Tensor) -> list[Tensor]:
        """-> (P, D) of each picture"""
        return list(self.project(torch.stack([seen for seen, _ in features])))

    def context(
        self,
        features: Sequence[tuple[Tensor, Tensor]],
        pictures: Sequence[Picture],
        rows: Sequence[int],
        batch: int,
        table: Any,
    ) -> dict[str, Tensor]:
        """rows: of the batch, that show each picture -> evidence (B, Q, D) of all pictures of a row together; zeros for
        a row without, which is not mixed"""
        like = self.compressor.latents
        told: list[list[Tensor]] = [[] for _ in range(batch)]
        for (_, colours), picture, row in zip(features, pictures, rows, strict=True):
            told[row] += [table(picture.evidence.ids.to(like.device)).to(like.dtype), self.project(colours)]
        none = torch.zeros_like(like)
        found = [self.compressor(torch.cat(each)[None])[0] if each else none for each in told]
        return {"evidence": torch.stack(found).to(table.weight.dtype)}


def _types(reading: Reading) -> list[int]:
    """What the mixer reads; the rest is PADDING to it, and goes with the text elsewhere."""
    first = next((t for t, label in enumerate(reading.labels) if label != IGNORE), reading.length)
    kinds = [TEXT if reading.spans and t < first else PADDING for t in range(reading.length)]
    for start, end in reading.spans:
        kinds[start:end] = [VISUAL] * (end - start)
    return kinds


def _experts(settings: Settings, text: Any) -> ExpertConfig:
    return ExpertConfig(
        rank=settings.rank,
        alpha=settings.rank,
        mixer_every=settings.every,
        mixer_heads=settings.heads,
        mixer_weigh=settings.weigh,
    )


def _enlarged(state: State, patches: int) -> State:
    """With the table of positions for so many patches, as the authors resize it before anything else."""
    key = "model.embeddings.position_embedding.weight"
    if key not in state:
        return state
    cls, table = state[key].split([1, len(state[key]) - 1])
    return state | {key: torch.cat([cls, resized(table, isqrt(patches), isqrt(patches))])}


def _load_vision(tower: Tower, folder: str) -> None:
    published = CLIPVisionModel.from_pretrained(folder, dtype=torch.float32)
    state = _enlarged(clip_keys(published.state_dict(), tower), tower.model.embeddings.num_patches)
    load(tower, state, f"the CLIP of {folder}")


def original(state: State, config: Any) -> State:
    text, vision = config.text_config, config.preset["settings"]["vision"]

    def tower(part: State) -> State:
        level = r"(?:vision_model\.)?"
        constants = level + r"(?:embeddings\.position_ids|post_layernorm\..+)"
        own = rename(part, [(constants, None), (level + "(.+)", r"model.\1")], "the CLIP tower")
        return _enlarged(own, (vision["image_size"] // vision["patch_size"]) ** 2)

    def layers(part: State) -> State:
        return moai_keys(part, text.num_attention_heads, text.num_key_value_heads)

    parts = {
        "vit.vision_tower.": ("vision_tower.", tower),
        "vision_proj.": ("connector.project.", llava_mlp_keys),
        "moai_compressor.": ("connector.compressor.", perceiver_keys),
        "model.tok_embeddings.": ("language_model.model.embed_tokens.", dict),
        "model.norm.": ("language_model.model.norm.", dict),
        "model.": ("language_model.model.", layers),
        "output.": ("language_model.lm_head.", dict),
    }
    return with_rows(gather(state, parts, "MoAI"), text.vocab_size)


_STEP = Stage(
    name="align",
    rates={"experts": 2e-5},
    data="",
    epochs=1,
    schedule="cosine",
    weight_decay=0.0,
    settings={"weigh": "dice"},
    note="one expert at random for each modality in every pass; the language model is frozen, in four bits. "
    "The training code is not published: the rate, which falls to 1e-6, is that of the configuration for evaluation",
    source="moai/load_moai.py, moai/arch/modeling_internlm2.py, moai/configs/moai_eval.yaml",
)
STAGES = (_STEP, replace(_STEP, name="instruct", settings={}, note="all experts, weighed by their gates; see align"))
TINY_STAGES = (
    replace(_STEP, rates={"connector": 3e-3, "experts": 3e-3}, batch=8),
    replace(
        STAGES[1], rates=dict.fromkeys(("connector", "experts", "plora", "language", "head"), 3e-3), batch=8, note=""
    ),
)

FAMILY = Composed(
    name="moai",
    title="MoAI",
    source="arXiv:2403.07508; ByungKwanLee/MoAI",
    views="stretched to 490",
    encoder="CLIP L, last state",
    connector="MLP; perceiver of evidence, 64 latents",
    injection="PLoRA, mixer in every eighth layer",
    codec="none",
    presets={
        "moai-7b": Preset(
            settings=Settings(),
            text=INTERNLM_2_7B,
            template="moai",
            limit=4096,
            vision="openai/clip-vit-large-patch14-336",
            weights="BK-Lee/MoAI-7B",
            stages=STAGES,
        ),
        "tiny": Preset(
            settings=Settings(
                vision={
                    "hidden_size": 16,
                    "intermediate_size": 32,
                    "num_hidden_layers": 1,
                    "num_attention_heads": 2,
                    "image_size": 28,
                    "patch_size": 14,
                    "projection_dim": 16,
                },
                latents=4,
                depth=1,
                heads=2,
                head_width=8,
                rank=4,
                every=2,
            ),
            text=tiny_text(),
            template="moai",
            stages=TINY_STAGES,
        ),
    },
    policy=lambda settings: Square(settings.vision["image_size"], "stretch", filter="point-bilinear"),
    look=lambda settings, plan, picture: tuple(pixels(plan, picture, CLIP_BYTES)),
    roles=ROLES
    | {
        "plora": tuple(
            f"language_model.model.layers.*.{part}.*.{side}."
            for part in ("self_attn", "mlp")
            for side in ("down", "up")
        ),
        "experts": ("connector.compressor.", "language_model.model.layers.*.mixer."),
    },
    evidence=_aside,
    packs=False,  # the mixer takes a row for one sample
    parts=lambda settings, text: (Tower(settings), Connector(settings, text.hidden_size)),
    experts=_experts,
    types=_types,
    load_vision=_load_vision,
    original=original,
)
