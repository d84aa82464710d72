"""Samples in, a checked release out."""

import os

from kfp import dsl


@dsl.component(base_image=os.environ.get("VISTUNE_IMAGE", "vistune:dev"), install_kfp_package=False)
def validate(
    settings: str,
    sources: dsl.Input[dsl.Dataset],
    adapt: dsl.Input[dsl.Dataset],
    self_instruct: dsl.Input[dsl.Dataset],
    release: dsl.Output[dsl.Dataset],
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
):
    """Check integrity, duplicates and leakage of all samples, run the Great Expectations suite, build the release.

    Args:
        settings: The stage's parameters, from `resolve`.
        sources: Annotated images.
        adapt: Samples made from annotations.
        self_instruct: Samples written by the teacher.
        release: Samples and their images, content-addressed, with Data Docs.
        page: Images of the release with the boxes that its texts name.
        metrics: Rows in, out and rejected.
    """
    from vistune.component import step

    inputs = {"sources": sources.path, "adapt": adapt.path, "self_instruct": self_instruct.path}
    step("validate", settings, inputs, release, metrics, {"sheet": page})
