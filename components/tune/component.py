"""A release in, a tuned vision-language model out."""

import os

from kfp import dsl

IMAGE = os.environ.get("VISTUNE_IMAGE", "vistune:dev")

TO_THE_JOB = [  # what is set on the task `tune_job` and its job's pods get; the task's own pod stays small
    dsl.TaskConfigPassthrough(field=dsl.TaskConfigField.RESOURCES),
    dsl.TaskConfigPassthrough(field=dsl.TaskConfigField.KUBERNETES_TOLERATIONS),
    dsl.TaskConfigPassthrough(field=dsl.TaskConfigField.KUBERNETES_NODE_SELECTOR),
    dsl.TaskConfigPassthrough(field=dsl.TaskConfigField.KUBERNETES_AFFINITY),
    dsl.TaskConfigPassthrough(field=dsl.TaskConfigField.ENV, apply_to_task=True),
    dsl.TaskConfigPassthrough(field=dsl.TaskConfigField.KUBERNETES_VOLUMES, apply_to_task=True),
]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def tune(
    settings: str,
    release: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    home: str = "",
):
    """Align the connector, then tune on the instructions. Resumes from its checkpoint when the container restarts.

    Args:
        settings: The stage's parameters, from `resolve`.
        release: The checked samples and images.
        model: The tuned model (safetensors), the model after alignment alone, and the training history.
        page: The loss over all steps.
        metrics: Final losses, tokens a second.
        home: Folder that outlives this container, where checkpoints lie; empty: none does.
    """
    from vistune.component import step

    step("tune", settings, {"validate": release.path}, model, metrics, {"curves": page}, home)


@dsl.component(base_image=IMAGE, install_kfp_package=False, task_config_passthroughs=TO_THE_JOB)
def tune_job(
    settings: str,
    backend: str,
    release: dsl.Input[dsl.Dataset],
    model: dsl.Output[dsl.Model],
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    manifest: dsl.Output[dsl.Artifact],
    task_config: dsl.TaskConfig,
):
    """As tune, in a job of several nodes that gets this step's resources. Ends the job when it is ended itself.

    Args:
        settings: The stage's parameters, from `resolve`; tune.job says how many nodes, and how long is waited.
        backend: Of tune.job.backend, where the parameters leave it to the pipeline.
        release: The checked samples and images.
        model: The tuned model (safetensors), the model after alignment alone, and the training history.
        page: The loss over all steps.
        metrics: Final losses, tokens a second.
        manifest: The job as it was submitted (YAML); empty where a finished result was reused.
        task_config: Resources, tolerations, node selector, affinity, environment and volumes of this step.
    """
    from vistune.component import job_step

    given, inputs = vars(task_config), {"validate": release.path}
    job_step(backend, given, settings, inputs, model, metrics, manifest, {"curves": page})
