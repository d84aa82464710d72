"""Mini-Gemini (MGM): patch information mining. Each feature of CLIP ViT-L asks the features of a ConvNeXt pyramid in
its own window for detail; MLP; Gemma, Vicuna, Llama 3, Mixtral or Yi. HD sees four crops and an overview.

Two things of the published models look like errors and are kept, since the weights were trained so: Llama 3 answers
under a header that says "system" (template `mgm_llama_3`), and the 2B model multiplies visual tokens by the root of its
width, as Gemma's code then did with all embeddings. transformers now does that in the embedding of text alone, so here
the connector does it.

What we do otherwise than the authors' code, and what brings theirs back:
- The frozen ConvNeXt drops whole blocks at random in training there (`drop_path_rate` in the setting `high`).
- A sample whose counted labels do not add up is masked as a whole there; labels come from spans here
  (`original_labels`).
- A sequence too long with its pictures is cut there, within a picture too; it is refused here
  (`injection.expand(parity=True)`).
- The prompts for an image generator (`<GEN>`, `<h>`) are text to us; no picture is drawn.

Source: arXiv:2403.18814; github.com/dvlab-research/MGM.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel, ConvNextConfig

from vistune.models import languages
from vistune.models.connectors.mlp import MLP, MLPConfig, llava_mlp_keys
from vistune.models.encoders.clip import ClipTower, clip_keys, load_clip
from vistune.models.encoders.convnext import ConvNextTower, convnext_keys, load_open_clip
from vistune.models.encoders.features import Selection
from vistune.models.encoders.sizes import CLIP_L_336, CONVNEXT_L, tiny_clip
from vistune.models.families import llava
from vistune.models.families.base import ROLES, Composed, Picture, Preset, Stage
from vistune.models.fusion import PatchMining, mining_keys
from vistune.models.keymap import Part, State, constants_out, gather
from vistune.models.layout import visual_tokens
from vistune.models.native import with_rows
from vistune.models.pixels import CLIP, pixels
from vistune.models.tiny import tiny_text
from vistune.models.views_derived import mini_gemini


@dataclass(frozen=True)
class Settings:
    vision: Mapping[str, Any] = field(default_factory=lambda: CLIP_L_336)
    high: Mapping[str, Any] = field(default_factory=lambda: CONVNEXT_L)
    size: int = 768  # pixels that the ConvNeXt sees
    grid: int = 1  # 2: CLIP sees four crops of a copy twice as large, and an overview
    fit: Literal["crop", "pad"] = "pad"


Features = tuple[Tensor, Tensor]  # of a picture: (V, P, C) of CLIP's views, (C', S, S) of the ConvNeXt


class Tower(nn.Module):
    def __init__(self, low: ClipTower, high: ConvNextTower) -> None:
        super().__init__()
        self.low_tower, self.high_tower = low, high

    def forward(self, pictures: Sequence[Picture]) -> list[Features]:
        low = torch.stack([torch.stack(picture.views[1:]) for picture in pictures])
        high = torch.stack([picture.views[0] for picture in pictures])
        seen = self.low_tower(low.flatten(0, 1)).unflatten(0, low.shape[:2])
        return list(zip(seen, self.high_tower(high), strict=True))


class Connector(nn.Module):
    """scale: of the visual tokens."""

    def __init__(self, low: int, high: int, width: int, scale: float = 1.0) -> None:
        super().__init__()
        self.mining = PatchMining(low, high)
        self.mlp = MLP(MLPConfig(low, width))
        self.scale = scale

    def forward(self, features: Sequence[Features], pictures: Sequence[Picture], table: Tensor) -> list[Tensor]:
        """-> (N, D) of each picture"""
        low, high = (torch.stack(maps) for maps in zip(*features, strict=True))
        tokens = self.mlp(self.mining(low, high, (pictures[0].plan.grid or (1, 1))[0])) * self.scale
        # The first view is the ConvNeXt's, which has no tokens of its own.
        return [visual_tokens(p.plan.layout, [own[0][:0], *own]) for p, own in zip(pictures, tokens, strict=True)]


def _tower(settings: Settings) -> Tower:
    low = CLIPVisionModel(CLIPVisionConfig(**settings.vision))
    return Tower(ClipTower(low, Selection((-2,))), ConvNextTower(ConvNextConfig(**settings.high), (0, 1, 2, 3)))


def _parts(settings: Settings, text: Any) -> tuple[nn.Module, nn.Module]:
    tower, width = _tower(settings), text.hidden_size
    scale = width**0.5 if text.model_type == "gemma" else 1.0
    return tower, Connector(tower.low_tower.width, tower.high_tower.width, width, scale)


def _load_vision(tower: Tower, folders: str) -> None:
    """`folders`: of CLIP and of the ConvNeXt, with a comma between them."""
    low, high = folders.split(",")
    load_clip(tower.low_tower, low)
    load_open_clip(tower.high_tower, high)


def mixtral_keys(original: Mapping[str, Tensor]) -> State:
    """Keys below `model` of Mixtral as published -> as transformers has them since version 5: the experts of a layer as
    one tensor, gate and up side by side."""
    state, experts = {}, {}
    for key, tensor in constants_out(original).items():
        if match := re.fullmatch(r"(layers\.\d+\.)block_sparse_moe\.experts\.(\d+)\.w([123])\.weight", key):
            experts[match[1], int(match[2]), int(match[3])] = tensor
        else:
            state[key.replace(".block_sparse_moe.", ".mlp.")] = tensor
    count = 1 + max((expert for _, expert, _ in experts), default=-1)
    for layer in dict.fromkeys(layer for layer, _, _ in experts):
        gate, down, up = ([experts[layer, n, w] for n in range(count)] for w in (1, 2, 3))
        both = [torch.cat(pair) for pair in zip(gate, up, strict=True)]
        state[f"{layer}mlp.experts.gate_up_proj"] = torch.stack(both)
        state[f"{layer}mlp.experts.down_proj"] = torch.stack(down)
    return state


def original(state: State, config: Any) -> State:
    """The towers were never trained: where the checkpoint lacks them, load the stock ones."""
    with torch.device("meta"):
        tower = _tower(Settings(**config.preset["settings"]))
    text = config.text_config
    mining = {key: tensor for key, tensor in state.items() if key.startswith("model.vlm_uni_")}
    parts: dict[str, Part] = {
        "model.vision_tower.vision_tower.": ("vision_tower.low_tower.", partial(clip_keys, tower=tower.low_tower)),
        "model.vision_tower_aux.": ("vision_tower.high_tower.", convnext_keys),
        "model.mm_projector.": ("connector.mlp.", llava_mlp_keys),
        "model.": ("language_model.model.", mixtral_keys if text.model_type == "mixtral" else constants_out),
        "lm_head.": ("language_model.lm_head.", constants_out),
    }
    found = gather({key: tensor for key, tensor in state.items() if key not in mining}, parts, "Mini-Gemini")
    found |= gather(mining, {"model.": ("connector.mining.", mining_keys)}, "Mini-Gemini")
    if text.tie_word_embeddings:
        found["language_model.lm_head.weight"] = found["language_model.model.embed_tokens.weight"]
    return with_rows(found, text.vocab_size)


def _stages(
    scripts: str, rate: float = 2e-5, align: str = "plain", hd: bool = False, size: int = 768
) -> tuple[Stage, Stage]:
    """rate: of the language model in the second stage; the connector's is 2e-5 in all. align: template of the first.
    HD models start from the same first stage as the others."""
    first = {"fit": "crop", **({"size": size, "grid": 1} if hd else {})}
    return (
        replace(
            llava.SCRIPT,
            name="align",
            rates={"connector": 1e-3},
            data="LCS-558K; 695 K captions of ALLaVA-4V",
            samples=1_253_000,
            batch=256,
            limit=2048,
            template=align,
            settings=first,
            source=scripts + "stage_1_2_full_*_336_hr_768.sh; paper, section 4.1",
        ),
        replace(
            llava.SCRIPT,
            name="instruct",
            rates={"connector": 2e-5, "language": rate, "head": rate},
            data="643 K of LLaVA; 100 K ShareGPT4V; 10 K LAION-GPT-4V; 700 K ALLaVA; 6 K text (LIMA, OpenAssistant 2); "
            "28 K OCR (DocVQA, ChartQA, DVQA, AI2D); 13 K prompts for image generation",
            samples=1_500_000,
            batch=128,
            source=scripts + ("stage_2_full_*_672_hr_1536.sh" if hd else "stage_1_2_full_*_336_hr_768.sh"),
        ),
    )


def _pair(size: str, preset: Preset, scripts: str, rate: float = 2e-5, align: str = "plain") -> dict[str, Preset]:
    """The model and its HD version."""
    name = f"YanweiLi/MGM-{size}"
    hd = replace(preset, settings=Settings(size=1536, grid=2), limit=4096, weights=f"{name}-HD")
    return {
        f"mgm-{size.lower()}": replace(preset, weights=name, stages=_stages(scripts, rate, align)),
        f"mgm-{size.lower()}-hd": replace(hd, stages=_stages(scripts, rate, align, hd=True)),
    }


_7B = Preset(
    settings=Settings(),
    text=languages.VICUNA_7B,
    template="vicuna_v1",
    language="lmsys/vicuna-7b-v1.5",
    vision="openai/clip-vit-large-patch14-336,laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup",
)
_2B = replace(_7B, text=languages.GEMMA_2B, template="mgm_gemma", stop="<end_of_turn>", language="google/gemma-2b-it")
_8B = replace(_7B, text=languages.LLAMA_3_8B, template="mgm_llama_3", language="meta-llama/Meta-Llama-3-8B-Instruct")
_13B = replace(_7B, text=languages.VICUNA_13B, language="lmsys/vicuna-13b-v1.5")
_34B = replace(
    _7B, text=languages.YI_34B, template="chatml_direct", language="NousResearch/Nous-Hermes-2-Yi-34B", begin=False
)
_8X7B = replace(
    _7B, text=languages.MIXTRAL_8X7B, template="mgm_mistral", language="mistralai/Mixtral-8x7B-Instruct-v0.1"
)

TINY = Settings(vision=tiny_clip(28), high={"hidden_sizes": (8, 12, 16, 24), "depths": (1, 1, 1, 1)}, size=64)
_TINY = Preset(settings=TINY, text=tiny_text(), template="vicuna_v1", stages=_stages("scripts/llama/train/"))

FAMILY = Composed(
    name="mini_gemini",
    title="Mini-Gemini",
    source="arXiv:2403.18814; dvlab-research/MGM",
    views="square 768, padded, and a copy of 336; HD: 1536, 4 crops and an overview",
    encoder="CLIP ViT-L/14, state -2, and ConvNeXt-L, all stages",
    connector="patch information mining, MLP",
    injection="scatter",
    codec="llava",
    presets={
        **_pair("2B", _2B, "scripts/gemma/train/", align="mgm_gemma"),
        **_pair("7B", _7B, "scripts/llama/train/"),
        **_pair("8B", _8B, "scripts/llama3/train/", align="mgm_llama_3"),
        **_pair("13B", _13B, "scripts/llama/train/"),
        **_pair("34B", _34B, "scripts/yi/train/", rate=1e-5),
        **_pair("8x7B", _8X7B, "scripts/mixtral/train/", rate=1e-5),
        "tiny": _TINY,
        "tiny-hd": replace(
            _TINY,
            settings=replace(TINY, size=128, grid=2),
            stages=_stages("scripts/llama/train/", hd=True, size=64),
        ),
    },
    policy=lambda settings: mini_gemini(settings.size, settings.vision["image_size"], settings.grid, settings.fit),
    look=lambda settings, plan, picture: tuple(pixels(plan, picture, CLIP)),
    roles=ROLES,
    parts=_parts,
    load_vision=_load_vision,
    original=original,
)
