"""Connectors that read features by attention, and CogVLM's GLU."""

import pytest
import torch
from torch import nn
from transformers import Blip2QFormerConfig

from vistune.errors import VistuneError
from vistune.models.connectors.abstractor import Abstractor, AbstractorConfig, abstractor_keys
from vistune.models.connectors.glu import GLU, GLUConfig, SwiGLU
from vistune.models.connectors.qformer import QFormer, qformer_keys
from vistune.models.position_tables import sincos, sincos_line


def test_glu_begins_and_ends_an_image_with_zeros():
    torch.manual_seed(0)
    glu = GLU(GLUConfig(channels=6, width=8, hidden=12, positions=4))
    features = torch.randn(2, 4, 6)
    tokens = glu(features)
    assert tokens.shape == (2, 6, 8)
    assert not tokens[:, [0, -1]].any()
    torch.testing.assert_close(tokens[:, 1:-1], glu.convert(features))
    with torch.no_grad():
        glu.positions[1] += 1
    assert (glu.convert(features) != tokens[:, 1:-1]).any(-1).tolist() == [[False, True, False, False]] * 2


def test_swiglu_has_a_norm_only_where_it_is_told_its_eps():
    assert isinstance(SwiGLU(4, 6).norm, nn.Identity)
    assert SwiGLU(4, 6, eps=1e-6).norm.eps == 1e-6


def abstractor(**more):
    torch.manual_seed(0)
    config = AbstractorConfig(channels=8, width=10, queries=3, depth=2, heads=2, hidden=12, **more)
    return Abstractor(config).eval()


def test_abstractor_adds_to_the_normalised_queries():
    """With attention and MLP silenced, the queries leave a layer as its LayerNorm made them."""
    connector = abstractor()
    for layer in connector.layers:
        for last in (layer.attention.out, layer.mlp.down):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
    expected = nn.functional.layer_norm(connector.queries, (8,))
    torch.testing.assert_close(connector.read(torch.randn(1, 5, 8)), nn.functional.layer_norm(expected, (8,)))


def test_abstractor_knows_places_only_with_a_grid():
    torch.manual_seed(1)
    features = torch.randn(2, 5, 8)
    moved = torch.cat([features[:, :1], features[:, 1:].flip(1)], dim=1)
    blind, sighted = abstractor(), abstractor(grid=2)
    torch.testing.assert_close(blind(features), blind(moved))
    assert not torch.allclose(sighted(features), sighted(moved))
    assert blind(features).shape == (2, 4, 10)
    assert torch.equal(blind(features)[1, -1], blind.end[0, 0])
    assert abstractor(grid=2, cls=False)(features[:, 1:]).shape == (2, 4, 10)


def test_abstractor_keys_are_the_same_for_both_generations():
    tensor = torch.zeros(1)
    tail = "encoder.layers.0.crossattention."
    one = abstractor_keys({"query_tokens": tensor, f"abstractor.{tail}output.mlp.w3.weight": tensor})
    two = abstractor_keys(
        {
            "model.visual_abstractor.query_embeds": tensor,
            f"model.visual_abstractor.{tail}output.mlp.w3.weight": tensor,
            f"model.visual_abstractor.{tail}attention.k_pos_embed": tensor,
        }
    )
    assert one.keys() == two.keys() == {"queries", "layers.0.mlp.up.weight"}
    with pytest.raises(VistuneError, match=r"abstractor\.surprise"):
        abstractor_keys({"abstractor.surprise": tensor})


def test_qformer_projects_what_it_read():
    torch.manual_seed(0)
    config = Blip2QFormerConfig(
        vocab_size=1,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        encoder_hidden_size=6,
    )
    features = torch.randn(2, 5, 6)
    qformer = QFormer(config, queries=4, width=10).eval()
    torch.testing.assert_close(qformer(features), qformer.project(qformer.read(features)))
    assert QFormer(config, queries=4).eval()(features).shape == (2, 4, 8)
    left_out = ["bert.embeddings.word_embeddings.weight", "bert.encoder.layer.0.output.dense.weight", "cls.bias"]
    assert not qformer_keys({f"Qformer.{key}": features for key in left_out})


def test_the_grid_of_sines_is_two_lines():
    grid = sincos(3, 2, 8).unflatten(0, (3, 2))
    torch.testing.assert_close(grid[1, :, :4], sincos_line(2, 4))
    torch.testing.assert_close(grid[:, 1, 4:], sincos_line(3, 4))
