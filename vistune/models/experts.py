"""Visual tokens treated apart inside the language model: weights of their own, cross-attention, a mixer of evidence.

A `RoutedLayer` is a Llama layer in which any of these modules can be doubled (`Typed`: text tokens go through one,
visual tokens through the other) or amended for visual tokens (`PLoRA`), and which can hold a cross-attention between
attention and MLP and a mixer before attention:

| model | what differs for visual tokens |
|---|---|
| CogVLM | q, k, v, o and the MLP |
| CogAgent | the same; and all tokens attend to high-resolution features in every layer |
| mPLUG-Owl2 | k, v and both norms (modality-adaptive module) |
| MoAI | a low-rank update of every linear layer; a mixer in every eighth layer |

What each token is comes with every call (`Routing`), not from the module's state: recomputation in the backward pass
(gradient checkpointing) and interleaved batches see their own. A call without routing is all text, as in decoding.
Sources: CogVLM, utils/models/mixin.py; mPLUG-Owl2, modeling_llama2.py, multiway.py; MoAI, build_mlp.py (PLoRA, from
InternLM-XComposer2), modeling_internlm2.py.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal

from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaDecoderLayer,
    LlamaRMSNorm,
    apply_rotary_pos_emb,
    eager_attention_forward,
)

from vistune.models.cross_attention import CrossAttention
from vistune.models.mixer import Mixer

TEXT, VISUAL, PADDING = 0, 1, -1

COGVLM = ("q_proj", "k_proj", "v_proj", "o_proj", "mlp")
OWL2 = ("k_proj", "v_proj", "input_layernorm", "post_attention_layernorm")


@dataclass(frozen=True)
class ExpertConfig:
    typed: tuple[str, ...] = ()  # modules of a layer that visual tokens have for themselves
    rank: int = 0  # of PLoRA in every linear layer; 0: none
    alpha: float = 0.0  # of PLoRA, whose update is scaled by alpha / rank
    cross_channels: int = 0  # of the features that every layer attends to; 0: no cross-attention
    cross_width: int = 0  # of its heads together
    mixer_every: int = 0  # the n-th layer, the 2n-th and so on have a mixer; 0: none
    mixer_heads: int = 4
    mixer_weigh: Literal["gates", "dice"] = "gates"  # see `Mixer`


@dataclass(frozen=True)
class Routing:
    """types: int (B, T), TEXT, VISUAL or PADDING; visual, text: int64, rows of the flattened batch, found once for all
    layers. Padding goes with the text."""

    types: Tensor
    visual: Tensor
    text: Tensor

    @classmethod
    def of(cls, types: Tensor) -> Routing:
        """types: int (B, T)"""
        visual = types.flatten() == VISUAL
        return cls(types, visual.nonzero()[:, 0], (~visual).nonzero()[:, 0])


class Routed(nn.Module):
    """A module that takes the routing besides its input; `text` is what text alone passes through."""

    text: Any


class Typed(Routed):
    """Two modules of one kind. Both always run, if on no token at all, so that every rank of a distributed run uses the
    same parameters."""

    def __init__(self, text: nn.Module, visual: nn.Module) -> None:
        super().__init__()
        self.text, self.visual = text, visual

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        """(B, T, D) -> (B, T, D')"""
        rows = x.flatten(0, 1)
        text, visual = self.text(rows[routing.text]), self.visual(rows[routing.visual])
        result = text.new_empty(len(rows), text.shape[-1])
        result[routing.text], result[routing.visual] = text, visual.to(text.dtype)
        return result.unflatten(0, x.shape[:2])


class PLoRA(Routed):
    """A linear layer with a low-rank update for visual tokens. `up` starts at random, not at zero, as in the original,
    whose initialisation misses it by a name."""

    def __init__(self, text: nn.Linear, rank: int, alpha: float, dropout: float = 0.05) -> None:
        super().__init__()
        self.text = text
        self.down = nn.Linear(text.in_features, rank, bias=False)
        self.up = nn.Linear(rank, text.out_features, bias=False)
        self.scale = alpha / rank
        self.dropout = nn.Dropout(dropout)
        for layer in (self.down, self.up):
            nn.init.kaiming_uniform_(layer.weight, a=sqrt(5))

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        """(B, T, D) -> (B, T, D')"""
        result = self.text(x)
        update = self.up(self.down(self.dropout(x.flatten(0, 1)[routing.visual]))) * self.scale
        rows = result.flatten(0, 1).index_add(0, routing.visual, update.to(result.dtype))
        return rows.unflatten(0, x.shape[:2])


class RoutedMLP(Routed):
    """A gated MLP whose linear layers are routed, each by itself."""

    def __init__(self, mlp: Any) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = mlp.gate_proj, mlp.up_proj, mlp.down_proj
        self.activation = mlp.act_fn

    def text(self, x: Tensor) -> Tensor:
        return self.forward(x, None)

    def forward(self, x: Tensor, routing: Routing | None) -> Tensor:
        """(B, T, D) -> (B, T, D)"""
        y = self.activation(through(self.gate_proj, x, routing)) * through(self.up_proj, x, routing)
        return through(self.down_proj, y, routing)


def through(module: nn.Module, x: Tensor, routing: Routing | None) -> Tensor:
    """`module` of `x`, by the routing if it takes one; without routing all tokens are text."""
    if not isinstance(module, Routed):
        return module(x)
    return module.text(x) if routing is None else module(x, routing)


class RoutedAttention(LlamaAttention):
    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: Any = None,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        routing: Routing | None = None,
        **kwargs: Any,
    ) -> Any:
        """(B, T, D) -> (B, T, D) and the attention's weights, where its implementation gives them"""
        q, k, v = (
            through(layer, hidden_states, routing).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = apply_rotary_pos_emb(q, k, *position_embeddings)
        if past_key_values is not None:
            k, v = past_key_values.update(k, v, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        dropout = self.attention_dropout if self.training else 0.0
        y, weights = attend(self, q, k, v, attention_mask, dropout=dropout, scaling=self.scaling, **kwargs)
        return through(self.o_proj, y.flatten(2), routing), weights


class RoutedLayer(LlamaDecoderLayer):
    def __init__(self, config: LlamaConfig, index: int, experts: ExpertConfig) -> None:
        super().__init__(config, index)
        self.self_attn = RoutedAttention(config, index)
        for name in experts.typed:
            owner: nn.Module = self.self_attn if name.endswith("_proj") else self
            module = getattr(owner, name)
            setattr(owner, name, Typed(module, deepcopy(module)))
        if experts.rank:
            self.mlp: nn.Module = RoutedMLP(self.mlp)
            for owner in (self.self_attn, self.mlp):
                for name in [n for n, child in owner.named_children() if isinstance(child, nn.Linear)]:
                    setattr(owner, name, PLoRA(getattr(owner, name), experts.rank, experts.alpha))
        self.cross: CrossAttention | None = None
        self.mixer: Mixer | None = None
        if experts.cross_channels:
            width, heads = config.hidden_size, config.num_attention_heads
            self.cross_norm = LlamaRMSNorm(width, eps=config.rms_norm_eps)
            self.cross = CrossAttention(width, heads, experts.cross_channels, experts.cross_width, bias=False)
        if experts.mixer_every and (index + 1) % experts.mixer_every == 0:
            self.mixer = Mixer(config.hidden_size, experts.mixer_heads, experts.mixer_weigh)

    def forward(  # type: ignore[override]
        self,
        hidden_states: Tensor,
        *,
        routing: Routing | None = None,
        features: Tensor | None = None,
        features_mask: Tensor | None = None,
        evidence: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """hidden_states: (B, T, D); features: (B, P, C), for cross-attention, of which features_mask, bool (B, T, P),
        says what a token sees where it is not all; evidence: (B, Q, D), for the mixer, whose rows hold one sample each;
        the rest as LlamaDecoderLayer takes it -> (B, T, D)"""
        x = through(self.input_layernorm, hidden_states, routing)
        if self.mixer is not None and routing is not None and evidence is not None:
            x = self.mixer(x, evidence, routing.types)
        x = hidden_states + self.self_attn(x, routing=routing, **kwargs)[0]
        if self.cross is not None and features is not None:
            mask = None if features_mask is None else features_mask[:, None]
            x = x + self.cross(self.cross_norm(x), features, features, mask)
        return x + through(self.mlp, through(self.post_attention_layernorm, x, routing), routing)

    def copy_plain(self, layer: LlamaDecoderLayer) -> None:
        """The weights of a plain layer; the visual twins start as copies of them (CogVLM, `copy_param`)."""
        plain, own = layer.state_dict(), self.state_dict()
        sources = {key: key.replace(".text.", ".").replace(".visual.", ".") for key in own}
        self.load_state_dict({key: plain.get(sources[key], tensor) for key, tensor in own.items()})


def add_experts(model: LlamaModel, experts: ExpertConfig) -> None:
    """Makes every layer of `model` a `RoutedLayer` with the weights it has. Masks, caches, generation and checkpointing
    stay those of transformers; `routing`, `features` and `evidence` are given to the model by name."""
    for index, layer in enumerate(model.layers):
        like = layer.input_layernorm.weight
        routed = RoutedLayer(model.config, index, experts).to(like.device, like.dtype)
        routed.copy_plain(layer)
        model.layers[index] = routed.train(layer.training)
