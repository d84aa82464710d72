"""The training objective as one module: rows in, the loss of each learned token out."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vistune.models.modeling import VistuneForConditionalGeneration
from vistune.tune.attention import use
from vistune.tune.loss import BUDGET, answer_losses
from vistune.tune.packed import Row


class Objective(nn.Module):
    """Hidden states of a row, then logits where something is learned and nowhere else."""

    def __init__(self, model: Any, budget: int = BUDGET) -> None:
        super().__init__()
        use(model)  # without it, samples of a row would see one another
        self.model = model
        self.budget = budget

    def forward(self, row: Row, blank: bool = False) -> Tensor:
        """float32 (N,): negative log-likelihood of each of the row's targets. With `blank` its pictures take part in
        the result with the weight 0, so that their layers have gradients, all zero."""
        device = next(self.model.parameters()).device
        inputs = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in row.inputs.items()}
        if "segments" in inputs:
            inputs["segments"] = [
                s._replace(mask=None if s.mask is None else s.mask.to(device)) for s in inputs["segments"]
            ]
        states = hidden_states(self.model, inputs).flatten(0, 1)
        head = self.model.get_output_embeddings()
        losses = answer_losses(states[row.predicts.to(device)], row.targets.to(device), head, self.budget)
        return losses + 0.0 * states.sum() if blank else losses


def hidden_states(model: Any, inputs: dict[str, Any]) -> Tensor:
    """(B, T, D), before the head."""
    if isinstance(model, VistuneForConditionalGeneration):
        return model.hidden(**inputs, use_cache=False)[0].last_hidden_state
    return model.model(**inputs, use_cache=False).last_hidden_state
