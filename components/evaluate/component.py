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
    metrics: dsl.Output[dsl.Metrics],
):
    """Score base and tuned model zero-shot beside blind baselines, with paired intervals, and apply the gate.

    Args:
        settings: The stage's parameters, from `resolve`.
        sources: Holds the held-out benchmarks.
        release: What was trained on, to check that nothing held out is in it.
        model: The tuned model and its base.
        scorecard: Scores, per-item answers and the gate's verdict.
        page: The scorecard as a page.
        metrics: The scores.
    """
    from vistune.component import step

    inputs = {"sources": sources.path, "validate": release.path, "tune": model.path}
    step("evaluate", settings, inputs, scorecard, metrics, ("scorecard.html", page))
