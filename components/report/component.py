"""One page about the run."""

import os

from kfp import dsl


@dsl.component(base_image=os.environ.get("VISTUNE_IMAGE", "vistune:dev"), install_kfp_package=False)
def report(
    settings: str,
    sources: dsl.Input[dsl.Dataset],
    adapt: dsl.Input[dsl.Dataset],
    self_instruct: dsl.Input[dsl.Dataset],
    release: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    scorecard: dsl.Input[dsl.Artifact],
    promotion: dsl.Input[dsl.Artifact],
    files: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
):
    """Write one page: counts of every stage, samples with boxes, loss curves, answers side by side, the scorecard.

    Args:
        settings: The stage's parameters, from `resolve`.
        sources: Annotated images.
        adapt: Samples made from annotations.
        self_instruct: Samples written by the teacher.
        release: The checked training data.
        model: The tuned model.
        scorecard: Scores and answers.
        promotion: What the registry was told.
        files: The report's files.
        page: The report as one self-contained page.
    """
    from vistune.component import step

    inputs = {
        "sources": sources.path,
        "adapt": adapt.path,
        "self_instruct": self_instruct.path,
        "validate": release.path,
        "tune": model.path,
        "evaluate": scorecard.path,
        "promote": promotion.path,
    }
    step("report", settings, inputs, files, None, {"report": page})
