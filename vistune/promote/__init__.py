"""promote: scorecard + model -> registry version and aliases.

Every tuned model is registered with its lineage and becomes `challenger`. It becomes `champion` only when the gate's
verdict is pass and it is not shown to be worse than the champion; the one it replaces stays reachable as
`previous_champion`. Evidence that is missing, broken, or about another model stops the stage before anything is
registered. Every move is written to an append-only log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vistune.stages import Context


@dataclass(frozen=True)
class Params:
    name: str = "vistune-demo"  # of the registered model
    require_clean_git: bool = True  # champion only from code that is committed
    allow_new_evaluation: bool = False  # champion although the last one was measured on other questions
    data_statement: str = ""  # first paragraph of the model card's data section; empty: written from the sources


def run(params: Params, inputs: Mapping[str, Path], output: Path, context: Context) -> dict[str, Any]:
    """Writes model_card.md, promotion.json, and answers.jsonl, with which later candidates are compared."""
    from vistune.files import write_json
    from vistune.promote import registry
    from vistune.promote.evidence import collect

    registry.check_name(params.name)
    evidence = collect(inputs, context.seed, params.require_clean_git)
    outcome = registry.settle(params, inputs, evidence, output, context)
    print(outcome.message(), flush=True)
    facts = outcome.facts() | {"lineage": evidence.lineage, "runs": evidence.runs}
    write_json(output / "promotion.json", facts)
    counts = {"version": int(outcome.version)} if outcome.version else {}
    metrics = {"champion": float(outcome.is_champion)}
    if gained := (outcome.comparison or {}).get("estimate"):
        metrics |= {f"gain_over_champion/{end}": gained[end] for end in ("mean", "low", "high")}
    return {"counts": counts, "metrics": metrics, "details": facts}


def rollback(name: str, home: Path | None = None) -> str:
    """Makes the previous champion of `name` the champion again and says so in a sentence.
    Raises VistuneError when there is none."""
    from vistune import stages
    from vistune.promote import registry

    return registry.rollback(name, home or stages.home())
