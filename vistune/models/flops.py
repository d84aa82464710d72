"""Floating-point operations of a model, known from lengths and view plans before a pixel is read.

Nothing is estimated. What a picture costs in tower and connector, and what tokens cost in the language model, is
counted by torch on the meta device, where nothing is computed: once for each shape of picture, and at as many lengths
as it takes to fix a polynomial that is exact (attention makes the cost quadratic in the tokens; experts, features and
evidence join as further variables). Training is counted through its backward pass in the same way, so frozen roles,
LoRA and gradient checkpointing cost what they cost.

As torch counts: a multiplication and an addition are two operations, only products of matrices and convolutions count,
and attention counts in full, though half of it is masked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache, partial
from itertools import combinations_with_replacement
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry

from vistune.models import lora
from vistune.models.experts import PADDING, TEXT, VISUAL, Routing
from vistune.models.families.base import Composed, Picture
from vistune.models.reader import Reader, Reading
from vistune.models.views import ViewPlan
from vistune.models.vlm import Vlm, drawn

Context = tuple[tuple[str, tuple[int, ...], torch.dtype, bool], ...]
"""What the language model's layers get besides tokens: names, shapes, types, and whether a gradient goes there."""

START, STEP = 16, 8
"""Lengths at which a polynomial is counted."""

_METERS: WeakKeyDictionary[Reader, dict[frozenset[str], Meter]] = WeakKeyDictionary()


def flops(of: Vlm | Reader, readings: Sequence[Reading], trained: Collection[str] = ()) -> float:
    """Operations of a forward pass over `readings`, without padding; with `trained` roles, of a training step over
    them. of: a model with its reader, or the reader of a preset."""
    meters = _METERS.setdefault(of.reader if isinstance(of, Vlm) else of, {})
    roles = frozenset(trained)
    if roles not in meters:
        meters[roles] = Meter(of, roles)
    return float(sum(map(meters[roles], readings)))


class Meter:
    """Call it with a reading: the operations of one sample. It keeps what it has counted. recomputed: with gradient
    checkpointing, which is on as well where `of` has it on. ranks: of the roles that LoRA trains."""

    def __init__(
        self,
        of: Vlm | Reader,
        trained: Collection[str] = (),
        recomputed: bool = False,
        ranks: Mapping[str, int] | None = None,
    ) -> None:
        self.reader = of.reader if isinstance(of, Vlm) else of
        self.family = self.reader.family
        self.model = _on_meta(of)
        self.trained = frozenset(trained)
        if recomputed or (isinstance(of, Vlm) and _checkpoints(of.model)):
            self.model.gradient_checkpointing_enable()
        if ranks:
            with torch.device("meta"):
                lora.attach(Vlm(self.model, self.reader), ranks)
        for name, parameter in self.model.named_parameters():
            role = self.family.role(name)
            parameter.requires_grad_(role in self.trained and (".lora_" in name or role not in (ranks or {})))
        self.model.train(bool(trained))
        self.pictures = lru_cache(maxsize=65536)(self._pictures)
        self.language: dict[tuple[bool, Context, int], Polynomial] = {}
        self.known: dict[Any, Any] = {}

    def __call__(self, reading: Reading) -> float:
        shown = bool(reading.plans)
        shapes = tuple(map(Shape.of, reading.plans))
        joint = shown and hasattr(getattr(self.model, "connector", None), "context")
        seen = [self.pictures(group) for group in ([shapes] if joint else [(shape,) for shape in shapes])]
        context = seen[0][1] if joint else ()
        sizes: tuple[int, ...] = (reading.length,)
        if shown and isinstance(self.family, Composed) and self.family.types:
            kinds = list(self.family.types(reading))
            sizes = tuple(map(kinds.count, (TEXT, VISUAL, PADDING)))
        beyond = shown and bool(self.trained & {"vision", "connector"})
        key = beyond, context, len(sizes)
        if key not in self.language:
            self.language[key] = Polynomial(len(sizes), partial(self._language, beyond, context))
        return sum(cost for cost, _ in seen) + self.language[key](*sizes)

    def _pictures(self, shapes: tuple[Shape, ...]) -> tuple[int, Context]:
        """Of tower and connector; and what the language model's layers get besides tokens."""
        pictures = []
        evidence = self.family.evidence and self.family.evidence(self.reader, None)
        for plan in (shape.plan for shape in shapes):
            views = tuple(torch.empty(3, view.size[1], view.size[0], device="meta") for view in plan.views)
            pictures.append(Picture(plan, views or (_blank(plan),), evidence))
        if not isinstance(self.family, Composed):
            inputs = self.reader.pictures(pictures)
            return self._count(lambda: _projected(self.model.model.get_image_features(**inputs))), ()
        table = self.model.get_input_embeddings()
        found: dict[str, Tensor] = {}

        def forward() -> Any:
            features = self.model.see(pictures)
            tokens = self.model.connector(features, pictures, table.weight)
            if hasattr(self.model.connector, "context"):
                found.update(self.model.connector.context(features, pictures, [0] * len(pictures), 1, table))
            return tokens, found

        cost = self._count(forward)
        return cost, tuple((name, x.shape, x.dtype, x.requires_grad) for name, x in found.items())

    def _language(self, beyond: bool, context: Context, sizes: Sequence[int]) -> int:
        """Of the language model and its head. sizes: tokens, or those of text, of pictures and of neither; beyond: a
        gradient goes on to the pictures."""
        table = self.model.get_input_embeddings()
        tokens = sum(sizes)
        embeddings = torch.empty(1, tokens, table.embedding_dim, device="meta")
        embeddings.requires_grad_(beyond or table.weight.requires_grad)
        special: dict[str, Any] = {}
        for name, shape, dtype, learned in context:
            special[name] = torch.empty(shape, dtype=dtype, device="meta", requires_grad=learned)
        if len(sizes) > 1:
            kinds = [kind for kind, n in zip((TEXT, VISUAL, PADDING), sizes, strict=True) for _ in range(n)]
            special["routing"] = Routing.of(torch.tensor([kinds]))
        mask = torch.ones(1, 1, tokens, tokens, dtype=torch.bool, device="meta")
        decoder = self.model.language_model.model if isinstance(self.family, Composed) else self.model.get_decoder()
        head = self.model.get_output_embeddings()

        def forward() -> Tensor:
            found = decoder(inputs_embeds=embeddings, attention_mask=mask, use_cache=False, **special)
            return head(found.last_hidden_state)

        return self._count(forward)

    def _count(self, forward: Callable[[], Any]) -> int:
        with Counter(self.known) as counter, torch.set_grad_enabled(bool(self.trained)):
            results = [tensor for tensor in _tensors(forward()) if tensor.requires_grad]
            if results:
                torch.autograd.backward(results, [torch.ones_like(tensor) for tensor in results])
        return counter.total


class Counter(TorchDispatchMode):
    """Counts by torch's own formulas (those of FlopCounterMode, without its record of modules). Tensors with values
    (sizes, indices, grids) meet those of the meta device, which have none. `known` remembers what an operation makes of
    such inputs and what it costs: the layers of a model repeat one another."""

    def __init__(self, known: dict[Any, Any]) -> None:
        super().__init__()
        self.known, self.total = known, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        key: Any = (func, _signature(args), _signature(tuple(kwargs.items()))) if _makes(func) else None
        try:
            found = self.known.get(key)
        except TypeError:  # an argument without a hash, or a tensor with values
            key = found = None
        if found is None:
            given = [tensor for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)]
            if any(x.is_meta for x in given) and not all(x.is_meta for x in given):
                args, kwargs = tree_map_only(Tensor, _without_values, (args, kwargs))
            result = func(*args, **kwargs)
            count = flop_registry.get(func.overloadpacket)
            cost = count(*args, **kwargs, out_val=result) if count else 0
            if key is not None and isinstance(result, Tensor) and result.is_meta:
                self.known[key] = result.shape, result.stride(), result.dtype, cost
        else:
            shape, stride, dtype, cost = found
            result = torch.empty_strided(shape, stride, dtype=dtype, device="meta")
        self.total += cost
        return result


@cache
def _makes(func: Any) -> bool:
    """Whether an operation changes nothing and its result is new, no view."""
    schema = func._schema
    return not schema.is_mutable and all(value.alias_info is None for value in schema.returns)


def _signature(value: Any) -> Any:
    """What of an argument decides the shape of the result."""
    if isinstance(value, Tensor):
        return (value.shape, value.stride(), value.dtype) if value.is_meta else []
    return tuple(map(_signature, value)) if isinstance(value, list | tuple) else value


def _without_values(tensor: Tensor) -> Tensor:
    """Masks keep theirs: what they select decides a shape."""
    return tensor if tensor.dtype == torch.bool else tensor.to("meta")


@dataclass(frozen=True, eq=False)
class Shape:
    """A plan, equal to all that cost the same: the picture's own size does not matter."""

    plan: ViewPlan
    key: tuple[Any, ...]

    @classmethod
    def of(cls, plan: ViewPlan) -> Shape:
        views = tuple((view.kind, view.size, view.tokens) for view in plan.views) or plan.picture
        return cls(plan, (views, plan.layout, plan.grid, plan.features))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shape) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


class Polynomial:
    """The polynomial of second degree in some variables that is `count` at as many points as it has terms.

    >>> cost = Polynomial(2, lambda x: 3 + x[0] * x[1] + 2 * x[1] ** 2)
    >>> round(cost(10, 100))
    21003
    """

    def __init__(self, variables: int, count: Callable[[Sequence[int]], int]) -> None:
        self.count = count
        self.terms = [term for n in range(3) for term in combinations_with_replacement(range(variables), n)]
        self.variables = variables

    @cached_property
    def coefficients(self) -> list[float]:
        points = [[START + STEP * term.count(n) for n in range(self.variables)] for term in self.terms]
        rows = [[math.prod(point[n] for n in term) for term in self.terms] for point in points]
        return np.linalg.solve(rows, [self.count(point) for point in points]).tolist()

    def __call__(self, *sizes: int) -> float:
        return sum(c * math.prod(sizes[n] for n in term) for c, term in zip(self.coefficients, self.terms, strict=True))


def _on_meta(of: Vlm | Reader) -> Any:
    """The model without weights."""
    with torch.device("meta"):
        if isinstance(of, Reader):
            return drawn(of.family, of.preset, of.tokenizer, of.preset.text)
        return type(of.model)(deepcopy(of.model.config))


def _checkpoints(model: Any) -> bool:
    return any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


def _blank(plan: ViewPlan) -> Tensor:
    """For readers whose views only their processor knows."""
    width, height = plan.picture
    return torch.zeros(3, height, width, dtype=torch.uint8)


def _projected(found: Any) -> Any:
    """The visual tokens, of all that transformers' classes give of pictures."""
    return getattr(found, "pooler_output", found)


def _tensors(found: Any) -> Iterator[Tensor]:
    """All tensors in what a model gives back."""
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, Mapping):
        for value in found.values():
            yield from _tensors(value)
    elif isinstance(found, list | tuple):
        for value in found:
            yield from _tensors(value)
