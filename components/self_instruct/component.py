"""A teacher's dialogues about the annotated images."""

import os
from typing import List  # noqa: UP035

from kfp import dsl

IMAGE = os.environ.get("VISTUNE_IMAGE", "vistune:dev")


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def self_instruct(
    settings: str,
    sources: dsl.Input[dsl.Dataset],
    samples: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    home: str = "",
):
    """Ask a teacher for conversations, descriptions, reasoning and negatives, and keep what the annotations support.

    Args:
        settings: The stage's parameters, from `resolve`.
        sources: Annotated images.
        samples: One parquet row per sample, with its lineage; the rejected rows with their reasons.
        metrics: Rows in, out and rejected; requests and their cost.
        home: Folder that outlives this container, where answers that were paid for are kept; empty: none does.
    """
    from vistune.component import step

    step("self_instruct", settings, {"sources": sources.path}, samples, metrics, home=home)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def self_instruct_part(
    settings: str,
    part: int,
    parts: int,
    sources: dsl.Input[dsl.Dataset],
    samples: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    home: str = "",
):
    """As self_instruct, of one part of the images; several parts run side by side.

    Args:
        settings: The stage's parameters, from `resolve`.
        part: Which part, from 0.
        parts: How many there are.
        sources: Annotated images.
        samples: Samples and rejects of this part.
        metrics: Rows in, out and rejected; requests and their cost.
        home: Folder that outlives this container, where answers that were paid for are kept; empty: none does.
    """
    from vistune.component import step

    step("self_instruct", settings, {"sources": sources.path}, samples, metrics, home=home, part=(part, parts))


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def self_instruct_merge(
    settings: str,
    sources: dsl.Input[dsl.Dataset],
    parts: dsl.Input[List[dsl.Dataset]],  # noqa: UP006
    samples: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
):
    """Make of all parts what self_instruct would have made of all images at once, byte for byte.

    Args:
        settings: The stage's parameters, from `resolve`.
        sources: Annotated images.
        parts: The parts' samples and rejects.
        samples: One parquet row per sample, with its lineage; the rejected rows with their reasons.
        metrics: Rows in, out and rejected; requests and their cost.
    """
    from vistune.component import step

    step("self_instruct", settings, {"sources": sources.path}, samples, metrics, parts=parts)
