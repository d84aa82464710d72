"""Models in, a scorecard with confidence intervals out."""

import os

from kfp import dsl


@dsl.component(base_image=os.environ.get("VISTUNE_IMAGE", "vistune:dev"), install_kfp_package=False)
def evaluate(
    settings: str,
    sources: dsl.Input[dsl.Dataset],
    release: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    scorecard: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
    confusion: dsl.Output[dsl.ClassificationMetrics],
    metrics: dsl.Output[dsl.Metrics],
    home: str = "",
) -> str:
    """Score base and tuned model zero-shot beside blind baselines, with paired intervals, and apply the gate.

    Args:
        settings: The stage's parameters, from `resolve`.
        sources: Holds the held-out benchmarks.
        release: What was trained on, to check that nothing held out is in it.
        model: The tuned model and its base.
        scorecard: Scores, per-item answers and the gate's verdict.
        page: The scorecard as a page.
        confusion: Questions of yes or no: what the tuned model said, by the right answer.
        metrics: The scores.
        home: Folder that outlives this container, where answers are logged; empty: none does.

    Returns:
        The gate's verdict: pass, fail or inconclusive.
    """
    from vistune.component import step, verdict

    inputs = {"sources": sources.path, "validate": release.path, "tune": model.path}
    step("evaluate", settings, inputs, scorecard, metrics, {"scorecard": page, "confusion": confusion}, home)
    return verdict(scorecard.path, "verdict.json")
