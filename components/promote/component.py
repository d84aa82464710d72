"""A scorecard in, a registry version and its aliases out."""

import os

from kfp import dsl


@dsl.component(base_image=os.environ.get("VISTUNE_IMAGE", "vistune:dev"), install_kfp_package=False)
def promote(
    settings: str,
    sources: dsl.Input[dsl.Dataset],
    release: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    scorecard: dsl.Input[dsl.Artifact],
    promotion: dsl.Output[dsl.Artifact],
    card: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
) -> str:
    """Register the tuned model as challenger; make it champion only if the gate passed.

    Args:
        settings: The stage's parameters, from `resolve`.
        sources: Annotated images, for the lineage.
        release: The training data, for the lineage.
        model: The model to register.
        scorecard: The evidence.
        promotion: Which version was registered, which aliases moved, and why.
        card: The model card.
        metrics: The version's number, and whether it became champion.

    Returns:
        The verdict: pass, fail or inconclusive.
    """
    from vistune.component import step, verdict

    inputs = {"sources": sources.path, "validate": release.path, "tune": model.path, "evaluate": scorecard.path}
    step("promote", settings, inputs, promotion, metrics, {"card": card})
    return verdict(promotion.path, "promotion.json")
