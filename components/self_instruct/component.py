"""A teacher's dialogues about the annotated images."""

import os

from kfp import dsl


@dsl.component(base_image=os.environ.get("VISTUNE_IMAGE", "vistune:dev"), install_kfp_package=False)
def self_instruct(
    settings: str,
    sources: dsl.Input[dsl.Dataset],
    samples: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
):
    """Ask a teacher for conversations, descriptions, reasoning and negatives, and keep what the annotations support.

    Args:
        settings: The stage's parameters, from `resolve`.
        sources: Annotated images.
        samples: One parquet row per sample; rejected replies with their reasons; the ledger of requests.
        metrics: Rows in, out and rejected; requests and their cost.
    """
    from vistune.component import step

    step("self_instruct", settings, {"sources": sources.path}, samples, metrics)
