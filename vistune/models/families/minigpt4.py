"""MiniGPT-4 and MiniGPT-v2: EVA-CLIP-g, a frozen Q-Former or four features in a row, one linear layer, a chat model.

Three connectors in one family: MiniGPT-4 with Vicuna reads the picture with BLIP-2's 32 queries; with Llama-2, and as
MiniGPT-v2 at 448 pixels, it joins four features that lie beside one another in a row, not in a 2 x 2 block. Only the
linear layer is trained, in MiniGPT-v2 with LoRA on the language model.

The authors publish what they trained and nothing else: `llama_proj`, and the LoRA of MiniGPT-v2, which `original` adds
to the weights that it amends. The rest is others', under names of its own, so that all of it is one state: EVA-CLIP-g
(eva_vit_g.pth), the Q-Former with `ln_vision` (blip2_pretrained_flant5xxl.pth), the language model. `load_original`
takes them as `parts`; what is missing still is an error with its names.

What differs from the authors' code:
- An answer longer than `max_txt_len` (32 and 160 tokens in MiniGPT-4, 1024 in MiniGPT-v2) is cut there with its end
  symbol, a prompt at 3800 tokens. Ours is refused (`labels.fit(cut=True)` cuts).
- Without Q-Former their `ln_vision` is never loaded, and frozen: scale 1 and shift 0. The published weights were
  trained on that, so `original` fills it in.
- Warm-up counts steps within an epoch (`linear_warmup_cosine_lr`), which is the same where it ends in the first.
Source: arXiv:2304.10592, arXiv:2310.09478; github.com/Vision-CAIR/MiniGPT-4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2VisionConfig, Blip2VisionModel

from vistune.models.connectors.mlp import MLP, MLPConfig, llava_mlp_keys
from vistune.models.connectors.qformer import QFormer, qformer_keys
from vistune.models.encoders.eva import EvaTower, eva_keys
from vistune.models.encoders.features import Selection
from vistune.models.families.base import ROLES, Composed, Picture, Preset, Stage
from vistune.models.keymap import State, gather, rename
from vistune.models.languages import VICUNA_7B, VICUNA_7B_V1_3, VICUNA_13B_V1_3
from vistune.models.native import with_rows
from vistune.models.pixels import CLIP, pixels
from vistune.models.position_tables import resized
from vistune.models.tiny import tiny_text
from vistune.models.views import Square

EVA_G = {
    "hidden_size": 1408,
    "intermediate_size": 6144,
    "num_hidden_layers": 39,  # BLIP-2 dropped the last of 40
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "initializer_range": 0.02,  # transformers would draw next to nothing
}

QFORMER = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "cross_attention_frequency": 2,
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.0,  # the authors keep it in evaluation mode
    "attention_probs_dropout_prob": 0.0,
    "vocab_size": 1,  # it reads no text
}


@dataclass(frozen=True)
class Settings:
    vision: Mapping[str, Any] = field(default_factory=lambda: EVA_G)  # of Blip2VisionConfig
    qformer: Mapping[str, Any] = field(default_factory=lambda: QFORMER)  # of Blip2QFormerConfig; empty: none
    queries: int = 32
    merge: int = 4  # features that become a visual token, where there is no Q-Former
    lora_alpha: float = 16.0  # of the published LoRA

    @property
    def tokens(self) -> int:
        """Of a picture."""
        return (
            self.queries
            if self.qformer
            else (self.vision["image_size"] // self.vision["patch_size"]) ** 2 // self.merge
        )


class Tower(EvaTower):
    def forward(self, pictures: Sequence[Picture]) -> list[Tensor]:  # type: ignore[override]
        """-> (P, C) of each picture, with CLS first for the Q-Former"""
        return list(super().forward(torch.stack([picture.views[0] for picture in pictures])))


class Connector(nn.Module):
    def __init__(self, settings: Settings, width: int) -> None:
        super().__init__()
        channels = settings.vision["hidden_size"]
        if settings.qformer:
            config = Blip2QFormerConfig(**settings.qformer, encoder_hidden_size=channels)
            self.qformer = QFormer(config, settings.queries, width)
        else:
            self.mlp = MLP(MLPConfig(channels, width, depth=1, merge=settings.merge, order="row"))

    def forward(self, features: Sequence[Tensor], pictures: Any, table: Tensor) -> list[Tensor]:
        """features: (P, C) of each picture -> (Q, D) of each"""
        read = self.qformer if hasattr(self, "qformer") else self.mlp
        return list(read(torch.stack(list(features))))


def _parts(settings: Settings, text: Any) -> tuple[nn.Module, nn.Module]:
    selection = Selection(cls="keep" if settings.qformer else "drop", norm=True)
    tower = Tower(Blip2VisionModel(Blip2VisionConfig(**settings.vision)), selection)
    return tower, Connector(settings, text.hidden_size)


def original(state: State, config: Any) -> State:
    """All published parts -> ours; see above."""
    settings, text = config.preset["settings"], config.text_config
    vision, has_qformer = settings["vision"], bool(settings["qformer"])
    state = rename(
        state,
        [
            (r".+\.rotary_emb\.inv_freq", None),
            # EVA's own file: its last block, its norm and its head are not used
            (rf"(?:visual_encoder\.)?blocks\.{vision['num_hidden_layers']}\..+|(?:fc_)?norm\..+|head\..+", None),
            (r"t5_proj\..+", None),  # of BLIP-2, whose language model was another
            (r"(?:visual_encoder\.)?(cls_token|pos_embed|patch_embed\..+|blocks\..+)", r"visual_encoder.\1"),
            (r"(ln_vision\..+|query_tokens|Qformer\..+|llama_proj\..+)", r"\1"),
            (r"llama_model\.base_model\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight", r"language.\1.lora_\2"),
            (r"(?:llama_model\.)?(?:base_model\.model\.)?(model\..+|lm_head\..+)", r"language.\1"),
        ],
        "MiniGPT-4",
    )
    _add_lora(state, settings["lora_alpha"])
    if not has_qformer:
        like = torch.ones(vision["hidden_size"])
        state = {"ln_vision.weight": like, "ln_vision.bias": torch.zeros_like(like)} | state
    if "visual_encoder.pos_embed" in state:
        side = vision["image_size"] // vision["patch_size"]
        cls, table = state["visual_encoder.pos_embed"][0].split([1, state["visual_encoder.pos_embed"].shape[1] - 1])
        state["visual_encoder.pos_embed"] = torch.cat([cls, resized(table, side, side)])[None]
    tower = {key: tensor for key, tensor in state.items() if key.startswith(("visual_encoder.", "ln_vision."))}
    language = {key.removeprefix("language."): t for key, t in state.items() if key.startswith("language.")}
    rest = {key: tensor for key, tensor in state.items() if key not in tower and not key.startswith("language.")}
    parts = {"": ("qformer.", qformer_keys)} if has_qformer else {"llama_proj.": ("mlp.", llava_mlp_keys)}
    return (
        {f"vision_tower.{key}": tensor for key, tensor in eva_keys(tower).items()}
        | {f"connector.{key}": tensor for key, tensor in gather(rest, parts, "MiniGPT-4's connector").items()}
        | {f"language_model.{key}": tensor for key, tensor in with_rows(language, text.vocab_size).items()}
    )


def _add_lora(state: State, alpha: float) -> None:
    """Adds each low-rank update to the weight that it amends. One without its weight stays, and is unexpected."""
    for key in [k for k in state if k.endswith(".lora_A")]:
        stem = key.removesuffix(".lora_A")
        if f"{stem}.weight" in state and f"{stem}.lora_B" in state:
            down, up = state.pop(key).float(), state.pop(f"{stem}.lora_B").float()
            state[f"{stem}.weight"] = state[f"{stem}.weight"].float() + up @ down * (alpha / len(down))


_ROWS = {"vocab_size": 32001}  # the first Vicuna has one for padding

ALIGN = Stage(
    name="align",
    rates={"connector": 1e-4},
    data="LAION 115 : CC and SBU 14, captions by `minigpt4_prompts.caption`",
    samples=5_000_000,
    batch=256,
    steps=20_000,
    schedule="cosine to 8e-5, counted from step 0",
    warmup=5000,
    weight_decay=0.05,
    template="minigpt4_caption",
    note="4 x A100, about 10 hours; warm-up from 1e-6; fp16",
    source="train_configs/minigpt4_stage1_pretrain.yaml; arXiv:2304.10592, section 3.1",
)
INSTRUCT = Stage(
    name="instruct",
    rates={"connector": 3e-5},
    data="3439 detailed descriptions (cc_sbu_align), prompts `minigpt4_prompts.ALIGNMENT`",
    samples=3439,
    batch=12,
    steps=1000,
    schedule="cosine to 1e-5, counted from step 0",
    warmup=200,
    weight_decay=0.05,
    note="one A100, about 7 minutes; the paper says 400 steps",
    source="train_configs/minigpt4_stage2_finetune.yaml",
)
V1 = (ALIGN, INSTRUCT)

_V2 = Stage(
    name="align",
    rates={"connector": 1e-4, "language": 1e-4},
    data="weakly labelled (LAION, CC3M, SBU, GRIT-20M) and fine-grained data sets",
    batch=96,
    steps=400_000,
    schedule="cosine",
    weight_decay=0.05,
    lora={"language": 64},
    note="LoRA on q_proj and v_proj, alpha 16, dropout 0.05; the paper's figures, no configuration is published",
    source="arXiv:2310.09478, section 3",
)
V2 = (
    _V2,
    replace(
        _V2,
        name="multitask",
        rates={"connector": 1e-5, "language": 1e-5},
        data="fine-grained data sets only",
        batch=64,
        steps=50_000,
    ),
    replace(
        _V2,
        name="instruct",
        rates={"connector": 1e-5, "language": 1e-5},
        data="LLaVA reason 80, detail 20, conversation 30; multitask conversation 50; unnatural instructions 10; "
        "Flickr grounded 80, caption to phrase 80, phrase to object 80; RefCOCO, +, g 25 each, inverse 10 each; "
        "RefVG 40; GQA 50, VQAv2 15, OK-VQA 8, A-OKVQA 12, OCR-VQA 30; COCO captions 10, TextCaps 30",
        batch=24,
        steps=50_000,
        schedule="cosine to 1e-6",
        warmup=1000,
        limit=3800,
        note="LoRA on q_proj and v_proj, alpha 16, dropout 0.05; the batch is the paper's, which says 35000 steps",
        source="train_configs/minigptv2_finetune.yaml; arXiv:2310.09478, section 3",
    ),
)

_VICUNA = Preset(
    settings=Settings(),
    text=VICUNA_7B_V1_3 | _ROWS,
    template="minigpt4_vicuna",
    placeholder="<ImageHere>",
    language="Vision-CAIR/vicuna-7b",
    weights="Vision-CAIR/MiniGPT-4",
    stages=V1,
)
_LLAMA_2 = replace(
    _VICUNA,
    settings=Settings(qformer={}),
    text=VICUNA_7B,
    template="minigpt_v2",
    limit=4096,
    language="meta-llama/Llama-2-7b-chat-hf",
    weights="",  # behind links of the README, like those of MiniGPT-v2
)
_TINY_EVA = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
    "initializer_range": 0.2,  # so that few channels carry as much as many do with 0.02
}
_TINY_QFORMER = QFORMER | {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": 0.2,
}
_TINY = replace(
    _VICUNA,
    settings=Settings(_TINY_EVA, _TINY_QFORMER, queries=4),
    text=tiny_text(),
    language="",
    weights="",
)

FAMILY = Composed(
    name="minigpt4",
    title="MiniGPT-4",
    source="arXiv:2304.10592, arXiv:2310.09478; Vision-CAIR/MiniGPT-4",
    views="square 224 or 448, stretched",
    encoder="EVA-CLIP-g/14",
    connector="Q-Former, or four in a row, and linear",
    injection="scatter",
    codec="minigpt_v2",
    presets={
        "minigpt4-vicuna-7b": _VICUNA,
        "minigpt4-vicuna-13b": replace(_VICUNA, text=VICUNA_13B_V1_3 | _ROWS, language="Vision-CAIR/vicuna"),
        "minigpt4-llama-2-7b": _LLAMA_2,
        "minigpt-v2": replace(_LLAMA_2, settings=Settings(EVA_G | {"image_size": 448}, {}), stages=V2),
        "tiny": _TINY,
        "tiny-v2": replace(_TINY, settings=Settings(_TINY_EVA, {}), template="minigpt_v2", stages=V2),
    },
    policy=lambda settings: Square(settings.vision["image_size"], "stretch", tokens=settings.tokens),
    look=lambda settings, plan, picture: tuple(pixels(plan, picture, CLIP)),
    roles=ROLES | {"qformer": ("connector.qformer.model.", "connector.qformer.queries")},
    parts=_parts,
    original=original,
)
