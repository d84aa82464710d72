"""Routed layers: experts change only visual tokens, start as copies, and keep transformers' caches and checkpoints."""

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaModel

from vistune.errors import VistuneError
from vistune.models.cross_attention import CrossAttention
from vistune.models.expert_keys import cogvlm_keys, moai_keys, owl2_keys
from vistune.models.experts import COGVLM, OWL2, PADDING, TEXT, VISUAL, ExpertConfig, PLoRA, Routing, Typed, add_experts

KINDS = {
    "cogvlm": ExpertConfig(typed=COGVLM),
    "cogagent": ExpertConfig(typed=COGVLM, cross_channels=6, cross_width=8),
    "owl2": ExpertConfig(typed=OWL2),
    "moai": ExpertConfig(rank=2, alpha=2, mixer_every=2, mixer_heads=2),
}
TYPES = torch.tensor(
    [[TEXT, VISUAL, VISUAL, VISUAL, TEXT, TEXT, TEXT], [TEXT, TEXT, VISUAL, TEXT, TEXT, TEXT, PADDING]]
)


def model(experts, seed=0):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=11,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    plain = LlamaModel(config).eval()
    if experts:
        add_experts(plain, experts)
    return plain


def inputs(kind, batch=2):
    torch.manual_seed(1)
    given = {"inputs_embeds": torch.randn(batch, TYPES.shape[1], 16), "routing": Routing.of(TYPES[:batch])}
    if kind == "cogagent":
        given["features"] = torch.randn(batch, 5, 6)
    if kind == "moai":
        given["evidence"] = torch.randn(batch, 3, 16)
    return given


@pytest.mark.parametrize("kind", ["cogvlm", "owl2"])
def test_experts_start_as_copies_of_the_language_model(kind):
    given = inputs(kind)
    routing = given.pop("routing")
    expected = model(None)(**given).last_hidden_state
    got = model(KINDS[kind])(**given, routing=routing).last_hidden_state
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_text_alone_never_meets_an_expert(kind):
    given = {"inputs_embeds": inputs(kind)["inputs_embeds"]}
    expected = model(None)(**given).last_hidden_state
    changed = model(KINDS[kind])
    with torch.no_grad():
        for name, parameter in changed.named_parameters():
            if ".visual." in name or ".up." in name:
                parameter.mul_(3)
    torch.testing.assert_close(changed(**given).last_hidden_state, expected)
    all_text = Routing.of(torch.zeros_like(TYPES))
    if kind != "moai":  # whose mixer has text look at itself
        torch.testing.assert_close(changed(**given, routing=all_text).last_hidden_state, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_prefill_and_cached_steps_equal_one_pass(kind):
    llm, given = model(KINDS[kind]), inputs(kind, batch=1)
    embeds, cut = given["inputs_embeds"], 5
    aside = {key: given[key] for key in ("features",) if key in given}
    first = given | {"inputs_embeds": embeds[:, :cut], "routing": Routing.of(TYPES[:1, :cut])}
    prefill = llm(**first, use_cache=True)
    step = llm(inputs_embeds=embeds[:, cut:], past_key_values=prefill.past_key_values, **aside).last_hidden_state
    if kind == "moai":  # tokens that are generated are not mixed, so type them as neither
        types = TYPES[:1].clone()
        types[:, cut:] = PADDING
        given["routing"] = Routing.of(types)
    torch.testing.assert_close(llm(**given).last_hidden_state[:, cut:], step)


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointing_recomputes_each_batch_by_its_own_routing(kind):
    """Two forward passes before the backward passes: what a token is must not come from the last call."""

    def gradients(checkpointing):
        llm = model(KINDS[kind])
        if checkpointing:
            llm.gradient_checkpointing_enable({"use_reentrant": False})
        llm.train()
        for module in llm.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        given = inputs(kind)
        flipped = given | {"routing": Routing.of(TYPES.flip(1))}
        losses = [llm(**one, use_cache=False).last_hidden_state.square().sum() for one in (given, flipped)]
        sum(losses).backward()
        return {name: p.grad for name, p in llm.named_parameters()}

    plain, recomputed = gradients(False), gradients(True)
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient, msg=name)


def test_a_batch_without_images_still_reaches_every_parameter():
    """Else ranks of a distributed run disagree about which gradients to exchange."""
    llm = model(KINDS["cogvlm"])
    given = inputs("cogvlm") | {"routing": Routing.of(torch.zeros_like(TYPES))}
    llm(**given).last_hidden_state.sum().backward()
    assert all(p.grad is not None for p in llm.parameters() if p is not llm.embed_tokens.weight)


def test_typed_and_plora_are_a_choice_by_token():
    torch.manual_seed(0)
    text, visual, x, routing = nn.Linear(4, 6), nn.Linear(4, 6), torch.randn(2, 7, 4), Routing.of(TYPES)
    chosen = (TYPES == VISUAL)[..., None]
    torch.testing.assert_close(Typed(text, visual)(x, routing), torch.where(chosen, visual(x), text(x)))
    low = PLoRA(text, rank=2, alpha=4).eval()
    torch.testing.assert_close(low(x, routing), text(x) + chosen * 2.0 * low.up(low.down(x)))


def test_queries_that_may_look_nowhere_find_nothing():
    torch.manual_seed(0)
    attention = CrossAttention(8, 2, channels=6, inner=4, bias=False)
    queries, keys = torch.randn(2, 3, 8, requires_grad=True), torch.randn(2, 5, 6)
    mask = torch.ones(2, 1, 3, 5, dtype=torch.bool)
    mask[0, :, 1] = False
    got = attention(queries, keys, keys, mask)
    assert (got[0, 1] == 0).all()
    torch.testing.assert_close(got[1], attention(queries, keys, keys)[1])
    got.sum().backward()
    assert torch.isfinite(queries.grad).all()


@pytest.mark.parametrize("keys", [cogvlm_keys, lambda s: moai_keys(s, 4, 2)])
def test_a_key_that_no_table_knows_is_an_error(keys):
    with pytest.raises(VistuneError, match=r"layers\.0\.attention\.surprise"):
        keys({"layers.0.attention.surprise": torch.zeros(1)})


def test_moai_groups_of_queries_keys_and_values_come_apart():
    """wqkv has, group by group, two queries, a key and a value; here each head is one row, numbered."""
    state = moai_keys({"layers.7.attention.wqkv.Plora_main.weight": torch.arange(8.0)[:, None]}, heads=4, groups=2)
    rows = {key.split(".")[3]: tensor.flatten().tolist() for key, tensor in state.items()}
    assert rows == {"q_proj": [0, 1, 4, 5], "k_proj": [2, 6], "v_proj": [3, 7]}


def test_owl2_twins_are_named():
    state = owl2_keys({f"layers.3.self_attn.k_proj.multiway.{n}.weight": torch.tensor(n) for n in (0, 1)})
    assert {k: int(t) for k, t in state.items()} == {
        "layers.3.self_attn.k_proj.text.weight": 0,
        "layers.3.self_attn.k_proj.visual.weight": 1,
    }


SAT = """transformer.layers.{n}.input_layernorm transformer.layers.{n}.post_attention_layernorm
transformer.layers.{n}.post_cross_attention_layernorm transformer.layers.{n}.attention.query_key_value
transformer.layers.{n}.attention.dense transformer.layers.{n}.mlp.dense_h_to_4h transformer.layers.{n}.mlp.dense_4h_to_h
transformer.layers.{n}.cross_attention.query transformer.layers.{n}.cross_attention.key_value
transformer.layers.{n}.cross_attention.dense mixins.mlp.gate_proj.{n} mixins.mlp.vision_gate_proj.{n}
mixins.mlp.vision_dense_h_to_4h_list.{n} mixins.mlp.vision_dense_4h_to_h_list.{n}
mixins.rotary.vision_query_key_value_list.{n} mixins.rotary.vision_dense_list.{n}"""

HF = """layers.{n}.input_layernorm layers.{n}.post_attention_layernorm layers.{n}.post_cross_attention_layernorm
layers.{n}.self_attn.language_expert_query_key_value layers.{n}.self_attn.language_expert_dense
layers.{n}.self_attn.vision_expert_query_key_value layers.{n}.self_attn.vision_expert_dense
layers.{n}.mlp.language_mlp.gate_proj layers.{n}.mlp.language_mlp.up_proj layers.{n}.mlp.language_mlp.down_proj
layers.{n}.mlp.vision_mlp.gate_proj layers.{n}.mlp.vision_mlp.up_proj layers.{n}.mlp.vision_mlp.down_proj
layers.{n}.cross_attn.query layers.{n}.cross_attn.key_value layers.{n}.cross_attn.dense"""


@pytest.mark.parametrize("names", [SAT, HF])
def test_both_published_forms_of_cogagent_fill_every_layer(names):
    llm = model(KINDS["cogagent"])
    original = {f"{name.format(n=n)}.weight": torch.zeros(6, 1) for n in range(2) for name in names.split()}
    expected = {key for key in llm.state_dict() if key.startswith("layers.")}
    assert cogvlm_keys(original).keys() == expected
