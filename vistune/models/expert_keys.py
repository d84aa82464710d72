"""Original checkpoints -> the keys of `RoutedLayer`s below a language model, for each system that has them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vistune.models.keymap import QKV, State, rename, split_rows


def cogvlm_keys(original: Mapping[str, Tensor]) -> State:
    """CogVLM's and CogAgent's layers. Either in the names of SwissArmyTransformer, where text keeps its place in
    `transformer` and the visual expert and the gates are in `mixins`, numbered by layer; or in those of the Hugging
    Face form, below `model`."""
    sat, hf, ours = r"transformer\.layers\.(\d+)\.", r"layers\.(\d+)\.", r"layers.\1."
    either = r"(?:transformer\.)?" + hf
    twin = {"language": "text", "vision": "visual"}
    state = rename(
        original,
        [
            (either + r"(input_layernorm|post_attention_layernorm)\.weight", ours + r"\2.weight"),
            (either + r"post_cross_attention_layernorm\.weight", ours + "cross_norm.weight"),
            (either + r"cross_att(?:ention|n)\.query\.weight", ours + "cross.query.weight"),
            (either + r"cross_att(?:ention|n)\.key_value\.weight", ours + "cross.key_value.weight"),
            (either + r"cross_att(?:ention|n)\.dense\.weight", ours + "cross.out.weight"),
            (sat + r"attention\.query_key_value\.weight", ours + "self_attn.qkv.text.weight"),
            (sat + r"attention\.dense\.weight", ours + "self_attn.o_proj.text.weight"),
            (sat + r"mlp\.dense_h_to_4h\.weight", ours + "mlp.text.up_proj.weight"),
            (sat + r"mlp\.dense_4h_to_h\.weight", ours + "mlp.text.down_proj.weight"),
            (r"mixins\.rotary\.vision_query_key_value_list\.(\d+)\.weight", ours + "self_attn.qkv.visual.weight"),
            (r"mixins\.rotary\.vision_dense_list\.(\d+)\.weight", ours + "self_attn.o_proj.visual.weight"),
            (r"mixins\.mlp\.gate_proj\.(\d+)\.weight", ours + "mlp.text.gate_proj.weight"),
            (r"mixins\.mlp\.vision_gate_proj\.(\d+)\.weight", ours + "mlp.visual.gate_proj.weight"),
            (r"mixins\.mlp\.vision_dense_h_to_4h_list\.(\d+)\.weight", ours + "mlp.visual.up_proj.weight"),
            (r"mixins\.mlp\.vision_dense_4h_to_h_list\.(\d+)\.weight", ours + "mlp.visual.down_proj.weight"),
            (hf + r"self_attn\.rotary_emb\.inv_freq", None),
            (
                hf + r"self_attn\.(language|vision)_expert_query_key_value\.weight",
                lambda match: f"layers.{match[1]}.self_attn.qkv.{twin[match[2]]}.weight",
            ),
            (
                hf + r"self_attn\.(language|vision)_expert_dense\.weight",
                lambda match: f"layers.{match[1]}.self_attn.o_proj.{twin[match[2]]}.weight",
            ),
            (
                hf + r"mlp\.(language|vision)_mlp\.((?:gate|up|down)_proj)\.weight",
                lambda match: f"layers.{match[1]}.mlp.{twin[match[2]]}.{match[3]}.weight",
            ),
        ],
        "CogVLM's language model",
    )
    split_rows(state, "qkv", QKV)
    split_rows(state, "key_value", ("key", "value"))
    return state


def owl2_keys(original: Mapping[str, Tensor]) -> State:
    """mPLUG-Owl2's names below `model`, of the language model's layers: `multiway.0` is the text's, `multiway.1` the
    visual tokens'."""
    twin = {"0": "text", "1": "visual"}
    return rename(
        original,
        [
            (
                r"(layers\.\d+\..+)\.multiway\.([01])\.(weight|bias)",
                lambda match: f"{match[1]}.{twin[match[2]]}.{match[3]}",
            ),
            (r"layers\.\d+\..+\.rotary_emb\.inv_freq", None),
            (r"(layers\.\d+\..+)", r"\1"),
        ],
        "mPLUG-Owl2's language model",
    )


def moai_keys(original: Mapping[str, Tensor], heads: int, groups: int) -> State:
    """MoAI's names below `model`, of InternLM2's layers. Rows of `wqkv` come by group of queries with one key and one
    value; its low-rank update is cut the same way, so `down`, which the three shared, is there three times (it is
    frozen). heads, groups: of queries, of keys and values."""
    layer, ours = r"layers\.(\d+)\.", r"layers.\1."
    parts = {"A": "down", "B": "up", "main": "text"}
    linear = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
    looks = {"aux": 0, "lang": 1, "img": 1}
    sides = {"img": "visual", "lang": "text"}
    projections = {"q": "query", "k": "key", "v": "value", "o": "out"}
    expert = layer + r"attention\.moai_"
    state = rename(
        original,
        [
            (layer + r"attention_norm\.weight", ours + "input_layernorm.weight"),
            (layer + r"ffn_norm\.weight", ours + "post_attention_layernorm.weight"),
            (layer + r"attention\.rotary_emb\.inv_freq", None),
            (
                layer + r"attention\.wqkv\.Plora_(A|B|main)\.weight",
                lambda match: f"layers.{match[1]}.self_attn.qkv.{parts[match[2]]}.weight",
            ),
            (
                layer + r"attention\.wo\.Plora_(A|B|main)\.weight",
                lambda match: f"layers.{match[1]}.self_attn.o_proj.{parts[match[2]]}.weight",
            ),
            (
                layer + r"feed_forward\.(w[123])\.Plora_(A|B|main)\.weight",
                lambda match: f"layers.{match[1]}.mlp.{linear[match[2]]}.{parts[match[3]]}.weight",
            ),
            (
                expert + r"CA_(img|lang)_(aux|lang|img)\.linear_([qkvo])\.([01])\.weight",
                lambda match: (
                    f"layers.{match[1]}.mixer.{sides[match[2]]}.{looks[match[3]]}"
                    f".{projections[match[4]]}.{match[5]}.weight"
                ),
            ),
            (
                expert + r"SA_(img|lang)\.linear_([qkvo])\.([01])\.weight",
                lambda match: f"layers.{match[1]}.mixer.{sides[match[2]]}.2.{projections[match[3]]}.{match[4]}.weight",
            ),
            (
                expert + r"GA_(img|lang)\.(weight|bias)",
                lambda match: f"layers.{match[1]}.mixer.{sides[match[2]]}_gate.{match[3]}",
            ),
        ],
        "MoAI's language model",
    )
    for key in [k for k in state if ".qkv.down." in k]:
        state.update(dict.fromkeys([key.replace(".qkv.", f".{name}.") for name in QKV], state.pop(key)))
    split_rows(state, "qkv", QKV, groups, (heads // groups, 1, 1))
    return state
