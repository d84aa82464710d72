"""A release in, a tuned vision-language model out."""

import os

from kfp import dsl


@dsl.component(base_image=os.environ.get("VISTUNE_IMAGE", "vistune:dev"), install_kfp_package=False)
def tune(
    settings: str,
    release: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
):
    """Align the connector, then tune on the instructions. Resumes from its checkpoint when the container restarts.

    Args:
        settings: The stage's parameters, from `resolve`.
        release: The checked samples and images.
        model: The tuned model (safetensors), the model after alignment alone, and the training history.
        metrics: Final losses, tokens a second.
    """
    from vistune.component import step

    step("tune", settings, {"validate": release.path}, model, metrics)
