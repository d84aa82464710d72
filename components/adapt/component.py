"""Annotations in, samples out."""

import os
from typing import List  # noqa: UP035

from kfp import dsl

IMAGE = os.environ.get("VISTUNE_IMAGE", "vistune:dev")


@dsl.component(base_image=IMAGE, install_kfp_package=False)
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


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def adapt_part(
    settings: str,
    part: int,
    parts: int,
    sources: dsl.Input[dsl.Dataset],
    samples: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
):
    """As adapt, of one part of the images; several parts run side by side.

    Args:
        settings: The stage's parameters, from `resolve`.
        part: Which part, from 0.
        parts: How many there are.
        sources: Annotated images.
        samples: Samples and rejects of this part.
        metrics: Rows in, out and rejected.
    """
    from vistune.component import step

    step("adapt", settings, {"sources": sources.path}, samples, metrics, part=(part, parts))


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def adapt_merge(
    settings: str,
    sources: dsl.Input[dsl.Dataset],
    parts: dsl.Input[List[dsl.Dataset]],  # noqa: UP006
    samples: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
):
    """Make of all parts what adapt would have made of all images at once, byte for byte.

    Args:
        settings: The stage's parameters, from `resolve`.
        sources: Annotated images.
        parts: The parts' samples and rejects.
        samples: One parquet row per sample, with its lineage; the rejected rows with their reasons.
        metrics: Rows in, out and rejected.
    """
    from vistune.component import step

    step("adapt", settings, {"sources": sources.path}, samples, metrics, parts=parts)
