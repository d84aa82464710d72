"""Annotations in, samples out."""

import os

from kfp import dsl


@dsl.component(base_image=os.environ.get("VISTUNE_IMAGE", "vistune:dev"), install_kfp_package=False)
def adapt(
    settings: str,
    sources: dsl.Input[dsl.Dataset],
    samples: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
):
    """Turn annotations into (instruction, input, response) samples from versioned templates.

    Args:
        settings: The stage's parameters, from `resolve`.
        sources: Annotated images.
        samples: One parquet row per sample, with its lineage; the rejected rows with their reasons.
        metrics: Rows in, out and rejected.
    """
    from vistune.component import step

    step("adapt", settings, {"sources": sources.path}, samples, metrics)
