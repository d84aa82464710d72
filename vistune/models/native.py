"""The systems that transformers has: their original checkpoints in its classes, every key renamed, and what those
classes share.

LLaVA, LLaVA-NeXT, ViP-LLaVA (`llava_keys`) and InternVL (`internvl_keys`). transformers' copies have a vocabulary
row more than the originals, for the image token: `with_rows` adds it. That row joins the softmax; to compare losses
with the original, cut the logits to its vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, CLIPVisionModel, PretrainedConfig

from vistune.models.encoders.intern_vit import intern_vit_keys
from vistune.models.keymap import QKV, State, gather, load, rename, split_rows

if TYPE_CHECKING:
    from vistune.models.families.base import Picture, Preset

LLAMA = [
    (r"model\.(?:language_model\.)?((?:embed_tokens|layers|norm)\..+)", r"model.language_model.\1"),
    (r"lm_head\.weight", "lm_head.weight"),
]


def llava_keys(original: Mapping[str, Tensor]) -> State:
    """LLaVA, LLaVA-NeXT and ViP-LLaVA -> LlavaForConditionalGeneration and its kin. There a linear projector is the
    first of two layers. A checkpoint of LLaVA 1.x may lack the tower, which was never trained; that of NeXT was."""
    projector = "model.multi_modal_projector."
    return rename(
        original,
        [
            (r".+\.rotary_emb\.inv_freq|.+\.embeddings\.position_ids", None),  # constants, which old versions saved
            (r"model\.vision_tower\.vision_tower\.(?:vision_model\.)?(.+)", r"model.vision_tower.\1"),
            (r"model\.mm_projector\.(?:(?:final_linear\.)?0\.)?(weight|bias)", projector + r"linear_1.\1"),
            (r"model\.mm_projector\.(?:final_linear\.)?2\.(.+)", projector + r"linear_2.\1"),
            (r"model\.mm_projector\.clip_layernorm\.(.+)", projector + r"projector_layernorm.\1"),
            (r"model\.image_newline", "model.image_newline"),
            *LLAMA,
        ],
        "LLaVA",
    )


def internvl_keys(original: Mapping[str, Tensor], heads: int = 0, groups: int = 0) -> State:
    """InternVL -> InternVLForConditionalGeneration. `heads` and `groups` (key and value heads) are those of InternLM2,
    which becomes a Llama; other language models keep their names. Models with pixel shuffle v1 do not fit the class."""

    def projector(part: State) -> State:
        names = {"0": "layer_norm", "1": "linear_1", "3": "linear_2"}
        return rename(part, [(r"([013])\.(.+)", lambda match: f"{names[match[1]]}.{match[2]}")], "InternVL's projector")

    def language(part: State) -> State:
        return rename(internlm2_keys(part, heads, groups) if heads else part, LLAMA, "InternVL's language model")

    parts = {
        "vision_model.": ("model.vision_tower.", intern_vit_keys),
        "mlp1.": ("model.multi_modal_projector.", projector),
        "language_model.": ("", language),
    }
    return gather(original, parts, "InternVL")


def internlm2_keys(original: Mapping[str, Tensor], heads: int, groups: int) -> State:
    """InternLM2ForCausalLM -> LlamaForCausalLM. Rows of `wqkv` come by group: its queries, one key, one value."""
    block, ours = r"model\.layers\.(\d+)\.", r"model.layers.\1."
    state = rename(
        original,
        [
            (r"model\.tok_embeddings\.weight", "model.embed_tokens.weight"),
            (r"output\.weight", "lm_head.weight"),
            (r"model\.norm\.weight", "model.norm.weight"),
            (r".+\.rotary_emb\.inv_freq", None),
            (block + r"attention\.wqkv\.weight", ours + "self_attn.qkv.weight"),
            (block + r"attention\.wo\.weight", ours + "self_attn.o_proj.weight"),
            (block + r"attention_norm\.weight", ours + "input_layernorm.weight"),
            (block + r"ffn_norm\.weight", ours + "post_attention_layernorm.weight"),
            (block + r"feed_forward\.w1\.weight", ours + "mlp.gate_proj.weight"),
            (block + r"feed_forward\.w2\.weight", ours + "mlp.down_proj.weight"),
            (block + r"feed_forward\.w3\.weight", ours + "mlp.up_proj.weight"),
        ],
        "InternLM2",
    )
    split_rows(state, "qkv", QKV, groups, (heads // groups, 1, 1))
    return state


def with_rows(state: Mapping[str, Tensor], rows: int) -> State:
    """`state` with the mean of the known rows for new ones, up to `rows`, in input embeddings and output head."""
    grown = dict(state)
    for key, tensor in state.items():
        if key.endswith(("embed_tokens.weight", "lm_head.weight")) and len(tensor) < rows:
            mean = tensor.mean(0, keepdim=True)
            grown[key] = torch.cat([tensor, mean.expand(rows - len(tensor), -1)])
    return grown


def sub_configs(vision: Mapping[str, Any], text: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a whole from those of its encoder and language model, each with its `model_type`."""
    inner = {
        name: AutoConfig.for_model(**values) for name, values in (("vision_config", vision), ("text_config", text))
    }
    return {**inner, "tie_word_embeddings": inner["text_config"].tie_word_embeddings}


def clip_configs(vision: Mapping[str, Any], text: Mapping[str, Any]) -> dict[str, Any]:
    return sub_configs({"model_type": "clip_vision_model", **vision}, text)


def clip_processor(
    processor: Callable[..., Any], images: Callable[..., Any], preset: Preset, tokenizer: Any, **values: Any
) -> Any:
    """transformers' processor of LLaVA's kin, by its class and that of its image processor, which takes `values`."""
    vision = preset.settings.vision
    size = vision["image_size"]
    return processor(
        images(size={"shortest_edge": size}, crop_size={"height": size, "width": size}, **values),
        tokenizer,
        patch_size=vision["patch_size"],
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=preset.placeholder,
    )


def originals(state: State, config: PretrainedConfig) -> State:
    """`llava_keys` with rows for all of the vocabulary."""
    return with_rows(llava_keys(state), config.text_config.vocab_size)


def draw_projector(model: Any, reader: Any = None, seed: int = 0) -> None:
    """A fresh projector as the authors draw it, which is torch's own way; transformers draws smaller weights."""
    for layer in model.model.multi_modal_projector.modules():
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()


def load_clip_tower(tower: CLIPVisionModel, folder: str) -> None:
    """CLIP's published weights, all of them."""
    load(tower, CLIPVisionModel.from_pretrained(folder, dtype=torch.float32).state_dict(), "the CLIP tower")


def square_pixels(settings: Any, pictures: Sequence[Picture]) -> dict[str, Tensor]:
    """pixel_values (I, 3, height, width) of pictures with one view each."""
    return {"pixel_values": torch.stack([picture.views[0] for picture in pictures])}
