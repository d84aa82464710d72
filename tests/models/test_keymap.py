"""Original names -> ours: nothing is lost or made up in silence."""

import pytest
import torch
from torch import nn

from vistune.errors import VistuneError
from vistune.models.keymap import gather, load, rename, split_rows
from vistune.models.native import internlm2_keys, internvl_keys, llava_keys, with_rows

ONE = torch.zeros(1)


def test_every_unknown_key_is_named():
    with pytest.raises(VistuneError, match=r"does not fit it: 2 unexpected \(b\.weight, c\)"):
        rename({"a": ONE, "b.weight": ONE, "c": ONE}, [("a", "x")], "it")
    with pytest.raises(VistuneError, match=r"1 unexpected \(head\.weight\)"):
        gather({"tower.a": ONE, "head.weight": ONE}, {"tower.": ("ours.", dict)}, "it")


def test_a_row_matches_whole_keys_and_may_leave_them_out():
    table = [(r"old\.(\d+)", None), (r"old", "new")]
    assert list(rename({"old": ONE, "old.3": ONE}, table, "it")) == ["new"]


def test_the_first_prefix_wins():
    parts = {"model.tower.": ("t.", dict), "model.": ("m.", dict)}
    assert sorted(gather({"model.tower.a": ONE, "model.b": ONE}, parts, "it")) == ["m.b", "t.a"]


def test_loading_lists_missing_unexpected_and_misshapen():
    module = nn.Linear(2, 3)
    with pytest.raises(VistuneError) as error:
        load(module, {"weight": torch.zeros(2, 2), "extra": ONE}, "a layer")
    assert "1 missing (bias); 1 unexpected (extra); 1 of another shape (weight (2, 2) for (3, 2))" in str(error.value)


def test_long_lists_are_cut():
    with pytest.raises(VistuneError, match=r"30 unexpected .* and 10 more\)"):
        rename({f"key{n}": ONE for n in range(30)}, [], "it")


def test_fused_rows_are_shared_out():
    state = {"qkv": torch.arange(6.0)}
    split_rows(state, "qkv", ["q", "k", "v"])
    split_rows(state, "absent", ["x"])
    assert {key: tensor.tolist() for key, tensor in state.items()} == {"q": [0, 1], "k": [2, 3], "v": [4, 5]}


def test_fused_rows_come_by_head():
    """Two heads of one row each: q0 k0 v0 q1 k1 v1."""
    state = {"0.qkv.weight": torch.arange(6.0)[:, None]}
    split_rows(state, "qkv", ["q", "k", "v"], groups=2)
    rows = {key: tensor.flatten().tolist() for key, tensor in state.items()}
    assert rows == {"0.q.weight": [0, 3], "0.k.weight": [1, 4], "0.v.weight": [2, 5]}


def test_fused_rows_that_cannot_be_shared_out():
    with pytest.raises(VistuneError, match=r"0\.qkv\.bias has 7 rows; they do not fall into 2 x \(2 \+ 1 \+ 1\)"):
        split_rows({"0.qkv.bias": torch.zeros(7)}, "qkv", ["q", "k", "v"], groups=2, shares=(2, 1, 1))


def test_llava_and_its_kin():
    names = {
        "model.embed_tokens.weight": "model.language_model.embed_tokens.weight",
        "model.layers.0.mlp.up_proj.weight": "model.language_model.layers.0.mlp.up_proj.weight",
        "lm_head.weight": "lm_head.weight",
        "model.vision_tower.vision_tower.vision_model.pre_layrnorm.bias": "model.vision_tower.pre_layrnorm.bias",
        "model.mm_projector.2.weight": "model.multi_modal_projector.linear_2.weight",
        "model.mm_projector.final_linear.0.bias": "model.multi_modal_projector.linear_1.bias",
        "model.mm_projector.clip_layernorm.bias": "model.multi_modal_projector.projector_layernorm.bias",
        "model.image_newline": "model.image_newline",
    }
    old = {"model.layers.0.self_attn.rotary_emb.inv_freq": ONE}
    assert list(llava_keys({**dict.fromkeys(names, ONE), **old})) == list(names.values())
    with pytest.raises(VistuneError, match=r"model\.mm_projector\.4\.weight"):
        llava_keys({"model.mm_projector.4.weight": ONE})


def test_internlm2_groups_become_heads():
    """Two groups of two queries, a key and a value each, heads of one row: q0 q1 k0 v0 q2 q3 k1 v1."""
    state = internlm2_keys({"model.layers.0.attention.wqkv.weight": torch.arange(8.0)[:, None]}, heads=4, groups=2)
    rows = {key.split(".")[-2]: tensor.flatten().tolist() for key, tensor in state.items()}
    assert rows == {"q_proj": [0, 1, 4, 5], "k_proj": [2, 6], "v_proj": [3, 7]}


def test_internvl_with_internlm2():
    names = [
        "vision_model.encoder.layers.0.norm1.weight",
        "mlp1.3.bias",
        "language_model.model.tok_embeddings.weight",
        "language_model.output.weight",
    ]
    assert list(internvl_keys(dict.fromkeys(names, ONE), heads=2, groups=1)) == [
        "model.vision_tower.encoder.layer.0.layernorm_before.weight",
        "model.multi_modal_projector.linear_2.bias",
        "model.language_model.embed_tokens.weight",
        "lm_head.weight",
    ]


def test_new_rows_are_the_mean_of_the_old():
    state = with_rows({"lm_head.weight": torch.tensor([[1.0], [3.0]]), "norm": ONE}, 4)
    assert state["lm_head.weight"].flatten().tolist() == [1, 3, 2, 2] and state["norm"] is ONE
