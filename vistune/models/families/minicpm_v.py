"""MiniCPM-V 2.0, 2.5 and 2.6: slices of the picture's own shape, SigLIP-SO400M, a resampler of 64 or 96 queries;
MiniCPM-2B, Llama-3 8B or Qwen2 7B.

All code can drop SigLIP's last block, and 2.0 does. The 8,099,175,152 published parameters of 2.6 are those of a model
that keeps it; so do ours of 2.6 and 2.5. A checkpoint with more blocks than its preset is refused.

MiniCPM-2B (2.0) is a Llama with three scales: embeddings of text times 12, what every attention and MLP adds times 1.4
/ sqrt(layers), the last state divided by width / 256 before the head. They are folded into its weights as they are read
(`minicpm_keys`), exactly but for rounding: a plain Llama computes the same. Optimisers see the folded weights, so a
rate acts on them as on ones that much larger or smaller.

What we do otherwise than the authors' code, and what brings theirs back:
- 2.5 pads the views of a batch to one length, attends to the padding, and counts it as positions, so an answer depends
  on what else is in the batch. Its weights need that (positions "bucket-row"), but here only the views of one picture
  are padded together; `padded="batch"` pads all.
- The fine-tuning code of 2.6 numbers a picture (`<image_id>`) only if it is in slices; the processor, and we, always.
- Its labels are shifted in the data already (`original_labels.shifted`); ours are not, and the loss shifts them.
- Placeholders are `<unk>` there; here a token of their own, without a row, that no text and no answer contains.
- The preference stage (RLAIF-V, by DPO) is not among the stages.

Source: arXiv:2408.01800; github.com/OpenBMB/MiniCPM-V, its remote code, and OpenBMB/VisRAG for 2.0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import SiglipVisionConfig, SiglipVisionModel

from vistune.errors import VistuneError
from vistune.models.connectors.resampler import Resampler, ResamplerConfig, resampler_keys
from vistune.models.encoders.features import Selection
from vistune.models.encoders.siglip import Positions, SiglipTower, load_siglip, siglip_keys
from vistune.models.encoders.sizes import SIGLIP_SO400M
from vistune.models.families.base import ROLES, Composed, Picture, Preset, Stage
from vistune.models.keymap import Part, State, constants_out, gather
from vistune.models.languages import LLAMA_3_8B, MINICPM_2B, QWEN_2_7B
from vistune.models.native import with_rows
from vistune.models.pixels import HALF, patch_strip, pixels
from vistune.models.sliced import Maps, SlicedConnector, SlicedTower
from vistune.models.tiny import tiny_text
from vistune.models.views_slices import MINICPM_2, MINICPM_26, Slices

EMBEDDING_SCALE, DEPTH_SCALE, BASE_WIDTH = 12.0, 1.4, 256
"""Of MiniCPM-2B."""


@dataclass(frozen=True)
class Settings:
    vision: Mapping[str, Any] = field(default_factory=lambda: SIGLIP_SO400M | {"image_size": 980})
    layer: int = -1  # hidden state of the encoder that is read; -2 drops its last block
    positions: Positions = "bucket"
    padded: Literal["", "picture", "batch"] = ""  # views that are padded to one length; "": none
    scale: int = 448  # a view has about its square of pixels
    most: int = 9  # slices; 1: the overview alone
    marks: Literal["2.0", "2.6"] = "2.6"  # the text around views
    queries: int = 64
    query_positions: bool = False
    head_width: int = 128  # channels of an attention head of the resampler
    scaled: bool = False  # the checkpoint's language model has MiniCPM's scales


class StripTower(SlicedTower):
    """2.5: views as strips of patches, padded together."""

    def __init__(self, encoder: SiglipTower, patch: int, padded: str) -> None:
        super().__init__(encoder, patch)
        self.padded = padded

    def forward(self, pictures: Sequence[Picture]) -> list[Maps]:
        if self.padded == "picture" and len(pictures) > 1:
            return [self([picture])[0] for picture in pictures]
        sizes = [view.patches for picture in pictures for view in picture.plan.views]
        strips = [patch_strip(view, self.patch) for picture in pictures for view in picture.views]
        longest = max(strip.shape[2] for strip in strips)
        batch = torch.stack([F.pad(strip, (0, longest - strip.shape[2])) for strip in strips])
        found = zip(self.encoder(batch, sizes), sizes, strict=True)
        maps = iter([features[: rows * columns].unflatten(0, (rows, columns)) for features, (rows, columns) in found])
        return [tuple(next(maps) for _ in picture.views) for picture in pictures]


def _tower(settings: Settings) -> SlicedTower:
    config = SiglipVisionConfig(hidden_act="gelu_pytorch_tanh", vision_use_head=False, **settings.vision)
    encoder = SiglipTower(
        SiglipVisionModel(config), Selection((settings.layer,), "never", norm=True), settings.positions
    )
    patch = settings.vision["patch_size"]
    return StripTower(encoder, patch, settings.padded) if settings.padded else SlicedTower(encoder, patch)


def _parts(settings: Settings, text: Any) -> tuple[nn.Module, nn.Module]:
    tower, width = _tower(settings), text.hidden_size
    heads = width // settings.head_width
    config = ResamplerConfig(
        tower.encoder.width, width, settings.queries, heads, settings.query_positions, key_positions="sincos"
    )
    return tower, SlicedConnector(Resampler(config))


def _policy(settings: Settings) -> Slices:
    marks = MINICPM_26 if settings.marks == "2.6" else MINICPM_2
    return Slices(settings.scale, settings.most, settings.vision["patch_size"], settings.queries, marks)


def minicpm_keys(original: Mapping[str, Tensor], text: Any) -> State:
    """MiniCPMForCausalLM -> LlamaForCausalLM, its scales folded into the weights. Raises VistuneError for a head other
    than the embeddings where the two are to be one table."""
    state = constants_out(original)
    table, head = "model.embed_tokens.weight", "lm_head.weight"
    own, shrink = state.get(head, state[table]), BASE_WIDTH / text.hidden_size
    factors = {table: EMBEDDING_SCALE}
    for key in state:
        if key.endswith(("self_attn.o_proj.weight", "mlp.down_proj.weight")):
            factors[key] = DEPTH_SCALE / text.num_hidden_layers**0.5
    if not text.tie_word_embeddings:
        return {key: tensor * factors.get(key, 1.0) for key, tensor in state.items()} | {head: own * shrink}
    if not torch.equal(own, state[table]):
        raise VistuneError("MiniCPM's head differs from its embeddings; its configuration ties them.")
    factors["model.norm.weight"] = shrink / EMBEDDING_SCALE  # the head has the embeddings' table, multiplied
    state = {key: tensor * factors.get(key, 1.0) for key, tensor in state.items()}
    return state | {head: state[table]}


def original(state: State, config: Any) -> State:
    settings, text = Settings(**config.preset["settings"]), config.text_config
    with torch.device("meta"):
        tower = _tower(settings).encoder
    blocks = {match[1] for key in state if (match := re.match(r"vpm\.(?:encoder\.layers|blocks)\.(\d+)\.", key))}
    if len(blocks) > max(tower.states):
        raise VistuneError(f"the checkpoint's encoder has {len(blocks)} blocks, the preset reads {max(tower.states)}.")
    fold = partial(minicpm_keys, text=text)
    parts: dict[str, Part] = {
        "vpm.": ("vision_tower.encoder.", partial(siglip_keys, tower=tower)),
        "resampler.": ("connector.resampler.", partial(_resampler_keys, computed=not settings.query_positions)),
        "llm.": ("language_model.", fold if settings.scaled else constants_out),
    }
    return with_rows(gather(state, parts, "MiniCPM-V"), text.vocab_size)


def _resampler_keys(original: Mapping[str, Tensor], computed: bool) -> State:
    """`computed`: 2.5 and 2.6 saved the table of positions that they compute, or not."""
    return resampler_keys({key: tensor for key, tensor in original.items() if not (computed and key == "pos_embed")})


PAPER = "arXiv:2408.01800, section 4"

STAGES = (
    Stage(
        name="align",
        rates={"connector": None},
        data="200 M captions",
        samples=200_000_000,
        settings={"scale": 224, "most": 1},
        note="Rates and batches of all stages but the last are not published; here a view of 224 squared pixels.",
        source=PAPER,
    ),
    Stage(
        name="encode",
        rates={"vision": None},
        data="another 200 M captions",
        samples=200_000_000,
        settings={"most": 1},
        source=PAPER,
    ),
    Stage(name="slices", rates={"vision": None, "connector": None}, data="captions and OCR", source=PAPER),
    Stage(
        name="instruct",
        rates={"vision": None, "connector": None, "language": None, "head": None},
        data="part 1: short captions, VQA, knowledge, grounding, reasoning, mathematics, OCR, chat; then part 2: a "
        "sample of part 1, OCR, instructions, text",
        source=PAPER,
    ),
    Stage(
        name="finetune",
        rates={"vision": 1e-6, "connector": 1e-6},
        data="your own",
        batch=8,
        steps=10_000,
        schedule="cosine",
        warmup=0.01,
        weight_decay=0.1,
        note="What the authors publish for users; 4096 tokens where a conversation shows several pictures.",
        source="finetune/finetune_ds.sh",
    ),
)

TINY_STAGES = (
    Stage(name="align", rates={"connector": 1e-3}, data="", settings={"scale": 28, "most": 1}),
    Stage(name="instruct", rates=dict.fromkeys(("vision", "connector", "language", "head"), 1e-3), data=""),
)

_IMAGES = ("<image>", "</image>", "<slice>", "</slice>")

V2_6 = Preset(
    settings=Settings(),
    text=QWEN_2_7B | {"vocab_size": 151666},
    template="minicpm_v_2_6",
    begin=False,
    placeholder="<|image_feature|>",
    tokens=("<image_id>", "</image_id>", *_IMAGES),
    stages=STAGES,
    language="Qwen/Qwen2-7B-Instruct",
    vision="google/siglip-so400m-patch14-384",
    weights="openbmb/MiniCPM-V-2_6",
)
V2_5 = replace(
    V2_6,
    settings=Settings(positions="bucket-row", padded="picture", marks="2.0", queries=96),
    text=LLAMA_3_8B,
    template="minicpm_v_2_5",  # which writes the BOS itself
    tokens=_IMAGES,
    language="meta-llama/Meta-Llama-3-8B-Instruct",
    weights="openbmb/MiniCPM-Llama3-V-2_5",
)
V2_0 = replace(
    V2_5,
    settings=Settings(SIGLIP_SO400M, -2, "antialiased", marks="2.0", query_positions=True, scaled=True),
    text=MINICPM_2B,
    template="minicpm_v_2",
    begin=True,
    language="",  # openbmb/MiniCPM-2B-sft-bf16 is no class of transformers; the whole model loads
    weights="openbmb/MiniCPM-V-2",
)


def _tiny(preset: Preset) -> Preset:
    """The same choices, small."""
    side = 56 if preset.settings.positions == "antialiased" else 140
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": side,
        "patch_size": 14,
    }
    settings = replace(preset.settings, vision=vision, scale=56, most=4, queries=4, head_width=16)
    return replace(preset, settings=settings, text=tiny_text(), stages=TINY_STAGES, language="", vision="", weights="")


FAMILY = Composed(
    name="minicpm_v",
    title="MiniCPM-V",
    source="arXiv:2408.01800; OpenBMB/MiniCPM-V",
    views="overview, then up to 9 slices of its own shape",
    encoder="SigLIP-SO400M/14, positions by the view's grid",
    connector="resampler, 64 or 96 queries",
    injection="scatter",
    codec="vistune",  # the authors' is not published
    presets={
        "minicpm-v-2.6": V2_6,
        "minicpm-llama3-v-2.5": V2_5,
        "minicpm-v-2.0": V2_0,
        "tiny": replace(_tiny(V2_6), text=tiny_text("qwen2")),
        "tiny-2.5": _tiny(V2_5),
        "tiny-2.0": replace(_tiny(V2_0), text=tiny_text(tie_word_embeddings=True)),
    },
    policy=_policy,
    look=lambda settings, plan, picture: tuple(pixels(plan, picture, HALF)),
    roles=ROLES | {"positions": ("connector.resampler.positions",)},
    parts=_parts,
    load_vision=lambda tower, folder: load_siglip(tower.encoder, folder),
    original=original,
    text_config=lambda said: {key: said[key] for key in ("vocab_size", "tie_word_embeddings") if key in said},
)
